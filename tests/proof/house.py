"""The house under proof: every move of everybody, made by the production functions and checked against the books.

A move is one call as a worker or a person makes it. Whoever moves may be killed before any of his statements; then he
is gone with all that he had in hand, and what he had not committed never was.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction
from hypothesis import event

from generations.api import hooks
from generations.conf import limits
from generations.execution import collect, dispatch, poll, reconcile
from generations.execution.claim import claim, extend_leases, mature, suspects_wait
from generations.execution.recording import record
from generations.execution.results import Collected
from generations.intake.cancel import cancel
from generations.intake.errors import Conflict, PaymentRequired, Refusal
from generations.intake.ledger import Booked, refund
from generations.intake.request import Accepted, Idempotency, Request, accept
from generations.intake.resolve import Answer, resolve
from generations.intake.retry import retry
from generations.lifecycle import ENDED, LIVE, OPEN, State, Status
from generations.models import Generation, Submission
from providers import registry
from providers.base import CallbackResult, PollResult, RecentJob, SubmitResult
from providers.errors import OutcomeUnknown, ProviderError
from tests.factories import AccountFactory, PriceFactory, UserFactory, WalletFactory
from tests.proof.books import Books, Seen
from tests.proof.clock import Clock
from tests.proof.desk import Deaths, Dispatcher, Hand, Killed, Owners, Sent, Untouched, clear_tables, see

T = TypeVar("T")

OPERATIONS = {"modelslab": "text_to_image", "pixverse": "text_to_video"}
PURSE = 45
PRICE = 10
DEAD: Final = object()
"""Instead of a result: whoever moved was killed."""


class House:
    """Two users with 45 credits, pictures at 10, videos for free, and three accounts with five slots."""

    def __init__(self, clock: Clock) -> None:
        clear_tables()
        self.clock = clock
        clock.set(clock.start)
        self.owners = Owners()
        self.deaths = Deaths()
        self.users: list[int] = [UserFactory.create().pk for _ in range(2)]
        for user in self.users:
            WalletFactory.create(user=User.objects.get(pk=user), available=PURSE)
        PriceFactory.create(credits=PRICE)
        self.accounts = [
            AccountFactory.create(provider_id="modelslab", limit=1),
            AccountFactory.create(provider_id="modelslab", limit=2, owner_id=self.users[0]),
            AccountFactory.create(provider_id="pixverse", limit=2),
        ]
        self.books = Books(dict.fromkeys(self.users, PURSE))
        self.dispatchers = [Dispatcher(provider) for provider in [*OPERATIONS, *OPERATIONS]]
        self.pollers: list[Hand] = []
        self.collectors: list[Hand] = []
        self.readers: list[Hand] = []
        self.told: set[UUID] = set()
        """Attempts a callback of which came while they were being sent."""
        self.unknown_since: dict[UUID, datetime] = {}
        self.unanswered: dict[UUID, int] = {}
        """Of the unknown attempts that were looked for: how many of the last looks got no answer."""
        self.look()

    @property
    def seen(self) -> Seen:
        """The rows as they were after the last move."""
        return self.books.before

    def look(self) -> Seen:
        """See what a move has done, and hold it against the books."""
        seen = see()
        for pk, row in self.seen.submissions.items():
            if pk in seen.submissions and seen.submissions[pk].state != row.state:
                self.owners.lose(pk)
                if seen.submissions[pk].state == State.UNKNOWN:
                    self.unknown_since[pk] = self.clock.now
        self.books.compare(seen)
        return seen

    def owns(self, token: UUID, submission: Submission, state: State) -> bool:
        """Whether an attempt is in this state and in these hands, as far as anybody can know without the tokens."""
        now = self.seen.submissions[submission.pk].state
        return now == state and self.owners.has(token, submission.pk, self.clock.now)

    # --- people -----------------------------------------------------------------------------------------

    def ask(self, user: int, request: Request, idempotency: Idempotency | None, dies: int | None) -> None:
        """Somebody asks for something."""
        call = partial(accept, user, request, idempotency=idempotency, actor=f"user:{user}")
        answer = self._person("ask", call, dies)
        if isinstance(answer, Accepted):
            self._answered(answer, user, request.reuse)
        elif isinstance(answer, PaymentRequired):
            assert answer.extra["balance"] == self.books.purses[user].available < answer.extra["required"]
        elif isinstance(answer, Conflict):
            assert self.seen.billable(UUID(answer.extra["generation"]))

    def _answered(self, answer: Accepted, user: int, reuse: str) -> None:
        pk = answer.generation.pk
        if answer.replayed:
            assert pk in self.seen.generations
        elif answer.reused:
            assert reuse != "none"
            assert self.seen.generations[pk].user == user
            assert self.seen.generations[pk].status in (LIVE | {Status.COMPLETED} if reuse == "completed" else LIVE)
        else:
            self.books.accepted(answer.generation.pk, answer.generation.fingerprint, user, insists=reuse == "none")
        event("ask", "replayed" if answer.replayed else "reused" if answer.reused else "new")
        self.look()

    def cancel(self, pk: UUID, dies: int | None) -> None:
        """Somebody cancels a Generation, wherever it stands."""
        before = self.seen
        status = before.generations[pk].status
        states = {row.state for _, row in before.of(pk) if not row.abandoned} & OPEN
        event("cancel", " ".join([status, *states]))
        after = self._person("cancel", partial(cancel, pk, actor="user:1"), dies)
        if isinstance(after, Refusal):
            assert after.code == ("already_ended" if status in ENDED else "too_late")
            assert status in ENDED or states == {State.COLLECTING}
        elif isinstance(after, Generation):
            at_once = states <= {State.RESERVED}
            assert after.status == (Status.CANCELLED if at_once else Status.PROCESSING)
            assert at_once or after.cancel_at is not None
        self.look()

    def retry(self, pk: UUID, dies: int | None, *, insist: bool) -> None:
        """Somebody asks for what has ended once more."""
        before = self.seen
        answer = self._person("retry", partial(retry, pk, actor="user:1", insist=insist), dies)
        if isinstance(answer, Accepted):
            made = answer.generation
            event("retry", f"new, {insist=}, billable={before.billable(pk)}")
            assert before.generations[pk].status in {Status.FAILED, Status.CANCELLED}
            assert insist or not before.billable(pk)
            self.books.accepted(made.pk, made.fingerprint, made.user_id, insists=insist)
            self.look()
        elif isinstance(answer, Refusal) and answer.code == "possibly_billed":
            assert before.billable(UUID(answer.extra["generation"]))

    def refund(self, pk: UUID) -> None:
        """An operator gives back what a Generation has cost."""
        row, refunded = self.seen.generations[pk], pk in self.books.refunds
        booked = self._person("refund", partial(refund, pk, reason="a test", actor="admin:1"), None)
        due = row.status == Status.COMPLETED and bool(row.price) and not refunded
        assert isinstance(booked, Booked) == due, "what was spent is given back, once, and nothing else"
        if due:
            self.books.refunded(pk)

    def _person(self, name: str, call: Callable[[], T], dies: int | None) -> T | Refusal | object:
        """Somebody wants something, and gets it, or is refused, or is cut off (DEAD)."""
        try:
            with self.deaths.threaten(name, dies):
                return call()
        except Refusal as refusal:
            event(name, refusal.code)
            assert see() == self.seen, "who is refused changes nothing"
            return refusal
        except Killed:
            event(name, "killed")
            return DEAD

    # --- dispatch -----------------------------------------------------------------------------------------

    def claim(self, worker: Dispatcher, at_most: int = 64, dies: int | None = None) -> None:
        """T2: a dispatcher takes what is due."""

        def move() -> list[Submission]:
            mature(worker.provider_id)
            if suspects_wait(worker.provider_id):
                alone = claim(worker.provider_id, worker.token, 1, suspects=True)
                if alone:
                    return alone
            return claim(worker.provider_id, worker.token, at_most)

        taken = self._move("claim", worker, move, dies)
        if isinstance(taken, list):
            worker.reserved += taken
            self.owners.take(worker.token, taken, until=self.after(limits().lease))

    def send(
        self, worker: Dispatcher, leaving: list[Submission], dies: int | None = None, *, leaves: bool = True
    ) -> None:
        """T3, and the calls of those that are still its own leave; or it dies between the two."""
        mine = {one.pk for one in leaving if self.owns(worker.token, one, State.RESERVED)}
        owned = self._move("send", worker, lambda: dispatch.send(leaving, worker.token), dies)
        if not isinstance(owned, set):
            return
        event("send", f"{len(owned)} of {len(leaving)}")
        assert owned == mine, "who has lost it must not send it, and who has it must be able to"
        if not leaves:
            worker.die()
            return
        sent = [one for one in leaving if one.pk in owned]
        for one in sent:
            self.books.posted(one.pk)
        worker.sent += [Sent(one) for one in sent]
        self.owners.take(worker.token, sent, until=self.after(limits().submit_timeout + limits().sending_grace))

    def record(self, worker: Dispatcher, arrived: Sequence[Sent], dies: int | None = None) -> None:
        """T4: what came back is written down, by its owner or by one who has lost it."""
        # A job id is worth keeping, whoever brings it; all else is the owner's word alone.
        others = self._others(
            worker.token,
            [one.submission for one in arrived],
            State.SENDING,
            exempt={one.submission.pk for one in arrived if isinstance(one.reply, SubmitResult)},
        )
        mine = {one.submission.pk for one in arrived if self.owns(worker.token, one.submission, State.SENDING)}
        event("record", f"{len(mine)} of {len(arrived)}")
        outcomes = [(one.submission, one.reply, None) for one in arrived if one.reply is not None]
        if self._move("record", worker, lambda: record(worker.token, outcomes), dies) is DEAD:
            return
        others.check()
        for submission, reply, _ in outcomes:
            pk = submission.pk
            if isinstance(reply, SubmitResult):
                kept = self.seen.submissions[pk].job_id == reply.job_id or pk in self.seen.reported
                assert kept, "the provider's job is known to nobody"
            if pk in mine:
                state = self.seen.submissions[pk].state
                assert state in _states_after(reply, told=pk in self.told), f"{reply!r} made it {state}"

    def fail_to_prepare(
        self, worker: Dispatcher, failed: Sequence[Submission], why: ProviderError, dies: int | None = None
    ) -> None:
        """Nothing billable has left, and nothing will: an upload was refused."""
        others = self._others(worker.token, failed, State.RESERVED)
        move = partial(record, worker.token, [(one, why, None) for one in failed], sent=False)
        if self._move("fail to prepare", worker, move, dies) is not DEAD:
            others.check()
            for one in failed:
                assert one.pk in others.ids or self.seen.submissions[one.pk].state == State.FAILED

    def go_on_preparing(self, worker: Dispatcher) -> None:
        """The leases of what is being uploaded are renewed, where they still run."""
        mine = [one for one in worker.reserved if self.owns(worker.token, one, State.RESERVED)]
        extend_leases(worker.reserved, worker.token)
        self.owners.take(worker.token, mine, until=self.after(limits().lease))

    # --- poll and collect -----------------------------------------------------------------------------------

    def take_polls(self, dies: int | None = None) -> Hand:
        """A poller takes what is due; who had it before is too late from now on."""
        hand = Hand()
        rows = self._move("take polls", hand, lambda: poll._claim(hand.token), dies)
        if isinstance(rows, list):
            hand.rows = rows
            self.owners.take(hand.token, rows, until=None)
            self.pollers.append(hand)
        return hand

    def write_answers(self, hand: Hand, told: Sequence[poll.Answer], dies: int | None = None) -> None:
        """What polls brought is written down, however late."""
        others = self._others(hand.token, [one.submission for one in told], State.ACCEPTED)
        event("poll", f"{len(told) - len(others.ids)} of {len(told)}")
        if self._move("write answers", hand, lambda: poll._write(hand.token, told), dies) is DEAD:
            return
        others.check()
        for one in told:
            pk, outcome = one.submission.pk, one.outcome
            state = self.seen.submissions[pk].state
            if pk in others.ids:
                continue
            if isinstance(outcome, PollResult) and outcome.state == "failed":
                assert state == State.FAILED
            elif isinstance(outcome, PollResult) and outcome.outputs:
                assert state == State.COLLECTING
            else:
                assert state in {State.ACCEPTED, State.FAILED}

    def take_results(self, dies: int | None = None) -> Hand:
        """A collector takes what nobody is at."""
        hand = Hand()
        rows = self._move(
            "take results",
            hand,
            lambda: collect._claim(hand.token, 1, suspects=True) or collect._claim(hand.token, 16),
            dies,
        )
        if isinstance(rows, list):
            hand.rows = rows
            for one in rows:
                assert not any(self.owns(other.token, one, State.COLLECTING) for other in self.collectors)
            self.owners.take(hand.token, rows, until=self.after(limits().lease))
            self.collectors.append(hand)
        return hand

    def keep_results(
        self, hand: Hand, found: Sequence[tuple[Submission, Collected | Exception]], dies: int | None = None
    ) -> None:
        """T5, or another try, or the end: the bytes are stored, and whoever stored them may be too late."""
        before = self.seen
        others = self._others(hand.token, [one for one, _ in found], State.COLLECTING)
        event("collect", f"{len(found) - len(others.ids)} of {len(found)}")
        if self._move("keep results", hand, lambda: collect._write(hand.token, found), dies) is DEAD:
            return
        others.check()
        mine = [(one, what) for one, what in found if one.pk not in others.ids]
        stored = [before.submissions[one.pk] for one, what in mine if isinstance(what, Collected) and not what.error]
        completed = {row.generation for row in stored if not row.abandoned}
        for one, what in mine:
            self.owners.lose(one.pk)  # once it is written down, it is in nobody's hands
            if isinstance(what, Collected) and what.error is None:
                row = before.submissions[one.pk]
                assert self.seen.submissions[one.pk].state == State.SUCCEEDED
                earlier = before.generations[row.generation].status
                status = Status.COMPLETED if row.generation in completed else earlier
                assert self.seen.generations[row.generation].status == status, "only what is wanted completes it"
                event("collect", f"late, {earlier}" if row.abandoned else "completed")

    # --- what comes from outside, and by itself ---------------------------------------------------------------

    def recover(self, step: Callable[[], int], dies: int | None = None) -> None:
        """One step of the tick, by any of several beats."""
        before = self.seen
        leased = {pk for pk in before.submissions if self.owners.leased(pk, self.clock.now)}
        event(step.__name__, str(self._move(step.__name__, None, step, dies)))
        for pk, row in self.seen.submissions.items():
            earlier = before.submissions[pk]
            assert row.state == earlier.state or pk not in leased, "it is somebody's still"
            given_up = row.state == State.FAILED or (row.abandoned and not earlier.abandoned)
            if given_up and earlier.state == State.UNKNOWN:
                generation = self.seen.generations[row.generation]
                wanted = generation.status != Status.CANCELLED or row.state == State.FAILED
                assert not wanted or self._looked_for(pk, generation.provider), "nobody has looked for it"

    def _looked_for(self, pk: UUID, provider_id: str) -> bool:
        """Whether time may end an unknown attempt: what could be done to learn more of it has been done."""
        provider = registry.get(provider_id)
        if not (provider.can_find or provider.lists_recent):
            return self.clock.now >= self.unknown_since[pk] + timedelta(seconds=limits().reconcile_after)
        unanswered = self.unanswered.get(pk)
        return unanswered is not None and (unanswered == 0 or unanswered >= limits().last_looks)

    def call_back(self, pk: UUID, job_id: str, *, address_of_attempt: bool) -> None:
        """A provider calls back, with a job id that may be the attempt's or not."""
        attempt = Submission.objects.select_related("account").get(pk=pk)
        before, told = self.seen, CallbackResult(job_id, "1")
        if address_of_attempt and before.submissions[pk].state == State.SENDING:
            self.told.add(pk)
        with transaction.atomic():
            if address_of_attempt:
                hooks._heard_of_attempt(attempt, told)
            else:
                hooks._heard_of_account(attempt.account, told)
        after = self.look()
        learnt = [one for one, row in after.submissions.items() if row != before.submissions[one]]
        event("callback", f"learnt {len(learnt)}")
        for one in learnt:
            assert before.submissions[one].state == State.UNKNOWN
            assert (after.submissions[one].state, after.submissions[one].job_id) == (State.ACCEPTED, job_id)
        assert after.generations == before.generations

    def take_unknown(self, dies: int | None = None) -> Hand:
        """Somebody begins to look into what is unknown; who had begun before is too late from now on."""
        hand = Hand()
        rows = self._move("take unknown", hand, lambda: reconcile._claim(hand.token), dies)
        if isinstance(rows, list):
            hand.rows = rows
            self.owners.take(hand.token, rows, until=None)
            self.readers.append(hand)
        return hand

    def write_list(self, hand: Hand, account: UUID, jobs: Sequence[RecentJob] | None, dies: int | None = None) -> None:
        """What an account's own list at the provider says is written down; None: it could not be read."""
        rows = [one for one in hand.rows if one.account_id == account]
        before, others = self.seen, self._others(hand.token, rows, State.UNKNOWN)
        look = reconcile.Look(rows[0].account, tuple(rows), by_reference=False)

        def move() -> None:
            if jobs is None:
                reconcile._not_read(hand.token, look)
            else:
                reconcile._write(hand.token, look, tuple(jobs))

        result = self._move("write list", hand, move, dies)
        for one in rows:
            if one.pk not in others.ids:
                # Who was killed may have written some.
                known = jobs is not None or result is DEAD
                self.unanswered[one.pk] = 0 if known else self.unanswered.get(one.pk, 0) + 1
        if result is DEAD:
            return
        others.check()
        for one in rows:
            if one.pk not in others.ids:
                self.owners.lose(one.pk)  # once it is written down, it is in nobody's hands
        for pk, row in self.seen.submissions.items():
            if row.state != before.submissions[pk].state:
                event("reconcile", "found")
                assert row.state == State.ACCEPTED
                assert row.job_id == self.books.posts[pk].job_id, "it is another one's job"

    def resolve(self, pk: UUID, answer: Answer, dies: int | None = None) -> None:
        """A person says what became of an attempt."""
        before = self.seen
        row = before.submissions[pk]
        call = partial(resolve, pk, answer, actor="admin:1")
        if isinstance(self._person(f"resolve {answer.decision}", call, dies), Refusal):
            return
        event("resolve", f"{answer.decision}, {row.state}")
        for made, new in see().generations.items():
            if made not in before.generations:
                self.books.accepted(made, new.fingerprint, new.user, insists=row.state == State.UNKNOWN)
        if answer.decision == Submission.Resolution.RESUBMIT:
            self.books.insists(row.generation)
        if answer.decision == Submission.Resolution.NOT_BILLED and pk in self.books.posts:
            self.books.posts[pk].over = True
        self.look()

    def after(self, seconds: float) -> datetime:
        """The time in so many seconds."""
        return self.clock.now + timedelta(seconds=seconds)

    def _others(
        self, token: UUID, submissions: Sequence[Submission], state: State, *, exempt: Collection[UUID] = ()
    ) -> Untouched:
        """Those of these attempts that are not (or no longer) this one's to write."""
        mine = [one for one in submissions if one.pk in exempt or self.owns(token, one, state)]
        return Untouched([one for one in submissions if one not in mine], mine)

    def _move(self, name: str, who: Dispatcher | Hand | None, move: Callable[[], T], dies: int | None) -> T | object:
        """Make a move and look at what it did; DEAD, when it killed him."""
        result: T | object = DEAD
        try:
            with self.deaths.threaten(name, dies):
                result = move()
        except Killed:
            if isinstance(who, Dispatcher):
                who.die()
            self.pollers = [hand for hand in self.pollers if hand is not who]
            self.collectors = [hand for hand in self.collectors if hand is not who]
            self.readers = [hand for hand in self.readers if hand is not who]
        self.look()
        return result


def _states_after(reply: SubmitResult | Exception, *, told: bool) -> set[State]:
    """What the owner's word makes of an attempt; a job that belongs to another one proves nothing.

    ``told``: a callback had named its job, which a refusal contradicts.
    """
    if isinstance(reply, SubmitResult):
        return {State.COLLECTING if reply.outputs else State.ACCEPTED, State.UNKNOWN}
    if isinstance(reply, ProviderError) and not isinstance(reply, OutcomeUnknown) and not told:
        return {State.FAILED}
    return {State.UNKNOWN, State.ACCEPTED}  # a callback may have named the job before
