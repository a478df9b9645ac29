"""A Generation ends once, its money moves once, and its claim goes when nothing can be billed any more."""

from __future__ import annotations

import pytest
from django.db import transaction

from accounts import credits
from accounts.credits import Movement
from generations.execution import settle
from generations.execution.settle import Ending
from generations.lifecycle import State, Status
from generations.models import Event, Generation, Incident
from tests.factories import GenerationFactory, SubmissionFactory, UserFactory, WalletFactory
from tests.generations.execution.studio import Studio

pytestmark = pytest.mark.django_db


def priced(status: Status = Status.PROCESSING, price: int = 10) -> Generation:
    wallet = WalletFactory.create(user=UserFactory.create())
    generation = GenerationFactory.create(user=wallet.user, status=status, price=price)
    credits.hold([Movement(wallet.user_id, generation.pk, price)], actor="test")
    return generation


def wallet_of(generation: Generation) -> tuple[int, int]:
    wallet = generation.user.wallet
    wallet.refresh_from_db()
    return wallet.available, wallet.held


@pytest.mark.parametrize(
    ("status", "kind", "purse", "claim_kept"),
    [
        (Status.COMPLETED, "capture", (90, 0), True),
        (Status.FAILED, "release", (100, 0), False),
        (Status.CANCELLED, "release", (100, 0), False),
    ],
)
def test_settles_as_it_ends(status: Status, kind: str, purse: tuple[int, int], claim_kept: bool) -> None:
    one = priced()
    assert settle.end([Ending(one.pk, status, "a_code", "why")], actor="test") == {one.pk}
    one.refresh_from_db()
    assert (one.status, one.completed_at is not None) == (status, True)
    assert (one.active_fingerprint is not None) == claim_kept
    assert Studio.money(one) == sorted(["hold", kind])
    assert wallet_of(one) == purse
    assert Studio.events(one) == [status.value]


def test_ends_nothing_twice() -> None:
    one = priced()
    settle.end([Ending(one.pk, Status.COMPLETED)], actor="test")
    assert settle.end([Ending(one.pk, Status.FAILED, "late", "too late")], actor="test") == set()
    one.refresh_from_db()
    assert (one.status, one.error_code) == (Status.COMPLETED, "")
    assert Studio.money(one) == ["capture", "hold"]
    assert Event.objects.filter(generation=one).count() == 1


def test_settles_many_of_several_users_together() -> None:
    done, failed, free = priced(), priced(), GenerationFactory.create(status=Status.PROCESSING)
    endings = [
        Ending(done.pk, Status.COMPLETED),
        Ending(failed.pk, Status.FAILED, "a", "b"),
        Ending(free.pk, Status.FAILED, "a", "b"),
    ]
    assert len(settle.end(endings, actor="test")) == 3
    assert (wallet_of(done), wallet_of(failed)) == ((90, 0), (100, 0))
    assert Studio.money(free) == [], "what is free leaves no trace in the ledger"


@pytest.mark.parametrize("state", [State.SENDING, State.UNKNOWN, State.ACCEPTED, State.COLLECTING])
def test_keeps_the_claim_while_an_attempt_may_be_billed(state: State) -> None:
    attempt = SubmissionFactory.create(state=state)
    one = attempt.generation
    settle.end([Ending(one.pk, Status.FAILED, "deadline_exceeded", "late")], actor="test")
    settle.give_up_claims([one.pk])
    one.refresh_from_db()
    assert one.active_fingerprint is not None
    type(attempt).objects.filter(pk=attempt.pk).update(state=State.FAILED, ended_at=one.completed_at)
    settle.give_up_claims([one.pk])
    one.refresh_from_db()
    assert one.active_fingerprint is None


@pytest.mark.parametrize("status", [Status.PENDING, Status.PROCESSING, Status.COMPLETED])
def test_gives_up_no_claim_of_one_that_lives_or_has_a_result(status: Status) -> None:
    one = GenerationFactory.create(status=status)
    settle.give_up_claims([one.pk])
    one.refresh_from_db()
    assert one.active_fingerprint is not None


def test_reports_an_incident_of_an_attempt_once() -> None:
    attempt = SubmissionFactory.create()
    for _ in range(2):
        settle.report(Incident.Kind.LATE_RESULT, attempt, "as it says")
    incident = Incident.objects.get()
    assert (incident.generation_id, incident.account_id) == (attempt.generation_id, attempt.account_id)


def test_does_nothing_with_nothing() -> None:
    assert settle.end([], actor="test") == set()
    settle.give_up_claims([])


def test_locks_in_the_order_of_the_ids() -> None:
    made = [GenerationFactory.create().pk for _ in range(5)]
    with transaction.atomic():
        assert list(settle.lock(reversed(made))) == sorted(made)
