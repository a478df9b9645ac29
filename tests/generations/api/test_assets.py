"""Assets: uploads, lists, and the bytes behind signed links."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from generations import storage
from generations.conf import limits
from generations.intake import assets, store
from generations.models import Asset, Generation
from generations.signing import content_url
from tests.disks import down, small_disk
from tests.factories import (
    AssetFactory,
    GenerationFactory,
    GenerationInputFactory,
    LibraryItemFactory,
    SubmissionFactory,
    picture,
)
from tests.generations.api.helpers import GENERATIONS, assert_problem
from tests.together import together

ASSETS = "/api/v1/assets"


def upload(api: APIClient, content: bytes, name: str = "my fox.png") -> Any:
    return api.post(ASSETS, {"file": SimpleUploadedFile(name, content)}, format="multipart")


def bytes_of(reply: Any) -> bytes:
    return b"".join(reply.streaming_content)  # when it is read to its end, the client closes it


def status_of(reply: Any) -> int:
    bytes_of(reply)
    return int(reply.status_code)


def stored(key: str) -> bytes:
    with storage.open_key(key) as file:
        return file.read()


@pytest.fixture
def asset(user: User) -> Asset:
    row = GenerationFactory.create(user=user, status="completed", prompt="A fox, in the snow!")
    return AssetFactory.create(submission=SubmissionFactory.create(generation=row, state="succeeded"))


def test_keeps_an_upload(api: APIClient, user: User) -> None:
    content = picture(size=(40, 30))

    reply = upload(api, content)

    assert reply.status_code == 201, reply.content
    told = reply.json()
    assert (told["role"], told["mime_type"], told["width"], told["height"]) == ("input", "image/png", 40, 30)
    assert (told["bytes"], told["sha256"], told["name"]) == (
        len(content),
        hashlib.sha256(content).hexdigest(),
        "my fox.png",
    )
    assert reply.headers["Location"] == f"http://testserver{ASSETS}/{told['id']}"
    assert api.get(reply.headers["Location"]).json()["id"] == told["id"]
    assert bytes_of(Client().get(told["url"])) == content
    assert Asset.objects.get().user_id == user.pk


def test_keeps_equal_uploads_once(api: APIClient) -> None:
    content = picture()

    assert upload(api, content).json()["id"] == upload(api, content, "again.png").json()["id"]


def test_judges_an_upload_by_its_bytes(api: APIClient) -> None:
    assert upload(api, picture(format="JPEG"), "photo.png").json()["mime_type"] == "image/jpeg"


@pytest.mark.parametrize("name", ["../../etc/passwd.png", "..\\..\\x.png", "a\u202eb.png", "x" * 400 + ".png"])
def test_takes_a_strange_name_without_harm(name: str, api: APIClient) -> None:
    reply = upload(api, picture(), name)

    assert reply.status_code == 201, reply.content
    assert len(reply.json()["name"]) <= 200
    assert "/" not in reply.json()["name"]
    assert status_of(Client().get(reply.json()["url"])) == 200


def test_refuses_an_upload_that_says_it_is_too_large(api: APIClient) -> None:
    reply = api.post(
        ASSETS, b"--x", content_type="multipart/form-data; boundary=x", CONTENT_LENGTH=str(limits().max_input_bytes * 2)
    )

    assert_problem(reply, 413, "body_too_large")


def test_takes_no_upload_while_the_storage_is_down(api: APIClient, tmp_path: Path) -> None:
    content = picture()
    with down(tmp_path / "media"):
        reply = upload(api, content)
        told = assert_problem(reply, 503, "storage_unavailable")
        assert int(reply.headers["Retry-After"]) > 0
    assert "Send it again later" in told["detail"]
    assert not Asset.objects.exists()
    assert upload(api, content).status_code == 201


@pytest.mark.parametrize("full", ["where results are", "where uploads come in", "both"])
def test_takes_no_upload_on_a_full_disk_and_leaves_nothing_of_it(
    full: str, api: APIClient, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 10
    content = picture(size=(120, 90))
    with small_disk(tmp_path / "small") as disk:
        if full != "where uploads come in":
            settings.STORAGES = {
                **settings.STORAGES,
                "default": {**settings.STORAGES["default"], "OPTIONS": {"location": str(disk.folder)}},
            }
        if full != "where results are":
            settings.FILE_UPLOAD_TEMP_DIR = str(disk.folder)
            monkeypatch.setattr("tempfile.tempdir", str(disk.folder))
        disk.fill()
        assert_problem(upload(api, content), 503, "storage_unavailable")
        assert not Asset.objects.exists()
        assert disk.files() == []
        disk.make_room()
        reply = upload(api, content)
        assert reply.status_code == 201
        assert bytes_of(Client().get(reply.json()["url"])) == content


def test_says_so_while_the_storage_is_down(asset: Asset, tmp_path: Path) -> None:
    url = content_url(asset)
    with down(tmp_path / "media"):
        assert_problem(Client().get(url), 503, "storage_unavailable")
    assert status_of(Client().get(url)) == 200


def test_lists_by_role(api: APIClient, user: User, asset: Asset) -> None:
    uploaded = AssetFactory.create(role="input", user=user)

    def ids(query: str) -> list[str]:
        return [row["id"] for row in api.get(f"{ASSETS}{query}").json()["results"]]

    assert ids("") == [str(uploaded.pk), str(asset.pk)]
    assert ids("?role=output") == [str(asset.pk)]
    assert ids("?limit=1") == [str(uploaded.pk)]


def test_lists_by_what_is_asked_for(api: APIClient, user: User, asset: Asset) -> None:
    film = AssetFactory.create(role="input", user=user, mime_type="video/mp4", favourite=True)
    AssetFactory.create()
    assert asset.submission is not None

    def ids(query: str) -> list[str]:
        return [row["id"] for row in api.get(f"{ASSETS}?{query}").json()["results"]]

    assert ids("kind=image") == ids("favourite=false") == [str(asset.pk)]
    assert ids("kind=video") == ids("favourite=true") == [str(film.pk)]
    assert ids("kind=image,video") == [str(film.pk), str(asset.pk)]
    assert ids(f"generation={asset.submission.generation_id}") == [str(asset.pk)]
    assert ids(f"created_after={film.created_at.isoformat().replace('+', '%2B')}") == [str(film.pk)]
    assert ids(f"created_before={film.created_at.isoformat().replace('+', '%2B')}") == [str(asset.pk)]
    assert_problem(api.get(f"{ASSETS}?kind=sound"), 400, "invalid_parameter")


def test_keeps_a_favourite(api: APIClient, asset: Asset) -> None:
    url = f"{ASSETS}/{asset.pk}"
    assert api.patch(url, {"favourite": True}, format="json").json()["favourite"] is True
    assert api.get(url).json()["favourite"] is True
    assert api.patch(url, {"favourite": False}, format="json").json()["favourite"] is False
    for wrong in ({}, {"favourite": "yes"}, {"favourite": True, "name": "x"}):
        assert_problem(api.patch(url, wrong, format="json"), 400, "invalid_request")
    Asset.objects.filter(pk=asset.pk).update(expired_at=timezone.now())
    assert_problem(api.patch(url, {"favourite": True}, format="json"), 409, "asset_expired")


def test_removes_an_upload_that_nothing_uses(api: APIClient, user: User, asset: Asset) -> None:
    unused, used, shown = (AssetFactory.create(role="input", user=user) for _ in range(3))
    GenerationInputFactory.create(asset=used, generation__user=user)
    LibraryItemFactory.create(owner=user, picture=shown)

    assert api.delete(f"{ASSETS}/{unused.pk}").status_code == 204
    assert_problem(api.get(f"{ASSETS}/{unused.pk}"), 404, "not_found")
    assert_problem(api.delete(f"{ASSETS}/{used.pk}"), 409, "asset_used")
    assert_problem(api.delete(f"{ASSETS}/{shown.pk}"), 409, "asset_used")
    assert_problem(api.delete(f"{ASSETS}/{asset.pk}"), 409, "not_an_upload")
    assert set(Asset.objects.all()) == {asset, used, shown}


def test_changes_nothing_of_somebody_elses(api: APIClient) -> None:
    other = AssetFactory.create(role="input")
    assert_problem(api.patch(f"{ASSETS}/{other.pk}", {"favourite": True}, format="json"), 404, "not_found")
    assert_problem(api.delete(f"{ASSETS}/{other.pk}"), 404, "not_found")
    assert Asset.objects.get(pk=other.pk).favourite is False


@pytest.mark.django_db(transaction=True)
def test_says_so_when_an_input_is_removed_while_a_request_is_accepted(
    api: APIClient, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = AssetFactory.create(role="input", user=user)
    real = store._complete_insert

    def then_removed(new: Any, actor: str) -> None:
        real(new, actor)
        assert together([lambda: assets.remove_upload(upload)]) == [None]

    monkeypatch.setattr(store, "_complete_insert", then_removed)
    body = {
        "provider_id": "pixverse",
        "operation_type": "image_to_video",
        "params": {"prompt": "it moves"},
        "inputs": [{"role": "image", "asset_id": str(upload.pk)}],
    }
    assert_problem(api.post(GENERATIONS, body, format="json"), 409, "removed_meanwhile")
    assert not Generation.objects.exists()


def test_gives_a_file_to_be_saved_and_counts_it(api: APIClient, asset: Asset) -> None:
    url = api.get(f"{ASSETS}/{asset.pk}").json()["download_url"]
    reply = Client().get(url)
    assert len(bytes_of(reply)) == asset.size
    assert reply.headers["Content-Disposition"] == f'attachment; filename="a-fox-in-the-snow-{asset.pk.hex[-6:]}.png"'
    for more in (Client().head(url), Client().get(url, headers={"Range": "bytes=0-1"}), Client().get(url[:-11])):
        assert status_of(more) in {200, 206}
    assert api.get(f"{ASSETS}/{asset.pk}").json()["downloads"] == 1


def test_says_that_a_file_has_expired(api: APIClient, asset: Asset) -> None:
    urls = [content_url(asset), content_url(asset, thumbnail=True), content_url(asset, download=True)]
    Asset.objects.filter(pk=asset.pk).update(expired_at=timezone.now())
    for url in urls:
        assert_problem(Client().get(url), 410, "asset_expired")
        assert_problem(Client().get(url, headers={"If-None-Match": f'"{asset.sha256}"'}), 410, "asset_expired")
    told = api.get(f"{ASSETS}/{asset.pk}").json()
    assert told["expired_at"] is not None
    assert told["thumbnail_url"] is None


def test_serves_the_bytes_to_whoever_has_the_link(asset: Asset) -> None:
    reply = Client().get(content_url(asset))

    assert reply.status_code == 200
    assert hashlib.sha256(bytes_of(reply)).hexdigest() == asset.sha256
    headers = reply.headers
    assert (headers["Content-Type"], headers["Content-Length"]) == ("image/png", str(asset.size))
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Disposition"] == f'inline; filename="a-fox-in-the-snow-{asset.pk.hex[-6:]}.png"'
    assert headers["ETag"] == f'"{asset.sha256}"'
    assert "immutable" in headers["Cache-Control"]
    assert "private" in headers["Cache-Control"]
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_serves_the_thumbnail(asset: Asset) -> None:
    reply = Client().get(content_url(asset, thumbnail=True))

    content = bytes_of(reply)
    assert content == stored(asset.thumbnail_key)
    assert reply.headers["Content-Length"] == str(len(content))
    assert reply.headers["Content-Type"] == "image/jpeg"


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-9", 0, 9),
        ("bytes=10-", 10, None),
        ("bytes=-7", -7, None),
        ("bytes=0-0", 0, 0),
        ("bytes=5-999999999", 5, None),
        ("bytes=-999999999", 0, None),
        ("bytes=0-", 0, None),
    ],
)
def test_serves_one_range(asked: str, first: int, last: int | None, asset: Asset) -> None:
    whole = stored(asset.key)
    expected = whole[first:] if last is None else whole[first : last + 1]
    start = first % asset.size

    reply = Client().get(content_url(asset), headers={"Range": asked})

    assert (reply.status_code, bytes_of(reply)) == (206, expected)
    assert reply.headers["Content-Length"] == str(len(expected))
    assert reply.headers["Content-Range"] == f"bytes {start}-{start + len(expected) - 1}/{asset.size}"


@pytest.mark.parametrize("asked", ["bytes=999999-", "bytes=9-3", "bytes=-0"])
def test_refuses_a_range_that_is_not_there(asked: str, asset: Asset) -> None:
    reply = Client().get(content_url(asset), headers={"Range": asked})

    assert (reply.status_code, reply.headers["Content-Range"]) == (416, f"bytes */{asset.size}")


@pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "lines=1-2", "bytes=-", "bytes=a-b", "bytes=" + "9" * 5000 + "-"])
def test_serves_the_whole_for_a_range_that_it_does_not_read(asked: str, asset: Asset) -> None:
    assert status_of(Client().get(content_url(asset), headers={"Range": asked})) == 200


def test_serves_a_range_only_of_the_same_bytes(asset: Asset) -> None:
    url = content_url(asset)
    same = Client().get(url, headers={"Range": "bytes=0-1", "If-Range": f'"{asset.sha256}"'})
    other = Client().get(url, headers={"Range": "bytes=0-1", "If-Range": '"something else"'})

    assert (status_of(same), status_of(other)) == (206, 200)


def test_says_304_to_whoever_has_the_bytes(asset: Asset) -> None:
    reply = Client().get(content_url(asset), headers={"If-None-Match": f'"{asset.sha256}"'})

    assert (reply.status_code, reply.content) == (304, b"")


def test_answers_head(asset: Asset) -> None:
    reply = Client().head(content_url(asset))

    assert (status_of(reply), reply.headers["Content-Length"]) == (200, str(asset.size))


@pytest.mark.parametrize("token", ["nothing", "a:b:c", "%00", "'; DROP TABLE--"])
def test_knows_no_forged_link(token: str, db: None) -> None:
    assert_problem(Client().get(f"/content/{token}"), 404, "not_found")


def test_refuses_a_link_that_was_tampered_with(asset: Asset) -> None:
    other = AssetFactory.create()
    url = content_url(asset).replace(asset.pk.hex, other.pk.hex)

    assert_problem(Client().get(url), 404, "not_found")


def test_lets_links_expire(asset: Asset) -> None:
    url = content_url(asset)
    with time_machine.travel(timezone.now() + timedelta(seconds=limits().signed_url_seconds + 1)):
        assert_problem(Client().get(url), 403, "link_expired")


def test_says_so_when_the_file_is_gone(asset: Asset) -> None:
    url = content_url(asset)
    storage.storage().delete(asset.key)

    assert_problem(Client().get(url), 404, "content_missing")


def test_knows_no_link_of_a_deleted_asset(asset: Asset) -> None:
    url = content_url(asset)
    asset.delete()

    assert_problem(Client().get(url), 404, "not_found")


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_only_reads(method: str, asset: Asset) -> None:
    assert getattr(Client(), method)(content_url(asset)).status_code == 405


def test_keeps_large_uploads_out_of_memory(settings: Settings, api: APIClient) -> None:
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 10

    assert upload(api, picture()).status_code == 201
