"""What nobody moves on any more is moved on, and nothing is sent or paid twice by it."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from accounts import credits
from accounts.credits import Movement
from generations.execution import recover
from generations.execution.dispatch import send
from generations.intake.cancel import cancel
from generations.lifecycle import State, Status
from generations.models import Submission
from tests.factories import AccountFactory, GenerationFactory, SubmissionFactory, UserFactory, WalletFactory
from tests.generations.execution.studio import LONG_AGO, Studio

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("hints")]


def overdue(state: State, *names: str, **generation: Any) -> Submission:
    """An attempt, the named times of which are over."""
    wallet = WalletFactory.create(user=UserFactory.create())
    fields = {"status": Status.PROCESSING, "user": wallet.user, "price": 10, **generation}
    made = GenerationFactory.create(**fields)
    credits.hold([Movement(wallet.user_id, made.pk, 10)], actor="test")
    one = SubmissionFactory.create(state=state, generation=made)
    if names:
        Submission.objects.filter(pk=one.pk).update(**dict.fromkeys(names, timezone.now() - LONG_AGO))
    return now(one)


def now(submission: Submission) -> Submission:
    submission.refresh_from_db()
    submission.generation.refresh_from_db()
    return submission


def slots(submission: Submission) -> int:
    return submission.account.submissions.holding_slot().count()


# --- reserved ------------------------------------------------------------------------------------------


def test_queues_again_what_was_reserved_and_never_sent() -> None:
    one = overdue(State.RESERVED, "lease_until")
    before = one.token
    assert recover.recover()["not_sent"] == 1
    now(one)
    assert (one.state, one.error_code, one.token != before) == (State.FAILED, "not_sent", True)
    made = one.generation
    assert (made.status, made.not_before, made.not_sent, made.error_retries) == (Status.PENDING, None, 1, 0)
    assert slots(one) == 0
    assert Studio.money(made) == ["hold"]


def test_wakes_the_dispatcher_for_what_is_due_again(hints: list[str]) -> None:
    overdue(State.RESERVED, "lease_until")
    recover.recover()
    assert "dispatch:pixverse" in hints


def test_stops_a_poison_that_kills_workers_again_and_again() -> None:
    one = overdue(State.RESERVED, "lease_until", not_sent=4)
    recover.recover()
    now(one)
    assert (one.generation.status, one.generation.error_code) == (Status.FAILED, "not_sent")
    assert Studio.incidents(one) == ["not_sent"]
    assert Studio.money(one.generation) == ["hold", "release"]


@pytest.mark.parametrize("state", [State.RESERVED, State.SENDING, State.COLLECTING])
def test_leaves_alone_whose_lease_still_runs(state: State) -> None:
    one = overdue(state)
    assert not any(recover.recover().values())
    assert now(one).state == state


def test_makes_the_slow_worker_find_that_it_is_no_longer_the_owner() -> None:
    one = overdue(State.RESERVED, "lease_until")
    token = one.token
    recover.recover()
    assert send([one], token) == set()
    assert now(one).state == State.FAILED


# --- sending and unknown ---------------------------------------------------------------------------------


def test_makes_unknown_what_a_dead_worker_was_sending() -> None:
    one = overdue(State.SENDING, "lease_until")
    before = one.token
    assert recover.recover()["sending"] == 1
    now(one)
    assert (one.state, one.lease_until, one.error_code) == (State.UNKNOWN, None, "outcome_unknown")
    assert one.token != before
    assert (one.generation.status, slots(one)) == (Status.PROCESSING, 1)
    assert Studio.events(one.generation) == ["outcome_unknown"]


def test_fails_the_generation_of_an_unknown_one_at_its_deadline_and_keeps_the_slot() -> None:
    one = overdue(State.UNKNOWN, deadline_at=timezone.now() - LONG_AGO)
    assert recover.recover()["overdue"] == 1
    now(one)
    assert (one.generation.status, one.generation.error_code) == (Status.FAILED, "outcome_unknown")
    assert (one.state, one.abandoned_at is not None, slots(one)) == (State.UNKNOWN, True, 1)
    assert one.generation.active_fingerprint is not None
    assert Studio.money(one.generation) == ["hold", "release"]


def test_gives_an_unknown_one_up_at_its_limit() -> None:
    one = overdue(State.UNKNOWN, "limit_at")
    assert recover.recover()["unknown_at_limit"] == 1
    now(one)
    assert (one.state, one.cost_at_risk, slots(one)) == (State.FAILED, True, 0)
    assert (one.generation.status, one.generation.error_code) == (Status.FAILED, "outcome_unknown")
    assert one.generation.active_fingerprint is None
    assert Studio.money(one.generation) == ["hold", "release"]
    assert Studio.incidents(one) == ["cost_at_risk"]


def test_gives_up_the_claim_of_one_that_failed_before_its_attempt_was_given_up() -> None:
    one = overdue(State.UNKNOWN, deadline_at=timezone.now() - LONG_AGO)
    recover.recover()
    Studio.past(one, "limit_at")
    recover.recover()
    now(one)
    assert (one.state, slots(one), one.generation.active_fingerprint) == (State.FAILED, 0, None)
    assert Studio.money(one.generation) == ["hold", "release"]
    assert Studio.events(one.generation) == ["failed", "abandoned"]


# --- the queue and cancels ----------------------------------------------------------------------------------


def test_fails_what_waited_too_long() -> None:
    user = WalletFactory.create(user=UserFactory.create()).user
    late = GenerationFactory.create(queue_until=timezone.now() - LONG_AGO, user=user, price=10)
    credits.hold([Movement(user.pk, late.pk, 10)], actor="test")
    waiting = GenerationFactory.create()
    assert recover.recover()["queued_too_long"] == 1
    late.refresh_from_db()
    waiting.refresh_from_db()
    assert (late.status, late.error_code, waiting.status) == (Status.FAILED, "queue_timeout", Status.PENDING)
    assert Studio.money(late) == ["hold", "release"]
    assert late.active_fingerprint is None


@pytest.mark.parametrize("state", [State.SENDING, State.UNKNOWN, State.ACCEPTED])
def test_cancels_when_the_grace_is_over_and_lets_the_attempt_live_on(state: State) -> None:
    one = overdue(state, cancel_requested_at=timezone.now() - LONG_AGO, cancel_at=timezone.now() - LONG_AGO)
    assert recover.recover()["cancels"] == 1
    now(one)
    assert (one.generation.status, one.generation.error_code) == (Status.CANCELLED, "")
    assert (one.state, one.abandoned_at is not None, slots(one)) == (state, True, 1)
    assert Studio.money(one.generation) == ["hold", "release"]
    assert one.generation.active_fingerprint is not None


def test_lets_a_finished_result_win_over_a_cancel() -> None:
    one = overdue(State.COLLECTING, cancel_requested_at=timezone.now() - LONG_AGO, cancel_at=timezone.now() - LONG_AGO)
    recover.recover()
    assert (now(one).generation.status, one.abandoned_at) == (Status.PROCESSING, None)


def test_waits_for_the_grace() -> None:
    one = overdue(State.ACCEPTED)
    cancel(one.generation_id, actor="user:1")
    assert not any(recover.recover().values())
    assert now(one).generation.status == Status.PROCESSING


def test_lets_one_kind_that_breaks_keep_none_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    one = overdue(State.UNKNOWN, "limit_at")

    def not_sent() -> int:
        raise RuntimeError("one bad row")

    monkeypatch.setattr(recover, "STEPS", (not_sent, *recover.STEPS[1:]))
    recover.recover()
    assert now(one).state == State.FAILED


# --- the tick -----------------------------------------------------------------------------------------------------


def test_wakes_whoever_has_work(hints: list[str]) -> None:
    recover.tick()
    assert hints == []
    GenerationFactory.create(not_before=timezone.now() - LONG_AGO)
    SubmissionFactory.create(state=State.COLLECTING)
    Submission.objects.update(lease_until=None)
    AccountFactory.create(probe_at=timezone.now() - LONG_AGO)
    recover.tick()
    assert set(hints) == {"dispatch:pixverse", "collect", "refresh_credits"}


def test_does_no_harm_when_it_overlaps(hints: list[str]) -> None:
    one = overdue(State.RESERVED, "lease_until")
    for _ in range(3):
        recover.tick()
    assert now(one).generation.not_sent == 1
