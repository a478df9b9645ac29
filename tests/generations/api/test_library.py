"""The library: one's own items and shared ones, search, favourites, and the upload of several pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from generations.models import Asset, BatchItem, LibraryFavourite, LibraryItem
from tests.disks import down
from tests.factories import (
    AssetFactory,
    BatchItemFactory,
    LibraryItemFactory,
    UserFactory,
    completed_generation,
    picture,
)
from tests.generations.api.conftest import ClientOf
from tests.generations.api.helpers import assert_problem

LIBRARY = "/api/v1/library"
NOBODY = "01a207cd-0168-7661-8dc1-15d46e9a95ba"
POSE = {"name": "Arms raised", "category": "pose", "prompt": "arms raised"}


def post(api: APIClient, **fields: Any) -> Any:
    return api.post(LIBRARY, {**POSE, **fields}, format="json")


def upload(api: APIClient, files: list[tuple[str, bytes]], **fields: Any) -> Any:
    sent = [SimpleUploadedFile(name, content) for name, content in files]
    return api.post(f"{LIBRARY}/upload", {"files": sent, "category": "pose", **fields}, format="multipart")


def names(api: APIClient, query: str = "") -> list[str]:
    reply = api.get(f"{LIBRARY}{query}")
    assert reply.status_code == 200, reply.json()
    return [row["name"] for row in reply.json()["results"]]


def shared(**fields: Any) -> LibraryItem:
    return LibraryItemFactory.create(owner=None, **fields)


class TestAnItem:
    """Of one's own."""

    def test_is_kept_as_it_was_given(self, api: APIClient, user: User, schema: dict[str, Any]) -> None:
        asset = AssetFactory.create(role="input", user=user)

        reply = post(api, name=" Arms  raised ", tags=["Full body", "full  body", " ", "2"], picture=str(asset.pk))

        told = reply.json()
        assert reply.status_code == 201
        assert (told["name"], told["tags"], told["shared"]) == ("Arms raised", ["full body", "2"], False)
        assert (told["picture"]["id"], told["favourite"], told["favourites"], told["uses"]) == (
            str(asset.pk),
            False,
            0,
            0,
        )
        assert api.get(reply.headers["Location"]).json()["id"] == told["id"]
        wanted = {"$ref": "#/components/schemas/LibraryItemAnswer", "components": schema["components"]}
        jsonschema.validate(told, wanted, format_checker=jsonschema.FormatChecker())

    def test_may_be_made_of_a_result(self, api: APIClient, user: User) -> None:
        completed_generation(user=user)

        assert post(api, prompt="", picture=str(Asset.objects.get().pk)).status_code == 201

    @pytest.mark.parametrize(
        ("fields", "status", "code"),
        [
            ({"prompt": ""}, 400, "nothing_to_use"),
            ({"prompt": " \n"}, 400, "nothing_to_use"),
            ({"name": " "}, 400, "invalid_request"),
            ({"name": "x" * 121}, 400, "invalid_request"),
            ({"category": ""}, 400, "invalid_request"),
            ({"prompt": "x" * 10_001}, 400, "invalid_request"),
            ({"tags": "pose"}, 400, "invalid_request"),
            ({"tags": ["x"] * 21}, 400, "invalid_request"),
            ({"tags": ["x" * 41]}, 400, "invalid_request"),
            ({"tags": [1]}, 400, "invalid_request"),
            ({"picture": 5}, 400, "invalid_request"),
            ({"picture": NOBODY}, 404, "unknown_asset"),
            ({"owner": None}, 400, "invalid_request"),
            ({"downloads": 5}, 400, "invalid_request"),
        ],
    )
    def test_is_refused_for_bad_input(self, fields: dict[str, Any], status: int, code: str, api: APIClient) -> None:
        assert_problem(post(api, **fields), status, code)
        assert not LibraryItem.objects.exists()

    def test_takes_no_video_and_no_picture_of_somebody_else(self, api: APIClient, user: User) -> None:
        video = AssetFactory.create(role="input", user=user, mime_type="video/mp4")
        other = AssetFactory.create(role="input")

        assert_problem(post(api, picture=str(video.pk)), 400, "not_a_picture")
        assert_problem(post(api, picture=str(other.pk)), 404, "unknown_asset")

    def test_is_changed_in_what_is_given(self, api: APIClient, user: User) -> None:
        asset = AssetFactory.create(role="input", user=user)
        item = LibraryItemFactory.create(owner=user, tags=["a"])
        url = f"{LIBRARY}/{item.pk}"

        told = api.patch(url, {"picture": str(asset.pk), "tags": ["b"]}, format="json").json()

        assert (told["name"], told["prompt"], told["tags"]) == (item.name, item.prompt, ["b"])
        assert told["picture"]["id"] == str(asset.pk)
        assert told["updated_at"] >= told["created_at"]
        assert api.patch(url, {"prompt": ""}, format="json").status_code == 200
        assert_problem(api.patch(url, {"picture": None}, format="json"), 400, "nothing_to_use")
        assert_problem(api.patch(url, {"name": ""}, format="json"), 400, "invalid_request")
        assert api.get(url).json()["picture"] is not None

    def test_is_deleted_and_its_batches_stay(self, api: APIClient, user: User) -> None:
        item = LibraryItemFactory.create(owner=user)
        used = BatchItemFactory.create(batch__user=user, library_item=item, variation_key=f"pose-{item.pk}-v0")
        LibraryFavourite.objects.create(user=user, item=item)

        assert api.delete(f"{LIBRARY}/{item.pk}").status_code == 204

        kept = BatchItem.objects.get(pk=used.pk)
        assert (kept.library_item, kept.variation_key) == (None, used.variation_key)
        assert api.get(f"{LIBRARY}/{item.pk}").status_code == 404

    def test_hides_from_others(self, api: APIClient) -> None:
        url = f"{LIBRARY}/{LibraryItemFactory.create().pk}"

        for reply in (
            api.get(url),
            api.patch(url, {"name": "mine"}, format="json"),
            api.delete(url),
            api.put(f"{url}/favourite"),
            api.delete(f"{url}/favourite"),
            api.get(f"{url}/download"),
        ):
            assert_problem(reply, 404, "not_found")
        assert names(api) == []

    @pytest.mark.parametrize("number", ["0", "9" * 18, "9" * 40])
    def test_is_nowhere_for_a_number_that_is_none(self, number: str, api: APIClient) -> None:
        assert api.get(f"{LIBRARY}/{number}").status_code == 404


class TestASharedItem:
    """Of all users, kept by the operators."""

    def test_is_seen_with_its_picture_and_not_changed(self, api: APIClient) -> None:
        content = picture()
        item = shared(picture=AssetFactory.create(role="input", content=content))
        url = f"{LIBRARY}/{item.pk}"

        told = api.get(url).json()

        assert told["shared"]
        assert b"".join(Client().get(told["picture"]["url"]).streaming_content) == content  # type: ignore[attr-defined]
        assert_problem(api.patch(url, {"name": "mine"}, format="json"), 403, "shared_item")
        assert_problem(api.delete(url), 403, "shared_item")

    def test_is_listed_beside_ones_own(self, api: APIClient, user: User) -> None:
        shared(name="of all")
        LibraryItemFactory.create(owner=user, name="mine")
        LibraryItemFactory.create(name="another's")

        assert names(api) == ["mine", "of all"]
        assert names(api, "?owner=mine") == ["mine"]
        assert names(api, "?owner=shared") == ["of all"]
        assert names(api, "?owner=shared,mine") == ["mine", "of all"]


class TestTheList:
    """What may be asked of it."""

    def test_finds_by_category_and_by_all_of_several_tags(self, api: APIClient, user: User) -> None:
        LibraryItemFactory.create(owner=user, name="a", tags=["sea", "calm"])
        LibraryItemFactory.create(owner=user, name="b", tags=["sea"])
        LibraryItemFactory.create(owner=user, name="c", category="place")

        assert names(api, "?category=place") == ["c"]
        assert names(api, "?tag=sea") == ["b", "a"]
        assert names(api, "?tag=SEA&tag=calm") == ["a"]

    @pytest.mark.parametrize(
        "words",
        ["kneeling", "KNEEL", "kneel up", "grün", "GRÜN", "full body", "outfit", "v2", "garden 3", "don't", "a_garden"],
    )
    def test_finds_words_by_their_beginnings_wherever_they_stand(self, words: str, api: APIClient, user: User) -> None:
        LibraryItemFactory.create(
            owner=user,
            name="Kneeling_up-v2.png",
            category="outfit/summer",
            prompt="<b>in a garden 3.5 m wide, grün</b>; don't look",
            tags=["full-body"],
        )
        LibraryItemFactory.create(owner=user, name="another", category="x", prompt="else")

        assert names(api, f"?q={words}") == ["Kneeling_up-v2.png"]

    @pytest.mark.parametrize("words", ["sitting", "neeling", "kneeling down", "!!!", "' | x:*", "a | c", "x" * 200])
    def test_finds_nothing_else(self, words: str, api: APIClient, user: User) -> None:
        LibraryItemFactory.create(owner=user, name="Kneeling", prompt="a b")

        reply = api.get(LIBRARY, {"q": words})

        assert (reply.status_code, reply.json()["results"]) == (200, [])

    def test_searches_by_its_index(self, user: User) -> None:
        LibraryItemFactory.create(owner=user)
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off")
        search = LibraryItem.objects.matching("arms ra").explain()
        tagged = LibraryItem.objects.tagged(["sea"]).explain()

        assert "library_item_words" in search
        assert "library_item_tags" in tagged

    def test_shows_favourites_uses_and_pages(self, api: APIClient, user: User) -> None:
        items = [LibraryItemFactory.create(owner=user, name=name) for name in "abc"]
        LibraryFavourite.objects.create(user=user, item=items[0])
        LibraryFavourite.objects.create(user=UserFactory.create(), item=items[0])
        LibraryFavourite.objects.create(user=UserFactory.create(), item=items[1])
        for _ in range(2):
            BatchItemFactory.create(library_item=items[0])

        page = api.get(f"{LIBRARY}?limit=2").json()
        rest = api.get(page["next"]).json()["results"]

        assert [row["name"] for row in page["results"]] == ["c", "b"]
        assert [(row["name"], row["favourite"], row["favourites"], row["uses"]) for row in rest] == [("a", True, 2, 2)]
        assert names(api, "?favourite=true") == ["a"]

    def test_takes_as_many_queries_for_many_as_for_one(self, api: APIClient, user: User) -> None:
        def fill() -> None:
            item = LibraryItemFactory.create(owner=user, picture=AssetFactory.create(role="input", user=user))
            LibraryFavourite.objects.create(user=user, item=item)
            BatchItemFactory.create(library_item=item)

        def queries() -> int:
            with CaptureQueriesContext(connection) as caught:
                names(api)
            return len(caught)

        fill()
        few = queries()
        for _ in range(4):
            fill()
        assert queries() == few == 4  # the token, the items with their pictures, uses, favourites

    @pytest.mark.parametrize(
        "query",
        [
            "?q=%00",
            f"?q={'x' * 201}",
            "?owner=all",
            "?favourite=false",
            "?colour=red",
            f"?tag={'x' * 41}",
            "?tag=%00",
            "?" + "&".join(f"tag={number}" for number in range(21)),
            f"?category={'x' * 61}",
            "?limit=0",
        ],
    )
    def test_refuses_what_it_does_not_know(self, query: str, api: APIClient) -> None:
        assert api.get(f"{LIBRARY}{query}").status_code == 400


class TestAFavourite:
    """On and off."""

    def test_is_one_users_and_set_as_often_as_one_likes(self, api: APIClient, client_of: ClientOf) -> None:
        item = shared()
        url = f"{LIBRARY}/{item.pk}/favourite"

        replies = [api.put(url), api.put(url, {}, format="json")]

        assert [(reply.status_code, reply.json()["favourites"]) for reply in replies] == [(200, 1)] * 2
        assert replies[0].json()["favourite"]
        other = client_of(UserFactory.create())
        assert other.get(f"{LIBRARY}/{item.pk}").json()["favourite"] is False
        assert [api.delete(url).json()["favourites"] for _ in range(2)] == [0, 0]


class TestADownload:
    """Of an item's picture."""

    def test_leads_to_the_bytes_and_is_counted(self, api: APIClient) -> None:
        content = picture()
        item = shared(picture=AssetFactory.create(role="input", content=content))

        replies = [api.get(f"{LIBRARY}/{item.pk}/download") for _ in range(2)]

        assert [reply.status_code for reply in replies] == [302, 302]
        assert b"".join(Client().get(replies[0].headers["Location"]).streaming_content) == content  # type: ignore[attr-defined]
        assert api.get(f"{LIBRARY}/{item.pk}").json()["downloads"] == 2

    def test_needs_a_picture(self, api: APIClient) -> None:
        assert_problem(api.get(f"{LIBRARY}/{shared().pk}/download"), 404, "no_picture")


class TestAnUpload:
    """Of several pictures."""

    def test_makes_an_item_of_each_and_tells_of_each(self, api: APIClient, user: User, schema: dict[str, Any]) -> None:
        content = picture()
        files = [
            ("arms_raised.png", content),
            ("broken.png", b"no picture"),
            ("sitting.txt", picture(format="JPEG")),
            ("again.png", content),
        ]

        reply = upload(api, files, tags="Standing, full body")

        told = reply.json()
        assert (reply.status_code, told["created"]) == (201, 3)
        assert [one["file"] for one in told["results"]] == [name for name, _ in files]
        assert [one["item"] and one["item"]["name"] for one in told["results"]] == [
            "arms raised",
            None,
            "sitting",
            "again",
        ]
        assert told["results"][1]["error"]["code"] == "invalid_input"
        assert told["results"][2]["item"]["picture"]["mime_type"] == "image/jpeg"
        assert told["results"][0]["item"]["tags"] == ["standing", "full body"]
        assert Asset.objects.count() == 2, "equal bytes are one asset"
        assert set(LibraryItem.objects.values_list("owner", "category")) == {(user.pk, "pose")}
        wanted = {"$ref": "#/components/schemas/UploadAnswer", "components": schema["components"]}
        jsonschema.validate(told, wanted, format_checker=jsonschema.FormatChecker())

    def test_is_refused_when_no_file_is_a_picture(self, api: APIClient) -> None:
        told = assert_problem(upload(api, [("a.png", b"x"), ("b.png", b"")]), 400, "nothing_uploaded")

        assert [one["field"] for one in told["errors"]] == ["files.0", "files.1"]
        assert not Asset.objects.exists()

    def test_is_asked_for_again_while_the_storage_is_down(self, api: APIClient, tmp_path: Path) -> None:
        with down(tmp_path / "media"):
            assert_problem(upload(api, [("a.png", picture())]), 503, "storage_unavailable")
        assert not LibraryItem.objects.exists()

    @pytest.mark.parametrize(
        "send",
        [
            lambda api: upload(api, []),
            lambda api: upload(api, [("a.png", b"x")] * 51),
            lambda api: upload(api, [("a.png", picture())], colour="red"),
            lambda api: upload(api, [("a.png", picture())], category=""),
            lambda api: upload(api, [("a.png", picture())], category=["a", "b"]),
            lambda api: upload(api, [("a.png", picture())], category="a\x00b"),
            lambda api: upload(api, [("a.png", picture())], tags="a\x00b"),
            lambda api: upload(api, [("a.png", picture())], category=SimpleUploadedFile("a", b"x")),
            lambda api: upload(api, [("a.png", picture())], tags="x" * 41),
            lambda api: api.post(f"{LIBRARY}/upload", {"files": "text", "category": "pose"}, format="multipart"),
        ],
    )
    def test_is_refused_as_another_form(self, send: Callable[[APIClient], Any], api: APIClient) -> None:
        reply = send(api)

        assert reply.status_code == 400, reply.json()
        assert not LibraryItem.objects.exists()

    def test_is_a_form_of_a_bounded_size(self, api: APIClient) -> None:
        form: dict[str, Any] = {"content_type": "multipart/form-data; boundary=x", "CONTENT_LENGTH": str(10**9)}

        assert_problem(api.post(f"{LIBRARY}/upload", b"--x", **form), 413, "body_too_large")
        assert_problem(api.post(f"{LIBRARY}/upload", {}, format="json"), 415, "unsupported_media_type")
