"""Results and inputs in an object store: a real S3 server, in a process of its own. It ..."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from knox.models import AuthToken
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from config.files import where_files_are
from generations import storage
from generations.execution import cleanup, dispatch, export_work, pressure
from generations.execution.waves import Wave
from generations.intake import inputs
from generations.intake.exports import ask
from generations.intake.inputs import InputRef
from generations.intake.request import Request, accept
from generations.lifecycle import State, Status
from generations.models import Asset, Export, HeldBack
from generations.reports import audit
from generations.signing import content_url
from generations.storage.objects import ObjectStorage
from tests.buckets import client_of, new_bucket, object_store
from tests.factories import AssetFactory, BatchFactory, BatchItemFactory, UserFactory, picture, stored
from tests.generations.execution.studio import Studio

CONTENT = b"the same bytes again"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The server's address."""
    with object_store() as address:
        yield address


@pytest.fixture
def bucket(store: str, settings: Settings) -> ObjectStorage:
    """A bucket of the test's own, as the storage of the house. (Take it after ``studio``, which has a folder.)"""
    settings.STORAGES = {**settings.STORAGES, "default": where_files_are(new_bucket(store), "")}
    return cast("ObjectStorage", storage.storage())


@pytest.fixture
def nowhere(settings: Settings) -> None:
    """A store that does not answer."""
    where = where_files_are("s3://key:secret@bucket?endpoint=http://127.0.0.1:9&region=us-east-1", "")
    settings.STORAGES = {**settings.STORAGES, "default": where}


def keep() -> str:
    return storage.keep_bytes(CONTENT, DIGEST, "png")


def read(key: str) -> bytes:
    with storage.open_key(key) as file:
        return file.read()


def keys(store: str, place: ObjectStorage) -> set[str]:
    """What is in the bucket, by the test's own client."""
    listed = client_of(store).list_objects_v2(Bucket=place.bucket_name)
    return {one["Key"] for one in listed.get("Contents", [])}


# --- bytes --------------------------------------------------------------------------------------------------


def test_keeps_equal_bytes_once_below_its_prefix(store: str, bucket: ObjectStorage) -> None:
    key = keep()
    assert keep() == key == storage.key_of(DIGEST, "png")
    assert read(key) == CONTENT
    assert keys(store, bucket) == {f"darkroom/{key}"}
    told = client_of(store).head_object(Bucket=bucket.bucket_name, Key=f"darkroom/{key}")
    assert told["ContentType"] == "image/png"


def test_keeps_large_files_in_parts(bucket: ObjectStorage, tmp_path: Any) -> None:
    content = os.urandom(9 * 1024**2)
    path = tmp_path / "large"
    path.write_bytes(content)
    key = storage.keep(path, hashlib.sha256(content).hexdigest(), "mp4")
    assert storage.storage().size(key) == len(content)
    assert hashlib.sha256(read(key)).hexdigest() == hashlib.sha256(content).hexdigest()


def test_reads_from_anywhere_as_much_as_is_asked_for(bucket: ObjectStorage) -> None:
    with storage.open_key(keep()) as file:
        assert (file.read(3), file.read(5)) == (b"the", b" same")
        file.seek(-5, io.SEEK_END)
        assert (file.read(), file.read(1)) == (b"again", b"")
        file.seek(4)
        assert (file.tell(), file.read(4)) == (4, b"same")


def test_says_that_bytes_are_gone(bucket: ObjectStorage) -> None:
    with pytest.raises(FileNotFoundError):
        storage.open_key("ab/cd/nothing.png")
    key = keep()
    with storage.open_key(key) as file:
        storage.storage().delete(key)
        with pytest.raises(FileNotFoundError):
            file.read()
    assert not storage.storage().exists(key)


@pytest.mark.usefixtures("nowhere")
def test_says_as_a_disk_would_that_it_is_down() -> None:
    for call in (keep, storage.room, lambda: storage.open_key("ab/cd/x.png"), lambda: next(storage.shelf().walk())):
        with pytest.raises(OSError, match="does not answer") as told:
            call()
        assert not isinstance(told.value, FileNotFoundError)


def test_does_not_tell_how_much_room_there_is_and_tries_whether_it_takes_anything(
    store: str, bucket: ObjectStorage
) -> None:
    assert storage.room() is None
    client = client_of(store)
    for key in keys(store, bucket):
        client.delete_object(Bucket=bucket.bucket_name, Key=key)
    client.delete_bucket(Bucket=bucket.bucket_name)
    with pytest.raises(OSError, match="NoSuchBucket"):
        storage.room()


# --- the house ------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_serves_bytes_whole_and_in_part(bucket: ObjectStorage) -> None:
    asset = AssetFactory.create()
    whole: Any = Client().get(content_url(asset))
    content = b"".join(whole.streaming_content)
    assert hashlib.sha256(content).hexdigest() == asset.sha256
    part: Any = Client().get(content_url(asset), headers={"Range": "bytes=10-19"})
    assert (part.status_code, b"".join(part.streaming_content)) == (206, content[10:20])
    small: Any = Client().get(content_url(asset, thumbnail=True))
    assert b"".join(small.streaming_content) == read(asset.thumbnail_key)
    storage.storage().delete(asset.key)
    assert Client().get(content_url(asset)).json()["code"] == "content_missing"


@pytest.mark.django_db
def test_makes_exports_and_zips_from_results_that_were_collected_there(studio: Studio, bucket: ObjectStorage) -> None:
    studio.account()
    generation = studio.ask()
    feed = {"format": "instagram_feed", "fit": "crop", "colour": "#ffffff"}
    batch = BatchFactory.create(user=studio.user, export_formats=[feed])
    BatchItemFactory.create(batch=batch, generation=generation, reused=True)
    assert studio.finish(generation).status == Status.COMPLETED
    export_work.run()
    assert Export.objects.get().state == "done"
    reply: Any = as_user(studio.user).get(f"/api/v1/batches/{batch.pk}/zip?formats=instagram_feed,original")
    with zipfile.ZipFile(io.BytesIO(b"".join(reply.streaming_content))) as packed:
        assert packed.testzip() is None
        assert len(packed.namelist()) == 2
    assert audit.run(files=True) == []


@pytest.mark.django_db
def test_sends_inputs_from_there_to_the_provider(studio: Studio, bucket: ObjectStorage) -> None:
    studio.account("pixverse")
    upload = inputs.store_upload(studio.user.pk, io.BytesIO(picture(size=(320, 320))), name="fox.png")
    request = Request(
        "pixverse",
        "image_to_video",
        {"prompt": "it moves", "quality": "360p"},
        inputs=(InputRef("image", asset_id=upload.pk),),
    )
    generation = accept(studio.user.pk, request, actor="test").generation
    dispatch.dispatch("pixverse")
    assert studio.attempt(generation).state == State.ACCEPTED


@pytest.mark.django_db
@pytest.mark.usefixtures("nowhere", "hints")
def test_takes_no_upload_and_sends_nothing_while_it_is_down(
    monkeypatch: pytest.MonkeyPatch, client_for: APIClient
) -> None:
    reply = client_for.post("/api/v1/assets", {"file": SimpleUploadedFile("x.png", picture())}, format="multipart")
    assert (reply.status_code, reply.json()["code"]) == (503, "storage_unavailable")
    monkeypatch.setattr(pressure, "_looking", Wave())
    monkeypatch.setattr(pressure, "ANSWER_SECONDS", 30)
    pressure.look()
    assert HeldBack.Reason.STORAGE_DOWN in set(HeldBack.objects.active().values_list("reason", flat=True))


@pytest.fixture
def client_for(db: None) -> APIClient:
    return as_user(UserFactory.create())


def as_user(user: User) -> APIClient:
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {AuthToken.objects.create(user)[1]}")
    return api


# --- orphans ----------------------------------------------------------------------------------------------------


@pytest.fixture
def at_once(limits: Callable[..., None]) -> None:
    """Everything that is stored is old enough."""
    limits(orphan_hours=0)


def sweep() -> Any:
    return cleanup.run(dry_run=False).files


@pytest.mark.django_db
@pytest.mark.usefixtures("at_once")
def test_removes_what_nothing_refers_to_in_two_runs(store: str, bucket: ObjectStorage) -> None:
    asset, orphan = AssetFactory.create(), stored(CONTENT, "png")
    client_of(store).put_object(Bucket=bucket.bucket_name, Key="somebody/elses.txt", Body=b"mine")
    bucket.client.put_object(**bucket.where("notes.txt"), Body=b"mine")
    assert cleanup.run(dry_run=True).files.orphans == 1
    first = sweep()
    assert (first.orphans, first.aside) == (0, 1)
    assert f"darkroom/{orphan}" not in keys(store, bucket)
    second = sweep()
    assert (second.orphans, second.aside, second.bytes) == (1, 0, len(CONTENT))
    named = {f"darkroom/{key}" for key in (asset.key, asset.thumbnail_key, "notes.txt")}
    assert keys(store, bucket) == named | {"somebody/elses.txt"}


@pytest.mark.django_db
def test_keeps_what_is_young(store: str, bucket: ObjectStorage) -> None:
    orphan = stored(CONTENT, "png")
    assert (sweep().orphans, sweep().aside) == (0, 0)
    assert keys(store, bucket) == {f"darkroom/{orphan}"}


@pytest.mark.django_db
@pytest.mark.usefixtures("at_once")
def test_gives_and_brings_back_what_somebody_stored_at_the_moment_of_its_removal(
    store: str, bucket: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keep()
    real = ObjectStorage._copy

    def and_somebody_stores_it(*args: Any) -> None:
        real(*args)
        assert keep() == key

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStorage, "_copy", and_somebody_stores_it)
        assert sweep().aside == 1
    assert f"darkroom/{key}" not in keys(store, bucket)
    asset = AssetFactory.create(key=key, sha256=DIGEST, size=len(CONTENT), thumbnail_key="")  # his row, a moment later
    assert read(asset.key) == CONTENT
    assert storage.storage().exists(asset.key)
    assert sweep().restored == 1
    assert f"darkroom/{key}" in keys(store, bucket)
    assert f"darkroom/{key}{storage.ASIDE}" not in keys(store, bucket)
    assert [one.id for one in audit.run(files=True) if one.id == "I8"] == []


@pytest.mark.django_db
@pytest.mark.usefixtures("at_once")
def test_brings_back_at_once_what_was_named_while_it_was_put_aside(
    store: str, bucket: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keep()
    real = ObjectStorage._copy

    def and_somebody_names_it(*args: Any) -> None:
        real(*args)
        if not Asset.objects.exists():
            AssetFactory.create(key=key, sha256=DIGEST, size=len(CONTENT), thumbnail_key="")

    monkeypatch.setattr(ObjectStorage, "_copy", and_somebody_names_it)
    swept = sweep()
    assert (swept.aside, swept.restored) == (1, 1)
    assert f"darkroom/{key}" in keys(store, bucket)


@pytest.mark.django_db
@pytest.mark.usefixtures("at_once")
def test_leaves_what_was_stored_anew_before_it_was_put_aside(bucket: ObjectStorage) -> None:
    key = keep()
    long_ago = bucket.get_modified_time(key)
    assert storage.shelf().remove_old(key, long_ago) == storage.Removal.KEPT
    assert read(key) == CONTENT
    assert storage.shelf().remove_old("ab/cd/nothing.png", long_ago) == storage.Removal.KEPT


@pytest.mark.django_db
def test_makes_no_export_of_what_is_not_there(bucket: ObjectStorage, hints: list[str]) -> None:
    asset = AssetFactory.create()
    storage.storage().delete(asset.key)
    ask(asset.user_id, [asset.pk], ["tiktok"])
    export_work.run()
    row = Export.objects.get()
    assert (row.state, row.error_code) == ("pending", "storage_failed")
