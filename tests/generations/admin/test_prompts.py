"""Prompts in the console: it"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from generations.models import PromptVersion
from tests.factories import GenerationFactory, PromptVersionFactory, completed_generation

FAMILIES = reverse("admin:generations_prompt_changelist")
VERSIONS = reverse("admin:generations_promptversion_changelist")
COMPARE = reverse("admin:generations_promptversion_compare")


@pytest.fixture
def pair(db: None) -> list[PromptVersion]:
    first = PromptVersionFactory.create(text="a {style} lake <b>", prompt__name="lake")
    return [first, PromptVersionFactory.create(prompt=first.prompt, number=2, text="a {style} deep lake <b>")]


def test_lists_families_and_versions_with_their_success(console: Client, pair: list[PromptVersion]) -> None:
    for row, status in ((pair[0], "completed"), (pair[1], "failed"), (pair[1], "completed"), (pair[1], "completed")):
        GenerationFactory.create(user=row.prompt.user, prompt_version=row, status=status)

    families, versions = console.get(FAMILIES).content.decode(), console.get(VERSIONS).content.decode()

    assert "a {style} deep lake &lt;b&gt;" in families
    assert "75 %" in families
    assert "2 completed, 1 failed" in versions
    assert "100 %" in versions


@pytest.mark.parametrize("url", [FAMILIES, VERSIONS])
def test_takes_as_many_queries_for_many_as_for_few(url: str, console: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as caught:
            console.get(url)
        return len(caught)

    PromptVersionFactory.create()
    few = queries()
    PromptVersionFactory.create_batch(4)
    assert queries() == few


def test_offers_a_familys_versions_for_comparison(console: Client, pair: list[PromptVersion]) -> None:
    page = console.get(reverse("admin:generations_prompt_change", args=[pair[0].prompt_id])).content.decode()

    assert page.count('type="radio"') == 4
    assert "Compare the two that are marked" in page


def test_shows_two_versions_with_their_results_next_to_each_other(console: Client, pair: list[PromptVersion]) -> None:
    for row in pair:
        completed_generation(user=row.prompt.user, prompt_version=row, prompt=f"made from {row.number}")

    page = console.get(COMPARE, {"a": str(pair[0].pk), "b": str(pair[1].pk)}).content.decode()

    assert "<ins>deep </ins>" in page
    assert "lake &lt;b&gt;" in page
    assert page.count('<img src="/content/') == 2
    assert page.index("made from 1") < page.index("made from 2")


def test_compares_two_that_are_chosen(console: Client, pair: list[PromptVersion]) -> None:
    def choose(*rows: PromptVersion) -> str:
        form = {"action": "compare_selected", "_selected_action": [str(row.pk) for row in rows]}
        return str(console.post(VERSIONS, form)["Location"])

    assert choose(pair[1], pair[0]) == f"{COMPARE}?a={pair[0].pk}&b={pair[1].pk}"
    assert COMPARE not in choose(pair[0])


@pytest.mark.parametrize("query", [{}, {"a": "x"}, {"a": "01a207cd-0168-7661-8dc1-15d46e9a95ba"}])
def test_compares_nothing_with_nothing(query: dict[str, str], console: Client, pair: list[PromptVersion]) -> None:
    assert console.get(COMPARE, {"b": str(pair[0].pk), **query}).status_code == 404


def test_shows_a_version_with_what_it_led_to(console: Client, pair: list[PromptVersion]) -> None:
    made = completed_generation(user=pair[0].prompt.user, prompt_version=pair[0])
    url = reverse("admin:generations_promptversion_change", args=[pair[0].pk])

    assert '<img src="/content/' in console.get(url).content.decode()
    assert url in console.get(reverse("admin:generations_generation_change", args=[made.pk])).content.decode()


def test_changes_no_version(console: Client, pair: list[PromptVersion]) -> None:
    url = reverse("admin:generations_promptversion_change", args=[pair[0].pk])

    assert console.post(url, {"text": "another"}).status_code == 403
    assert console.get(reverse("admin:generations_promptversion_add")).status_code == 403


def test_shows_no_results_to_whoever_may_not_see_generations(
    staff: Callable[..., Client], pair: list[PromptVersion]
) -> None:
    completed_generation(user=pair[0].prompt.user, prompt_version=pair[0])
    query = {"a": str(pair[0].pk), "b": str(pair[1].pk)}

    assert (
        "<img" not in staff("view_promptversion").get(COMPARE, query).content.decode().partition('class="dr-page"')[2]
    )
    assert staff("view_prompt").get(COMPARE, query).status_code == 403
