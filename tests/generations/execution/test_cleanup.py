"""What is past its age goes, and nothing else."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.core.files.storage import default_storage
from django.utils import timezone
from knox.models import AuthToken

from accounts.models import LedgerEntry, Wallet
from generations import storage
from generations.execution import cleanup, orphans
from generations.lifecycle import State, Status
from generations.models import (
    Asset,
    Batch,
    Event,
    Generation,
    GenerationInput,
    IdempotencyKey,
    Incident,
    Submission,
    WebhookDelivery,
    WebhookEndpoint,
)
from tests.factories import (
    AssetFactory,
    BatchItemFactory,
    GenerationFactory,
    GenerationInputFactory,
    SubmissionFactory,
    UserFactory,
    WebhookDeliveryFactory,
    WebhookEndpointFactory,
    completed_generation,
    picture,
    stored,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A storage and a temporary folder of the test's own."""
    media, temporary = tmp_path / "media", tmp_path / "tmp"
    media.mkdir()
    temporary.mkdir()
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {
            "BACKEND": "generations.storage.DurableFileSystemStorage",
            "OPTIONS": {"location": str(media)},
        },
    }
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return media


def path_of(key: str) -> Path:
    return Path(default_storage.path(key))


def age(path: Path, hours: float = 30) -> Path:
    at = timezone.now().timestamp() - hours * 3600
    os.utime(path, (at, at))
    return path


def orphan(hours: float = 30, content: bytes = b"") -> str:
    key = stored(content or picture(), "png")
    age(path_of(key), hours)
    return key


def ended(days: float, status: Status = Status.FAILED, **fields: Any) -> Generation:
    generation = GenerationFactory.create(status=status, with_events=True, **fields)
    Generation.objects.filter(pk=generation.pk).update(completed_at=timezone.now() - timedelta(days=days))
    return generation


class TestRows:
    """Keys, tokens, sessions and, on request, Generations."""

    def test_removes_expired_keys_tokens_and_sessions_and_keeps_the_others(self) -> None:
        generation = GenerationFactory.create()
        now = timezone.now()
        for name, at in (("old", now - timedelta(seconds=1)), ("new", now + timedelta(hours=1))):
            IdempotencyKey.objects.create(
                user=generation.user, key=name, body_sha256="", generation=generation, reused=False, expires_at=at
            )
            Session.objects.create(session_key=name, session_data="", expire_date=at)
        AuthToken.objects.create(user=generation.user, expiry=timedelta(hours=-1))
        AuthToken.objects.create(user=generation.user, expiry=timedelta(hours=1))
        AuthToken.objects.create(user=generation.user, expiry=None)
        planned = cleanup.run(dry_run=True)
        assert (IdempotencyKey.objects.count(), Session.objects.count(), AuthToken.objects.count()) == (2, 2, 3)
        done = cleanup.run(dry_run=False)
        for cleaned in (planned, done):
            assert (cleaned.idempotency_keys, cleaned.sessions, cleaned.tokens) == (1, 1, 1)
        assert IdempotencyKey.objects.get().key == "new"
        assert Session.objects.get().session_key == "new"
        assert AuthToken.objects.count() == 2

    def test_removes_webhook_deliveries_that_ended_long_ago_with_their_tries(self) -> None:
        removed = WebhookEndpointFactory.create(secret=None, removed_at=timezone.now())
        old, young, pending = (
            WebhookDeliveryFactory.create(endpoint=removed, state="delivered"),
            WebhookDeliveryFactory.create(state="failed"),
            WebhookDeliveryFactory.create(),
        )
        for delivery in (old, young, pending):
            delivery.attempts.create(number=1, url="https://hooks.example.com/")
            delivery.attempts.create(number=2, url="https://hooks.example.com/")
        WebhookDelivery.objects.filter(pk=old.pk).update(ended_at=timezone.now() - timedelta(days=31))
        WebhookDelivery.objects.filter(pk=young.pk).update(ended_at=timezone.now() - timedelta(days=29))
        assert cleanup.run(dry_run=True).webhook_deliveries == 1
        assert WebhookDelivery.objects.count() == 3
        assert cleanup.run(dry_run=False).webhook_deliveries == 1
        assert set(WebhookDelivery.objects.all()) == {young, pending}
        assert not WebhookEndpoint.objects.filter(pk=removed.pk).exists()
        assert WebhookEndpoint.objects.count() == 2

    def test_keeps_webhook_deliveries_for_a_day_in_any_case(self, limits: Callable[..., None]) -> None:
        limits(webhook_days=0)
        young, old = (WebhookDeliveryFactory.create(state="delivered") for _ in range(2))
        WebhookDelivery.objects.filter(pk=old.pk).update(ended_at=timezone.now() - timedelta(days=1.1))
        assert cleanup.run(dry_run=False).webhook_deliveries == 1
        assert list(WebhookDelivery.objects.all()) == [young]

    def test_removes_batches_that_were_closed_long_ago_and_what_answered_them(self) -> None:
        long_ago = timezone.now() - timedelta(days=40)
        ended = {"generation__status": Status.FAILED, "generation__completed_at": long_ago}
        old = BatchItemFactory.create(batch__closed_at=long_ago, **ended)
        shown = BatchItemFactory.create(batch__closed_at=timezone.now(), **ended)
        shared = BatchItemFactory.create(batch__closed_at=long_ago, generation=shown.generation, reused=True)

        counted = cleanup.run(dry_run=True, days=30, files=False)
        cleaned = cleanup.run(dry_run=False, days=30, files=False)

        assert (counted.batches, counted.generations) == (cleaned.batches, cleaned.generations) == (2, 1)
        assert Batch.objects.get().pk == shown.batch_id
        assert Generation.objects.get().pk == shown.generation_id == shared.generation_id
        assert cleaned.kept_generations == 1
        assert old.pk != shared.pk

    def test_removes_no_generation_unless_it_is_asked_to(self) -> None:
        ended(1000)
        assert cleanup.run(dry_run=False).generations == 0
        assert Generation.objects.count() == 1

    def test_removes_what_ended_long_ago_with_all_that_belongs_to_it(self) -> None:
        old = completed_generation()
        Generation.objects.update(completed_at=timezone.now() - timedelta(days=91))
        young, live = ended(89), GenerationFactory.create()
        _hold(old)
        cleaned = cleanup.run(dry_run=False, days=90)
        assert (cleaned.generations, cleaned.kept_generations) == (1, 0)
        assert set(Generation.objects.all()) == {young, live}
        assert not Submission.objects.exists()
        assert not Asset.objects.exists()
        assert set(Event.objects.values_list("generation", flat=True)) == {young.pk}
        assert LedgerEntry.objects.count() == 1

    def test_removes_only_the_statuses_that_were_asked_for(self) -> None:
        kept, gone = ended(10, Status.CANCELLED), ended(10, Status.FAILED)
        assert cleanup.run(dry_run=False, days=5, statuses=["failed"]).generations == 1
        assert list(Generation.objects.all()) == [kept]
        assert gone != kept

    def test_changes_nothing_in_a_dry_run(self) -> None:
        ended(10)
        assert cleanup.run(dry_run=True, days=5).generations == 1
        assert Generation.objects.count() == 1

    def test_keeps_one_whose_attempt_is_still_open(self) -> None:
        generation = ended(10)
        SubmissionFactory.create(generation=generation, state=State.UNKNOWN, abandoned_at=timezone.now())
        assert self.kept() == 1

    def test_keeps_one_with_an_incident_that_nobody_has_seen(self) -> None:
        incident = Incident.objects.create(kind=Incident.Kind.LATE_RESULT, generation=ended(10))
        assert self.kept() == 1
        Incident.objects.filter(pk=incident.pk).update(seen_at=timezone.now())
        assert self.kept() == 0

    def test_keeps_one_with_a_webhook_that_is_to_be_sent(self) -> None:
        delivery = WebhookDeliveryFactory.create(generation=ended(10))
        assert self.kept() == 1
        WebhookDelivery.objects.filter(pk=delivery.pk).update(
            state="delivered", next_try_at=None, ended_at=timezone.now()
        )
        assert self.kept() == 0

    def test_keeps_one_whose_result_another_is_made_from(self) -> None:
        source = completed_generation()
        Generation.objects.update(completed_at=timezone.now() - timedelta(days=10))
        GenerationInputFactory.create(asset=Asset.objects.get())
        assert self.kept() == 1
        assert Generation.objects.filter(pk=source.pk).exists()

    def test_passes_by_one_that_is_put_to_use_between_the_look_and_the_deletion(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        used = completed_generation()
        Generation.objects.update(completed_at=timezone.now() - timedelta(days=10))
        others = [ended(10) for _ in range(2)]
        real = cleanup._removable

        def then_used(*args: Any) -> Any:
            found = list(real(*args).values_list("pk", flat=True))
            if not GenerationInput.objects.exists():
                GenerationInputFactory.create(asset=Asset.objects.get())
            return Generation.objects.filter(pk__in=found)

        monkeypatch.setattr(cleanup, "_removable", then_used)
        cleaned = cleanup.run(dry_run=False, days=5)
        assert (cleaned.generations, cleaned.kept_generations) == (len(others), 1)
        assert set(Generation.objects.filter(status__in=["completed", "failed"])) == {used}

    def test_goes_on_in_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cleanup, "CHUNK", 2)
        for _ in range(5):
            ended(10)
        assert cleanup.run(dry_run=False, days=5).generations == 5
        assert not Generation.objects.exists()

    @pytest.mark.parametrize("arguments", [{"days": 1, "statuses": ["pending"]}, {"days": -1}])
    def test_refuses_what_is_no_age_or_no_end(self, arguments: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="Only ended ones"):
            cleanup.run(dry_run=True, **arguments)

    def kept(self) -> int:
        return cleanup.run(dry_run=False, days=5).kept_generations


def _hold(generation: Generation) -> None:
    wallet = Wallet.objects.create(user=generation.user)
    LedgerEntry.objects.create(wallet=wallet, kind="hold", reference=generation.pk)


class TestFiles:
    """Stored bytes without a row."""

    def test_removes_an_old_file_that_nothing_refers_to(self) -> None:
        key = orphan()
        size = path_of(key).stat().st_size
        planned = cleanup.run(dry_run=True).files
        assert path_of(key).exists()
        done = cleanup.run(dry_run=False).files
        assert not path_of(key).exists()
        for swept in (planned, done):
            assert (swept.orphans, swept.bytes, swept.paths) == (1, size, [key])

    def test_keeps_a_young_one(self) -> None:
        key = orphan(hours=23)
        assert cleanup.run(dry_run=False).files.orphans == 0
        assert path_of(key).exists()

    def test_keeps_what_any_asset_refers_to_as_bytes_or_thumbnail(self) -> None:
        asset = AssetFactory.create()
        upload = AssetFactory.create(role="input", user=UserFactory.create())
        keys = [asset.key, asset.thumbnail_key, upload.key, upload.thumbnail_key]
        for key in keys:
            age(path_of(key))
        assert cleanup.run(dry_run=False).files.orphans == 0
        assert all(path_of(key).exists() for key in keys)

    def test_keeps_bytes_that_two_assets_share_until_both_are_gone(self) -> None:
        first = AssetFactory.create(thumbnail_key="")
        second = AssetFactory.create(key=first.key, sha256=first.sha256, size=first.size, thumbnail_key="")
        age(path_of(first.key))
        first.delete()
        assert cleanup.run(dry_run=False).files.orphans == 0
        second.delete()
        assert cleanup.run(dry_run=False).files.orphans == 1
        assert not path_of(second.key).exists()

    def test_can_leave_the_storage_alone(self) -> None:
        key = orphan()
        assert cleanup.run(dry_run=False, files=False).files.orphans == 0
        assert path_of(key).exists()

    def test_touches_no_file_that_is_not_named_as_ours(self, folder: Path) -> None:
        names = ["notes.txt", "ab/cd/notes.txt", f"ab/cd/{'0' * 64}.png", "photos/ab/x.png", f"{'a' * 64}.png"]
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"mine")
            age(path)
        assert cleanup.run(dry_run=False).files.orphans == 0
        assert all((folder / name).exists() for name in names)

    def test_works_in_chunks(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        monkeypatch.setattr(orphans, "CHUNK", 2)
        place = folder / "ab" / "cd"
        place.mkdir(parents=True)
        for number in range(5):
            age(self.write(place / f"abcd{number:060x}.png"))
        assert cleanup.run(dry_run=False).files.orphans == 5
        assert not list(place.iterdir())

    def test_removes_what_a_killed_writer_left_behind(self, folder: Path) -> None:
        place = folder / "ab" / "cd"
        place.mkdir(parents=True)
        old, young = self.write(place / ".incoming-abc_12"), self.write(place / ".incoming-xyz")
        age(old)
        assert cleanup.run(dry_run=False).files.temporary == 1
        assert not old.exists()
        assert young.exists()

    def test_removes_old_work_folders_and_nobody_elses(self) -> None:
        place = Path(tempfile.gettempdir())
        names = {"darkroom-ab_12xyz": True, "darkroom-0123456789ab": False, "other-ab_12xyz": False}
        for name in names:
            (place / name).mkdir()
            self.write(place / name / "output")
            age(place / name)
        (place / "darkroom-young123").mkdir()
        swept = cleanup.run(dry_run=True).files
        assert (swept.temporary, swept.bytes) == (1, 4)
        assert cleanup.run(dry_run=False).files.temporary == 1
        assert {path.name for path in place.iterdir()} == {
            *(name for name, goes in names.items() if not goes),
            "darkroom-young123",
        }

    def write(self, path: Path) -> Path:
        path.write_bytes(b"data")
        return path


class TestRace:
    """Somebody stores the same bytes at the very moment in which they are being removed."""

    CONTENT = b"the same bytes again"

    def keep(self) -> str:
        return storage.keep_bytes(self.CONTENT, hashlib.sha256(self.CONTENT).hexdigest(), "png")

    @pytest.mark.parametrize("moment", ["before the rows are looked at", "after it", "once it is aside"])
    def test_leaves_the_bytes_of_who_stores_them(self, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
        key = self.keep()
        age(path_of(key))

        def also(first: Callable[..., Any], *, before: bool) -> Callable[..., Any]:
            def both(*args: Any, **kwargs: Any) -> Any:
                if before:
                    assert self.keep() == key
                result = first(*args, **kwargs)
                if not before:
                    assert self.keep() == key
                return result

            return both

        if moment == "before the rows are looked at":
            monkeypatch.setattr(orphans, "_referred", also(orphans._referred, before=True))
        elif moment == "after it":
            monkeypatch.setattr(orphans, "_referred", also(orphans._referred, before=False))
        else:
            monkeypatch.setattr(Path, "rename", also(Path.rename, before=False))
        cleanup.run(dry_run=False)
        assert path_of(key).read_bytes() == self.CONTENT
        assert not path_of(key + storage.ASIDE).exists()

    def test_puts_back_what_a_killed_run_had_put_aside(self) -> None:
        asset = AssetFactory.create()
        path = path_of(asset.key)
        aside = path.rename(path.with_name(path.name + storage.ASIDE))
        assert cleanup.run(dry_run=True).files.restored == 1
        assert not path.exists()
        assert cleanup.run(dry_run=False).files.restored == 1
        assert path.exists()
        assert not aside.exists()

    def test_removes_what_a_killed_run_had_put_aside_for_good(self) -> None:
        path = path_of(orphan())
        aside = path.rename(path.with_name(path.name + storage.ASIDE))
        assert cleanup.run(dry_run=False).files.orphans == 1
        assert not aside.exists()
