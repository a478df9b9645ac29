"""Takes of scenes, over the API: it"""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from accounts.models import Wallet
from generations.intake.switches import turn_on
from generations.models import Chapter, ChapterMember, Event, Generation, Scene
from generations.reports.sentences import event_text
from tests.factories import (
    ChapterFactory,
    GenerationFactory,
    PriceFactory,
    SubmissionFactory,
    UserFactory,
    WalletFactory,
    completed_generation,
)
from tests.generations.api.conftest import ClientOf
from tests.generations.api.helpers import GENERATIONS, assert_problem

pytestmark = pytest.mark.django_db

BODY = {
    "scene_description": "A lighthouse in a storm at night",
    "style": "cinematic",
    "aspect_ratio": "16:9",
    "script_id": "script-7",
}


@pytest.fixture
def chapter(user: User) -> Chapter:
    return ChapterFactory.create(owner=user)


@pytest.fixture
def scene_url(chapter: Chapter) -> str:
    return f"/api/v1/chapters/{chapter.pk}/images/scenes/3"


@pytest.fixture
def member(chapter: Chapter) -> User:
    user = UserFactory.create()
    ChapterMember.objects.create(chapter=chapter, user=user, access="generate")
    return user


def ask(client: APIClient, url: str, status: int = 202, *, key: str = "", **change: Any) -> dict[str, Any]:
    headers = {"Idempotency-Key": key} if key else {}
    reply = client.post(url, {**BODY, **change}, format="json", headers=headers)
    told: dict[str, Any] = reply.json()
    assert reply.status_code == status, told
    return told


def end(record_id: str, status: str = "completed") -> None:
    """Its end, as far as the claim goes."""
    row = Generation.objects.get(pk=record_id)
    Generation.objects.filter(pk=row.pk).update(
        status=status,
        completed_at=row.created_at,
        active_fingerprint=row.fingerprint if status == "completed" else None,
    )


def valid(schema: dict[str, Any], name: str, told: dict[str, Any]) -> None:
    wanted = {"$ref": f"#/components/schemas/{name}", "components": schema["components"]}
    jsonschema.validate(told, wanted, format_checker=jsonschema.FormatChecker())


class TestAsking:
    def test_is_answered_at_once(self, schema: dict[str, Any], api: APIClient, user: User, scene_url: str) -> None:
        reply = api.post(scene_url, BODY, format="json")

        told = reply.json()
        valid(schema, "SceneQueuedAnswer", told)
        made = Generation.objects.get()
        assert reply.status_code == 202
        assert {name: told[name] for name in ("task_id", "record_id", "status", "scene_number", "retry_count")} == {
            "task_id": str(made.pk),
            "record_id": str(made.pk),
            "status": "queued",
            "scene_number": 3,
            "retry_count": 0,
        }
        assert told["message"] == "The picture of scene 3 is queued and will be made in the background."
        assert told["estimated_time_seconds"] == 30
        assert reply.headers["Location"] == f"http://testserver/api/v1/scene-images/{made.pk}"
        assert (made.user, made.provider_id, made.operation_type) == (user, "modelslab", "text_to_image")
        assert made.scene
        assert (made.scene.number, made.scene.description) == (3, BODY["scene_description"])
        assert made.params["prompt"].startswith(BODY["scene_description"])
        assert "cinematic" in made.params["prompt"]
        assert (made.params["model_id"], made.params["width"], made.params["height"]) == ("flux", 1024, 576)

    def test_needs_few_queries(self, api: APIClient, scene_url: str, django_assert_max_num_queries: Any) -> None:
        ask(api, scene_url)
        with django_assert_max_num_queries(30):
            ask(api, scene_url, scene_description="Another one")

    def test_is_answered_with_the_same_record_while_it_is_live(
        self, api: APIClient, member: User, client_of: ClientOf, scene_url: str
    ) -> None:
        first = ask(api, scene_url)

        for client in (api, client_of(member)):
            again = ask(client, scene_url)
            assert (again["record_id"], again["reused"]) == (first["record_id"], True)
            assert "already" in again["message"]
        assert Generation.objects.count() == 1

    @pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
    def test_makes_another_take_after_the_end(self, status: str, api: APIClient, scene_url: str) -> None:
        first = ask(api, scene_url)
        end(first["record_id"], status)

        second = ask(api, scene_url)

        assert (second["reused"], second["record_id"] != first["record_id"]) == (False, True)
        assert [one["record_id"] for one in api.get(scene_url).json()["results"]] == [
            second["record_id"],
            first["record_id"],
        ]

    @pytest.mark.parametrize(
        "change",
        [
            {"scene_description": "A lighthouse at dawn"},
            {"style": "comic"},
            {"aspect_ratio": "1:1"},
            {"script_id": "script-8"},
            {"user_tier": "premium"},
        ],
        ids=str,
    )
    def test_makes_another_take_of_what_is_different(
        self, change: dict[str, Any], api: APIClient, scene_url: str
    ) -> None:
        assert ask(api, scene_url)["record_id"] != ask(api, scene_url, **change)["record_id"]

    def test_never_shares_between_scenes_nor_with_what_was_asked_for_beside_them(
        self, api: APIClient, chapter: Chapter, user: User, scene_url: str
    ) -> None:
        elsewhere = ChapterFactory.create(owner=user)
        urls = [scene_url, scene_url[:-1] + "4", f"/api/v1/chapters/{elsewhere.pk}/images/scenes/3"]
        records = {ask(api, url)["record_id"] for url in urls}
        made = Generation.objects.get(pk=next(iter(records)))
        beside = {"provider_id": "modelslab", "operation_type": "text_to_image", "params": made.params}
        records.add(api.post(GENERATIONS, beside, format="json").json()["id"])
        assert len(records) == 4

    def test_takes_a_twin_that_was_asked_for_beside_the_scene_into_it(self, api: APIClient, scene_url: str) -> None:
        first = Generation.objects.get(pk=ask(api, scene_url)["record_id"])
        scene_id = first.scene_id
        Generation.objects.filter(pk=first.pk).update(scene=None)

        assert ask(api, scene_url)["record_id"] == str(first.pk)

        first.refresh_from_db()
        assert first.scene_id == scene_id

    @pytest.mark.parametrize(
        ("tier", "model", "shape"),
        [
            (None, "flux", {"width": 1024, "height": 576}),
            ("free", "flux", {"width": 1024, "height": 576}),
            ("basic", "seedream-t2i", {"width": 1024, "height": 576}),
            ("standard", "seedream-4", {"aspect_ratio": "16:9"}),
            ("premium", "imagen-4", {"aspect_ratio": "16:9"}),
            ("professional", "gen4_image", {"aspect_ratio": "16:9"}),
        ],
    )
    def test_gets_model_and_shape_by_the_tier(
        self, tier: str | None, model: str, shape: dict[str, Any], api: APIClient, scene_url: str
    ) -> None:
        change: dict[str, Any] = {"user_tier": tier} if tier else {}
        ask(api, scene_url, **change)

        params = Generation.objects.get().params

        assert params["model_id"] == model
        assert {name: params[name] for name in ("width", "height", "aspect_ratio") if params[name]} == shape

    def test_is_paid_by_whoever_asks_at_the_price_of_the_tier(
        self, api: APIClient, member: User, client_of: ClientOf, scene_url: str
    ) -> None:
        PriceFactory.create(credits=2)
        PriceFactory.create(credits=9, model="imagen-4")
        WalletFactory.create(user=member, available=10)

        ask(client_of(member), scene_url, user_tier="premium")

        wallet = Wallet.objects.get(user=member)
        assert (wallet.available, wallet.held) == (1, 9)
        told = assert_problem(
            api.post(scene_url, {**BODY, "style": "comic"}, format="json"), 402, "insufficient_credits"
        )
        assert (told["balance"], told["required"]) == (0, 2)

    def test_changes_nothing_when_it_is_refused(self, api: APIClient, scene_url: str) -> None:
        PriceFactory.create(credits=2)
        assert_problem(api.post(scene_url, BODY, format="json"), 402, "insufficient_credits")
        turn_on("intake", reason="moving house", actor="test")
        assert_problem(api.post(scene_url, BODY, format="json"), 503, "intake_stopped")
        assert not Scene.objects.exists()

    def test_uses_the_words_of_those_who_have_styles_of_their_own(self, api: APIClient, scene_url: str) -> None:
        ask(api, scene_url, style="Linocut", scene_description="A {lake} in {style}")
        assert Generation.objects.get().params["prompt"] == "A {lake} in {style}, Linocut style"

    def test_uses_the_scenes_description_and_the_usual_where_none_is_given(
        self, api: APIClient, chapter: Chapter, scene_url: str
    ) -> None:
        told = assert_problem(api.post(scene_url, {}, format="json"), 400, "invalid_request")
        assert told["errors"][0]["field"] == "scene_description"
        api.put(f"/api/v1/chapters/{chapter.pk}/scenes/3", {"description": "A lake"}, format="json")

        assert api.post(scene_url, {}, format="json").status_code == 202

        made = Generation.objects.get()
        assert made.params["prompt"] == "A lake, cinematic film still, dramatic lighting"
        assert (made.params["model_id"], made.params["width"]) == ("flux", 1024)

    @pytest.mark.parametrize(
        ("change", "code", "field"),
        [
            ({"scene_description": " "}, "invalid_request", "scene_description"),
            ({"scene_description": 5}, "invalid_request", "scene_description"),
            ({"scene_description": "x" * 2001}, "invalid_request", "scene_description"),
            ({"scene_description": "x" * 2000, "style": "y" * 60}, "invalid_params", "scene_description"),
            ({"style": ""}, "invalid_request", "style"),
            ({"aspect_ratio": "5:7"}, "invalid_params", "aspect_ratio"),
            ({"aspect_ratio": 1}, "invalid_request", "aspect_ratio"),
            ({"user_tier": "gold"}, "unknown_tier", "user_tier"),
            ({"script_id": "x" * 201}, "invalid_request", "script_id"),
            ({"seed": 5}, "invalid_request", "seed"),
        ],
    )
    def test_is_refused_with_the_field_that_is_wrong(
        self, change: dict[str, Any], code: str, field: str, api: APIClient, scene_url: str
    ) -> None:
        told = assert_problem(api.post(scene_url, {**BODY, **change}, format="json"), 400, code)
        assert [one["field"] for one in told["errors"]] == [field]
        assert not Generation.objects.exists()
        assert not Scene.objects.exists()

    def test_says_when_an_ended_one_may_still_be_billed(self, api: APIClient, scene_url: str) -> None:
        first = ask(api, scene_url)
        row = Generation.objects.get()
        SubmissionFactory.create(generation=row, state="unknown", abandoned=True, account__provider_id="modelslab")
        Generation.objects.update(status="failed", completed_at=row.created_at)

        told = assert_problem(api.post(scene_url, BODY, format="json"), 409, "possibly_billed")

        assert told["generation"] == first["record_id"]


class TestKeys:
    """Idempotency-Key."""

    def test_answers_alike_after_the_end_too(self, api: APIClient, scene_url: str) -> None:
        first = ask(api, scene_url, key="one")
        end(first["record_id"])

        reply = api.post(scene_url, BODY, format="json", headers={"Idempotency-Key": "one"})

        assert reply.json()["record_id"] == first["record_id"]
        assert reply.headers["Idempotent-Replayed"] == "true"
        assert ask(api, scene_url)["record_id"] != first["record_id"]

    def test_stands_for_one_scene(self, api: APIClient, scene_url: str) -> None:
        ask(api, scene_url, key="one")
        ask(api, scene_url[:-1] + "4", status=422, key="one")
        ask(api, scene_url, status=422, key="one", style="comic")

    def test_remembers_the_take_of_another_member(
        self, api: APIClient, member: User, client_of: ClientOf, scene_url: str
    ) -> None:
        first = ask(api, scene_url)
        client = client_of(member)
        assert ask(client, scene_url, key="mine")["record_id"] == first["record_id"]
        end(first["record_id"])

        assert ask(client, scene_url, key="mine")["record_id"] == first["record_id"]
        assert ask(api, scene_url, key="mine")["record_id"] != first["record_id"]  # his own key


class TestLooking:
    def test_tells_how_far_it_is(self, schema: dict[str, Any], api: APIClient, user: User, scene_url: str) -> None:
        record = ask(api, scene_url, user_tier="standard")["record_id"]
        url = f"/api/v1/scene-images/{record}"

        told = api.get(url).json()

        valid(schema, "SceneImageAnswer", told)
        assert told == api.get(f"{scene_url}/status").json()
        assert (told["record_id"], told["status"], told["progress"]) == (record, "pending", 0)
        assert told["requested_by"] == user.username
        for name in ("image_url", "generation_time_seconds", "last_attempted_at", "error_code"):
            assert told[name] is None
        assert told["updated_at"] == told["created_at"]
        assert told["metadata"] == {
            "model_used": "seedream-4",
            "generation_time": None,
            "service": "modelslab",
            "script_id": "script-7",
            "style": "cinematic",
            "aspect_ratio": "16:9",
            "user_tier": "standard",
        }

        row = Generation.objects.get()
        Generation.objects.update(status="processing", started_at=row.created_at, error_retries=1)
        attempt = SubmissionFactory.create(generation=row, progress=40, account__provider_id="modelslab")
        told = api.get(url).json()
        valid(schema, "SceneImageAnswer", told)
        assert (told["status"], told["progress"], told["retry_count"]) == ("in_progress", 40, 1)
        assert attempt.sent_at
        assert told["last_attempted_at"] == attempt.sent_at.isoformat().replace("+00:00", "Z")
        assert told["updated_at"] > told["created_at"]

    def test_tells_the_picture_of_a_completed_one(self, api: APIClient, user: User, scene_url: str) -> None:
        ask(api, scene_url)
        scene = Scene.objects.get()
        take = completed_generation(user=user, scene=scene)

        told = api.get(f"{scene_url}/status").json()

        assert (told["record_id"], told["status"], told["progress"]) == (str(take.pk), "completed", 100)
        assert told["generation_time_seconds"] == told["metadata"]["generation_time"] >= 0
        picture = APIClient().get(told["image_url"].removeprefix("http://testserver"))
        asset = take.submissions.get().assets.get()
        assert len(b"".join(picture.streaming_content)) == asset.size  # type: ignore[attr-defined]

    def test_tells_why_one_failed(self, api: APIClient, user: User, scene_url: str) -> None:
        ask(api, scene_url)
        scene = Scene.objects.get()
        GenerationFactory.create(user=user, scene=scene, status="failed")
        told = api.get(f"{scene_url}/status").json()
        assert (told["status"], told["error_code"]) == ("failed", "provider_failed")

        GenerationFactory.create(user=user, scene=scene, status="cancelled")
        told = api.get(f"{scene_url}/status").json()
        assert (told["status"], told["error_code"], told["error_message"]) == (
            "failed", "cancelled", "It was cancelled.",
        )  # fmt: skip

    def test_follows_a_retry(self, api: APIClient, scene_url: str) -> None:
        record = ask(api, scene_url)["record_id"]
        end(record, "failed")

        retried = api.post(f"{GENERATIONS}/{record}/retry").json()

        assert retried["scene"] == str(Scene.objects.get().pk)
        assert api.get(f"{scene_url}/status").json()["record_id"] == retried["id"]


class TestChoosing:
    @pytest.fixture
    def takes(self, api: APIClient, user: User, scene_url: str) -> list[Generation]:
        ask(api, scene_url)
        scene = Scene.objects.get()
        return [Generation.objects.get(), *(completed_generation(user=user, scene=scene) for _ in range(2))]

    def test_shows_what_was_chosen(self, api: APIClient, chapter: Chapter, takes: list[Generation]) -> None:
        scene = f"/api/v1/chapters/{chapter.pk}/scenes/3"
        _, first, second = takes
        assert api.get(scene).json()["image"]["record_id"] == str(second.pk)

        for _ in range(2):
            told = api.post(f"/api/v1/scene-images/{first.pk}/choose").json()
            assert (told["record_id"], told["chosen"]) == (str(first.pk), True)
        assert api.get(scene).json()["image"]["record_id"] == str(first.pk)

        told = api.post(f"/api/v1/scene-images/{first.pk}/choose", {"chosen": False}, format="json").json()
        assert not told["chosen"]
        assert api.get(scene).json()["image"]["record_id"] == str(second.pk)
        assert [event_text(one) for one in Event.objects.filter(kind="chosen").order_by("pk")] == [
            "It was chosen as the picture of scene 3.",
            "It was no longer the chosen picture of scene 3.",
        ]

    def test_refuses_what_has_no_picture(self, api: APIClient, takes: list[Generation]) -> None:
        reply = api.post(f"/api/v1/scene-images/{takes[0].pk}/choose")
        assert assert_problem(reply, 409, "not_completed")["generation"] == str(takes[0].pk)

    def test_takes_one_out_of_its_scene_and_keeps_its_picture(
        self, api: APIClient, chapter: Chapter, user: User, scene_url: str, takes: list[Generation]
    ) -> None:
        _, first, second = takes
        api.post(f"/api/v1/scene-images/{first.pk}/choose")

        assert api.delete(f"/api/v1/scene-images/{first.pk}").status_code == 204

        assert_problem(api.get(f"/api/v1/scene-images/{first.pk}"), 404, "not_found")
        assert len(api.get(scene_url).json()["results"]) == 2
        shown = api.get(f"/api/v1/chapters/{chapter.pk}/scenes/3").json()["image"]
        assert shown["record_id"] == str(second.pk)
        own = api.get(f"{GENERATIONS}/{first.pk}").json()
        assert (own["scene"], len(own["outputs"])) == (None, 1)
        told = first.events.get(kind="left_scene")
        assert (told.actor, event_text(told)) == (
            f"user:{user.pk}", "It was taken out of scene 3. What it has made is kept.",
        )  # fmt: skip

    def test_is_taken_out_by_whoever_asked_for_it_and_by_the_owner(
        self, api: APIClient, member: User, client_of: ClientOf, scene_url: str, takes: list[Generation]
    ) -> None:
        theirs = completed_generation(user=member, scene=takes[0].scene)
        mine = completed_generation(user=member, scene=takes[0].scene)
        client = client_of(member)

        assert_problem(client.delete(f"/api/v1/scene-images/{takes[1].pk}"), 403, "chapter_access")
        assert client.delete(f"/api/v1/scene-images/{mine.pk}").status_code == 204
        assert api.delete(f"/api/v1/scene-images/{theirs.pk}").status_code == 204

    def test_stays_while_it_is_being_made(self, api: APIClient, takes: list[Generation]) -> None:
        assert_problem(api.delete(f"/api/v1/scene-images/{takes[0].pk}"), 409, "not_ended")
