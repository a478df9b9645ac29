"""Cancelling: at once where nothing billable has left, after a grace where it may have."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from accounts.models import LedgerEntry, Wallet
from generations.intake.cancel import cancel
from generations.intake.errors import Conflict
from generations.lifecycle import ENDED, State, Status
from generations.models import Event, Generation, Submission
from tests.factories import GenerationFactory, PriceFactory, SubmissionFactory, WalletFactory
from tests.generations.intake.conftest import Ask, Scale
from tests.together import together

pytestmark = pytest.mark.django_db


@pytest.fixture
def generation(user: User, ask: Ask) -> Generation:
    """A pending one that costs 10 of 100 credits."""
    PriceFactory.create(credits=10)
    WalletFactory.create(user=user, available=100)
    return ask().generation


@pytest.fixture
def attempt(generation: Generation) -> Callable[[State], Submission]:
    """Starts an attempt of it."""

    def start(state: State) -> Submission:
        Generation.objects.filter(pk=generation.pk).update(status=Status.PROCESSING)
        return SubmissionFactory.create(generation=generation, state=state, account__provider_id="modelslab")

    return start


def of(user: User) -> tuple[int, int]:
    wallet = Wallet.objects.get(user=user)
    return wallet.available, wallet.held


def kinds(generation: Generation) -> list[str]:
    return list(Event.objects.filter(generation=generation).order_by("id").values_list("kind", flat=True))


def test_ends_a_pending_one_at_once(generation: Generation, user: User) -> None:
    got = cancel(generation.pk, actor="user:1")

    assert (got.status, got.active_fingerprint, got.cancel_requested_at) == (Status.CANCELLED, None, None)
    assert got.completed_at
    assert of(user) == (100, 0)
    assert kinds(generation) == ["accepted", "cancelled"]
    assert Event.objects.get(kind="cancelled").actor == "user:1"


def test_ends_one_that_is_scheduled_or_backing_off(user: User, ask: Ask) -> None:
    generation = ask(scheduled_at=timezone.now() + timedelta(days=1)).generation

    got = cancel(generation.pk, actor="test")

    assert (got.status, got.not_before) == (Status.CANCELLED, None)


def test_ends_a_reserved_one_at_once_and_frees_its_slot(
    generation: Generation, user: User, attempt: Callable[[State], Submission]
) -> None:
    submission = attempt(State.RESERVED)
    token = submission.token

    got = cancel(generation.pk, actor="test")

    submission.refresh_from_db()
    assert (got.status, submission.state, submission.lease_until) == (Status.CANCELLED, State.CANCELLED, None)
    assert submission.ended_at
    assert submission.token != token
    assert not Submission.objects.owned(State.RESERVED, token).exists()
    assert not submission.account.submissions.holding_slot().exists()
    assert of(user) == (100, 0)


@pytest.mark.parametrize("state", [State.SENDING, State.UNKNOWN, State.ACCEPTED])
def test_asks_for_it_where_the_call_may_have_left(
    generation: Generation, user: User, attempt: Callable[[State], Submission], state: State
) -> None:
    submission = attempt(state)

    got = cancel(generation.pk, actor="user:1")

    assert got.status == Status.PROCESSING
    assert got.cancel_requested_at and got.cancel_at  # noqa: PT018
    assert got.cancel_at - got.cancel_requested_at == timedelta(seconds=15)
    assert got.active_fingerprint == got.fingerprint
    assert of(user) == (90, 10)
    assert kinds(generation) == ["accepted", "cancel_requested"]
    asked = Event.objects.get(kind="cancel_requested")
    assert (asked.actor, asked.attempt) == ("user:1", submission.number)
    after = Submission.objects.get(pk=submission.pk)
    assert (after.state, after.token, after.abandoned_at) == (state, submission.token, None)


def test_lets_the_poller_look_at_once(generation: Generation, attempt: Callable[[State], Submission]) -> None:
    submission = attempt(State.ACCEPTED)
    Submission.objects.filter(pk=submission.pk).update(next_poll_at=timezone.now() + timedelta(hours=1))

    cancel(generation.pk, actor="test")

    after = Submission.objects.get(pk=submission.pk)
    assert after.next_poll_at
    assert after.next_poll_at <= timezone.now() + timedelta(seconds=1)


def test_gives_a_video_more_time(scale: Scale) -> None:
    scale(image_cancel_grace=1, video_cancel_grace=7)
    submission = SubmissionFactory.create(state=State.ACCEPTED)

    got = cancel(submission.generation_id, actor="test")

    assert got.cancel_requested_at and got.cancel_at  # noqa: PT018
    assert got.cancel_at - got.cancel_requested_at == timedelta(seconds=7)


def test_asks_once(generation: Generation, attempt: Callable[[State], Submission]) -> None:
    attempt(State.ACCEPTED)
    first = cancel(generation.pk, actor="test")

    second = cancel(generation.pk, actor="test")

    assert (second.cancel_requested_at, second.cancel_at) == (first.cancel_requested_at, first.cancel_at)
    assert kinds(generation) == ["accepted", "cancel_requested"]


def test_is_too_late_when_the_provider_is_done(
    generation: Generation, user: User, attempt: Callable[[State], Submission]
) -> None:
    attempt(State.COLLECTING)

    with pytest.raises(Conflict) as refused:
        cancel(generation.pk, actor="test")

    assert (refused.value.code, refused.value.extra) == ("too_late", {"generation": str(generation.pk)})
    generation.refresh_from_db()
    assert (generation.status, generation.cancel_requested_at) == (Status.PROCESSING, None)
    assert kinds(generation) == ["accepted"]
    assert of(user) == (90, 10)


@pytest.mark.parametrize("status", sorted(ENDED))
def test_leaves_an_ended_one(status: Status) -> None:
    generation = GenerationFactory.create(status=status)

    with pytest.raises(Conflict) as refused:
        cancel(generation.pk, actor="test")

    assert refused.value.code == "already_ended"
    assert status in refused.value.detail
    assert not Event.objects.exists()


def test_keeps_the_claim_while_an_abandoned_attempt_may_be_billed(
    generation: Generation, attempt: Callable[[State], Submission]
) -> None:
    Submission.objects.filter(pk=attempt(State.UNKNOWN).pk).update(abandoned_at=timezone.now())
    Generation.objects.filter(pk=generation.pk).update(status=Status.PENDING)

    got = cancel(generation.pk, actor="test")

    assert (got.status, got.active_fingerprint) == (Status.CANCELLED, got.fingerprint)


def test_says_that_there_is_none() -> None:
    with pytest.raises(Generation.DoesNotExist):
        cancel(uuid4(), actor="test")


@pytest.mark.usefixtures("transactional_db")
class TestTogether:
    """Real threads, let go at the same moment."""

    def test_ends_once(self, generation: Generation, user: User) -> None:
        results = together([partial(cancel, generation.pk, actor=f"user:{number}") for number in range(12)])

        assert sum(isinstance(one, Generation) for one in results) == 1
        assert {one.code for one in results if isinstance(one, Conflict)} == {"already_ended"}
        assert kinds(generation) == ["accepted", "cancelled"]
        assert LedgerEntry.objects.filter(kind="release").count() == 1
        assert of(user) == (100, 0)

    def test_asks_once(self, generation: Generation, attempt: Callable[[State], Submission]) -> None:
        attempt(State.SENDING)

        results = together([partial(cancel, generation.pk, actor="test")] * 12)

        assert len({one.cancel_at for one in results if isinstance(one, Generation)}) == 1
        assert kinds(generation) == ["accepted", "cancel_requested"]
