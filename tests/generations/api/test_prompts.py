"""Prompts: families, versions, what these led to, and generations made from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from generations.models import Generation, Prompt, PromptVersion
from tests.factories import GenerationFactory, PromptVersionFactory, completed_generation
from tests.generations.api.helpers import GENERATIONS, assert_problem

PROMPTS = "/api/v1/prompts"
NOBODY = "01a207cd-0168-7661-8dc1-15d46e9a95ba"


def post(api: APIClient, text: str, **fields: str) -> Any:
    return api.post(PROMPTS, {"text": text, **fields}, format="json")


def queries(call: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as caught:
        assert call().status_code == 200
    return len(caught)


@pytest.fixture
def version(user: User) -> PromptVersion:
    return PromptVersionFactory.create(prompt__user=user, prompt__name="lake", text="a {style} lake")


def test_finds_or_makes_a_version(api: APIClient) -> None:
    first, again = post(api, "a {style} lake", name="lake"), post(api, "a {style} lake", name="lake")
    second = post(api, "a deep {style} lake", name="lake")

    assert [reply.status_code for reply in (first, again, second)] == [201, 200, 201]
    assert first.json() == again.json()
    assert {**first.json(), "id": "", "prompt": "", "created_at": ""} == {
        "id": "",
        "prompt": "",
        "name": "lake",
        "number": 1,
        "text": "a {style} lake",
        "variables": ["style"],
        "uses": 0,
        "completed": 0,
        "failed": 0,
        "live": 0,
        "success_rate": None,
        "created_at": "",
    }
    assert second.json()["number"] == 2
    assert api.get(second.headers["Location"]).json() == second.json()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text": ""},
        {"text": "  "},
        {"text": 5},
        {"text": "x" * 10_001},
        {"text": "a", "name": "x" * 121},
        {"text": "a", "name": None},
        {"text": "a", "number": 3},
    ],
)
def test_refuses_what_is_no_prompt(body: dict[str, Any], api: APIClient) -> None:
    assert_problem(api.post(PROMPTS, body, format="json"), 400, "invalid_request")
    assert not Prompt.objects.exists()


def test_lists_families_with_their_newest_versions_and_counts(
    api: APIClient, user: User, version: PromptVersion
) -> None:
    newest = PromptVersionFactory.create(prompt=version.prompt, number=2)
    other = PromptVersionFactory.create(prompt__user=user, prompt__name="sea").prompt
    PromptVersionFactory.create()  # somebody else's
    for row, status in ((version, "completed"), (version, "failed"), (newest, "completed"), (newest, "pending")):
        GenerationFactory.create(user=user, prompt_version=row, status=status)

    told = api.get(PROMPTS).json()["results"]

    assert [row["id"] for row in told] == [str(other.pk), str(version.prompt_id)]
    lake = told[1]
    assert (lake["name"], lake["versions"], lake["newest"]["id"]) == ("lake", 2, str(newest.pk))
    assert [lake[name] for name in ("uses", "completed", "failed", "live", "success_rate")] == [4, 2, 1, 1, 0.6667]
    assert [row["id"] for row in api.get(f"{PROMPTS}?name=sea").json()["results"]] == [str(other.pk)]
    assert api.get(f"{PROMPTS}/{version.prompt_id}").json() == lake


def test_lists_versions_newest_first_with_counts(api: APIClient, user: User, version: PromptVersion) -> None:
    newest = PromptVersionFactory.create(prompt=version.prompt, number=2)
    GenerationFactory.create(user=user, prompt_version=version, status="completed")
    url = f"{PROMPTS}/{version.prompt_id}/versions"

    page = api.get(f"{url}?limit=1").json()
    [first] = api.get(page["next"]).json()["results"]

    assert [row["id"] for row in page["results"]] == [str(newest.pk)]
    assert (first["id"], first["uses"], first["success_rate"]) == (str(version.pk), 1, 1.0)


def test_lists_what_a_version_led_to(api: APIClient, user: User, version: PromptVersion) -> None:
    rows = [completed_generation(user=user, prompt_version=version) for _ in range(2)]
    GenerationFactory.create(user=user)

    told = api.get(f"{PROMPTS}/versions/{version.pk}/generations").json()["results"]

    assert [row["id"] for row in told] == [str(row.pk) for row in reversed(rows)]
    assert told[0]["prompt_version"] == str(version.pk)
    assert len(told[0]["outputs"]) == 1


def test_compares_two_versions(api: APIClient, user: User, version: PromptVersion, schema: dict[str, Any]) -> None:
    other = PromptVersionFactory.create(prompt=version.prompt, number=2, text="a {style} deep lake")
    done = completed_generation(user=user, prompt_version=other)
    GenerationFactory.create(user=user, prompt_version=other, status="failed")

    reply = api.get(f"{PROMPTS}/compare?a={version.pk}&b={other.pk}").json()

    assert (reply["a"]["text"], reply["b"]["text"]) == (version.text, other.text)
    assert [(part["change"], part["text"]) for part in reply["diff"]] == [
        ("same", "a {style} "),
        ("added", "deep "),
        ("same", "lake"),
    ]
    assert (reply["a"]["results"], reply["b"]["success_rate"]) == ([], 0.5)
    assert [row["id"] for row in reply["b"]["results"]] == [str(done.pk)]
    wanted = {"$ref": "#/components/schemas/ComparisonAnswer", "components": schema["components"]}
    jsonschema.validate(reply, wanted, format_checker=jsonschema.FormatChecker())


def test_compares_a_version_with_itself(api: APIClient, version: PromptVersion) -> None:
    reply = api.get(f"{PROMPTS}/compare?a={version.pk}&b={version.pk}").json()

    assert [part["change"] for part in reply["diff"]] == ["same"]


@pytest.mark.parametrize("query", ["", "?a=x&b=y", f"?a={NOBODY}", "?b=5", "?name=x"])
def test_needs_two_versions_to_compare(query: str, api: APIClient, version: PromptVersion) -> None:
    reply = api.get(f"{PROMPTS}/compare{query}")

    assert reply.status_code in {400, 404}
    assert reply.json()["code"] in {"invalid_parameter", "unknown_parameter", "not_found"}


def test_hides_what_is_somebody_elses(api: APIClient, version: PromptVersion, body: dict[str, Any]) -> None:
    other = PromptVersionFactory.create(text="a sea")
    paths = (
        f"{PROMPTS}/{other.prompt_id}",
        f"{PROMPTS}/{other.prompt_id}/versions",
        f"{PROMPTS}/versions/{other.pk}",
        f"{PROMPTS}/versions/{other.pk}/generations",
        f"{PROMPTS}/compare?a={version.pk}&b={other.pk}",
    )

    for path in paths:
        assert_problem(api.get(path), 404, "not_found")
    asked = api.post(GENERATIONS, {**body, "params": {}, "prompt_version": str(other.pk)}, format="json")
    assert_problem(asked, 404, "unknown_prompt_version")


def test_takes_as_many_queries_for_many_as_for_one(api: APIClient, user: User) -> None:
    def fill() -> Prompt:
        row = PromptVersionFactory.create(prompt__user=user)
        completed_generation(user=user, prompt_version=row)
        return row.prompt

    fill()
    few = queries(lambda: api.get(PROMPTS))
    for _ in range(3):
        fill()
    assert queries(lambda: api.get(PROMPTS)) == few


class TestAGeneration:
    """Made from a version."""

    def test_has_the_filled_in_text_and_names_its_version(
        self, api: APIClient, version: PromptVersion, body: dict[str, Any]
    ) -> None:
        asked = {**body, "params": {}, "prompt_version": str(version.pk), "variables": {"style": "calm"}}

        told = api.post(GENERATIONS, asked, format="json").json()

        assert (told["params"]["prompt"], told["prompt_version"]) == ("a calm lake", str(version.pk))
        assert api.get(f"{GENERATIONS}/{told['id']}").json()["prompt_version"] == str(version.pk)
        assert api.post(f"{GENERATIONS}/quote", asked, format="json").json()["would_reuse"] == told["id"]
        assert api.get(f"{PROMPTS}/versions/{version.pk}").json()["live"] == 1

    @pytest.mark.parametrize("where", [GENERATIONS, f"{GENERATIONS}/quote"])
    def test_needs_all_variables(
        self, where: str, api: APIClient, version: PromptVersion, body: dict[str, Any]
    ) -> None:
        asked = {**body, "params": {}, "prompt_version": str(version.pk)}

        told = assert_problem(api.post(where, asked, format="json"), 400, "missing_variables")

        assert told["variables"] == ["style"]
        assert told["errors"] == [{"field": "variables.style", "message": "style is missing"}]
        assert "{style}" in told["detail"]
        assert not Generation.objects.exists()

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"variables": {"style": "calm", "x" * 5000: "y"}}, "unknown_variables"),
            ({"variables": {"style": "x" * 100_000}}, "invalid_params"),
            ({"variables": {"style": 5}}, "invalid_request"),
            ({"variables": {"style": None}}, "invalid_request"),
            ({"variables": ["style"]}, "invalid_request"),
            ({"variables": {f"v{number}": "x" for number in range(51)}}, "invalid_request"),
            ({"prompt_version": "x"}, "invalid_request"),
            ({"prompt_version": None, "variables": {"style": "calm"}}, "no_prompt_version"),
            ({"params": {"prompt": "a sea"}, "variables": {"style": "calm"}}, "prompt_given_twice"),
        ],
    )
    def test_is_refused_for_bad_input(
        self, fields: dict[str, Any], code: str, api: APIClient, version: PromptVersion, body: dict[str, Any]
    ) -> None:
        asked = {**body, "params": {}, "prompt_version": str(version.pk), **fields}

        assert_problem(api.post(GENERATIONS, asked, format="json"), 400, code)

        assert not Generation.objects.exists()
