"""The family of a generation, over the API: it"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import jsonschema
import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from generations.models import Asset
from tests.factories import GenerationFactory, SceneFactory, completed_generation
from tests.generations.api.helpers import GENERATIONS, assert_problem

pytestmark = pytest.mark.django_db


def test_tells_what_it_was_made_from_and_what_came_of_it(
    schema: dict[str, Any], api: APIClient, user: User, body: dict[str, Any]
) -> None:
    still = completed_generation(user=user, prompt="a still lake")
    output = Asset.objects.get()
    inputs = [{"role": "image", "asset_id": str(output.pk)}]

    moving = api.post(GENERATIONS, {**body, "operation_type": "image_to_video", "inputs": inputs}, format="json").json()

    assert moving["parent"] == str(still.pk)
    told = api.get(f"{GENERATIONS}/{moving['id']}/lineage").json()
    jsonschema.validate(told, {"$ref": "#/components/schemas/LineageAnswer", "components": schema["components"]})
    assert (told["id"], told["truncated"]) == (moving["id"], False)
    first, second = told["nodes"]
    assert (first["id"], first["depth"], first["came_from"], first["prompt"]) == (
        str(still.pk), -1, None, "a still lake",
    )  # fmt: skip
    assert (second["id"], second["depth"], second["came_from"], second["status"]) == (
        moving["id"], 0, str(still.pk), "pending",
    )  # fmt: skip
    assert second["url"] is None
    picture = APIClient().get(first["url"].removeprefix("http://testserver"))
    assert b"".join(picture.streaming_content) != b""  # type: ignore[attr-defined]
    assert [one["depth"] for one in api.get(f"{GENERATIONS}/{still.pk}/lineage").json()["nodes"]] == [0, 1]


def test_hides_the_family_of_somebody_else(api: APIClient) -> None:
    for pk in (GenerationFactory.create().pk, uuid4()):
        assert_problem(api.get(f"{GENERATIONS}/{pk}/lineage"), 404, "not_found")


def test_lists_the_takes_of_a_scene(api: APIClient, user: User) -> None:
    scene = SceneFactory.create()
    take = GenerationFactory.create(user=user, scene=scene)
    GenerationFactory.create(user=user)
    GenerationFactory.create(scene=scene)  # another member's

    [told] = api.get(f"{GENERATIONS}?scene={scene.pk}").json()["results"]

    assert (told["id"], told["scene"]) == (str(take.pk), str(scene.pk))
    assert_problem(api.get(f"{GENERATIONS}?scene=1"), 400, "invalid_parameter")
