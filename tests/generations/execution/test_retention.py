"""Results past their age: it ..."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django.fixtures import Settings

from generations.execution import cleanup, export_work, retention
from generations.intake.errors import Invalid
from generations.intake.inputs import InputRef
from generations.intake.request import Request, accept
from generations.lifecycle import Status
from generations.models import Asset, Event, Export, Generation
from generations.reports import audit
from generations.reports.timeline import timeline
from tests.factories import (
    AssetFactory,
    BatchFactory,
    BatchItemFactory,
    ExportFactory,
    GenerationInputFactory,
    LibraryItemFactory,
    SceneFactory,
    completed_generation,
    picture,
    stored,
)
from tests.together import together

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("hints")]

OLD = timedelta(days=100)


@pytest.fixture(autouse=True)
def _own_files(settings: Settings, tmp_path: Path) -> None:
    folder = {"OPTIONS": {"location": str(tmp_path / "media")}}
    settings.STORAGES = {**settings.STORAGES, "default": {**settings.STORAGES["default"], **folder}}


def aged(asset: Asset, age: timedelta = OLD) -> Asset:
    """The row and its files are so old."""
    Asset.objects.filter(pk=asset.pk).update(created_at=timezone.now() - age)
    at = timezone.now().timestamp() - age.total_seconds()
    for key in filter(None, (asset.key, asset.thumbnail_key)):
        os.utime(default_storage.path(key), (at, at))
    return asset


def result(age: timedelta = OLD, **fields: Any) -> Asset:
    asset = Asset.objects.get(submission__generation=completed_generation(**fields))
    asset.thumbnail_key = stored(picture(size=(9, 9)), "png")  # the factory's are all alike
    asset.save(update_fields=["thumbnail_key"])
    return aged(asset, age)


def tidy(**options: Any) -> cleanup.Cleaned:
    return cleanup.run(dry_run=False, asset_days=90, **options)


def expired() -> set[Asset]:
    return set(Asset.objects.filter(expired_at__isnull=False))


def there(asset: Asset) -> bool:
    return default_storage.exists(asset.key)


def test_expires_old_results_and_removes_their_files_and_keeps_their_rows() -> None:
    old, young, upload = result(), result(timedelta(days=80)), aged(AssetFactory.create(role="input"))
    planned = cleanup.run(dry_run=True, asset_days=90)
    assert (planned.expired_assets, expired()) == (1, set())
    cleaned = tidy()
    assert (cleaned.expired_assets, cleaned.files.orphans) == (1, 2)
    assert expired() == {old}
    assert [there(one) for one in (old, young, upload)] == [False, True, True]
    assert audit.run(files=True) == []
    assert tidy().expired_assets == 0


def test_keeps_everything_unless_it_is_told_an_age(limits: Callable[..., None]) -> None:
    old = result()
    cleanup.run(dry_run=False)
    assert (expired(), there(old)) == (set(), True)
    limits(asset_days=90)
    cleanup.run(dry_run=False)
    assert (expired(), there(old)) == ({old}, False)


def test_keeps_what_people_want_to_keep_or_something_still_needs() -> None:
    favourite = result()
    Asset.objects.filter(pk=favourite.pk).update(favourite=True)
    given, shown, chosen, exported = (result() for _ in range(4))
    GenerationInputFactory.create(asset=given, generation__user=given.user)
    LibraryItemFactory.create(owner=shown.user, picture=shown)
    assert chosen.submission is not None
    SceneFactory.create(chosen=chosen.submission.generation)
    ExportFactory.create(asset=exported)
    assert tidy().expired_assets == 0
    Generation.objects.filter(inputs__asset=given).update(
        status=Status.FAILED, completed_at=timezone.now(), active_fingerprint=None
    )
    export_work.run()
    assert tidy().expired_assets == 2
    assert expired() == {given, exported}


def test_keeps_the_latest_take_of_a_scene_that_none_was_chosen_of() -> None:
    scene = SceneFactory.create()
    earlier, latest = result(), result()
    for take in (earlier, latest):
        Generation.objects.filter(submissions__assets=take).update(scene=scene)
    assert tidy().expired_assets == 1
    assert expired() == {earlier}


def test_expires_exports_by_their_own_age_and_lets_them_be_made_anew() -> None:
    asset = result()
    Asset.objects.filter(pk=asset.pk).update(favourite=True)
    row = ExportFactory.create(asset=asset)
    export_work.run()
    row.refresh_from_db()
    assert row.result is not None
    aged(row.result)
    tidy()
    assert expired() == {row.result}
    assert Export.objects.get().state == "done"


def test_makes_the_same_request_anew_and_says_so_on_the_timeline() -> None:
    asset = result()
    assert asset.submission is not None
    made = asset.submission.generation
    request = Request(made.provider_id, made.operation_type, {"prompt": "a lake"})
    asked = accept(made.user_id, request, actor="test").generation
    Generation.objects.filter(pk=asked.pk).update(active_fingerprint=None)
    Generation.objects.filter(pk=made.pk).update(fingerprint=asked.fingerprint, active_fingerprint=asked.fingerprint)
    assert accept(made.user_id, request, actor="test").generation == made
    tidy()
    assert accept(made.user_id, request, actor="test").generation != made
    assert Event.objects.filter(generation=made, kind="files_removed").count() == 1
    assert any("files were removed" in line["text"] for line in timeline(made))
    assert audit.run() == []


def test_takes_no_file_that_has_expired_as_an_input() -> None:
    asset = result()
    tidy()
    given = (InputRef("image", asset_id=asset.pk),)
    with pytest.raises(Invalid, match="has expired") as refused:
        accept(asset.user_id, Request("pixverse", "image_to_video", {"prompt": "it moves"}, inputs=given), actor="test")
    assert refused.value.code == "asset_expired"


def test_leaves_the_bytes_that_another_row_has_too() -> None:
    old, other = result(), result(timedelta(0))
    Asset.objects.filter(pk=other.pk).update(key=old.key, sha256=old.sha256, size=old.size)
    cleaned = tidy()
    assert (cleaned.expired_assets, cleaned.files.orphans) == (1, 1)
    assert there(old)
    assert audit.run(files=True) == []


def test_leaves_the_bytes_of_an_expired_one_that_something_live_was_made_from_meanwhile() -> None:
    """Somebody looked at it, it expired, and then his request was committed."""
    old = result()
    assert tidy(files=False).expired_assets == 1
    live = GenerationInputFactory.create(asset=old, generation__user=old.user)
    assert tidy().files.orphans == 0
    assert there(old)
    Generation.objects.filter(pk=live.generation_id).update(
        status=Status.FAILED, completed_at=timezone.now(), active_fingerprint=None
    )
    assert tidy().files.orphans == 2


@pytest.mark.django_db(transaction=True)
def test_passes_by_what_somebody_holds_at_this_moment() -> None:
    old, free = result(), result()
    with transaction.atomic():
        Asset.objects.select_for_update().get(pk=old.pk)
        assert together([lambda: retention.expire(timedelta(days=90), dry_run=False)]) == [1]
    assert expired() == {free}
    assert retention.expire(timedelta(days=90), dry_run=False) == 1


def test_goes_on_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "CHUNK", 2)
    for _ in range(5):
        result()
    assert tidy().expired_assets == 5


def test_costs_as_many_queries_for_many_as_for_few() -> None:
    def cost(number: int) -> int:
        for _ in range(number):
            result()
        with CaptureQueriesContext(connection) as queries:
            assert retention.expire(timedelta(days=90), dry_run=False) == number
        return len(queries)

    assert cost(1) == cost(6)


# --- exports that no export knows any more ---------------------------------------------------------------------


def test_removes_what_was_made_anew_after_a_day() -> None:
    row = ExportFactory.create(state="done", asset=result(timedelta(0)))
    before = row.result
    assert before is not None
    Export.objects.filter(pk=row.pk).update(result=None)
    assert cleanup.run(dry_run=False).lone_exports == 0
    aged(before, timedelta(hours=25))
    assert cleanup.run(dry_run=True).lone_exports == 1
    cleaned = cleanup.run(dry_run=False)
    assert (cleaned.lone_exports, cleaned.files.orphans) == (1, 2)
    assert not Asset.objects.filter(pk=before.pk).exists()
    assert not there(before)


def test_removes_the_exports_files_of_a_generation_that_is_removed_and_keeps_those_in_use() -> None:
    asset = result()
    rows = [ExportFactory.create(asset=asset, state="done", format=name) for name in ("tiktok", "shopee", "lazada")]
    gone, used, liked = (aged(row.result) for row in rows if row.result)
    GenerationInputFactory.create(asset=used, generation__user=used.user)
    Asset.objects.filter(pk=liked.pk).update(favourite=True)
    assert asset.submission is not None
    Generation.objects.filter(pk=asset.submission.generation_id).update(completed_at=timezone.now() - OLD)
    cleaned = cleanup.run(dry_run=False, days=90)
    assert (cleaned.generations, cleaned.lone_exports) == (1, 1)
    assert set(Asset.objects.all()) == {used, liked}
    assert [there(one) for one in (gone, used, liked)] == [False, True, True]


@pytest.mark.parametrize("why", ["favourite", "library", "scene", "batch"])
def test_keeps_a_generation_of_which_somebody_wants_to_keep_something(why: str) -> None:
    asset = result()
    assert asset.submission is not None
    made = asset.submission.generation
    Generation.objects.filter(pk=made.pk).update(completed_at=timezone.now() - OLD)
    if why == "favourite":
        Asset.objects.filter(pk=asset.pk).update(favourite=True)
    elif why == "library":
        LibraryItemFactory.create(owner=asset.user, picture=asset)
    elif why == "scene":
        SceneFactory.create(chosen=made)
    else:
        BatchItemFactory.create(batch=BatchFactory.create(user=asset.user), generation=made, reused=True)
    cleaned = cleanup.run(dry_run=False, days=90)
    assert (cleaned.generations, cleaned.kept_generations) == (0, 1)
    assert Generation.objects.filter(pk=made.pk).exists()
