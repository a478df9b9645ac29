"""What the rules share: looking at the database, workers with their hands full, and death in the middle of a write."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID, uuid4

from django.db import connection

from generations.lifecycle import State, Status
from generations.models import Submission
from generations.reports.invariants import INVARIANTS, Invariant
from providers.base import SubmitResult
from tests.proof.books import GenerationRow, Seen, SubmissionRow

T = TypeVar("T")

TABLES = (
    "generations_incident", "generations_accountexclusion", "generations_event", "generations_idempotencykey",
    "generations_generationinput", "generations_asset", "generations_submission", "generations_generation",
    "generations_batchitem", "generations_batch", "generations_heldback", "generations_switch",
    "generations_switchchange", "generations_providersetting",
    "generations_codeoverride", "accounts_ledgerentry", "accounts_price", "accounts_wallet", "accounts_usercap",
    "accounts_account", "generations_scene", "generations_chapter", "auth_user",
)  # fmt: skip
LOOK = """
SELECT id, user_id, provider_id, fingerprint, active_fingerprint IS NOT NULL, price, status, completed_at,
       error_code FROM generations_generation ORDER BY id;
SELECT id, generation_id, account_id, number, state, abandoned_at IS NOT NULL, provider_job_id, ended_at, error_code
  FROM generations_submission ORDER BY id;
SELECT user_id, available, held FROM accounts_wallet;
SELECT reference, kind FROM accounts_ledgerentry WHERE reference IS NOT NULL;
SELECT submission_id FROM generations_incident WHERE kind = 'duplicate_charge'
"""


class Killed(BaseException):
    """kill -9: nothing of the program catches it; the server rolls back what was not committed."""


class Deaths:
    """Kills whoever moves before any of his statements; which there are is learnt from those who lived."""

    def __init__(self) -> None:
        self._statements: dict[str, int] = {}

    @contextmanager
    def threaten(self, name: str, dies: int | None) -> Iterator[None]:
        """Whoever makes the move ``name`` inside is killed at a statement that ``dies`` says; None: he lives."""
        left = None if dies is None else dies % self._statements.get(name, 10)
        made = 0

        def count(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
            nonlocal made
            if made == left:
                raise Killed
            made += 1
            return execute(sql, params, many, context)

        with connection.execute_wrapper(count):
            yield
        self._statements[name] = max(made, 1)


@dataclass(slots=True)
class Sent:
    """A Submission whose billable call has left, and what came back once somebody has looked."""

    submission: Submission
    reply: SubmitResult | Exception | None = None


@dataclass(slots=True)
class Dispatcher:
    """One process that dispatches for a provider. What it holds may have been taken away meanwhile."""

    provider_id: str
    token: UUID = field(default_factory=uuid4)
    reserved: list[Submission] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)

    def die(self) -> None:
        """Everything that it had in hand is forgotten; the next process has another token."""
        self.token, self.reserved, self.sent = uuid4(), [], []


@dataclass(slots=True)
class Hand:
    """What one look of a poller or a collector has claimed, with the token of that look."""

    token: UUID = field(default_factory=uuid4)
    rows: list[Submission] = field(default_factory=list)


class Owners:
    """Whose a Submission is, known from who took it, and when: not from tokens.

    A number is bumped whenever a Submission changes hands; who took it at an older number owns it no more.
    """

    def __init__(self) -> None:
        self._changes: Counter[UUID] = Counter()
        self._taken: dict[tuple[UUID, UUID], tuple[int, datetime | None]] = {}

    def take(self, token: UUID, submissions: Sequence[Submission], *, until: datetime | None) -> None:
        """``token`` has them now, until its lease is over (None: until somebody else takes them)."""
        for one in submissions:
            self.lose(one.pk)
            self._taken[token, one.pk] = (self._changes[one.pk], until)

    def lose(self, submission: UUID) -> None:
        """Whoever had it has it no more."""
        self._changes[submission] += 1

    def has(self, token: UUID, submission: UUID, now: datetime) -> bool:
        """Whether it is still that one's."""
        taken = self._taken.get((token, submission))
        if taken is None or taken[0] != self._changes[submission]:
            return False
        return taken[1] is None or now < taken[1]

    def leased(self, submission: UUID, now: datetime) -> bool:
        """Whether somebody's lease of it still runs, be he alive or not."""
        return any(
            pk == submission and until is not None and self.has(token, pk, now)
            for (token, pk), (_, until) in self._taken.items()
        )


def clear_tables() -> None:
    """An empty house. (TRUNCATE would take a hundred times as long for so few rows.)"""
    with connection.cursor() as cursor:
        cursor.execute(";".join(f"DELETE FROM {table}" for table in TABLES))


def see() -> Seen:
    """The database as the books want to see it, in one round trip."""
    with connection.cursor() as cursor:
        cursor.execute(LOOK)
        generations = {
            pk: GenerationRow(user, provider, fingerprint, claims, price, Status(status), (ended_at, code))
            for pk, user, provider, fingerprint, claims, price, status, ended_at, code in cursor.fetchall()
        }
        cursor.nextset()
        submissions = {
            row[0]: SubmissionRow(row[1], row[2], row[3], State(row[4]), row[5], row[6], (row[7], row[8]))
            for row in cursor.fetchall()
        }
        cursor.nextset()
        wallets = {row[0]: (row[1], row[2]) for row in cursor.fetchall()}
        cursor.nextset()
        ledger: dict[UUID, Counter[str]] = defaultdict(Counter)
        for reference, kind in cursor.fetchall():
            ledger[reference][kind] += 1
        cursor.nextset()
        reported = frozenset(row[0] for row in cursor.fetchall())
    return Seen(generations, submissions, wallets, dict(ledger), reported)


class Untouched:
    """Rows that a move must leave as they are, every column: attempts that are somebody else's now.

    Of a Generation only where the move has no business with another attempt of it (``mine``).
    """

    def __init__(self, stale: Collection[Submission], mine: Collection[Submission]) -> None:
        self.ids = {one.pk for one in stale}
        self._generations = {one.generation_id for one in stale} - {one.generation_id for one in mine}
        self._rows = self._read()

    def _read(self) -> list[tuple[str, ...]]:
        if not self.ids:
            return []
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT s::text FROM generations_submission s WHERE id = ANY(%s)"
                " UNION ALL SELECT g::text FROM generations_generation g WHERE id = ANY(%s) ORDER BY 1",
                [list(self.ids), list(self._generations)],
            )
            rows: list[tuple[str, ...]] = cursor.fetchall()
            return rows

    def check(self) -> None:
        """They are as they were."""
        assert self._read() == self._rows, "it was somebody else's"


class Audit:
    """The invariants of the audit as two prepared statements: planning them takes ten times as long as running them."""

    def __init__(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("PREPARE always AS " + _together(one for one in INVARIANTS if not one.needs_services))
            cursor.execute("PREPARE undisturbed AS " + _together(INVARIANTS))

    def check(self, *, undisturbed: bool = False) -> None:
        """None of them is broken; ``undisturbed``: also of those that hold when everything that is due was done."""
        with connection.cursor() as cursor:
            cursor.execute("EXECUTE undisturbed" if undisturbed else "EXECUTE always")
            found = cursor.fetchall()
        assert not found, found

    def close(self) -> None:
        """Forget the statements."""
        with connection.cursor() as cursor:
            cursor.execute("DEALLOCATE always; DEALLOCATE undisturbed")


def _together(invariants: Iterable[Invariant]) -> str:
    """One statement that gives (invariant, what it is, its id, what is wrong) of all offenders."""
    queries = []
    for invariant in invariants:
        title = f"{invariant.id} {invariant.title}".replace("'", "''")
        queries.append(f"SELECT '{title}', offender.* FROM ({invariant.sql}) AS offender(noun, id, detail)")
    return " UNION ALL ".join(queries)
