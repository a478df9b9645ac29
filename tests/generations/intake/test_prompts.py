"""Prompts: a text is one version, whoever sends it how often; and a version's variables are filled in."""

from __future__ import annotations

from functools import partial

import pytest
from django.contrib.auth.models import User

from generations.intake.errors import Invalid
from generations.intake.prompts import LONGEST_TEXT, Found, find_or_create
from generations.intake.retry import retry
from generations.models import Generation, Prompt, PromptVersion
from tests.factories import GenerationFactory, PromptVersionFactory
from tests.generations.intake.conftest import Ask
from tests.together import together

pytestmark = pytest.mark.django_db


class TestAText:
    """Find or create."""

    def test_is_the_next_version_of_its_family(self, user: User) -> None:
        first = find_or_create(user.pk, "a lake", name="lake")
        second = find_or_create(user.pk, "a deep lake", name=" lake ")

        assert (first.created, first.version.number) == (True, 1)
        assert (second.created, second.version.number) == (True, 2)
        assert first.version.prompt == second.version.prompt == Prompt.objects.get(user=user, name="lake")

    def test_is_known_again(self, user: User) -> None:
        first = find_or_create(user.pk, "a lake", name="lake").version
        find_or_create(user.pk, "a deep lake", name="lake")

        assert find_or_create(user.pk, "a lake", name="lake") == Found(first, created=False)

    def test_is_another_in_another_family_and_of_another_user(self, user: User) -> None:
        first = find_or_create(user.pk, "a lake", name="lake").version
        other = PromptVersionFactory.create(text="a lake")

        assert find_or_create(user.pk, "a lake", name="water").created
        assert find_or_create(other.prompt.user_id, "a lake").version == other
        assert find_or_create(user.pk, "a lake").version == first

    def test_names_its_family_where_nobody_does(self, user: User) -> None:
        made = find_or_create(user.pk, f"a  lake\nin the  morning {'x' * 80}").version

        assert made.prompt.name == f"a lake in the morning {'x' * 38}"
        assert find_or_create(user.pk, made.text) == Found(made, created=False)

    @pytest.mark.parametrize(("text", "name"), [(" \n", "x"), ("x" * (LONGEST_TEXT + 1), "x"), ("a", "x" * 121)])
    def test_is_refused_when_it_is_none(self, text: str, name: str, user: User) -> None:
        with pytest.raises(Invalid):
            find_or_create(user.pk, text, name=name)
        assert not Prompt.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_makes_one_version_of_many_who_send_a_text_at_once(user: User) -> None:
    found = together([partial(find_or_create, user.pk, "a lake", name="lake")] * 6)

    made = [one for one in found if isinstance(one, Found)]
    assert len(made) == 6, found
    assert sum(one.created for one in made) == 1
    assert {one.version.pk for one in made} == {PromptVersion.objects.get().pk}


@pytest.mark.django_db(transaction=True)
def test_numbers_many_texts_at_once_without_gaps(user: User) -> None:
    found = together([partial(find_or_create, user.pk, f"lake {number}", name="lake") for number in range(6)])

    assert all(isinstance(one, Found) and one.created for one in found), found
    assert sorted(PromptVersion.objects.values_list("number", flat=True)) == [1, 2, 3, 4, 5, 6]
    assert Prompt.objects.count() == 1


class TestARequest:
    """Naming a version."""

    def test_has_its_text_with_the_variables_filled_in(self, ask: Ask, user: User) -> None:
        version = PromptVersionFactory.create(prompt__user=user, text="a {style} lake, {red|blue}, {style}")

        made = ask(prompt_version_id=version.pk, variables={"style": "calm {x}"}, params={"width": 512}).generation

        assert made.params["prompt"] == "a calm {x} lake, {red|blue}, calm {x}"
        assert (made.raw_params, made.prompt_version) == ({"width": 512}, version)

    def test_differs_from_the_same_text_without_a_version(self, ask: Ask, user: User) -> None:
        version = PromptVersionFactory.create(prompt__user=user, text="a lake")

        by_version = ask(prompt_version_id=version.pk, params={})

        assert not ask(prompt="a lake").reused
        assert ask(prompt_version_id=version.pk, params={}).generation == by_version.generation

    def test_is_retried_as_the_same_version(self, user: User) -> None:
        version = PromptVersionFactory.create(prompt__user=user)
        row = GenerationFactory.create(user=user, status="failed", prompt_version=version)

        assert retry(row.pk, actor="test").generation.prompt_version == version

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"variables": {}}, "missing_variables"),
            ({"variables": {"style": "calm", "light": "dim"}}, "unknown_variables"),
            ({"variables": {"style": "calm"}, "params": {"prompt": "a lake"}}, "prompt_given_twice"),
            ({"variables": {"style": "calm"}, "prompt_version_id": None}, "no_prompt_version"),
        ],
    )
    def test_is_refused(self, fields: dict[str, object], code: str, ask: Ask, user: User) -> None:
        version = PromptVersionFactory.create(prompt__user=user, text="a {style} lake")

        with pytest.raises(Invalid) as refused:
            ask(**{"prompt_version_id": version.pk, "params": {}, **fields})

        assert refused.value.code == code
        assert not Generation.objects.exists()
