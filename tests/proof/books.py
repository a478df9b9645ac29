"""What a careful accountant writes down beside the database: pure, and knowing nothing of tokens, leases or SQL.

The rules tell the books what was asked and what the provider was told and said; ``compare`` looks at the rows and
says what cannot be. What it knows of the house is the design's words only.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from generations.lifecycle import BILLABLE, ENDED, LIVE, TERMINAL, TRANSITIONS, State, Status

STEPS: dict[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.PROCESSING, Status.FAILED, Status.CANCELLED}),
    Status.PROCESSING: frozenset({Status.PENDING, Status.COMPLETED, Status.FAILED, Status.CANCELLED}),
}
"""What one actor's one commit may do to a Generation."""


@dataclass(frozen=True, slots=True)
class GenerationRow:
    """A Generation as it is in the database."""

    user: int
    provider: str
    fingerprint: str
    claims: bool
    price: int | None
    status: Status
    end: tuple[datetime | None, str]
    """When and with which code it ended."""


@dataclass(frozen=True, slots=True)
class SubmissionRow:
    """A Submission as it is in the database."""

    generation: UUID
    account: UUID
    number: int
    state: State
    abandoned: bool
    job_id: str | None
    end: tuple[datetime | None, str]


@dataclass(frozen=True, slots=True)
class Seen:
    """The database at one moment."""

    generations: dict[UUID, GenerationRow] = field(default_factory=dict)
    submissions: dict[UUID, SubmissionRow] = field(default_factory=dict)
    wallets: dict[int, tuple[int, int]] = field(default_factory=dict)
    ledger: dict[UUID, Counter[str]] = field(default_factory=dict)
    reported: frozenset[UUID] = frozenset()
    """Submissions with an Incident that a person must see: a charge that could be a second one."""

    def of(self, generation: UUID) -> list[tuple[UUID, SubmissionRow]]:
        """The attempts of a Generation."""
        return [(pk, row) for pk, row in self.submissions.items() if row.generation == generation]

    def billable(self, generation: UUID) -> bool:
        """Whether the provider may be paid for an attempt of it."""
        return any(row.state in BILLABLE for _, row in self.of(generation))


@dataclass(slots=True)
class Purse:
    """A user's credits."""

    available: int
    held: int = 0


@dataclass(slots=True)
class Post:
    """The billable call of one Submission, and what the provider made of it."""

    generation: UUID
    job_id: str
    over: bool = False
    """The provider has said that it made no job, or that its job ended without a result; or a person has."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody asked for; ``insists``: although the same may be under way."""

    user: int
    fingerprint: str
    insists: bool


class Books:
    """The accountant's books."""

    def __init__(self, purses: dict[int, int]) -> None:
        self.purses = {user: Purse(available) for user, available in purses.items()}
        self.asked: dict[UUID, Asked] = {}
        self.posts: dict[UUID, Post] = {}
        self.refunds: set[UUID] = set()
        self.insisted: Counter[UUID] = Counter()
        self.asked_twice: set[str] = set()
        self.before = Seen()

    # --- what the rules tell --------------------------------------------------------------------

    def granted(self, user: int, amount: int) -> None:
        """Credits were given, or with a negative amount taken."""
        self.purses[user].available += amount

    def refunded(self, generation: UUID) -> None:
        """What a completed Generation has cost was given back."""
        row = self.before.generations[generation]
        self.purses[row.user].available += row.price or 0
        self.refunds.add(generation)

    def accepted(self, generation: UUID, fingerprint: str, user: int, *, insists: bool) -> None:
        """Somebody was told that this is a new Generation."""
        assert generation not in self.asked, "two people were told that it is theirs"
        if not insists:
            for pk, asked in self.asked.items():
                status = self.before.generations[pk].status
                if (asked.user, asked.fingerprint, asked.insists) == (user, fingerprint, False):
                    assert status not in LIVE, f"{pk} is the same and under way"
                    assert status == Status.COMPLETED or not self.before.billable(pk), f"{pk} may still be billed"
        self.asked[generation] = Asked(user, fingerprint, insists)

    def insists(self, generation: UUID) -> None:
        """A person wants another attempt, although one might have been billed."""
        self.insisted[generation] += 1

    def asks_twice(self, provider: str) -> None:
        """An operator has said that a provider bills nobody: it may be asked once more."""
        self.asked_twice.add(provider)

    def posted(self, submission: UUID) -> str:
        """A billable call leaves for the provider; gives the id of the job that it would make."""
        row = self.before.submissions[submission]
        generation = self.before.generations[row.generation]
        assert submission not in self.posts, "the provider is asked twice for one attempt"
        assert generation.status not in ENDED, "the provider is asked although it has ended"
        earlier = [(pk, one) for pk, one in self.before.of(row.generation) if pk != submission]
        assert not any(one.state in BILLABLE and not one.abandoned for _, one in earlier), "two may be billed"
        doubtful = [one for pk, one in earlier if pk in self.posts and not self.posts[pk].over]
        allowed = self.insisted[row.generation] + (generation.provider in self.asked_twice)
        assert len(doubtful) <= allowed, "an attempt might have been billed, and another one is sent"
        job_id = f"job-{len(self.posts) + 1}"
        self.posts[submission] = Post(row.generation, job_id)
        return job_id

    # --- what must be ---------------------------------------------------------------------------

    def compare(self, seen: Seen) -> None:
        """What was seen must follow from what was seen before and from what was told since."""
        self._generations(seen)
        self._submissions(seen)
        self._money(seen)
        self.before = seen

    def _generations(self, seen: Seen) -> None:
        assert seen.generations.keys() == self.asked.keys(), "a Generation is lost, or nobody asked for it"
        for pk, row in seen.generations.items():
            earlier = self.before.generations.get(pk)
            purse, price = self.purses[row.user], row.price or 0
            if earlier is None:
                purse.available -= price
                purse.held += price
                assert row.status == Status.PENDING
                continue
            assert (row.user, row.fingerprint, row.price) == (earlier.user, earlier.fingerprint, earlier.price)
            assert row.claims <= earlier.claims, "a claim that was given up came back"
            if earlier.status in ENDED:
                assert (row.status, row.end) == (earlier.status, earlier.end), "an end has changed"
            elif row.status != earlier.status:
                assert row.status in STEPS[earlier.status], f"{earlier.status} became {row.status}"
                if row.status in ENDED:
                    purse.held -= price
                    purse.available += 0 if row.status == Status.COMPLETED else price

    def _submissions(self, seen: Seen) -> None:
        assert seen.submissions.keys() >= self.before.submissions.keys(), "an attempt is lost"
        for pk, row in seen.submissions.items():
            earlier = self.before.submissions.get(pk)
            if earlier is None:
                assert row.state == State.RESERVED
            elif earlier.state in TERMINAL:
                assert (row.state, row.end, row.job_id) == (earlier.state, earlier.end, earlier.job_id)
            elif row.state != earlier.state:
                assert row.state in TRANSITIONS[earlier.state], f"{earlier.state} became {row.state}"
            if earlier is not None:
                assert earlier.abandoned <= row.abandoned, "an abandoned attempt is wanted again"
                assert earlier.job_id in {None, row.job_id}, "the job of an attempt has changed"
            assert row.state != State.RESERVED or pk not in self.posts, "it is as if it had not been sent"

    def _money(self, seen: Seen) -> None:
        purses = {user: (purse.available, purse.held) for user, purse in self.purses.items()}
        assert seen.wallets == purses
        for pk, row in seen.generations.items():
            expected: Counter[str] = Counter()
            if row.price:
                expected["hold"] = 1
                if row.status in ENDED:
                    expected["capture" if row.status == Status.COMPLETED else "release"] = 1
            if pk in self.refunds:
                expected["refund"] = 1
            assert seen.ledger.get(pk, Counter()) == expected
