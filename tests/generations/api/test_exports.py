"""Exports by API, and a batch's ZIP: it ..."""

from __future__ import annotations

import io
import zipfile
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from PIL import Image
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from generations import storage
from generations.api.views import exports as views
from generations.execution import batches, export_work
from generations.formats import FORMATS
from generations.models import Asset, Batch, Export
from generations.reports import audit
from tests.factories import (
    AssetFactory,
    BatchFactory,
    BatchItemFactory,
    ExportFactory,
    UserFactory,
    completed_generation,
)
from tests.generations.api.conftest import ClientOf
from tests.generations.api.helpers import assert_problem
from tests.generations.execution.studio import Studio

EXPORTS = "/api/v1/exports"

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("hints")]


def output(user: User, **fields: Any) -> Asset:
    return Asset.objects.get(submission__generation=completed_generation(user=user, **fields))


def ask(api: APIClient, assets: list[Any], formats: list[Any]) -> Any:
    return api.post(EXPORTS, {"assets": [str(one) for one in assets], "formats": formats}, format="json")


# --- asking and looking -----------------------------------------------------------------------------------


def test_lists_the_formats(api: APIClient) -> None:
    told = {row["name"]: row for row in api.get(f"{EXPORTS}/formats").json()["results"]}
    assert list(told) == list(FORMATS)
    sizes = {name: (row["width"], row["height"]) for name, row in told.items()}
    assert sizes == {
        "instagram_story": (1080, 1920),
        "instagram_feed": (1080, 1080),
        "instagram_portrait": (1080, 1350),
        "tiktok": (1080, 1920),
        "facebook_post": (1200, 630),
        "twitter_post": (1600, 900),
        "linkedin_post": (1200, 627),
        "shopee": (1000, 1000),
        "tokopedia": (1200, 1200),
        "lazada": (1000, 1000),
        "print_a4": (2480, 3508),
        "print_4x6": (1200, 1800),
        "original": (None, None),
    }
    assert (told["tiktok"]["fit"], told["shopee"]["fit"], told["print_a4"]["videos"]) == ("crop", "pad", "still")


def test_makes_what_is_asked_for_and_shows_it(api: APIClient, user: User) -> None:
    asset = output(user)
    formats = ["instagram_feed", {"format": "tiktok", "fit": "pad", "colour": "#ABCDEF"}]

    reply = ask(api, [asset.pk], formats)

    assert reply.status_code == 202, reply.content
    told = {row["format"]: row for row in reply.json()["results"]}
    assert {(row["state"], row["result"], row["asset"]) for row in told.values()} == {("pending", None, str(asset.pk))}
    assert (told["tiktok"]["fit"], told["tiktok"]["colour"]) == ("pad", "#abcdef")
    assert asset.submission is not None
    assert told["tiktok"]["generation"] == str(asset.submission.generation_id)
    export_work.run()
    done = api.get(f"{EXPORTS}/{told['tiktok']['id']}").json()
    assert (done["state"], done["error_code"], done["poster"]) == ("done", None, None)
    assert (done["result"]["role"], done["result"]["width"], done["result"]["height"]) == ("export", 1080, 1920)
    content = b"".join(APIClient().get(done["result"]["url"]).streaming_content)  # type: ignore[attr-defined]
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.size) == ("JPEG", (1080, 1920))


def test_makes_each_once_and_tries_again_what_failed(api: APIClient, user: User) -> None:
    asset = output(user)
    done, failed = (
        ExportFactory.create(asset=asset, format=name, state=state)
        for name, state in (("tiktok", "done"), ("instagram_feed", "failed"))
    )

    reply = ask(api, [asset.pk, asset.pk], ["tiktok", "instagram_feed", "tiktok"])

    told = {row["id"]: row["state"] for row in reply.json()["results"]}
    assert told == {str(done.pk): "done", str(failed.pk): "pending"}


def test_makes_again_what_has_expired(api: APIClient, user: User) -> None:
    row = ExportFactory.create(asset=output(user), format="tiktok", state="done")
    Asset.objects.filter(role="export").update(expired_at=timezone.now())

    assert ask(api, [row.asset_id], ["tiktok"]).json()["results"][0]["state"] == "pending"


@pytest.mark.parametrize(
    ("formats", "field", "words"),
    [
        (["minidisc"], "formats.0", "There is no format 'minidisc'"),
        (["tiktok", {"format": "original", "fit": "pad"}], "formats.1", "as it is"),
        ([{"format": "tiktok", "colour": "red"}], "formats.0", "#ffffff"),
        ([{"format": "tiktok", "colour": "#12345g"}], "formats.0", "#ffffff"),
    ],
)
def test_refuses_what_is_no_format(api: APIClient, user: User, formats: list[Any], field: str, words: str) -> None:
    told = assert_problem(ask(api, [output(user).pk], formats), 400, "invalid_format")
    assert words in told["detail"]
    assert told["errors"][0]["field"] == field
    assert not Export.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"assets": [], "formats": ["tiktok"]},
        {"assets": ["x"], "formats": ["tiktok"]},
        {"assets": [str(uuid4())], "formats": []},
        {"assets": [str(uuid4())], "formats": "tiktok"},
        {"assets": [str(uuid4())], "formats": [7]},
        {"assets": [str(uuid4())], "formats": [{"format": "tiktok", "fit": "stretch"}]},
        {"assets": [str(uuid4())], "formats": [{"format": "tiktok", "size": 7}]},
    ],
)
def test_refuses_a_body_of_another_shape(api: APIClient, body: Any) -> None:
    assert_problem(api.post(EXPORTS, body, format="json"), 400, "invalid_request")


def test_exports_only_ones_own_results_that_are_there(api: APIClient, user: User) -> None:
    upload = AssetFactory.create(role="input", user=user)
    expired = output(user)
    Asset.objects.filter(pk=expired.pk).update(expired_at=timezone.now())
    assert_problem(ask(api, [output(UserFactory.create()).pk], ["tiktok"]), 404, "unknown_asset")
    assert_problem(ask(api, [upload.pk], ["tiktok"]), 400, "not_an_output")
    assert_problem(ask(api, [expired.pk], ["tiktok"]), 409, "asset_expired")
    assert not Export.objects.exists()


def test_refuses_too_many_at_once(api: APIClient, user: User) -> None:
    formats = [{"format": "tiktok", "colour": f"#0000{number:02x}"} for number in range(3)]
    assert_problem(ask(api, [uuid4() for _ in range(334)], formats), 400, "too_many")


def test_lists_by_what_is_asked_for(api: APIClient, user: User, client_of: ClientOf) -> None:
    batch = BatchFactory.create(user=user)
    first, second = output(user), output(user)
    assert first.submission is not None
    BatchItemFactory.create(batch=batch, generation=first.submission.generation, reused=True)
    one = ExportFactory.create(asset=first, format="tiktok")
    two = ExportFactory.create(asset=second, format="shopee", state="failed")

    def ids(query: str) -> list[str]:
        return [row["id"] for row in api.get(f"{EXPORTS}?{query}").json()["results"]]

    assert ids("") == [str(two.pk), str(one.pk)]
    assert ids(f"asset={first.pk}") == [str(one.pk)]
    assert ids(f"generation={first.submission.generation_id}") == [str(one.pk)]
    assert ids(f"batch={batch.pk}") == [str(one.pk)]
    assert ids("format=shopee") == [str(two.pk)]
    assert ids("state=pending,failed") == [str(two.pk), str(one.pk)]
    assert ids("state=failed&limit=1") == [str(two.pk)]
    assert client_of(UserFactory.create()).get(EXPORTS).json()["results"] == []
    assert_problem(api.get(f"{EXPORTS}?state=lost"), 400, "invalid_parameter")


def test_lists_in_a_constant_number_of_queries(
    api: APIClient, user: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(4):
        ExportFactory.create(asset=output(user), state="done")
    with django_assert_num_queries(2):  # the token, the page
        assert len(api.get(EXPORTS).json()["results"]) == 4


def test_makes_one_anew(api: APIClient, user: User) -> None:
    row = ExportFactory.create(asset=output(user), state="done")

    reply = api.post(f"{EXPORTS}/{row.pk}/regenerate")

    assert (reply.status_code, reply.json()["state"]) == (202, "pending")
    assert reply.json()["result"]["id"] == str(row.result_id)
    assert_problem(api.post(f"{EXPORTS}/{row.pk}/regenerate"), 409, "under_way")
    export_work.run()
    assert api.get(f"{EXPORTS}/{row.pk}").json()["result"]["id"] != str(row.result_id)


def test_knows_no_export_of_somebody_else(api: APIClient) -> None:
    row = ExportFactory.create()
    assert_problem(api.get(f"{EXPORTS}/{row.pk}"), 404, "not_found")
    assert_problem(api.post(f"{EXPORTS}/{row.pk}/regenerate"), 404, "not_found")


# --- the ZIP ----------------------------------------------------------------------------------------------


def made_batch(user: User, items: int = 2, formats: tuple[str, ...] = (), **fields: Any) -> Batch:
    stored = [{"format": name, "fit": "crop", "colour": "#ffffff"} for name in formats]
    batch = BatchFactory.create(user=user, export_formats=stored, **fields)
    for number in range(items):
        asset = output(user, prompt=f"lake {number}")
        assert asset.submission is not None
        key = f"pose-{number}-v1"
        BatchItemFactory.create(
            batch=batch, generation=asset.submission.generation, variation_key=key, reused=True, position=number
        )
        for one in stored:
            ExportFactory.create(asset=asset, **one)
    return batch


def unzip(api: APIClient, batch: Batch, query: str = "") -> dict[str, bytes]:
    reply: Any = api.get(f"/api/v1/batches/{batch.pk}/zip{query}")
    assert reply.status_code == 200, reply.content
    content = b"".join(reply.streaming_content)
    assert len(content) == int(reply.headers["Content-Length"])
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        assert packed.testzip() is None
        assert {info.compress_type for info in packed.infolist()} == {zipfile.ZIP_STORED}
        return {name: packed.read(name) for name in packed.namelist()}


def test_gives_a_batchs_files_by_names_that_a_person_understands(api: APIClient, user: User) -> None:
    batch = made_batch(user, formats=("instagram_feed", "shopee"), name="Été: poses / 1")
    export_work.run()

    files = unzip(api, batch)

    assert sorted(files) == [
        f"Été_ poses _ 1/pose-{number}-v1_{name}.jpg" for number in (0, 1) for name in ("instagram_feed", "shopee")
    ]
    with Image.open(io.BytesIO(files["Été_ poses _ 1/pose-1-v1_shopee.jpg"])) as image:
        assert image.size == (1000, 1000)
    reply = api.get(f"/api/v1/batches/{batch.pk}/zip")
    assert reply.headers["Content-Type"] == "application/zip"
    assert reply.headers["Content-Disposition"].startswith("attachment; filename*=utf-8''%C3%89t%C3%A9")


def test_gives_originals_where_no_format_was_chosen(api: APIClient, user: User) -> None:
    batch = made_batch(user, name="lakes")
    files = unzip(api, batch)
    assert sorted(files) == ["lakes/pose-0-v1_original.png", "lakes/pose-1-v1_original.png"]
    asset = Asset.objects.filter(role="output").order_by("pk")[0]
    with storage.open_key(asset.key) as file:
        assert files["lakes/pose-0-v1_original.png"] == file.read()


def test_gives_the_formats_that_are_asked_for_and_says_what_is_missing(api: APIClient, user: User) -> None:
    batch = made_batch(user, formats=("tiktok",), name="lakes")
    BatchItemFactory.create(batch=batch, variation_key="pose-9-v1", position=9, generation__status="failed")

    files = unzip(api, batch, "?formats=original&formats=tiktok")

    assert sorted(files) == [
        "lakes/missing.txt",
        "lakes/pose-0-v1_original.png",
        "lakes/pose-1-v1_original.png",
    ]
    assert files["lakes/missing.txt"].decode().splitlines()[2:] == [
        "pose-0-v1 tiktok: is being made",
        "pose-1-v1 tiktok: is being made",
        "pose-9-v1: failed",
    ]


def test_gives_every_file_a_name_of_its_own(api: APIClient, user: User) -> None:
    batch = made_batch(user, 1, name="lakes")
    first = Asset.objects.get()
    AssetFactory.create(submission=first.submission, index=1)
    assert first.submission is not None
    BatchItemFactory.create(
        batch=batch, generation=first.submission.generation, variation_key="POSE-0-V1", reused=True, position=1
    )
    for fit, colour in (("crop", "#ffffff"), ("pad", "#ffffff"), ("pad", "#000000")):
        ExportFactory.create(asset=first, format="shopee", fit=fit, colour=colour)
    export_work.run()

    names = [name.removeprefix("lakes/") for name in unzip(api, batch, "?formats=shopee,original")]

    assert len(names) == len({name.casefold() for name in names}) == 11
    assert {"pose-0-v1_1_shopee_pad.jpg", "pose-0-v1_1_shopee_pad-2.jpg", "pose-0-v1_2_original.png"} <= set(names)


def test_holds_no_file_in_memory_and_opens_one_at_a_time(
    api: APIClient, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = made_batch(user, 3)
    monkeypatch.setattr(views, "CHUNK", 50)
    opened: list[Any] = []
    real = storage.open_key

    def counted(key: str) -> Any:
        assert all(file.closed for file in opened)
        opened.append(real(key))
        return opened[-1]

    monkeypatch.setattr(storage, "open_key", counted)
    reply: Any = api.get(f"/api/v1/batches/{batch.pk}/zip")
    assert opened == []
    chunks = list(reply.streaming_content)
    assert len(opened) == 3
    assert all(file.closed for file in opened)
    assert max(map(len, chunks)) < 1000


def test_breaks_off_where_a_file_is_gone(api: APIClient, user: User) -> None:
    batch = made_batch(user)
    storage.storage().delete(Asset.objects.filter(role="output").order_by("-pk")[0].key)
    reply: Any = api.get(f"/api/v1/batches/{batch.pk}/zip")
    with pytest.raises(FileNotFoundError):
        list(reply.streaming_content)


def test_counts_the_download(api: APIClient, user: User) -> None:
    unzip(api, made_batch(user))
    assert set(Asset.objects.filter(role="output").values_list("downloads", flat=True)) == {1}


def test_has_a_zip_only_of_ones_own_batch_and_only_when_something_is_there(api: APIClient, user: User) -> None:
    assert_problem(api.get(f"/api/v1/batches/{made_batch(UserFactory.create()).pk}/zip"), 404, "not_found")
    empty = BatchFactory.create(user=user)
    BatchItemFactory.create(batch=empty)
    assert_problem(api.get(f"/api/v1/batches/{empty.pk}/zip"), 409, "nothing_to_download")
    assert_problem(api.get(f"/api/v1/batches/{empty.pk}/zip?formats=minidisc"), 400, "invalid_parameter")
    assert_problem(
        api.get(f"/api/v1/batches/{empty.pk}/zip", headers={"accept": "application/zip"}), 409, "nothing_to_download"
    )


def test_takes_few_queries_however_large_the_batch(
    api: APIClient, user: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    batch = made_batch(user, 5, formats=("tiktok",))
    with django_assert_num_queries(6):  # the token, the batch, items, outputs, exports, the count
        unzip(api, batch, "?formats=original,tiktok")


# --- a batch that is asked for with formats --------------------------------------------------------------------


def ask_batch(api: APIClient, formats: list[Any], **more: Any) -> Any:
    body = {
        "mode": "text",
        "name": "lakes",
        "provider_id": "modelslab",
        "operation_type": "text_to_image",
        "params": {"prompt": "a lake", "width": 264, "height": 264, "seed": 7},
        "variations": 3,
        "export_formats": formats,
        **more,
    }
    return api.post("/api/v1/batches", body, format="json")


def test_exports_every_result_of_a_batch_and_gives_all_of_them_as_a_zip(studio: Studio, client_of: ClientOf) -> None:
    studio.account()
    api = client_of(studio.user)
    reply = ask_batch(api, ["instagram_feed", {"format": "shopee", "colour": "#EEEEEE"}])
    assert reply.status_code == 202, reply.content
    told = reply.json()
    assert told["export_formats"] == [
        {"format": "instagram_feed", "fit": "crop", "colour": "#ffffff"},
        {"format": "shopee", "fit": "pad", "colour": "#eeeeee"},
    ]
    assert told["links"]["zip"] is None
    batch = Batch.objects.get()
    for item in batch.items.select_related("generation"):
        studio.finish(item.generation)
    export_work.run()
    batches.close_finished()
    told = api.get(told["links"]["self"]).json()
    assert told["status"] == "completed"
    assert len(api.get(told["links"]["exports"]).json()["results"]) == 6
    files = unzip(api, batch)
    sizes = {}
    for name, content in files.items():
        with Image.open(io.BytesIO(content)) as image:
            sizes[name] = image.size
    assert sizes == {
        f"lakes/text-v{number}_{name}.jpg": size
        for number in range(3)
        for name, size in (("instagram_feed", (1080, 1080)), ("shopee", (1000, 1000)))
    }
    assert audit.run(files=True) == []

    again = ask_batch(api, ["instagram_feed", "original"]).json()  # answered by what is there
    assert Export.objects.filter(format="original").count() == 3
    assert Export.objects.filter(format="instagram_feed").count() == 3
    export_work.run()
    assert len(unzip(api, Batch.objects.get(pk=again["id"]))) == 6


def test_exports_what_completed_while_its_batch_was_accepted(user: User) -> None:
    """The answer's commit saw nothing of the batch, and the batch took it for live: seen to when it is closed."""
    batch = BatchFactory.create(user=user, export_formats=[{"format": "tiktok", "fit": "crop", "colour": "#ffffff"}])
    asset = output(user)
    assert asset.submission is not None
    BatchItemFactory.create(batch=batch, generation=asset.submission.generation, reused=True)
    assert batches.close_finished() == 1
    assert Export.objects.get().asset == asset


@pytest.mark.parametrize(
    "wrong", [["minidisc"], [{"format": "original", "fit": "pad"}], ["tiktok"] * 31, "tiktok", [1]]
)
def test_refuses_a_batch_with_what_is_no_format(api: APIClient, wrong: Any) -> None:
    reply = ask_batch(api, wrong)
    assert reply.status_code == 400
    assert "export_formats" in str(reply.json()["errors"])
    assert not Batch.objects.exists()
