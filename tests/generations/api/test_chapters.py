"""Chapters and their scenes, over the API: it"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import jsonschema
import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from generations.models import Chapter, ChapterMember, Generation, Scene
from tests.factories import (
    ChapterFactory,
    GenerationFactory,
    SceneFactory,
    UserFactory,
    completed_generation,
)
from tests.generations.api.conftest import ClientOf
from tests.generations.api.helpers import assert_problem

pytestmark = pytest.mark.django_db
CHAPTERS = "/api/v1/chapters"


def shared(chapter: Chapter, access: str) -> User:
    """A member."""
    member = UserFactory.create()
    ChapterMember.objects.create(chapter=chapter, user=member, access=access)
    return member


def of(chapter: Chapter) -> str:
    return f"{CHAPTERS}/{chapter.pk}"


class TestChapters:
    def test_makes_changes_and_deletes_one(self, schema: dict[str, Any], api: APIClient, user: User) -> None:
        friend, other = UserFactory.create(), UserFactory.create()

        reply = api.post(
            CHAPTERS,
            {"title": "The lighthouse", "members": [{"username": friend.username, "access": "view"}]},
            format="json",
        )

        told = reply.json()
        jsonschema.validate(told, {"$ref": "#/components/schemas/ChapterAnswer", "components": schema["components"]})
        assert (reply.status_code, told["title"], told["owner"], told["access"], told["scenes"]) == (
            201, "The lighthouse", user.username, "own", 0,
        )  # fmt: skip
        assert told["members"] == [{"username": friend.username, "access": "view"}]
        url = f"{CHAPTERS}/{told['id']}"
        assert api.get(url).json() == told
        assert reply.headers["Location"].endswith(url)

        told = api.patch(url, {"title": "The storm"}, format="json").json()
        assert (told["title"], len(told["members"])) == ("The storm", 1)
        members = [{"username": friend.username, "access": "generate"}, {"username": other.username}]
        told = api.patch(url, {"members": members}, format="json").json()
        assert {one["username"]: one["access"] for one in told["members"]} == {
            friend.username: "generate",
            other.username: "generate",
        }
        assert told["title"] == "The storm"
        assert api.patch(url, {"members": []}, format="json").json()["members"] == []

        assert api.delete(url).status_code == 204
        assert_problem(api.get(url), 404, "not_found")

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"title": ""}, "invalid_request"),
            ({"title": "  "}, "invalid_request"),
            ({"title": "x" * 201}, "invalid_request"),
            ({"members": [{"username": "nobody"}]}, "unknown_user"),
            ({"members": [{"username": "a"}, {"username": "a"}]}, "invalid_request"),
            ({"members": [{"username": "a", "access": "own"}]}, "invalid_request"),
            ({"owner": "me"}, "invalid_request"),
        ],
    )
    def test_refuses_what_is_none(self, change: dict[str, Any], code: str, api: APIClient, user: User) -> None:
        chapter = ChapterFactory.create(owner=user)
        assert_problem(api.post(CHAPTERS, {"title": "One", **change}, format="json"), 400, code)
        assert_problem(api.patch(of(chapter), change, format="json"), 400, code)
        assert Chapter.objects.count() == 1

    def test_is_not_shared_with_its_owner_or_those_who_left(self, api: APIClient, user: User) -> None:
        gone = UserFactory.create(is_active=False)
        for name in (user.username, gone.username):
            reply = api.post(CHAPTERS, {"title": "One", "members": [{"username": name}]}, format="json")
            assert_problem(reply, 400, "unknown_user")

    def test_lists_ones_own_and_those_that_are_shared(
        self, api: APIClient, user: User, django_assert_num_queries: Any
    ) -> None:
        own = ChapterFactory.create(owner=user)
        theirs = ChapterFactory.create()
        ChapterFactory.create()
        ChapterMember.objects.create(chapter=theirs, user=user, access="view")
        SceneFactory.create_batch(2, chapter=own)

        with django_assert_num_queries(4):  # the token, the page, its members, its scenes
            page = api.get(f"{CHAPTERS}?limit=10").json()

        assert [(one["id"], one["access"], one["scenes"]) for one in page["results"]] == [
            (str(theirs.pk), "view", 0),
            (str(own.pk), "own", 2),
        ]

    def test_leaves_the_pictures_of_a_deleted_one_with_those_who_asked_for_them(
        self, api: APIClient, user: User
    ) -> None:
        scene = SceneFactory.create(chapter__owner=user)
        take = completed_generation(scene=scene, user=shared(scene.chapter, "generate"))
        Scene.objects.filter(pk=scene.pk).update(chosen=take)

        assert api.delete(of(scene.chapter)).status_code == 204

        take.refresh_from_db()
        assert (take.scene, take.submissions.get().assets.count()) == (None, 1)


class TestAccess:
    """A stranger sees nothing, a viewer changes nothing, a member owns nothing."""

    @pytest.fixture
    def take(self) -> Generation:
        return completed_generation(scene=SceneFactory.create(number=1))

    @pytest.fixture
    def ways(self, take: Generation) -> dict[str, tuple[str, str, Any]]:
        assert take.scene
        chapter = of(take.scene.chapter)
        return {
            "see": ("get", chapter, None),
            "see scenes": ("get", f"{chapter}/scenes", None),
            "see a scene": ("get", f"{chapter}/scenes/1", None),
            "see images": ("get", f"{chapter}/images/scenes", None),
            "see takes": ("get", f"{chapter}/images/scenes/1", None),
            "see the status": ("get", f"{chapter}/images/scenes/1/status", None),
            "see a take": ("get", f"/api/v1/scene-images/{take.pk}", None),
            "generate": ("post", f"{chapter}/images/scenes/1", {"scene_description": "A lake"}),
            "write": ("put", f"{chapter}/scenes/2", {"description": "A lake"}),
            "choose": ("post", f"/api/v1/scene-images/{take.pk}/choose", {}),
            "remove a scene": ("delete", f"{chapter}/scenes/1", None),
            "take out": ("delete", f"/api/v1/scene-images/{take.pk}", None),
            "change": ("patch", chapter, {"title": "Mine"}),
            "delete": ("delete", chapter, None),
        }

    @pytest.mark.parametrize("access", [None, "view", "generate"])
    def test_is_what_the_owner_says(
        self, access: str | None, take: Generation, ways: dict[str, Any], client_of: ClientOf
    ) -> None:
        assert take.scene
        who = UserFactory.create() if access is None else shared(take.scene.chapter, access)
        client = client_of(who)
        allowed = {
            None: set(),
            "view": {name for name in ways if name.startswith("see")},
            "generate": set(ways) - {"remove a scene", "take out", "change", "delete"},
        }[access]

        for name, (method, url, sent) in ways.items():
            if access == "generate" and name == "remove a scene":
                continue  # he may, and then nothing is left to look at
            reply = getattr(client, method)(url, sent, format="json")
            if name in allowed:
                assert reply.status_code in {200, 202}, name
            elif access is None:
                assert_problem(reply, 404, "not_found")
            else:
                assert_problem(reply, 403, "chapter_access")
        if access != "generate":
            assert Scene.objects.count() == 1
            assert Generation.objects.count() == 1

    def test_ends_with_the_membership(self, take: Generation, api: APIClient, client_of: ClientOf) -> None:
        assert take.scene
        member = client_of(shared(take.scene.chapter, "generate"))
        assert member.get(of(take.scene.chapter)).status_code == 200

        url = of(take.scene.chapter)
        client_of(take.scene.chapter.owner).patch(url, {"members": []}, format="json")

        assert_problem(member.get(url), 404, "not_found")
        assert_problem(member.get(f"/api/v1/scene-images/{take.pk}"), 404, "not_found")

    def test_needs_a_login(self, ways: dict[str, Any]) -> None:
        for method, url, sent in ways.values():
            assert getattr(APIClient(), method)(url, sent, format="json").status_code == 401


class TestScenes:
    @pytest.fixture
    def chapter(self, user: User) -> Chapter:
        return ChapterFactory.create(owner=user)

    def test_writes_and_removes_one(self, schema: dict[str, Any], api: APIClient, chapter: Chapter) -> None:
        url = f"{of(chapter)}/scenes/7"
        assert_problem(api.get(url), 404, "not_found")

        told = api.put(url, {"description": " A lake "}, format="json").json()

        jsonschema.validate(told, {"$ref": "#/components/schemas/SceneAnswer", "components": schema["components"]})
        assert (told["scene_number"], told["description"], told["takes"]) == (7, "A lake", 0)
        assert (told["image"], told["current"]) == (None, None)
        assert api.put(url, {"description": "A lake at dawn"}, format="json").json()["id"] == told["id"]
        assert_problem(api.get(f"{of(chapter)}/images/scenes/7/status"), 404, "not_found")
        assert api.delete(url).status_code == 204
        assert_problem(api.delete(url), 404, "not_found")

    @pytest.mark.parametrize("number", ["0", "100001", str(10**12), str(10**30)])
    def test_knows_no_number_that_is_none(self, number: str, api: APIClient, chapter: Chapter) -> None:
        where = f"{of(chapter)}/images/scenes/{number}"
        assert_problem(api.post(where, {"scene_description": "A lake"}, format="json"), 400, "invalid_request")
        assert_problem(
            api.put(f"{of(chapter)}/scenes/{number}", {"description": "x"}, format="json"), 400, "invalid_request"
        )
        for url in (where, f"{where}/status", f"{of(chapter)}/scenes/{number}"):
            assert_problem(api.get(url), 404, "not_found")
        assert_problem(api.delete(f"{of(chapter)}/scenes/{number}"), 404, "not_found")
        assert not Scene.objects.exists()

    def test_lists_by_number_with_what_each_shows(self, api: APIClient, chapter: Chapter) -> None:
        scenes = {number: SceneFactory.create(chapter=chapter, number=number) for number in (3, 1, 2)}
        own = {"user": chapter.owner, "scene": scenes[1]}
        first, second = completed_generation(**own), completed_generation(**own)
        latest = GenerationFactory.create(status="failed", **own)
        chosen = completed_generation(user=chapter.owner, scene=scenes[2])
        completed_generation(user=chapter.owner, scene=scenes[2])
        Scene.objects.filter(pk=scenes[2].pk).update(chosen=chosen)

        page = api.get(f"{of(chapter)}/scenes?limit=2").json()

        assert [one["scene_number"] for one in page["results"]] == [1, 2]
        one, two = page["results"]
        assert (one["image"]["record_id"], one["current"]["record_id"], one["takes"]) == (
            str(second.pk), str(latest.pk), 3,
        )  # fmt: skip
        assert first.pk < second.pk
        assert (two["image"]["record_id"], two["image"]["chosen"]) == (str(chosen.pk), True)
        assert one["image"]["image_url"]
        rest = api.get(page["next"]).json()
        assert ([one["scene_number"] for one in rest["results"]], rest["next"]) == ([3], None)
        other = ChapterFactory.create(owner=chapter.owner)
        cursor = page["next_cursor"]
        assert_problem(api.get(f"{of(other)}/scenes?cursor={cursor}"), 400, "invalid_parameter")

    def test_lists_in_a_number_of_queries_that_does_not_grow(
        self, api: APIClient, chapter: Chapter, django_assert_max_num_queries: Any
    ) -> None:
        def more(first: int) -> None:
            for number in range(first, first + 3):
                scene = SceneFactory.create(chapter=chapter, number=number)
                completed_generation(user=shared(chapter, "generate"), scene=scene)
                GenerationFactory.create(user=chapter.owner, scene=scene)

        more(1)
        for path, number in (("scenes", 8), ("images/scenes", 5), ("images/scenes/1", 6)):
            with django_assert_max_num_queries(number):
                assert api.get(f"{of(chapter)}/{path}").status_code == 200
        more(4)
        for path, number in (("scenes", 8), ("images/scenes", 5), ("images/scenes/1", 6)):
            with django_assert_max_num_queries(number):
                assert api.get(f"{of(chapter)}/{path}").status_code == 200

    def test_are_found_by_their_own_ids_only(self, api: APIClient, chapter: Chapter) -> None:
        apart = GenerationFactory.create(user=chapter.owner)
        for pk in (uuid4(), apart.pk):
            assert_problem(api.get(f"/api/v1/scene-images/{pk}"), 404, "not_found")
            assert_problem(api.delete(f"/api/v1/scene-images/{pk}"), 404, "not_found")
            assert_problem(api.post(f"/api/v1/scene-images/{pk}/choose", {}, format="json"), 404, "not_found")
