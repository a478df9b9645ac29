"""Exports: ordered in the commit that makes them wanted, made from the stored original: it ..."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import imageio_ffmpeg
import pytest
from django.core.files.storage import default_storage
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from PIL import Image
from pytest_django.fixtures import Settings

from generations.execution import export_work, exports, poison, recover
from generations.execution.waves import Wave
from generations.formats import FORMATS, Wanted, canonical
from generations.lifecycle import Status
from generations.models import Asset, Export, Generation, HeldBack, Incident
from generations.reports import audit
from tests.factories import (
    AssetFactory,
    BatchFactory,
    BatchItemFactory,
    ExportFactory,
    UserFactory,
    completed_generation,
    picture,
)
from tests.generations.execution.studio import Studio
from tests.generations.execution.workers import KILLED, Workers

pytestmark = pytest.mark.django_db

FEED = {"format": "instagram_feed", "fit": "crop", "colour": "#ffffff"}
STORY = {"format": "instagram_story", "fit": "pad", "colour": "#102030"}


@pytest.fixture(autouse=True)
def _own_world(settings: Settings, tmp_path: Path, hints: list[str]) -> None:
    folder = {"OPTIONS": {"location": str(tmp_path / "media")}}
    settings.STORAGES = {**settings.STORAGES, "default": {**settings.STORAGES["default"], **folder}}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("film") / "a.mp4"
    source = ("-f", "lavfi", "-i", "testsrc2=s=160x90:r=6:d=0.5")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *source, "-pix_fmt", "yuv420p", "-threads", "1"]
    subprocess.run([*command, str(path)], check=True, timeout=60)
    return path.read_bytes()


def filmed(film: bytes) -> Asset:
    facts = {"mime_type": "video/mp4", "extension": "mp4", "width": 160, "height": 90, "duration": 0.5}
    return AssetFactory.create(content=film, **facts)


def look(export: Export) -> Export:
    return Export.objects.select_related("result", "poster").get(pk=export.pk)


def at_once(*rows: Export) -> None:
    """Their wait is over."""
    Export.objects.filter(pk__in=[row.pk for row in rows]).update(
        next_try_at=timezone.now() - timedelta(minutes=1), lease_until=None
    )


def size_of(asset: Asset | None) -> tuple[int, int]:
    assert asset is not None
    with Image.open(default_storage.path(asset.key)) as image:
        return image.size


# --- what is made -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, found in FORMATS.items() if not found.as_it_is])
def test_makes_a_picture_of_exactly_the_formats_size(name: str) -> None:
    wanted = canonical(name)
    completed_generation(prompt="A lake, at dawn!")
    asset = Asset.objects.get()
    row = ExportFactory.create(asset=asset, format=name, fit=wanted.fit, colour=wanted.colour)
    assert export_work.run() == 1
    row = look(row)
    assert (row.state, row.next_try_at, row.lease_until, row.error_code, row.poster) == ("done", None, None, "", None)
    made = row.result
    assert made is not None
    assert (made.width, made.height) == size_of(made) == (FORMATS[name].width, FORMATS[name].height)
    assert (made.role, made.mime_type, made.user, made.submission) == ("export", "image/jpeg", row.user, None)
    assert made.name == f"a-lake-at-dawn-{name}.jpg"
    assert default_storage.exists(made.thumbnail_key)
    assert export_work.run() == 0
    assert audit.run(files=True) == []


def test_gives_the_original_as_it_is_and_stores_no_byte_twice() -> None:
    row = ExportFactory.create(format="original")
    export_work.run()
    made = look(row).result
    assert made is not None
    assert made.pk != row.asset_id
    for name in ("key", "thumbnail_key", "sha256", "size", "mime_type", "width", "height"):
        assert getattr(made, name) == getattr(row.asset, name)


def test_makes_a_video_and_its_poster(film: bytes) -> None:
    row = ExportFactory.create(asset=filmed(film), format="lazada", fit="pad")
    export_work.run()
    row = look(row)
    assert (row.state, row.error_message) == ("done", "")
    assert row.result is not None
    assert (row.result.mime_type, row.result.width, row.result.height) == ("video/mp4", 1000, 1000)
    assert row.result.duration == pytest.approx(0.5, abs=0.2)
    assert size_of(row.poster) == (1000, 1000)


def test_prints_a_still_picture_of_a_video_and_shows_one_beside_the_original(film: bytes) -> None:
    asset = filmed(film)
    printed, original = (ExportFactory.create(asset=asset, format=name) for name in ("print_4x6", "original"))
    export_work.run()
    printed, original = look(printed), look(original)
    assert (size_of(printed.result), printed.poster) == ((1200, 1800), None)
    assert original.result is not None
    assert original.result.key == asset.key
    assert size_of(original.poster) == (160, 90)


# --- ordered ----------------------------------------------------------------------------------------------


def test_is_ordered_in_the_commit_that_completes_the_generation(
    studio: Studio, hints: list[str], django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    studio.account()
    generation = studio.ask()
    batches = [BatchFactory.create(user=studio.user, export_formats=formats) for formats in ([FEED], [STORY, FEED], [])]
    for batch in batches:
        BatchItemFactory.create(batch=batch, generation=generation, reused=True)
    BatchItemFactory.create(
        batch__user=studio.user,
        batch__export_formats=[{**FEED, "format": "tiktok"}],
        generation=generation,
        reused=True,
        detached_at=timezone.now(),
    )
    with django_capture_on_commit_callbacks(execute=True):
        studio.finish(generation)
    [asset] = Asset.objects.filter(role="output")
    rows = Export.objects.order_by("format")
    assert [(row.asset, row.user, row.format, row.fit, row.colour) for row in rows] == [
        (asset, studio.user, "instagram_feed", "crop", "#ffffff"),
        (asset, studio.user, "instagram_story", "pad", "#102030"),
    ]
    assert "export" in hints
    export_work.run()
    assert set(Export.objects.values_list("state", flat=True)) == {"done"}


def test_costs_one_query_where_no_batch_wants_any() -> None:
    outputs = {completed_generation().pk: list(Asset.objects.all())}
    with CaptureQueriesContext(connection) as queries:
        assert exports.order_for_answers(outputs) == 0
    assert len(queries) == 1
    assert exports.order_for_answers({}) == 0


def test_completes_the_generation_though_a_batch_wants_what_there_is_no_more(studio: Studio) -> None:
    studio.account()
    generation = studio.ask()
    formats = [{"format": "minidisc", "fit": "crop", "colour": "#ffffff"}, FEED]
    BatchItemFactory.create(batch__user=studio.user, batch__export_formats=formats, generation=generation)
    assert studio.finish(generation).status == Status.COMPLETED
    assert Export.objects.get().format == "instagram_feed"


def test_is_made_once_however_often_it_is_ordered() -> None:
    asset = AssetFactory.create()
    wanted = [Wanted.of(FEED), Wanted.of(STORY)]
    assert exports.order([(asset, wanted)]) == 2
    assert exports.order([(asset, wanted), (asset, wanted[:1])]) == 3
    assert Export.objects.count() == 2


def test_is_ordered_for_a_batch_whose_items_were_answered_before() -> None:
    batch = BatchFactory.create(export_formats=[FEED])
    done = completed_generation(user=batch.user)
    BatchItemFactory.create(batch=batch, generation=done, reused=True)
    BatchItemFactory.create(batch=batch)
    BatchItemFactory.create(batch__export_formats=[FEED], generation=completed_generation())
    assert [exports.order_for_batches([batch.pk]) for _ in range(2)] == [1, 1]
    assert Export.objects.get().asset.submission == done.submissions.get()


# --- what goes wrong --------------------------------------------------------------------------------------


def test_fails_for_good_when_the_original_is_no_use_and_leaves_the_generation_alone() -> None:
    generation = completed_generation()
    asset = AssetFactory.create(submission=generation.submissions.get(), index=1, content=b"\x89PNG and nothing else")
    row = ExportFactory.create(asset=asset)
    export_work.run()
    row = look(row)
    assert (row.state, row.error_code, row.result, row.next_try_at) == ("failed", "export_failed", None, None)
    assert "damaged" in row.error_message
    assert row.ended_at is not None
    assert Generation.objects.get(pk=generation.pk).status == Status.COMPLETED
    assert audit.run() == []


@pytest.mark.parametrize("wrong", ["missing", "other bytes"])
def test_waits_for_the_storage_tells_a_person_once_and_gives_up_after_a_day(
    wrong: str, limits: Callable[..., None]
) -> None:
    row, other = ExportFactory.create(), ExportFactory.create()
    for one in (row, other):
        path = Path(default_storage.path(one.asset.key))
        path.unlink() if wrong == "missing" else path.write_bytes(picture())
    export_work.run()
    row = look(row)
    assert (row.state, row.error_code, row.tries) == ("pending", "storage_failed", 0)
    assert row.next_try_at is not None
    assert row.next_try_at > timezone.now()
    assert Incident.objects.get().kind == "storage"
    Export.objects.filter(pk=row.pk).update(asked_at=timezone.now() - timedelta(days=1, minutes=1))
    at_once(row)
    export_work.run()
    row = look(row)
    assert (row.state, row.error_code) == ("failed", "storage_failed")
    assert look(other).state == "pending"


def test_goes_on_when_the_storage_is_back() -> None:
    row = ExportFactory.create()
    path = Path(default_storage.path(row.asset.key))
    content = path.read_bytes()
    path.unlink()
    export_work.run()
    path.write_bytes(content)
    at_once(row)
    export_work.run()
    row = look(row)
    assert (row.state, row.error_code, row.error_message) == ("done", "", "")


def test_leaves_the_last_of_the_disk_to_results() -> None:
    row = ExportFactory.create()
    HeldBack.objects.create(reason="disk_low", since=timezone.now())
    assert export_work.run() == 0
    HeldBack.objects.update(ended_at=timezone.now())
    assert export_work.run() == 1
    assert look(row).state == "done"


def test_tries_three_times_when_the_tools_fail(film: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    row = ExportFactory.create(asset=filmed(film))
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: "/nowhere/ffmpeg")
    seen = []
    for _ in range(3):
        at_once(row)
        export_work.run()
        row = look(row)
        seen.append((row.state, row.error_code, row.tries))
    assert seen == [
        ("pending", "export_failed", 1),
        ("pending", "export_failed", 2),
        ("failed", "export_failed", 3),
    ]


def test_fails_when_its_original_has_expired_meanwhile() -> None:
    row = ExportFactory.create(asset__expired_at=timezone.now())
    assert export_work.run() == 0
    row = look(row)
    assert (row.state, row.error_code) == ("failed", "export_failed")
    assert "expired" in row.error_message


def test_keeps_no_other_from_being_made() -> None:
    bad = ExportFactory.create(asset__content=b"no picture", next_try_at=timezone.now() - timedelta(hours=1))
    good = ExportFactory.create()
    export_work.run()
    assert (look(bad).state, look(good).state) == ("failed", "done")


# --- several workers, and those that die ------------------------------------------------------------------


def test_is_made_by_one_at_a_time() -> None:
    ExportFactory.create()
    first = export_work._next(uuid4(), Wave())
    second = export_work._next(uuid4(), Wave())
    assert (len(first), len(second)) == (1, 0)


def test_is_made_again_when_its_maker_died_and_what_comes_late_is_not_written() -> None:
    row = ExportFactory.create()
    token = uuid4()
    [taken] = export_work._next(token, Wave())
    late = export_work._work(taken)()
    at_once(row)
    assert export_work.run() == 1
    done = look(row)
    export_work._write(token, [(taken, late)])
    export_work._write(token, [(taken, OSError("late"))])
    again = look(row)
    assert (again.state, again.result, again.error_code) == ("done", done.result, "")
    assert Asset.objects.filter(role="export").count() == 1


@pytest.mark.django_db(transaction=True)
def test_is_made_by_another_process_when_its_maker_was_killed_before_it_was_written_down(workers: Workers) -> None:
    row = ExportFactory.create()
    assert workers.run("export", die="exported") == KILLED
    assert (look(row).state, look(row).unwritten_claims) == ("pending", 1)
    assert workers.run("export") == 0
    assert look(row).state == "pending", "the dead one's lease still runs"
    at_once(row)
    assert workers.run("export") == 0
    assert (look(row).state, look(row).unwritten_claims) == ("done", 0)
    assert Asset.objects.filter(role="export").count() == 1
    assert Incident.objects.count() == 0


def test_takes_a_suspect_alone_and_stops_what_ends_its_makers() -> None:
    suspect, other = ExportFactory.create(unwritten_claims=2), ExportFactory.create()
    token, wave = uuid4(), Wave[Export, object]()
    taken = export_work._next(token, wave)  # type: ignore[arg-type]
    assert taken == [suspect]
    deadly = ExportFactory.create(unwritten_claims=poison.most_claims())
    export_work.run()
    deadly = look(deadly)
    assert (deadly.state, deadly.error_code) == ("failed", "export_failed")
    assert "Workers died" in deadly.error_message
    assert Incident.objects.get().kind == "poison"
    assert look(other).state == "done"


def test_keeps_its_lease_while_it_is_made() -> None:
    row = ExportFactory.create()
    token = uuid4()
    taken = export_work._next(token, Wave())
    Export.objects.update(lease_until=timezone.now() + timedelta(seconds=1))
    export_work._extend(token, taken)
    lease = look(row).lease_until
    assert lease is not None
    assert lease > timezone.now() + timedelta(seconds=30)


def test_is_fair_between_users(limits: Callable[..., None]) -> None:
    limits(exports_at_once=3)
    many, few = UserFactory.create(), UserFactory.create()
    old = timezone.now() - timedelta(hours=1)
    for _ in range(5):
        ExportFactory.create(asset__submission=None, asset__role="input", asset__user=many, next_try_at=old)
    ExportFactory.create(asset__submission=None, asset__role="input", asset__user=few)
    taken = export_work._next(uuid4(), Wave())
    assert sorted(row.user_id for row in taken) == sorted([many.pk, many.pk, few.pk])


def test_is_found_by_the_tick(hints: list[str]) -> None:
    recover.tick()
    assert "export" not in hints
    ExportFactory.create()
    recover.tick()
    assert "export" in hints


def test_is_made_anew_when_it_is_asked_for(django_capture_on_commit_callbacks: Callable[..., Any]) -> None:
    done, failed, pending = (ExportFactory.create(state=state) for state in ("done", "failed", "pending"))
    before = look(pending).asked_at
    assert exports.again(Export.objects.all()) == 2
    assert look(pending).asked_at == before
    export_work.run()
    assert {look(row).state for row in (done, failed, pending)} == {"done"}
    assert look(done).result != done.result
