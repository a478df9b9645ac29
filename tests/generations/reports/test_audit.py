"""The audit: finds each broken invariant, and nothing where all is well."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import pytest
from django.core.files.storage import default_storage
from django.db import connection
from django.db.models import F
from django.utils import timezone

from accounts import credits
from accounts.credits import Movement
from accounts.models import LedgerEntry, UserCap, Wallet
from generations.intake import ledger
from generations.intake.switches import turn_off, turn_on
from generations.lifecycle import State, Status
from generations.models import (
    AccountExclusion,
    Asset,
    BatchItem,
    Event,
    Export,
    Generation,
    Heartbeat,
    HeldBack,
    Submission,
    SwitchChange,
    WebhookDelivery,
    WebhookEndpoint,
)
from generations.reports import audit
from generations.storage import open_key
from tests.factories import (
    AccountFactory,
    AssetFactory,
    BatchFactory,
    BatchItemFactory,
    ExportFactory,
    GenerationFactory,
    SubmissionFactory,
    UserCapFactory,
    UserFactory,
    WalletFactory,
    WebhookDeliveryFactory,
    WebhookEndpointFactory,
    completed_generation,
)

pytestmark = pytest.mark.django_db

LONG = timedelta(minutes=10)


@pytest.fixture(autouse=True)
def services_up(settings: Any, tmp_path: Path) -> None:
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {**settings.STORAGES["default"], "OPTIONS": {"location": str(tmp_path)}},
    }
    Heartbeat.beat("tick", "test")


def broken() -> dict[str, set[str]]:
    """The ids of the broken invariants, with the offenders' ids."""
    found: dict[str, set[str]] = {}
    for finding in audit.run():
        found.setdefault(finding.id, set()).update(offender.id for offender in finding.offenders)
    return found


def priced(status: Status, price: int = 10, **fields: Any) -> Generation:
    """One whose money was moved as its status says."""
    wallet = WalletFactory.create(available=100)
    make: Callable[..., Generation] = completed_generation if status == Status.COMPLETED else GenerationFactory.create
    if status != Status.COMPLETED:
        fields |= {"status": status, "with_events": True}
    generation = make(user=wallet.user, price=price, **fields)
    movement = [Movement(wallet.user_id, generation.pk, price)]
    credits.hold(movement, actor="test")
    if status == Status.COMPLETED:
        credits.capture(movement, actor="test")
    elif status in {Status.FAILED, Status.CANCELLED}:
        credits.release(movement, actor="test")
    if status == Status.PROCESSING:
        SubmissionFactory.create(generation=generation)
    return generation


def without(sql: str) -> None:
    """Take a constraint away, so that what it forbids can be made."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(sql)


def drop_index(name: str) -> None:
    without(f"DROP INDEX {name}")


def older(generation: Generation, age: timedelta = LONG) -> Generation:
    Generation.objects.filter(pk=generation.pk).update(created_at=timezone.now() - age)
    return generation


def test_finds_nothing_where_all_is_well() -> None:
    for status in Status:
        priced(status)
    for status in (Status.PENDING, Status.FAILED, Status.CANCELLED):
        GenerationFactory.create(status=status, with_events=True)
    completed_generation()
    for state in (State.RESERVED, State.SENDING, State.UNKNOWN, State.ACCEPTED, State.COLLECTING):
        SubmissionFactory.create(state=state)
    late = SubmissionFactory.create(state=State.ACCEPTED, abandoned=True)
    Event.objects.create(generation=late.generation, kind=Event.Kind.FAILED, actor="system")
    assert broken() == {}


def test_names_every_check_with_what_it_found() -> None:
    findings = list(audit.examine())
    assert {finding.id for finding in findings} == {
        *("I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I11", "I12", "I13", "I14")
    }
    assert all(finding.title and not finding.count and not finding.skipped for finding in findings)


def test_finds_an_attempt_number_that_is_used_twice() -> None:
    without("ALTER TABLE generations_submission DROP CONSTRAINT submission_number")
    first = SubmissionFactory.create(state=State.FAILED, generation=GenerationFactory.create())
    SubmissionFactory.create(state=State.FAILED, generation=first.generation, number=first.number)
    assert broken() == {"I1": {str(first.generation_id)}}


def test_finds_two_attempts_that_may_be_billed() -> None:
    drop_index("submission_one_open")
    first = SubmissionFactory.create(state=State.ACCEPTED)
    SubmissionFactory.create(state=State.SENDING, generation=first.generation)
    assert broken()["I2"] == {str(first.generation_id)}


def test_finds_a_second_attempt_beside_an_abandoned_one_unless_it_was_resubmitted() -> None:
    first = SubmissionFactory.create(state=State.UNKNOWN, abandoned_at=timezone.now())
    Generation.objects.filter(pk=first.generation_id).update(status=Status.PROCESSING)
    SubmissionFactory.create(state=State.ACCEPTED, generation=first.generation)
    assert broken() == {"I2": {str(first.generation_id)}}
    Generation.objects.filter(pk=first.generation_id).update(resubmits=1)
    assert broken() == {}


@pytest.mark.parametrize("status", [Status.PENDING, Status.FAILED])
def test_finds_an_open_attempt_whose_generation_is_not_processing(status: Status) -> None:
    generation = GenerationFactory.create(status=status, with_events=True)
    SubmissionFactory.create(state=State.ACCEPTED, generation=generation)
    assert broken()["I2"] == {str(generation.pk)}


def test_finds_two_answers_to_one_request() -> None:
    drop_index("generation_active_fingerprint")
    user = UserFactory.create()
    first, second = completed_generation(user=user), completed_generation(user=user)
    Generation.objects.filter(pk__in=[first.pk, second.pk]).update(active_fingerprint="f" * 64)
    assert broken() == {"I3": {str(user.pk)}}


def test_finds_a_claim_that_was_not_given_up() -> None:
    generation = GenerationFactory.create(status=Status.FAILED, active_fingerprint="a" * 64, with_events=True)
    assert broken() == {"I3": {str(generation.pk)}}


def test_lets_a_failed_one_keep_its_claim_while_it_may_be_billed() -> None:
    late = SubmissionFactory.create(state=State.UNKNOWN, abandoned=True)
    Generation.objects.filter(pk=late.generation_id).update(active_fingerprint="a" * 64)
    Event.objects.create(generation=late.generation, kind=Event.Kind.FAILED, actor="system")
    assert broken() == {}


def test_finds_a_slot_beyond_the_limit() -> None:
    without("ALTER TABLE generations_submission DROP CONSTRAINT submission_slot_range")
    submission = SubmissionFactory.create(slot=4, limit_seen=3)
    assert broken() == {"I4": {str(submission.pk)}}


def test_finds_a_slot_that_two_attempts_hold() -> None:
    drop_index("submission_slot")
    first = SubmissionFactory.create()
    SubmissionFactory.create(account=first.account, slot=first.slot)
    assert broken() == {"I4": {str(first.account_id)}}


def test_finds_a_wallet_that_is_not_its_ledgers_sum() -> None:
    wallet = WalletFactory.create(available=100)
    Wallet.objects.filter(pk=wallet.pk).update(available=101)
    assert broken() == {"I5": {str(wallet.pk)}}


def test_finds_a_ledger_without_a_wallets_sum() -> None:
    wallet = WalletFactory.create(available=0)
    LedgerEntry.objects.create(wallet=wallet, kind=LedgerEntry.Kind.GRANT, held_change=5)
    assert broken() == {"I5": {str(wallet.pk)}}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (Status.COMPLETED, "capture"),
        (Status.FAILED, "release"),
        (Status.CANCELLED, "release"),
        (Status.PENDING, "hold"),
        (Status.PROCESSING, "hold"),
    ],
)
def test_finds_money_that_was_not_moved(status: Status, kind: str) -> None:
    generation = priced(status)
    LedgerEntry.objects.filter(reference=generation.pk, kind=kind).delete()
    assert broken()["I6"] == {str(generation.pk)}


@pytest.mark.parametrize(("status", "moved"), [(Status.PENDING, "capture"), (Status.FAILED, "capture")])
def test_finds_money_that_was_moved_though_it_must_not(status: Status, moved: str) -> None:
    generation = priced(status)
    LedgerEntry.objects.create(wallet_id=generation.user_id, kind=moved, held_change=-10, reference=generation.pk)
    assert broken()["I6"] == {str(generation.pk)}


def test_finds_a_hold_of_another_amount() -> None:
    generation = priced(Status.PENDING)
    Generation.objects.filter(pk=generation.pk).update(price=11)
    assert broken() == {"I6": {str(generation.pk)}}


def test_finds_ledger_rows_of_a_free_one() -> None:
    generation = priced(Status.FAILED)
    Generation.objects.filter(pk=generation.pk).update(price=None)
    assert broken() == {"I6": {str(generation.pk)}}


def refunded(generation: Generation, amount: int) -> None:
    """A refund that nobody has checked, with its line in the timeline."""
    LedgerEntry.objects.create(
        wallet_id=generation.user_id, kind=LedgerEntry.Kind.REFUND, available_change=amount, reference=generation.pk
    )
    Wallet.objects.filter(pk=generation.user_id).update(available=F("available") + amount)
    Event.objects.create(generation=generation, kind=Event.Kind.REFUNDED, actor="admin:1")


def test_allows_a_refund_only_after_a_capture() -> None:
    completed, failed = priced(Status.COMPLETED), priced(Status.FAILED)
    ledger.refund(completed.pk, reason="a gift", actor="admin:1")
    assert broken() == {}
    refunded(failed, 10)
    assert broken() == {"I6": {str(failed.pk)}}


@pytest.mark.parametrize(("amount", "fine"), [(1, True), (10, True), (11, False), (-1, False), (0, False)])
def test_allows_a_refund_of_at_most_what_it_has_cost(amount: int, fine: bool) -> None:
    completed = priced(Status.COMPLETED, price=10)
    refunded(completed, amount)
    assert broken() == ({} if fine else {"I6": {str(completed.pk)}})


def test_finds_a_refund_that_the_timeline_does_not_tell_and_one_that_the_ledger_does_not() -> None:
    silent, claimed = priced(Status.COMPLETED), priced(Status.COMPLETED)
    refunded(silent, 10)
    Event.objects.filter(kind=Event.Kind.REFUNDED).delete()
    Event.objects.create(generation=claimed, kind=Event.Kind.REFUNDED, actor="admin:1")
    assert broken() == {"I6": {str(silent.pk), str(claimed.pk)}}


def test_asks_for_no_timeline_of_what_was_cleaned_up() -> None:
    completed = priced(Status.COMPLETED)
    ledger.refund(completed.pk, reason="a gift", actor="admin:1")
    completed.delete()
    assert broken() == {}


def test_finds_what_waits_past_its_time_in_the_queue() -> None:
    late = GenerationFactory.create(queue_until=timezone.now() - timedelta(minutes=3))
    GenerationFactory.create(queue_until=timezone.now() - timedelta(minutes=1))
    assert broken() == {"I7": {str(late.pk)}}


@pytest.mark.parametrize("field", ["deadline_at", "cancel_at"])
def test_finds_what_runs_past_its_time(field: str) -> None:
    late, fine = SubmissionFactory.create(), SubmissionFactory.create()
    Generation.objects.filter(pk=late.generation_id).update(**{field: timezone.now() - timedelta(minutes=3)})
    Generation.objects.filter(pk=fine.generation_id).update(**{field: timezone.now() - timedelta(minutes=1)})
    assert broken() == {"I7": {str(late.generation_id)}}


def test_lets_a_deadline_pass_while_the_result_is_collected_until_that_is_late_too() -> None:
    submission = SubmissionFactory.create(state=State.COLLECTING)
    Generation.objects.filter(pk=submission.generation_id).update(deadline_at=timezone.now() - LONG)
    assert broken() == {}
    Submission.objects.filter(pk=submission.pk).update(collect_by=timezone.now() - LONG)
    assert broken() == {"I7": {str(submission.generation_id)}}


def test_finds_a_processing_one_that_nobody_works_at() -> None:
    generation = GenerationFactory.create(status=Status.PROCESSING)
    assert broken() == {"I7": {str(generation.pk)}}


def test_finds_a_completed_one_without_an_output() -> None:
    generation = completed_generation()
    Asset.objects.all().delete()
    assert broken() == {"I8": {str(generation.pk)}}


def test_finds_a_captured_result_of_one_that_is_not_completed() -> None:
    generation = GenerationFactory.create(status=Status.FAILED, with_events=True)
    AssetFactory.create(submission=SubmissionFactory.create(state=State.SUCCEEDED, generation=generation))
    assert broken() == {"I8": {str(generation.pk)}}
    Submission.objects.update(abandoned_at=timezone.now())
    assert broken() == {}


def test_finds_one_that_answers_its_request_without_its_files() -> None:
    generation = completed_generation()
    Asset.objects.update(expired_at=timezone.now())
    assert broken() == {"I8": {str(generation.pk)}}
    Generation.objects.update(active_fingerprint=None)
    assert broken() == {}


def test_finds_a_closed_batch_whose_result_is_not_exported() -> None:
    wanted = {"format": "tiktok", "fit": "crop", "colour": "#ffffff"}
    batch = BatchFactory.create(export_formats=[wanted], closed_at=timezone.now())
    same = {"user": batch.user, "provider_id": batch.provider_id, "operation_type": batch.operation_type}
    BatchItemFactory.create(batch=batch, generation=completed_generation(**same), reused=True)
    asset = Asset.objects.get()
    assert broken() == {"I11": {str(batch.pk)}}
    ExportFactory.create(asset=asset, **{**wanted, "fit": "pad"})
    assert broken() == {"I11": {str(batch.pk)}}
    ExportFactory.create(asset=asset, **wanted)
    assert broken() == {}


def test_finds_an_export_that_lies() -> None:
    completed_generation()
    row = ExportFactory.create(asset=Asset.objects.get(), next_try_at=timezone.now() - LONG)
    assert broken() == {"I13": {str(row.pk)}}
    other = ExportFactory.create(asset=row.asset, format="tiktok", lease_until=timezone.now() + LONG)
    assert broken() == {}
    Export.objects.filter(pk=other.pk).update(lease_until=timezone.now() - LONG, next_try_at=timezone.now() - LONG)
    assert broken() == {"I13": {str(row.pk), str(other.pk)}}


def test_finds_a_job_of_two_attempts() -> None:
    drop_index("submission_provider_job")
    first = SubmissionFactory.create(provider_job_id="4711")
    SubmissionFactory.create(account=first.account, provider_job_id="4711")
    assert broken() == {"I9": {str(first.account_id)}}


def test_finds_an_accepted_attempt_without_a_job_and_a_reserved_one_that_was_sent() -> None:
    without("ALTER TABLE generations_submission DROP CONSTRAINT submission_accepted_has_job")
    accepted = SubmissionFactory.create(provider_job_id=None)
    reserved = SubmissionFactory.create(state=State.RESERVED, sent_at=timezone.now())
    assert broken() == {"I10": {str(accepted.pk), str(reserved.pk)}}


def test_finds_a_batch_with_an_item_twice_or_one_that_nobody_can_name() -> None:
    without("ALTER TABLE generations_batchitem DROP CONSTRAINT batch_item_variation_key")
    without("ALTER TABLE generations_batchitem ALTER COLUMN variation_key DROP NOT NULL")
    twice, nameless = BatchItemFactory.create(), BatchItemFactory.create()
    BatchItemFactory.create(batch=twice.batch, variation_key=twice.variation_key)
    BatchItem.objects.filter(pk=nameless.pk).update(variation_key=None)
    assert broken() == {"I11": {str(twice.batch_id), str(nameless.batch_id)}}


def test_finds_a_batch_that_is_answered_by_somebody_elses() -> None:
    item = BatchItemFactory.create()
    BatchItem.objects.filter(pk=item.pk).update(generation=GenerationFactory.create())
    assert broken() == {"I11": {str(item.batch_id)}}


def test_finds_a_batch_that_is_closed_too_early_or_not_at_all() -> None:
    early = BatchItemFactory.create(batch__closed_at=timezone.now())
    ended = {"generation__status": Status.FAILED, "generation__with_events": True}
    late = BatchItemFactory.create(**ended, generation__completed_at=timezone.now() - timedelta(minutes=3))
    BatchItemFactory.create(**ended, generation__completed_at=timezone.now() - timedelta(minutes=1))
    detached = BatchItemFactory.create(batch__closed_at=timezone.now(), detached_at=timezone.now())
    assert broken() == {"I11": {str(early.batch_id), str(late.batch_id)}}
    assert detached.generation.is_live


def test_finds_an_end_without_its_event_and_an_event_without_its_end() -> None:
    silent = GenerationFactory.create(status=Status.CANCELLED)
    wrong = GenerationFactory.create(status=Status.CANCELLED)
    Event.objects.create(generation=wrong, kind=Event.Kind.FAILED, actor="system")
    early = GenerationFactory.create()
    Event.objects.create(generation=early, kind=Event.Kind.FAILED, actor="system")
    assert broken() == {"I12": {str(silent.pk), str(wrong.pk), str(early.pk)}}


def test_finds_what_ended_twice() -> None:
    drop_index("event_one_end")
    generation = GenerationFactory.create(status=Status.FAILED, with_events=True)
    Event.objects.create(generation=generation, kind=Event.Kind.FAILED, actor="system")
    assert broken() == {"I12": {str(generation.pk)}}


@pytest.mark.parametrize("state", [State.RESERVED, State.SENDING, State.COLLECTING])
def test_finds_a_lease_that_nobody_recovered(state: State) -> None:
    late = SubmissionFactory.create(state=state, lease_until=timezone.now() - timedelta(seconds=20))
    SubmissionFactory.create(state=state, lease_until=timezone.now() - timedelta(seconds=10))
    assert broken() == {"I13": {str(late.pk)}}


class TestDueBesideAFreeSlot:
    """I13's second half: a free slot, and something due that does not take it."""

    def idle_account(self, **fields: Any) -> Any:
        account = AccountFactory.create(**fields)
        type(account).objects.filter(pk=account.pk).update(created_at=timezone.now() - LONG)
        return account

    def test_is_found(self) -> None:
        self.idle_account()
        left, young = older(GenerationFactory.create()), older(GenerationFactory.create(), timedelta(seconds=30))
        assert broken() == {"I13": {str(left.pk)}}
        assert str(young.pk) not in str(broken())

    def test_is_no_breach_while_the_house_holds_back_and_shortly_after(self) -> None:
        self.idle_account()
        left = older(GenerationFactory.create())
        row = HeldBack.objects.create(reason="backlog", since=timezone.now() - LONG, detail="more than 2.")
        assert broken() == {}
        for ago, found in ((timedelta(0), {}), (timedelta(seconds=50), {"I13": {str(left.pk)}})):
            HeldBack.objects.filter(pk=row.pk).update(ended_at=timezone.now() - ago)
            assert broken() == found

    @pytest.mark.parametrize(
        "account",
        [
            {"enabled": False},
            {"cooldown_until": timedelta(seconds=-20)},
            {"exhausted_at": timezone.now()},
            {"out_of_rotation_at": timezone.now()},
            {"balance": 1, "balance_floor": 2},
            {"provider_id": "modelslab"},
        ],
        ids=lambda fields: next(iter(fields)),
    )
    def test_is_no_defect_where_the_account_cannot_take_it(self, account: dict[str, Any]) -> None:
        # Relative times count from now, not from when the tests were collected.
        fields = {
            name: timezone.now() + value if isinstance(value, timedelta) else value for name, value in account.items()
        }
        self.idle_account(**fields)
        older(GenerationFactory.create())
        assert broken() == {}

    def test_is_no_defect_where_the_account_is_somebody_elses_or_refused_it_or_another_is_pinned(self) -> None:
        account = self.idle_account()
        refused = older(GenerationFactory.create())
        AccountExclusion.objects.create(generation=refused, account=account, code="provider_auth")
        self.idle_account(owner=UserFactory.create())
        older(GenerationFactory.create(account=AccountFactory.create(enabled=False)))
        assert broken() == {}

    def test_is_no_defect_while_the_day_has_nothing_left_for_the_account(self) -> None:
        account = self.idle_account(daily_cap=2, limit=9)
        left = older(GenerationFactory.create())
        long_ago = timezone.now() - LONG
        for _ in range(2):
            SubmissionFactory.create(account=account, state=State.SUCCEEDED, finished_at=long_ago, ended_at=long_ago)
        Asset.objects.all().delete()
        assert "I13" not in broken()
        type(account).objects.update(daily_cap=3)
        assert broken().get("I13") == {str(left.pk)}

    def test_is_no_defect_while_its_user_has_as_many_in_flight_as_he_may(self) -> None:
        self.idle_account()
        cap = UserCapFactory.create(max_in_flight=1)
        left = older(GenerationFactory.create(user=cap.user))
        running = SubmissionFactory.create(generation=GenerationFactory.create(user=cap.user, status=Status.PROCESSING))
        assert broken() == {}
        # A moment ago it was so.
        now = timezone.now()
        Submission.objects.update(state=State.FAILED, ended_at=now - timedelta(seconds=60))
        Generation.objects.filter(pk=running.generation_id).update(status=Status.FAILED, completed_at=now)
        assert "I13" not in broken()
        UserCap.objects.update(max_in_flight=2)
        assert broken()["I13"] == {str(left.pk)}

    def test_is_no_defect_while_the_slot_was_freed_a_moment_ago(self) -> None:
        account = self.idle_account(limit=1)
        freed = SubmissionFactory.create(account=account, state=State.FAILED, generation=GenerationFactory.create())
        older(freed.generation)
        assert broken() == {}
        Submission.objects.update(ended_at=timezone.now() - timedelta(seconds=50))
        assert broken() == {"I13": {str(freed.generation_id)}}

    def test_is_no_defect_while_all_slots_are_held(self) -> None:
        account = self.idle_account(limit=1)
        older(GenerationFactory.create())
        SubmissionFactory.create(account=account)
        assert broken() == {}

    @pytest.mark.parametrize("key", ["dispatch", "dispatch:provider:pixverse", "dispatch:operation:text_to_video"])
    def test_is_no_defect_while_it_is_paused_nor_a_moment_after(self, key: str) -> None:
        self.idle_account()
        left = older(GenerationFactory.create())
        turn_on(key, reason="a drill", actor="test")
        assert broken() == {}
        turn_off(key, reason="it is over", actor="test")
        assert broken() == {}
        SwitchChange.objects.update(at=timezone.now() - timedelta(seconds=50))
        assert broken() == {"I13": {str(left.pk)}}

    def test_is_found_beside_a_pause_of_something_else(self) -> None:
        self.idle_account()
        left = older(GenerationFactory.create())
        for key in ("intake", "dispatch:provider:modelslab", "dispatch:operation:fusion"):
            turn_on(key, reason="a drill", actor="test")
        assert broken() == {"I13": {str(left.pk)}}

    def test_counts_from_the_end_of_a_retrys_pause(self) -> None:
        self.idle_account()
        generation = older(GenerationFactory.create())
        event = Event.objects.create(
            generation=generation, kind=Event.Kind.RETRYING, actor="worker", data={"delay": 60.5}
        )
        Event.objects.update(at=timezone.now() - timedelta(seconds=80))
        assert broken() == {}
        Event.objects.filter(pk=event.pk).update(at=timezone.now() - timedelta(seconds=110))
        assert broken() == {"I13": {str(generation.pk)}}

    def test_counts_a_time_that_has_come_and_was_not_noticed(self) -> None:
        self.idle_account()
        older(GenerationFactory.create(not_before=timezone.now() + LONG))
        missed = older(GenerationFactory.create(not_before=timezone.now() - LONG))
        assert broken() == {"I13": {str(missed.pk)}}


def test_skips_lateness_while_the_services_are_down() -> None:
    Heartbeat.objects.update(at=timezone.now() - timedelta(seconds=20))
    SubmissionFactory.create(state=State.RESERVED, lease_until=timezone.now() - LONG)
    GenerationFactory.create(queue_until=timezone.now() - LONG)
    assert broken() == {}
    assert {finding.id for finding in audit.examine() if finding.skipped} == {"I7", "I11", "I12", "I13"}


def test_finds_a_missing_trigger() -> None:
    without("ALTER TABLE generations_submission DISABLE TRIGGER submission_terminal")
    assert broken() == {"I14": {"submission_terminal"}}
    without("DROP TRIGGER generation_terminal ON generations_generation")
    assert broken() == {"I14": {"submission_terminal", "generation_terminal"}}


def test_counts_all_and_names_the_first() -> None:
    for _ in range(4):
        GenerationFactory.create(status=Status.CANCELLED)
    [finding] = audit.run(first=2)
    assert (finding.id, finding.count, len(finding.offenders)) == ("I12", 4, 2)
    assert finding.offenders[0].noun == "generation"
    assert "no event" in finding.offenders[0].detail
    assert finding.as_dict()["offenders"][0]["id"] == finding.offenders[0].id


class TestFiles:
    """I8 by the bytes."""

    def problems(self) -> list[tuple[str, str]]:
        [finding] = [one for one in audit.examine(files=True) if "sha-256" in one.title]
        return [(offender.id, offender.detail) for offender in finding.offenders]

    def rewrite(self, asset: Asset, content: bytes) -> None:
        Path(default_storage.path(asset.key)).write_bytes(content)

    def test_finds_nothing_where_the_bytes_are_what_was_stored(self) -> None:
        for _ in range(3):
            AssetFactory.create()
        assert self.problems() == []

    def test_finds_changed_missing_and_shortened_bytes(self) -> None:
        changed, missing, short, fine = (AssetFactory.create() for _ in range(4))
        self.rewrite(changed, bytes(changed.size))
        default_storage.delete(missing.key)
        self.rewrite(short, b"x")
        problems = dict(self.problems())
        assert set(problems) == {str(changed.pk), str(missing.pk), str(short.pk)}
        assert "not those" in problems[str(changed.pk)]
        assert "missing" in problems[str(missing.pk)]
        assert "1 bytes instead of" in problems[str(short.pk)]
        assert str(fine.pk) not in problems

    def test_finds_a_missing_thumbnail(self) -> None:
        asset = AssetFactory.create()
        default_storage.delete(asset.thumbnail_key)
        assert self.problems() == [(str(asset.pk), f"its thumbnail {asset.thumbnail_key} is missing")]

    def test_reads_a_shared_file_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        first = AssetFactory.create()
        AssetFactory.create(key=first.key, sha256=first.sha256, size=first.size)
        opened: list[str] = []

        def noted(key: str) -> IO[bytes]:
            opened.append(key)
            return open_key(key)

        monkeypatch.setattr(audit, "open_key", noted)
        assert self.problems() == []
        assert opened == [first.key]


def test_leaves_the_sessions_statement_limit_as_it_was() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        before = cursor.fetchone()
        audit.run()
        cursor.execute("SHOW statement_timeout")
        # SET LOCAL lasts until the transaction's end, which in this test is the test's own.
        assert cursor.fetchone() in {before, ("10min",)}


def test_ignores_ledger_entries_of_generations_that_were_cleaned_up() -> None:
    wallet = WalletFactory.create(available=100)
    movement = [Movement(wallet.user_id, uuid4(), 10)]
    credits.hold(movement, actor="test")
    credits.capture(movement, actor="test")
    assert broken() == {}


class TestWebhooks:
    """I12's other half."""

    def told(self, **fields: Any) -> Generation:
        """One that ended, and its endpoint was told."""
        generation = completed_generation()
        endpoint = self.endpoint(user=generation.user)
        WebhookDeliveryFactory.create(endpoint=endpoint, generation=generation, state="delivered", **fields)
        return generation

    def endpoint(self, **fields: Any) -> WebhookEndpoint:
        """One that has been there for a while."""
        return WebhookEndpointFactory.create(changed_at=timezone.now() - LONG, **fields)

    def test_finds_nothing_where_everybody_is_told(self) -> None:
        self.told()
        assert broken() == {}

    @pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.CANCELLED])
    def test_finds_an_end_that_an_endpoint_is_not_told(self, status: Status) -> None:
        generation = priced(status)
        self.endpoint(user=generation.user)
        assert broken() == {"I12": {str(generation.pk)}}

    def test_finds_an_end_that_a_webhook_url_is_not_told(self) -> None:
        generation = completed_generation()
        WebhookEndpointFactory.create(user=generation.user, generation=generation)
        assert broken() == {"I12": {str(generation.pk)}}

    def test_finds_a_delivery_of_another_event(self) -> None:
        generation = self.told()
        WebhookDelivery.objects.update(event="generation.late_result")
        assert broken() == {"I12": {str(generation.pk)}}

    @pytest.mark.parametrize(
        "change",
        [
            {"disabled_at": timezone.now()},
            {"removed_at": timezone.now()},
            {"events": ["generation.failed"]},
            {"changed_at": timezone.now() + LONG},
        ],
        ids=["disabled", "removed", "wants to know other things", "made or changed since"],
    )
    def test_is_no_defect_where_it_does_not_want_to_know(self, change: dict[str, Any]) -> None:
        self.endpoint(user=completed_generation().user)
        WebhookEndpoint.objects.update(**change)
        assert broken() == {}

    def test_is_no_defect_where_deliveries_of_that_time_may_have_been_cleaned_up(self) -> None:
        self.endpoint(user=completed_generation().user, created_at=timezone.now() - timedelta(days=9))
        WebhookEndpoint.objects.update(changed_at=timezone.now() - timedelta(days=9))
        Generation.objects.update(completed_at=timezone.now() - timedelta(days=2))
        assert broken() == {}

    def test_finds_one_that_is_due_and_lies(self) -> None:
        lies = WebhookDeliveryFactory.create(next_try_at=timezone.now() - LONG)
        WebhookDeliveryFactory.create(next_try_at=timezone.now() + LONG)
        assert str(lies.pk) in broken()["I12"]

    def test_finds_one_whose_deliverer_was_not_recovered(self) -> None:
        lies = WebhookDeliveryFactory.create(next_try_at=timezone.now() - 2 * LONG, lease_until=timezone.now() - LONG)
        assert str(lies.pk) in broken()["I12"]
        WebhookDelivery.objects.update(lease_until=timezone.now())
        assert str(lies.pk) not in broken().get("I12", set())

    def test_is_no_defect_while_others_of_the_same_user_and_host_are_sent(self) -> None:
        waits = WebhookDeliveryFactory.create(next_try_at=timezone.now() - LONG)
        sent = WebhookDeliveryFactory.create(endpoint=waits.endpoint, state="delivered", tried_at=timezone.now())
        assert str(waits.pk) not in broken().get("I12", set())
        WebhookDelivery.objects.filter(pk=sent.pk).update(tried_at=timezone.now() - LONG)
        assert str(waits.pk) in broken()["I12"]
