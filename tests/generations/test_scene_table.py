"""The tables of scenes: it"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django.fixtures import Settings

from generations import scene_table
from generations.checks import scene_tables_work

Set = Callable[..., None]


@pytest.fixture
def tables(settings: Settings) -> Iterator[Set]:
    """Sets the variables for this test."""

    def to(models: str = "", styles: str = "") -> None:
        settings.SCENE_MODELS, settings.SCENE_STYLES = models, styles
        scene_table.models.cache_clear()
        scene_table.styles.cache_clear()

    yield to
    scene_table.models.cache_clear()
    scene_table.styles.cache_clear()


def test_has_a_first_of_each() -> None:
    assert next(iter(scene_table.models().items())) == ("free", "flux")
    assert scene_table.style_of(None) == "cinematic"
    assert scene_tables_work() == []


def test_takes_those_of_the_operator(tables: Set) -> None:
    tables('{"pro": "imagen-4"}', '{"Storybook": "{scene}, page of a picture book", "plain": "{scene}"}')

    assert scene_table.models() == {"pro": "imagen-4"}
    assert scene_table.style_of(None) == "storybook"
    assert scene_table.style_of(" STORYBOOK ") == "storybook"
    assert scene_table.prompt_of(" a lake ", "storybook") == "a lake, page of a picture book"
    assert scene_table.style_of("oil") is None
    assert scene_tables_work() == []


def test_leaves_words_in_braces_alone() -> None:
    assert scene_table.prompt_of("{style} and {red|blue}", "linocut") == "{style} and {red|blue}, linocut style"


@pytest.mark.parametrize(
    ("models", "styles"),
    [
        ("flux", ""),
        ("[]", ""),
        ("{}", ""),
        ('{"free": 1}', ""),
        ('{"free": "../x"}', ""),
        ('{"free": "nano-banana-t2i"}', ""),  # takes no ratio
        ("", '{"plain": "a lake"}'),
        ("", '{"plain": "{scene} by {painter}"}'),
        ("", '{"*": "{scene}, {style}"}'),
    ],
)
def test_is_found_wrong_before_it_is_deployed(models: str, styles: str, tables: Set) -> None:
    tables(models, styles)

    [found] = scene_tables_work()

    assert found.id == "darkroom.E003"
    assert found.hint


def test_raises_for_whoever_would_use_a_wrong_one(tables: Set) -> None:
    tables("flux", "{scene}")
    for read in (scene_table.models, scene_table.styles):
        with pytest.raises(ImproperlyConfigured):
            read()
