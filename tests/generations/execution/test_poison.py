"""One row that cannot be moved on (here: its wallet's books are broken) keeps no other row from it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError
from django.utils import timezone

from accounts.models import LedgerEntry, Wallet
from generations.execution import claim as claiming
from generations.execution import collect as collecting
from generations.execution import dispatch as dispatching
from generations.execution import failures, recover
from generations.execution.accounts import refresh_due
from generations.execution.claim import mature
from generations.execution.dispatch import Dispatcher
from generations.execution.poll import Answer, _claim, _write
from generations.execution.recording import record
from generations.lifecycle import State, Status
from generations.models import Generation, Submission
from providers.base import Output, PollResult, SubmitResult
from tests.factories import AccountFactory, GenerationFactory, SubmissionFactory, UserFactory, WalletFactory
from tests.generations.execution.studio import Studio

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("hints")]

PAST = timezone.now() - timedelta(hours=2)


def priced(*, sound: bool = True, **fields: Any) -> Generation:
    """A Generation of 10 credits, held as they should be; or with nothing held, so that it cannot be settled."""
    wallet = WalletFactory.create(user=UserFactory.create())
    if sound:
        Wallet.objects.filter(pk=wallet.pk).update(available=90, held=10)
    generation = GenerationFactory.create(user=wallet.user, price=10, **fields)
    LedgerEntry.objects.create(
        wallet=wallet, kind="hold", available_change=-10, held_change=10, reference=generation.pk, actor="test"
    )
    return generation


def test_expires_the_others_of_a_wave() -> None:
    good, bad = (
        SubmissionFactory.create(
            next_poll_at=PAST, generation=priced(sound=sound, status=Status.PROCESSING, deadline_at=PAST)
        )
        for sound in (True, False)
    )
    token = uuid4()
    _write(token, [Answer(row, PollResult("running")) for row in _claim(token)])
    good.generation.refresh_from_db()
    bad.generation.refresh_from_db()
    assert (good.generation.status, bad.generation.status) == (Status.FAILED, Status.PROCESSING)


def test_completes_the_others_of_a_wave_and_tries_it_again(studio: Studio) -> None:
    studio.account(limit=2)
    good, bad = studio.ask(), studio.ask()
    studio.dispatch()
    for generation in (good, bad):
        studio.poll_to_the_end(studio.attempt(generation))
    broke = WalletFactory.create(user=UserFactory.create())
    Generation.objects.filter(pk=bad.pk).update(user=broke.user)
    # Both are done when they are written down, together.
    token = uuid4()
    collecting._write(token, [(row, collecting._work(row)()) for row in collecting._claim(token, 2)])
    assert studio.look(good).status == Status.COMPLETED
    assert studio.look(bad).status == Status.PROCESSING
    attempt = studio.attempt(bad)
    assert (attempt.state, attempt.error_code) == (State.COLLECTING, "storage_failed")
    assert attempt.assets.count() == 0


def test_completes_what_an_older_version_of_the_adapter_accepted(studio: Studio) -> None:
    studio.account()
    generation, submission = studio.start()
    studio.poll_to_the_end(submission)
    Generation.objects.filter(pk=generation.pk).update(params={"gone": "field"})
    studio.collect()
    assert studio.look(generation).status == Status.COMPLETED


def test_recovers_the_other_kinds(hints: list[str]) -> None:
    priced(sound=False, queue_until=PAST)
    cancelled = SubmissionFactory.create(
        generation=GenerationFactory.create(status=Status.PROCESSING, cancel_requested_at=PAST, cancel_at=PAST)
    )
    GenerationFactory.create()
    recover.tick()
    cancelled.generation.refresh_from_db()
    assert cancelled.generation.status == Status.CANCELLED
    assert "dispatch:pixverse" in hints


def test_recovers_those_beside_one_that_the_database_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recover, "BATCH", 2)
    bad, *others = (
        SubmissionFactory.create(
            state=State.UNKNOWN, generation=priced(sound=sound, provider_id="pixverse", status=Status.PROCESSING)
        )
        for sound in (False, True, True, True, True)
    )
    Submission.objects.update(limit_at=PAST)
    assert recover.recover()["unknown_at_limit"] == 4
    for one in (bad, *others):
        one.refresh_from_db()
    assert bad.state == State.UNKNOWN
    assert {one.state for one in others} == {State.FAILED}


def test_expires_those_beside_one_that_the_database_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recover, "BATCH", 1)
    bad = priced(sound=False, queue_until=PAST)
    others = [priced(queue_until=PAST + timedelta(seconds=1)) for _ in range(3)]
    assert recover.recover()["queued_too_long"] == 3
    bad.refresh_from_db()
    assert bad.status == Status.PENDING
    assert set(Generation.objects.filter(pk__in=[one.pk for one in others]).values_list("error_code", flat=True)) == {
        "queue_timeout"
    }


def test_ends_cancels_although_older_ones_have_their_result_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recover, "BATCH", 1)
    asked = {"status": Status.PROCESSING, "cancel_requested_at": PAST}
    collecting_one = SubmissionFactory.create(
        state=State.COLLECTING, generation=GenerationFactory.create(**asked, cancel_at=PAST - timedelta(hours=1))
    )
    running = SubmissionFactory.create(generation=GenerationFactory.create(**asked, cancel_at=PAST))
    recover.cancels()
    running.generation.refresh_from_db()
    collecting_one.generation.refresh_from_db()
    assert (running.generation.status, collecting_one.generation.status) == (Status.CANCELLED, Status.PROCESSING)


def test_stores_an_answer_whose_cost_is_absurd() -> None:
    sending = SubmissionFactory.create(state=State.SENDING)
    record(sending.token, [(sending, SubmitResult("1", cost=Decimal("1e12")), None)])
    sending.refresh_from_db()
    assert (sending.state, sending.cost) == (State.ACCEPTED, None)


@pytest.mark.parametrize(
    ("cost", "kept"),
    [
        (None, None),
        (Decimal(0), Decimal(0)),
        (Decimal("9999999999.9999"), Decimal("9999999999.9999")),
        (Decimal("1e10"), None),
        (Decimal("-1e10"), None),
        (Decimal("NaN"), None),
        (Decimal("Infinity"), None),
    ],
)
def test_keeps_a_cost_that_is_an_amount(cost: Decimal | None, kept: Decimal | None) -> None:
    assert failures.storable_cost(cost) == kept


def test_goes_on_when_the_progress_is_absurd() -> None:
    one = SubmissionFactory.create(next_poll_at=PAST)
    token = uuid4()
    _write(token, [Answer(row, PollResult("running", progress=10**9)) for row in _claim(token)])
    one.refresh_from_db()
    assert one.progress == 100


def test_stores_what_a_provider_says_without_what_is_no_text() -> None:
    token = uuid4()
    one = SubmissionFactory.create(state=State.SENDING, token=token)
    record(token, [(one, SubmitResult("1", {"note\x00": ["a\x00b", "\ud800c", "\U0001f98a"]}), None)])
    one.refresh_from_db()
    assert (one.state, one.job_handle) == (State.ACCEPTED, {"note": ["ab", "?c", "\U0001f98a"]})


def test_collects_a_result_that_was_told_with_nonsense_beside_it() -> None:
    one = SubmissionFactory.create(next_poll_at=PAST)
    token = uuid4()
    output = (Output("https://a.example/1.mp4", "video"),)
    _write(token, [Answer(row, PollResult("succeeded", output, raw_status="do\x00ne" * 40)) for row in _claim(token)])
    one.refresh_from_db()
    assert (one.state, one.raw_status) == (State.COLLECTING, ("done" * 40)[:120])


def test_writes_down_what_has_left_when_the_next_claim_fails(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, limits: Any
) -> None:
    limits(connections=2)
    studio.account(limit=3)
    slow, quick = studio.ask("slow_submit:0.5"), studio.ask()
    calls: list[int] = []
    real = claiming.claim

    def claim(*arguments: Any, **named: Any) -> list[Submission]:
        calls.append(1)
        if len(calls) > 1:
            raise OperationalError("deadlock detected")
        return real(*arguments, **named)

    monkeypatch.setattr(dispatching, "claim", claim)
    with pytest.raises(OperationalError):
        Dispatcher("modelslab").run()
    assert {studio.attempt(one).state for one in (slow, quick)} == {State.ACCEPTED}


def test_makes_due_what_has_come_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claiming, "MATURE_BATCH", 2)
    monkeypatch.setattr(recover, "MATURE_BATCH", 2)
    for _ in range(5):
        GenerationFactory.create(not_before=PAST)
    later = GenerationFactory.create(not_before=timezone.now() + timedelta(hours=1))
    assert mature() == 2
    recover.tick()
    assert list(Generation.objects.filter(not_before__isnull=False)) == [later]


def test_looks_at_an_account_again_when_a_poll_is_refused_for_its_sake(studio: Studio) -> None:
    """The job lives on: the provider refuses the key, not the job."""
    account = studio.account()
    generation, submission = studio.start("never_finishes")
    studio.sandbox.set_key("modelslab", account.credentials["api_key"], enabled=False)
    studio.poll()
    submission.refresh_from_db()
    account.refresh_from_db()
    assert (submission.state, studio.look(generation).status) == (State.ACCEPTED, Status.PROCESSING)
    assert submission.poll_errors == 1
    assert account.probe_at is not None


def test_gives_an_account_that_is_out_of_rotation_another_try_later() -> None:
    account = AccountFactory.create()
    type(account).objects.filter(pk=account.pk).update(credentials_encrypted=b"not a token", probe_at=PAST)
    refresh_due()
    account.refresh_from_db()
    assert account.out_of_rotation_at is not None
    assert account.probe_at is not None
    assert account.probe_at > timezone.now() + timedelta(minutes=10)
    assert account.incidents.count() == 1
    type(account).objects.filter(pk=account.pk).update(probe_at=PAST)
    refresh_due()
    assert account.incidents.count() == 1
