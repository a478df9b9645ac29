"""Fifty rounds of each race, on real connections: whoever comes first, there is one outcome, and the money is right.

Each round begins with an empty house, and everybody starts within four milliseconds, in another order each time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import RequestFactory
from django.utils import timezone

from accounts import credits
from accounts.credits import Movement
from accounts.models import LedgerEntry, Wallet
from generations.api.hooks import hook
from generations.execution import collect, poll, recover
from generations.execution.claim import claim
from generations.execution.dispatch import send
from generations.execution.recording import record
from generations.execution.results import Collected, StoredOutput
from generations.intake.cancel import cancel
from generations.intake.errors import Conflict, PaymentRequired
from generations.intake.request import Accepted, Request, accept
from generations.intake.resolve import Answer, resolve
from generations.intake.retry import retry
from generations.lifecycle import State, Status
from generations.models import Asset, Event, Generation, Incident, Submission
from generations.models.clock import database_now
from providers.base import Output, PollResult, SubmitResult
from providers.errors import JobFailed
from tests.factories import (
    AccountFactory,
    GenerationFactory,
    PriceFactory,
    SubmissionFactory,
    UserFactory,
    WalletFactory,
)
from tests.proof.desk import Audit, clear_tables
from tests.together import Racers

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = 50
SPREAD = 0.004
"""Seconds within which everybody begins."""
PURSE, PRICE = 100, 10
LONG_AGO = timedelta(hours=2)
AT_THE_END = timedelta(milliseconds=2)
"""A lease that is over in the middle of the race."""
DONE = PollResult("succeeded", (Output("https://media.example/1", "video"),))

M = TypeVar("M", Generation, Submission)
Calls = Sequence[Callable[[], Any]]
Race = Callable[[Calls], list[Any]]
Rounds = Callable[[], Iterator[Race]]


@pytest.fixture
def rounds(audit: Audit) -> Iterator[Rounds]:
    """The rounds of a test; each gives what runs a race. After each, the audit must find nothing."""
    with Racers(5) as racers:

        def each() -> Iterator[Race]:
            for seed in range(ROUNDS):
                clear_tables()
                yield partial(racers.race, spread=SPREAD, seed=seed)
                audit.check()

        yield each


def person() -> User:
    """Somebody with a purse."""
    return WalletFactory.create(user=UserFactory.create(), available=PURSE).user


def paid(**fields: Any) -> Generation:
    """A Generation for which credits are held."""
    generation = GenerationFactory.create(user=person(), price=PRICE, **fields)
    credits.hold([Movement(generation.user_id, generation.pk, PRICE)], actor="test")
    return generation


def under_way(state: State, **fields: Any) -> Submission:
    """An attempt in a state, and what it is for is paid."""
    return SubmissionFactory.create(state=state, generation=paid(status=Status.PROCESSING), **fields)


def overdue(submission: Submission, *names: str) -> None:
    """These times of the attempt are over."""
    Submission.objects.filter(pk=submission.pk).update(**dict.fromkeys(names, timezone.now() - LONG_AGO))


def ends_now(submission: Submission) -> None:
    """Its lease is over in a moment."""
    Submission.objects.filter(pk=submission.pk).update(lease_until=database_now() + AT_THE_END)


def money(generation: Generation) -> tuple[list[str], int, int]:
    """What was done with its credits, and what is in the purse."""
    kinds = sorted(LedgerEntry.objects.filter(reference=generation.pk).values_list("kind", flat=True))
    wallet = Wallet.objects.get(user=generation.user_id)
    return kinds, wallet.available, wallet.held


SPENT = (["capture", "hold"], PURSE - PRICE, 0)
GIVEN_BACK = (["hold", "release"], PURSE, 0)
HELD = (["hold"], PURSE - PRICE, PRICE)


def ends(generation: Generation) -> list[str]:
    """How it ended, as its timeline tells."""
    return list(Event.objects.filter(generation=generation, kind__in=Status).values_list("kind", flat=True))


def now(row: M) -> M:
    """As it is now."""
    row.refresh_from_db()
    return row


def failures(results: Sequence[Any], *expected: type[Exception]) -> list[Any]:
    """What was raised and is not expected."""
    return [one for one in results if isinstance(one, Exception) and not isinstance(one, expected)]


# --- at the door --------------------------------------------------------------------------------------


def asks(user: User, prompt: str = "a lighthouse") -> Callable[[], Accepted]:
    """A request for a picture."""
    request = Request("modelslab", "text_to_image", {"prompt": prompt})
    return partial(accept, user.pk, request, actor=f"user:{user.pk}")


def test_makes_one_of_many_identical_requests_and_holds_once(rounds: Rounds) -> None:
    for race in rounds():
        PriceFactory.create(credits=PRICE)
        user = person()
        results = race([asks(user)] * 5)
        assert failures(results) == []
        generation = Generation.objects.get()
        assert {one.generation for one in results} == {generation}
        assert sum(not one.reused for one in results) == 1
        assert money(generation) == HELD
        assert Event.objects.count() == 1


def test_makes_one_in_the_place_of_an_old_answer(rounds: Rounds) -> None:
    for race in rounds():
        user = person()
        old = asks(user)().generation
        long_ago = timezone.now() - timedelta(days=31)
        Generation.objects.filter(pk=old.pk).update(status=Status.CANCELLED, completed_at=long_ago)
        Generation.objects.filter(pk=old.pk).delete()
        old = GenerationFactory.create(
            user=user, provider_id=old.provider_id, operation_type=old.operation_type, status=Status.COMPLETED,
            fingerprint=old.fingerprint, completed_at=long_ago, with_events=True,
        )  # fmt: skip
        results = race([asks(user)] * 4)
        assert failures(results) == []
        [made] = {one.generation for one in results}
        assert made != old
        assert Event.objects.filter(kind=Event.Kind.CLAIM_LOST).count() == 1
        Generation.objects.filter(pk=old.pk).delete()  # it has no result to be audited


def test_accepts_as_many_as_the_purse_pays_for(rounds: Rounds) -> None:
    for race in rounds():
        PriceFactory.create(credits=40)
        user = person()
        results = race([asks(user, f"number {number}") for number in range(5)])
        assert failures(results, PaymentRequired) == []
        assert sum(isinstance(one, Accepted) for one in results) == 2
        assert Wallet.objects.values_list("available", "held").get() == (PURSE - 80, 80)
        assert Generation.objects.count() == LedgerEntry.objects.filter(kind="hold").count() == 2


@pytest.mark.parametrize("insist", [False, True])
def test_makes_one_of_a_double_click_on_retry(rounds: Rounds, insist: bool) -> None:
    for race in rounds():
        PriceFactory.create(credits=PRICE)
        original = asks(person())().generation
        cancel(original.pk, actor="test")
        results = race([partial(retry, original.pk, actor="test", insist=insist)] * 3)
        assert failures(results, Conflict) == []
        [made] = Generation.objects.filter(retry_of=original)
        assert [one.generation for one in results if isinstance(one, Accepted)] == [made]
        refused = {(one.code, one.extra["generation"]) for one in results if isinstance(one, Conflict)}
        assert refused == {("live_twin", str(made.pk))}
        assert Event.objects.filter(kind=Event.Kind.RETRIED).count() == 1
        assert money(made) == HELD


# --- slots ---------------------------------------------------------------------------------------------


def test_gives_each_slot_once_and_calls_none_full_while_it_is_free(rounds: Rounds) -> None:
    for race in rounds():
        account = AccountFactory.create(limit=4)
        SubmissionFactory.create(account=account, slot=2)
        for user in (UserFactory.create(), UserFactory.create()):
            for _ in range(2):
                GenerationFactory.create(user=user)
        results = race([partial(claim, "pixverse", uuid4(), 1) for _ in range(5)])
        assert failures(results) == []
        taken = [one for each in results for one in each]
        assert sorted(one.slot for one in taken) == [1, 3, 4]
        assert len({one.generation_id for one in taken}) == 3
        assert Generation.objects.filter(status=Status.PENDING).count() == 1


def test_claims_or_cancels_and_never_both(rounds: Rounds) -> None:
    for race in rounds():
        AccountFactory.create(limit=3)
        made = [paid() for _ in range(2)]
        cancels = [partial(cancel, one.pk, actor="user:1") for one in made]
        results = race([*cancels, partial(claim, "pixverse", uuid4(), 3)])
        assert failures(results) == []
        assert not Submission.objects.open().exists(), "a reserved one is cancelled at once"
        assert {now(one).status for one in made} == {Status.CANCELLED}
        assert [money(one) for one in made] == [GIVEN_BACK] * 2


def test_sends_or_cancels_and_never_both(rounds: Rounds) -> None:
    for race in rounds():
        made = [under_way(State.RESERVED) for _ in range(2)]
        calls: list[Callable[[], Any]] = []
        for one in made:
            calls += [partial(send, [one], one.token), partial(cancel, one.generation_id, actor="user:1")]
        results = race(calls)
        assert failures(results) == []
        for one, sent in zip(made, results[::2], strict=True):
            left = sent == {one.pk}
            assert now(one).state == (State.SENDING if left else State.CANCELLED)
            assert now(one.generation).status == (Status.PROCESSING if left else Status.CANCELLED)
            assert (one.generation.cancel_requested_at is not None) == left
            assert money(one.generation) == (HELD if left else GIVEN_BACK)


# --- recovery against an owner whose lease ends in this moment -------------------------------------------


def test_sends_or_queues_again_and_never_both(rounds: Rounds) -> None:
    for race in rounds():
        one = under_way(State.RESERVED)
        ends_now(one)
        sent, *others = race([partial(send, [one], one.token), recover.not_sent, recover.not_sent])
        assert failures([sent, *others]) == []
        left = sent == {one.pk}
        if not left:
            overdue(one, "lease_until")
            recover.not_sent()
        assert now(one).state == (State.SENDING if left else State.FAILED)
        assert now(one.generation).status == (Status.PROCESSING if left else Status.PENDING)
        assert one.generation.not_sent == (0 if left else 1)


def test_loses_no_job_that_is_told_when_the_lease_ends(rounds: Rounds) -> None:
    for race in rounds():
        one = under_way(State.SENDING)
        ends_now(one)
        write = partial(record, one.token, [(one, SubmitResult("4711"), None)])
        results = race([write, recover.sending, recover.sending])
        assert failures(results) == []
        assert (now(one).state, one.provider_job_id) == (State.ACCEPTED, "4711")
        assert not Incident.objects.exists()
        assert Event.objects.filter(kind=Event.Kind.OUTCOME_UNKNOWN).count() <= 1


def test_recovers_each_once(rounds: Rounds) -> None:
    for race in rounds():
        made = [under_way(State.RESERVED) for _ in range(2)]
        for one in made:
            overdue(one, "lease_until")
        results = race([recover.not_sent] * 3)
        assert failures(results) == []
        assert sum(results) == len(made)
        for one in made:
            assert now(one).state == State.FAILED
            assert (now(one.generation).status, one.generation.not_sent) == (Status.PENDING, 1)


# --- two at one attempt ------------------------------------------------------------------------------------


def test_gives_a_row_to_one_poller(rounds: Rounds) -> None:
    for race in rounds():
        made = [under_way(State.ACCEPTED) for _ in range(2)]
        for one in made:
            overdue(one, "next_poll_at")
        results = race([partial(poll._claim, uuid4()) for _ in range(4)])
        assert failures(results) == []
        assert sorted(one.pk for each in results for one in each) == sorted(one.pk for one in made)


def test_believes_only_the_poller_that_has_the_row(rounds: Rounds) -> None:
    """One took too long, and the next one has taken the row: what either brings comes at the same moment."""
    for race in rounds():
        one = under_way(State.ACCEPTED)
        slow, quick = uuid4(), uuid4()
        overdue(one, "next_poll_at")
        poll._claim(slow)
        overdue(one, "next_poll_at")
        [row] = poll._claim(quick)
        failed = PollResult("failed", error=JobFailed())
        calls = [
            partial(poll._write, slow, [poll.Answer(row, failed)]),
            partial(poll._write, quick, [poll.Answer(row, DONE)]),
        ]
        results = race([*calls, calls[0]])
        assert failures(results) == []
        assert now(one).state == State.COLLECTING
        assert (now(one.generation).status, money(one.generation)) == (Status.PROCESSING, HELD)


def collected(token: Any, row: Submission, picture: StoredOutput) -> Callable[[], None]:
    """A collector has stored its result, and writes that down."""
    return partial(collect._write, token, [(row, Collected((picture,), None))])


def test_gives_a_result_to_one_collector(rounds: Rounds) -> None:
    for race in rounds():
        made = [under_way(State.COLLECTING) for _ in range(2)]
        for one in made:
            overdue(one, "lease_until")
        results = race([partial(collect._claim, uuid4(), 9) for _ in range(4)])
        assert failures(results) == []
        assert sorted(one.pk for each in results for one in each) == sorted(one.pk for one in made)


def test_stores_a_result_once_and_spends_once(rounds: Rounds, picture: StoredOutput) -> None:
    """One took too long, and the next one has taken the row: both have stored it, and write it down."""
    for race in rounds():
        one = under_way(State.COLLECTING)
        calls: list[Callable[[], None]] = []
        for token in (uuid4(), uuid4()):
            overdue(one, "lease_until")
            [row] = collect._claim(token, 9)
            calls.append(collected(token, row, picture))
        results = race([*calls, calls[0]])
        assert failures(results) == []
        assert now(one).state == State.SUCCEEDED
        assert (now(one.generation).status, money(one.generation)) == (Status.COMPLETED, SPENT)
        assert Asset.objects.filter(submission=one).count() == 1
        assert ends(one.generation) == ["completed"]


# --- cancel against completion -----------------------------------------------------------------------------


def test_keeps_a_result_that_is_being_fetched_when_somebody_cancels(rounds: Rounds, picture: StoredOutput) -> None:
    for race in rounds():
        one = under_way(State.COLLECTING)
        overdue(one, "lease_until")
        token = uuid4()
        [row] = collect._claim(token, 9)
        stop = partial(cancel, one.generation_id, actor="user:1")
        results = race([collected(token, row, picture), stop, stop])
        assert failures(results, Conflict) == []
        assert {error.code for error in results if isinstance(error, Conflict)} <= {"too_late", "already_ended"}
        assert (now(one).state, now(one.generation).status) == (State.SUCCEEDED, Status.COMPLETED)
        assert (money(one.generation), ends(one.generation)) == (SPENT, ["completed"])


def test_ends_once_when_the_grace_of_a_cancel_meets_the_result(rounds: Rounds, picture: StoredOutput) -> None:
    """The poll that brings the result, two ticks that end what was cancelled, and one who cancels once more."""
    for race in rounds():
        one = under_way(State.ACCEPTED)
        cancel(one.generation_id, actor="user:1")
        Generation.objects.update(cancel_at=timezone.now() - LONG_AGO)
        overdue(one, "next_poll_at")
        token = uuid4()
        [row] = poll._claim(token)

        def finish(token: Any = token, row: Submission = row) -> None:
            poll._write(token, [poll.Answer(row, DONE)])
            [mine] = collect._claim(token, 9)
            collected(token, mine, picture)()

        again = partial(cancel, one.generation_id, actor="user:1")
        results = race([finish, recover.cancels, recover.cancels, again])
        assert failures(results, Conflict) == []
        assert now(one).state == State.SUCCEEDED
        assert Asset.objects.filter(submission=one).count() == 1, "a result is kept, whoever was first"
        status = now(one.generation).status
        assert ends(one.generation) == [status]
        assert status in {Status.COMPLETED, Status.CANCELLED}
        assert money(one.generation) == (SPENT if status == Status.COMPLETED else GIVEN_BACK)
        assert Incident.objects.filter(kind=Incident.Kind.LATE_RESULT).exists() == (status == Status.CANCELLED)


# --- what is told from outside -------------------------------------------------------------------------------


def calls_back(submission: Submission, job_id: int) -> Callable[[], int]:
    """A callback to the attempt's own address; its status code."""
    provider_id, token = submission.account.provider_id, submission.callback_token

    def call() -> int:
        body = json.dumps({"id": job_id, "status": 1})
        request = RequestFactory().post(f"/hooks/{provider_id}/{token}", body, content_type="application/json")
        return hook(request, provider_id, token).status_code

    return call


def test_takes_a_job_from_the_first_of_two_callbacks(rounds: Rounds) -> None:
    for race in rounds():
        one = under_way(State.UNKNOWN)
        assert race([calls_back(one, 4711)] * 3) == [200] * 3
        assert (now(one).state, one.provider_job_id) == (State.ACCEPTED, "4711")
        assert Event.objects.filter(kind=Event.Kind.CALLBACK).count() == 1
        assert not Incident.objects.exists()


def test_gives_a_job_to_one_of_two_attempts_that_are_told_it(rounds: Rounds) -> None:
    for race in rounds():
        account = AccountFactory.create()
        made = [under_way(State.UNKNOWN, account=account) for _ in range(2)]
        assert race([calls_back(one, 4711) for one in made]) == [200] * 2
        assert sorted(now(one).state for one in made) == [State.ACCEPTED, State.UNKNOWN]


def test_knows_a_job_that_a_callback_tells_while_the_reply_is_lost(rounds: Rounds) -> None:
    """The lease ends, the callback comes: whatever happens first, the job is known."""
    for race in rounds():
        one = under_way(State.SENDING)
        ends_now(one)
        results = race([calls_back(one, 4711), recover.sending, recover.sending])
        assert failures(results) == []
        if now(one).state == State.SENDING:
            overdue(one, "lease_until")
            recover.sending()
        assert (now(one).state, one.provider_job_id) == (State.ACCEPTED, "4711")


def test_follows_one_of_two_persons_who_decide(rounds: Rounds) -> None:
    for race in rounds():
        one = under_way(State.UNKNOWN)
        answers = [
            Answer(Submission.Resolution.NOT_BILLED, "it is not in their list"),
            Answer(Submission.Resolution.BILLED, "it is in their list"),
            Answer(Submission.Resolution.RESUBMIT, "never mind"),
        ]
        results = race([partial(resolve, one.pk, answer, actor="admin:1") for answer in answers])
        assert failures(results, Conflict) == []
        assert sum(not isinstance(result, Exception) for result in results) == 1
        said = Submission.Resolution(now(one).resolution)
        assert one.state == (State.UNKNOWN if said == Submission.Resolution.RESUBMIT else State.FAILED)
        failed = said == Submission.Resolution.BILLED
        assert now(one.generation).status == (Status.FAILED if failed else Status.PENDING)
        assert money(one.generation) == (GIVEN_BACK if failed else HELD)
        assert Event.objects.filter(kind=Event.Kind.RESOLVED).count() == 1
