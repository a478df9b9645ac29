"""All pictures that a chapter lacks, over the API: it"""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from accounts.models import Wallet
from generations.models import Batch, Chapter, Generation, Scene
from tests.factories import (
    ChapterFactory,
    GenerationFactory,
    PriceFactory,
    SceneFactory,
    WalletFactory,
    completed_generation,
)
from tests.generations.api.helpers import GENERATIONS, assert_problem

pytestmark = pytest.mark.django_db


@pytest.fixture
def chapter(user: User) -> Chapter:
    """Seven scenes, of which 2, 4 and 6 lack a picture: nobody asked, it failed, it was cancelled."""
    chapter = ChapterFactory.create(owner=user, title="The lighthouse")
    scenes = [SceneFactory.create(chapter=chapter, number=number, description=f"Scene {number}") for number in range(8)]
    completed_generation(user=user, scene=scenes[1])
    GenerationFactory.create(user=user, scene=scenes[3])
    GenerationFactory.create(user=user, scene=scenes[4], status="failed")
    completed_generation(scene=scenes[5])  # a member's
    GenerationFactory.create(user=user, scene=scenes[6], status="cancelled")
    GenerationFactory.create(user=user, scene=scenes[7], status="processing")
    Scene.objects.filter(number=0).update(description="")
    return chapter


@pytest.fixture
def url(chapter: Chapter) -> str:
    return f"/api/v1/chapters/{chapter.pk}/images/generate-missing"


def test_asks_for_what_is_missing_in_one_batch(api: APIClient, chapter: Chapter, url: str, user: User) -> None:
    PriceFactory.create(credits=5)
    WalletFactory.create(user=user, available=15)

    reply = api.post(url, {"style": "comic", "script_id": "s1"}, format="json")

    told = reply.json()
    assert reply.status_code == 202
    assert (told["mode"], told["name"], told["counts"]["total"]) == ("scenes", "The lighthouse: missing pictures", 3)
    items = api.get(told["links"]["items"]).json()["results"]
    assert [item["variation_key"] for item in items] == ["scene-2-v0", "scene-4-v0", "scene-6-v0"]
    for item, number in zip(items, (2, 4, 6), strict=True):
        made = Generation.objects.get(pk=item["generation"]["id"])
        assert made.scene
        assert (made.scene.number, made.metadata["script_id"]) == (number, "s1")
        assert made.params["prompt"] == f"Scene {number}, comic book panel, bold ink lines, flat colours"
        current = api.get(f"/api/v1/chapters/{chapter.pk}/images/scenes/{number}/status").json()
        assert (current["record_id"], current["status"]) == (str(made.pk), "pending")
    wallet = Wallet.objects.get(user=user)
    assert (wallet.available, wallet.held) == (0, 15)
    assert_problem(api.post(url), 409, "nothing_missing")


def test_asks_for_all_or_for_none(api: APIClient, url: str, user: User) -> None:
    PriceFactory.create(credits=5)
    WalletFactory.create(user=user, available=14)
    before = Generation.objects.count()

    told = assert_problem(api.post(url), 402, "insufficient_credits")

    assert (told["balance"], told["required"]) == (14, 15)
    assert (Generation.objects.count(), Batch.objects.count()) == (before, 0)


def test_shares_takes_with_those_who_ask_by_the_scene(api: APIClient, chapter: Chapter, url: str) -> None:
    batch = api.post(url, {"style": "comic"}, format="json").json()
    scene = f"/api/v1/chapters/{chapter.pk}/images/scenes/2"
    record = api.get(f"{scene}/status").json()["record_id"]

    again = api.post(scene, {"scene_description": "Scene 2", "style": "comic"}, format="json").json()

    assert (again["record_id"], again["reused"]) == (record, True)
    assert api.post(batch["links"]["cancel"]).status_code in {200, 202}
    # Somebody has asked for it by itself: the batch did not take it along.
    assert api.get(f"{GENERATIONS}/{record}").json()["status"] == "pending"
    assert api.get(f"/api/v1/chapters/{chapter.pk}/images/scenes/4/status").json()["error_code"] == "cancelled"


def test_answers_the_same_key_alike(api: APIClient, chapter: Chapter, url: str) -> None:
    key = {"Idempotency-Key": "all"}
    first = api.post(url, headers=key)
    again = api.post(url, headers=key)

    assert again.json()["id"] == first.json()["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert_problem(api.post(url, {"style": "comic"}, format="json", headers=key), 422, "idempotency_key_reused")
    scene = f"/api/v1/chapters/{chapter.pk}/images/scenes/2"
    assert_problem(api.post(scene, {}, format="json", headers=key), 422, "idempotency_key_reused")


def test_says_which_scene_is_wrong(api: APIClient, chapter: Chapter, url: str) -> None:
    Scene.objects.filter(chapter=chapter, number=4).update(description="x" * 2000)

    told = assert_problem(api.post(url, {"style": "y" * 60}, format="json"), 400, "invalid_params")

    assert told["detail"].startswith("scene 4: ")
    assert [one["field"] for one in told["errors"]] == ["scene_description"]


def test_needs_a_number_of_queries_that_does_not_grow(
    api: APIClient, user: User, django_assert_max_num_queries: Any
) -> None:
    for number in (1, 30):
        chapter = ChapterFactory.create(owner=user)
        SceneFactory.create_batch(number, chapter=chapter)
        with django_assert_max_num_queries(45):
            assert api.post(f"/api/v1/chapters/{chapter.pk}/images/generate-missing").status_code == 202


def test_keeps_nothing_waiting_that_somebody_asks_for_by_itself(api: APIClient, chapter: Chapter, url: str) -> None:
    told = api.post(url, {"style": "comic"}, format="json").json()
    api.post(told["links"]["pause"], format="json")

    body = {"scene_description": "Scene 2", "style": "comic"}
    reply = api.post(f"/api/v1/chapters/{chapter.pk}/images/scenes/2", body, format="json").json()

    assert reply["reused"]
    waits = {item["generation"]["id"]: item["generation"]["wait_reason"] for item in _items(api, told)}
    assert waits.pop(reply["record_id"]) == "no_account"
    assert set(waits.values()) == {"paused"}


def _items(api: APIClient, told: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(told["links"]["items"]).json()["results"]
    return found
