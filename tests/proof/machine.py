"""The state machine: Hypothesis looks for an order of moves that breaks a promise.

One rule is one actor's move. The production functions themselves run, on real PostgreSQL, each with its own commits;
there is no HTTP: what a provider says is drawn, and handed to the function that writes it down. Between any two moves
anybody may die, messages come twice, and time passes as far as it likes. After every move the audit's invariants hold
and the books (``books.py``) agree with the rows; at the end everybody works undisturbed, and everything comes to rest.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from django.db.models import Case, When
from django.db.models.functions import Now
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from accounts import credits
from accounts.credits import NotEnoughCredits
from accounts.models import Account, Price, UserCap
from generations.conf import limits
from generations.execution import accounts, poll, recover
from generations.execution.results import StoredOutput
from generations.intake import switches
from generations.intake.request import Idempotency, Request
from generations.intake.resolve import Answer
from generations.intake.retry import wake
from generations.lifecycle import ENDED, LIVE, OPEN, TERMINAL, State, Status
from generations.models import CodeOverride, HeldBack, ProviderSetting, Submission
from providers.base import RecentJob
from providers.errors import AuthFailed
from tests.proof import words
from tests.proof.clock import Clock
from tests.proof.desk import Audit, Dispatcher, Hand, Sent
from tests.proof.house import OPERATIONS, House
from tests.proof.moves import Move, candidates, kinds_of, move

T = TypeVar("T")
W = TypeVar("W", Dispatcher, Hand)

STEPS = {step.__name__: step for step in recover.STEPS}
DAY = 86400.0
UNTIL_REST = (0, 4000, DAY, 8 * DAY, 4000, DAY)
"""Seconds for which nobody works, at the end: past leases, deadlines, limits, the collecting, the queue."""
CATCH_UP = (0, 65, 50, 50)
"""Seconds until workers that are there again have caught up: a lease, or the turn of who was looking for an unknown
one, is over, then two last looks were made."""
MOST_ROUNDS = 40

WAYS: dict[str, tuple[str, str, str]] = {
    "all goes well": ("accepted", "done", "stored"),
    "nobody answers": ("lost", "unreadable", "network"),
    "it runs for ever": ("accepted", "running", "storage"),
    "everything fails": ("refused", "failed", "unusable"),
}
"""What the providers say: at a submit, at a poll, when the result is fetched."""

OF_ACCOUNTS = ("limit", "daily cap", "switch", "full", "empty", "refused")
OF_THE_HOUSE = ("price", "cap", "hold back", "pause", "ask twice", "overrule")

few = st.integers(0, 5)
bits = st.integers(1, 15)
"""Which of several."""
how = st.sampled_from(sorted(WAYS))
dying = st.sampled_from([None] * 60 + list(range(20)))
"""After how many of his statements whoever moves is killed; mostly he lives."""


def one_of(items: Sequence[T], which: int) -> T:
    """One of them, which there must be."""
    return items[which % len(items)]


def several(items: Sequence[T], bits: int) -> list[T]:
    """Some of them; the first, where those are none."""
    return [item for index, item in enumerate(items) if bits >> index % 4 & 1] or list(items[:1])


def spread(words: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    """A word for each of several."""
    return st.lists(st.sampled_from(words), min_size=4, max_size=4)


def _all_steps() -> int:
    return sum(step() for step in recover.STEPS)


class Machine(RuleBasedStateMachine):
    """The rules."""

    def __init__(self, clock: Clock, audit: Audit, picture: StoredOutput) -> None:
        super().__init__()
        self.house = House(clock)
        self.audit = audit
        self.picture = picture
        self.kinds = kinds_of(type(self))
        self.how = self.end = "all goes well"

    @initialize(
        begun=st.lists(st.tuples(few, st.integers(0, 6), how), min_size=2, max_size=5),
        end=how,
    )
    def begin(self, begun: list[tuple[int, int, str]], end: str) -> None:
        """Some work is under way, each so far; and what the providers say when at last everybody works undisturbed."""
        for number, (which, far, how) in enumerate(begun):
            self._ask(which % 2, one_of(sorted(OPERATIONS), which // 2), "abcde"[number])
            self._go_on(far, how)
        self.end = end

    @rule(moves=st.deferred(lambda: candidates(Machine)))
    def happens(self, moves: list[Move]) -> None:
        """Anybody makes a move: the first that is possible."""
        possible = {kind.name for kind in self.kinds if kind.possible(self)}
        move = next((move for move in moves if move.name in possible), None)
        if move is not None:
            note(f"made: {move}")
            getattr(self, move.name)(**move.arguments)

    # --- people -----------------------------------------------------------------------------------------

    @move(
        2,
        who=st.integers(0, 1),
        provider=st.sampled_from(sorted(OPERATIONS)),
        prompt=st.sampled_from("abcd"),
        reuse=st.sampled_from(["completed", "completed", "in_flight", "none"]),
        key=st.sampled_from(["", "", "k"]),
        later=st.sampled_from([0, 0, 0, 100]),
        pinned=st.sampled_from([False, False, True]),
        dies=dying,
    )
    def ask(
        self, who: int, provider: str, prompt: str, reuse: Any, key: str, later: int, pinned: bool, dies: int | None
    ) -> None:
        """Somebody asks: for something new, again, insisting, with a key, for later, on one account."""
        self._ask(who, provider, prompt, reuse, key, later, pinned=pinned, dies=dies)

    @move(when=lambda self: self.house.seen.generations, which=few, dies=dying)
    def cancel(self, which: int, dies: int | None) -> None:
        """Somebody cancels, wherever it stands."""
        self.house.cancel(one_of(self._generations(*LIVE) or self._generations(*ENDED), which), dies)

    @move(when=lambda self: self._generations(*ENDED), which=few, insist=st.booleans(), dies=dying)
    def retry(self, which: int, insist: bool, dies: int | None) -> None:
        """Somebody asks for what has ended once more."""
        failed = self._generations(Status.FAILED, Status.CANCELLED)
        self.house.retry(one_of(failed or self._generations(Status.COMPLETED), which), dies, insist=insist)

    # --- workers ------------------------------------------------------------------------------------------

    @move(
        2,
        when=lambda self: self._generations(Status.PENDING),
        which=few,
        at_most=st.sampled_from([64, 64, 1]),
        dies=dying,
    )
    def claim(self, which: int, at_most: int, dies: int | None) -> None:
        """A dispatcher is woken, maybe twice, maybe for nothing."""
        self.house.claim(one_of(self.house.dispatchers, which), at_most, dies)

    @move(
        2,
        when=lambda self: self._preparing(),
        which=few,
        these=bits,
        leaves=st.sampled_from([True, True, True, False]),
        dies=dying,
    )
    def send(self, which: int, these: int, leaves: bool, dies: int | None) -> None:
        """The next few leave; also some that have left before, or that are no longer its own."""
        worker = one_of(self._preparing(), which)
        self.house.send(worker, several(worker.reserved, these), dies, leaves=leaves)

    @move(
        when=lambda self: self._preparing(),
        which=few,
        these=bits,
        why=st.sampled_from(["", *words.REJECTIONS]),
        dies=dying,
    )
    def prepare(self, which: int, these: int, why: str, dies: int | None) -> None:
        """Uploads take long, and the leases are renewed; or one is refused: nothing has left, nothing will."""
        worker = one_of(self._preparing(), which)
        if why:
            self.house.fail_to_prepare(worker, several(worker.reserved, these), words.REJECTIONS[why](), dies)
        else:
            self.house.go_on_preparing(worker)

    @move(3, when=lambda self: self._sending(), which=few, these=bits, replies=spread(words.REPLIES), dies=dying)
    def record(self, which: int, these: int, replies: list[str], dies: int | None) -> None:
        """What came back is written down, maybe late, maybe twice."""
        worker = one_of(self._sending(), which)
        arrived = several(worker.sent, these)
        for one, said in zip(arrived, replies, strict=False):
            self._hear(one, said)
        self.house.record(worker, arrived, dies)

    @move(2, when=lambda self: self._attempts(State.ACCEPTED), waits=st.booleans(), dies=dying)
    def take_polls(self, waits: bool, dies: int | None) -> None:
        """A poller takes what is due, now or in a while."""
        if waits:
            self._wait()
        self.house.take_polls(dies)

    @move(
        3,
        when=lambda self: self._full(self.house.pollers),
        which=few,
        these=bits,
        answers=spread(words.ANSWERS),
        dies=dying,
    )
    def write_answers(self, which: int, these: int, answers: list[str], dies: int | None) -> None:
        """What some polls brought is written down, however late."""
        hand = one_of(self._full(self.house.pollers), which)
        rows = several(hand.rows, these)
        told = [self._answer(one, said) for one, said in zip(rows, answers, strict=False)]
        self.house.write_answers(hand, told, dies)

    @move(2, when=lambda self: self._attempts(State.COLLECTING), dies=dying)
    def take_results(self, dies: int | None) -> None:
        """A collector takes what nobody is at."""
        self.house.take_results(dies)

    @move(
        3,
        when=lambda self: self._full(self.house.collectors),
        which=few,
        these=bits,
        found=spread(words.CATCHES),
        dies=dying,
    )
    def keep_results(self, which: int, these: int, found: list[str], dies: int | None) -> None:
        """What was stored is written down, however late."""
        hand = one_of(self._full(self.house.collectors), which)
        rows = several(hand.rows, these)
        caught = [(one, words.catch(what, self.picture)) for one, what in zip(rows, found, strict=False)]
        self.house.keep_results(hand, caught, dies)

    @move(2, when=lambda self: self.house.seen.generations, far=st.integers(1, 6), how=how)
    def go_on(self, far: int, how: str) -> None:
        """For once all do what they should, for so many moves: so the later states are reached."""
        self._go_on(far, how)

    # --- what comes from outside, and by itself -------------------------------------------------------------

    @move(3, when=lambda self: self.house.seen.submissions, steps=st.sampled_from(["all", "all", *STEPS]), dies=dying)
    def recover(self, steps: str, dies: int | None) -> None:
        """A tick, or what a step of it does after the others failed."""
        for step in recover.STEPS if steps == "all" else [STEPS[steps]]:
            self.house.recover(step, dies)

    @move(
        when=lambda self: self.house.books.posts,
        which=few,
        decision=st.sampled_from(list(Submission.Resolution)),
        job=st.sampled_from(["", "its own", "another's"]),
        dies=dying,
    )
    def resolve(self, which: int, decision: Submission.Resolution, job: str, dies: int | None) -> None:
        """A person says what became of an attempt that nobody knows about."""
        pk = one_of(self._attempts(State.UNKNOWN) or list(self.house.books.posts), which)
        job_id = self._job(pk, which, job) if job and decision == Submission.Resolution.BILLED else ""
        self.house.resolve(pk, Answer(decision, "a test", job_id), dies)

    @move(when=lambda self: self._attempts(State.UNKNOWN), waits=st.booleans(), dies=dying)
    def take_unknown(self, waits: bool, dies: int | None) -> None:
        """Somebody begins to look into what is unknown, now or in a while."""
        if waits:
            self._wait()
        self.house.take_unknown(dies)

    @move(
        2,
        when=lambda self: self._full(self.house.readers),
        which=few,
        found=st.sampled_from(["jobs", "jobs", "nothing", "unreadable"]),
        dies=dying,
    )
    def read_list(self, which: int, found: str, dies: int | None) -> None:
        """What an account's list says is written down, however late."""
        hand = one_of(self._full(self.house.readers), which)
        account = one_of(sorted({one.account_id for one in hand.rows}), which)
        jobs = {"jobs": self._jobs_of(account), "nothing": [], "unreadable": None}[found]
        self.house.write_list(hand, account, jobs, dies)

    @move(when=lambda self: self._taken_and_unknown(), which=few)
    def send_again(self, which: int) -> None:
        """A person does not wait for what is unknown, and then the provider tells that it has taken it after all."""
        pk = one_of(self._taken_and_unknown(), which)
        self.house.resolve(pk, Answer(Submission.Resolution.RESUBMIT, "a test"))
        self.house.call_back(pk, self._job(pk, which, "its own"), address_of_attempt=True)

    @move(
        when=lambda self: self.house.books.posts,
        which=few,
        job=st.sampled_from(["its own", "its own", "another's", "nobody's"]),
        address=st.booleans(),
    )
    def call_back(self, which: int, job: str, address: bool) -> None:
        """A provider calls back, about the right job or a wrong one, at the attempt's address or the account's."""
        posts = self.house.books.posts
        pk = one_of([one for one in posts if one in self._attempts(*OPEN)] or list(posts), which)
        self.house.call_back(pk, self._job(pk, which, job), address_of_attempt=address)

    @move(
        3,
        when=lambda self: self.house.seen.generations,
        how_far=st.sampled_from(["due", "due", "past", "past", "45", "700", "3700"]),
        which=st.integers(0, 2),
    )
    def time_passes(self, how_far: str, which: int) -> None:
        """To the very moment at which something is due or over, or just past it; or so many seconds."""
        coming = self.house.clock.coming()
        if how_far.isdigit() or not coming:
            self.house.clock.forward(float(how_far) if how_far.isdigit() else 60)
        else:
            self.house.clock.set(coming[min(which, len(coming) - 1)] + timedelta(seconds=how_far == "past"))

    @move(when=lambda self: self.house.seen.generations, which=few, deed=st.sampled_from(OF_ACCOUNTS))
    def manage_accounts(self, which: int, deed: str) -> None:
        """Operators and the refresh change an account under everybody's feet."""
        account = Account.objects.filter(pk=one_of(self.house.accounts, which).pk)
        match deed:
            case "limit":
                account.update(limit=1 + which % 3)
            case "daily cap":
                account.update(daily_cap=which or None)
            case "switch":
                account.update(enabled=Case(When(enabled=True, then=False), default=True))
            case "refused":
                accounts._conclude(account.get(), AuthFailed())
            case "full" | "empty":
                accounts._conclude(account.get(), Decimal(100 if deed == "full" else 0))

    @move(when=lambda self: self.house.seen.generations, which=few, deed=st.sampled_from(OF_THE_HOUSE))
    def manage_the_house(self, which: int, deed: str) -> None:
        """Operators say what may be done, and what follows; the tick holds the house back, or lets it go on."""
        provider = one_of(sorted(OPERATIONS), which)
        match deed:
            case "price":
                Price.objects.update(credits=which * 5)
            case "cap":
                caps = {"max_in_flight": which % 3 or None, "max_queued": which or None}
                UserCap.objects.update_or_create(user_id=one_of(self.house.users, which), defaults=caps)
            case "hold back":
                held = HeldBack.objects.update(ended_at=Case(When(ended_at=None, then=Now()), default=None))
                if not held:
                    HeldBack.objects.create(reason=HeldBack.Reason.BACKLOG, since=Now())
            case "pause" if not switches.turn_off("dispatch", reason="a test", actor="admin:1"):
                switches.turn_on("dispatch", reason="a test", actor="admin:1")
            case "ask twice":
                ProviderSetting.objects.get_or_create(
                    provider_id=provider, defaults={"on_unknown": ProviderSetting.OnUnknown.RESUBMIT_ONCE}
                )
                self.house.books.asks_twice(provider)
            case "overrule":
                CodeOverride.objects.update_or_create(
                    code=one_of(["provider_failed", "invalid_params", "provider_busy"], which),
                    defaults={"retryable": which % 2 == 0, "reason": "a test"},
                )

    @move(
        when=lambda self: self.house.seen.generations,
        which=few,
        deed=st.sampled_from(["grant", "take", "refund", "wake"]),
    )
    def manage_users(self, which: int, deed: str) -> None:
        """Operators give and take credits, and say "now"."""
        match deed:
            case "grant" | "take":
                self._grant(one_of(self.house.users, which), 20 if deed == "grant" else -15)
            case "refund":
                pk = one_of(self._generations(Status.COMPLETED) or list(self.house.seen.generations), which)
                self.house.refund(pk)
            case "wake" if pending := self._generations(Status.PENDING):
                wake(one_of(pending, which), actor="admin:1")
        self.house.look()

    def _grant(self, user: int, amount: int) -> None:
        try:
            credits.grant(user, amount, reason="a test", actor="admin:1")
        except NotEnoughCredits:
            assert self.house.books.purses[user].available < -amount
        else:
            self.house.books.granted(user, amount)

    # --- always ---------------------------------------------------------------------------------------------

    @invariant()
    def the_invariants_hold(self) -> None:
        """The audit finds nothing, and neither do the books."""
        self.audit.check()

    def teardown(self) -> None:
        """However it went so far: when everybody works, everything ends, and nothing is held any more."""
        if sys.exc_info()[0] is None:
            self._come_to_rest()

    def _come_to_rest(self) -> None:
        note(f"the end: {self.end}")
        self.how = self.end
        house = self.house
        for worker in house.dispatchers:
            worker.die()
        house.pollers, house.collectors, house.readers = [], [], []
        for seconds in UNTIL_REST:
            house.clock.forward(seconds)
            for more in CATCH_UP:
                house.clock.forward(more)
                self._work()
            self.audit.check(undisturbed=True)
            if not self._generations(*LIVE) and not self._attempts(*OPEN):
                break
        assert not self._generations(*LIVE), "a Generation never ends"
        assert not self._attempts(*OPEN), "a slot is never given back"
        assert not any(purse.held for purse in house.books.purses.values()), "credits are held for ever"
        for pk, row in house.seen.generations.items():
            results = [one for _, one in house.seen.of(pk) if one.state == State.SUCCEEDED and not one.abandoned]
            assert (row.status == Status.COMPLETED) == bool(results)
            assert row.status == Status.COMPLETED or not row.claims

    def _work(self) -> None:
        """What the services do, until nothing is left that is due."""
        for _ in range(MOST_ROUNDS):
            before = self.house.seen
            for account in Account.objects.filter(pk__in=accounts.due_for_refresh()):
                accounts._conclude(account, Decimal(100))
            for work in (self._claims, self._sends, self._records, self._lists, self._polls, self._collects):
                work()
            # After the others: what they have looked for in vain ends by the next tick, while their look is fresh.
            self.house.recover(_all_steps)
            if self.house.seen == before:
                return
        raise AssertionError("they are busy for ever")

    # --- all do what they should ------------------------------------------------------------------------------

    def _go_on(self, far: int, how: str) -> None:
        self.how = how
        for work in (self._claims, self._sends, self._records, self._wait, self._polls, self._collects)[:far]:
            work()

    def _claims(self) -> None:
        if not self._generations(Status.PENDING):
            return
        for worker in self.house.dispatchers[: len(OPERATIONS)]:
            self.house.claim(worker)

    def _sends(self) -> None:
        for worker in self._preparing():
            leaving, worker.reserved = worker.reserved, []
            self.house.send(worker, leaving)

    def _records(self) -> None:
        for worker in self._sending():
            arrived, worker.sent = worker.sent, []
            for one in arrived:
                self._hear(one, WAYS[self.how][0])
            self.house.record(worker, arrived)

    def _wait(self) -> None:
        self.house.clock.forward(limits().max_poll_interval)

    def _lists(self) -> None:
        """They find nothing, or cannot be read."""
        if not self._attempts(State.UNKNOWN):
            return
        hand = self.house.take_unknown()
        for account in {one.account_id for one in hand.rows}:
            self.house.write_list(hand, account, None if self.how == "nobody answers" else [])
        self.house.readers.remove(hand)

    def _polls(self) -> None:
        while self._attempts(State.ACCEPTED):  # a suspect is taken alone
            hand = self.house.take_polls()
            self.house.pollers.remove(hand)
            if not hand.rows:
                return
            self.house.write_answers(hand, [self._answer(one, WAYS[self.how][1]) for one in hand.rows])

    def _collects(self) -> None:
        while self._attempts(State.COLLECTING):
            hand = self.house.take_results()
            self.house.collectors.remove(hand)
            if not hand.rows:
                return
            caught = words.catch(WAYS[self.how][2], self.picture)
            self.house.keep_results(hand, [(one, caught) for one in hand.rows])

    def _ask(
        self, who: int, provider: str, prompt: str, reuse: Any = "completed", key: str = "", later: int = 0, *,
        pinned: bool = False, dies: int | None = None,
    ) -> None:  # fmt: skip
        account = next(one for one in self.house.accounts if one.provider_id == provider)
        request = Request(
            provider,
            OPERATIONS[provider],
            {"prompt": prompt},
            reuse=reuse,
            account_id=account.pk if pinned else None,
            scheduled_at=self.house.after(later) if later else None,
        )
        body = repr((provider, prompt, reuse, later, pinned))
        self.house.ask(self.house.users[who], request, Idempotency(key, body) if key else None, dies)

    # --- what there is --------------------------------------------------------------------------------------------

    def _hear(self, one: Sent, said: str) -> None:
        """The reply to a call arrives, once."""
        if one.reply is None:
            posts = self.house.books.posts
            mine = posts[one.submission.pk]
            mine.over = mine.over or said in words.REJECTIONS
            job_id = next(iter(posts.values())).job_id if said == "another's job" else mine.job_id
            one.reply = words.reply(said, one.submission, job_id)

    def _answer(self, submission: Any, said: str) -> poll.Answer:
        if said in words.ENDED:
            self.house.books.posts[submission.pk].over = True
        return poll.Answer(submission, words.answer(said, submission))

    def _job(self, pk: UUID, which: int, whose: str) -> str:
        """A job id that somebody tells about an attempt."""
        posts = self.house.books.posts
        if whose == "another's":
            return one_of(list(posts.values()), which + 1).job_id
        return posts[pk].job_id if whose == "its own" and pk in posts else "job-0"

    def _jobs_of(self, account: UUID) -> list[RecentJob]:
        """What the provider has made on an account."""
        made = {pk for pk, row in self.house.seen.submissions.items() if row.account == account}
        return [
            RecentJob(row.sent_at, post.job_id, row.generation.prompt)
            for row in Submission.objects.filter(pk__in=made, sent_at__isnull=False).select_related("generation")
            for post in [self.house.books.posts.get(row.pk)]
            if post and not post.over and row.sent_at
        ]

    def _generations(self, *statuses: Status) -> list[UUID]:
        return [pk for pk, row in self.house.seen.generations.items() if row.status in statuses]

    def _attempts(self, *states: State) -> list[UUID]:
        return [pk for pk, row in self.house.seen.submissions.items() if row.state in states]

    def _taken_and_unknown(self) -> list[UUID]:
        """The provider has been called, and we do not know."""
        return [pk for pk in self._attempts(State.UNKNOWN) if pk in self.house.books.posts]

    def _preparing(self) -> list[Dispatcher]:
        workers = [worker for worker in self.house.dispatchers if worker.reserved]
        return self._with_work(workers, lambda worker: [one.pk for one in worker.reserved])

    def _sending(self) -> list[Dispatcher]:
        workers = [worker for worker in self.house.dispatchers if worker.sent]
        return self._with_work(workers, lambda worker: [one.submission.pk for one in worker.sent])

    def _full(self, hands: list[Hand]) -> list[Hand]:
        return self._with_work([hand for hand in hands if hand.rows], lambda hand: [one.pk for one in hand.rows])

    def _with_work(self, items: list[W], attempts: Callable[[W], list[UUID]]) -> list[W]:
        """Those with an attempt that has not ended, and one more: what has ended is seldom worth another try."""
        over = [one for one in items if all(self.house.seen.submissions[pk].state in TERMINAL for pk in attempts(one))]
        return [one for one in items if one not in over] + over[-1:]
