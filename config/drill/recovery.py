"""How long until the house goes on after a fault.

It has recovered when all of this is true:

* a tick and a poll have run that began after the fault: beat, broker, workers and database work together again;
* the web process answers;
* whoever held work when the fault struck has moved it on, has renewed the lease, or has lost it to somebody else;
* an attempt has been sent, seen to be finished, or ended since; or there is nothing to do.

Looked at with a connection of its own, ten times a second; times are the database's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from config.stack import responds

LOOK_SECONDS = 0.1
GAVE_UP_SECONDS = 120

HELD = """
SELECT id, state, token, poll_token, lease_until FROM generations_submission
 WHERE state IN ('reserved', 'sending', 'accepted', 'collecting')
"""
MOVED = """
SELECT count(*) FILTER (WHERE at > %(since)s AND name IN ('tick', 'poll')) = 2
       AND (EXISTS (SELECT 1 FROM generations_submission
                     WHERE sent_at > %(since)s OR finished_at > %(since)s OR ended_at > %(since)s)
            OR NOT EXISTS (SELECT 1 FROM generations_generation WHERE status IN ('pending', 'processing')))
  FROM generations_heartbeat
"""


@dataclass(frozen=True, slots=True)
class Before:
    """How things stood when a fault struck: the database's time, and who held what."""

    at: datetime
    held: frozenset[tuple[Any, ...]]


class Looker:
    """One thread's look at the database, which may be away at any time."""

    def __init__(self, database_url: str, web_url: str) -> None:
        self._database_url = database_url.replace("postgres://", "postgresql://", 1)
        self._web_url = web_url
        self._connection: psycopg.Connection[Any] | None = None

    def before(self) -> Before | None:
        """How things stand now; None while the database is away."""
        found: Before | None = self._asked(self._before)
        return found

    def recovered(self, since: Before) -> bool:
        """Whether the house has recovered, as the module says."""
        return bool(self._asked(lambda connection: self._recovered(connection, since))) and responds(
            f"{self._web_url}/healthz"
        )

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Rows; none while the database is away."""
        return self._asked(lambda connection: connection.execute(statement, values).fetchall()) or []

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _before(self, connection: psycopg.Connection[Any]) -> Before:
        [(now,)] = connection.execute("SELECT clock_timestamp()").fetchall()
        return Before(now, frozenset(connection.execute(HELD).fetchall()))

    def _recovered(self, connection: psycopg.Connection[Any], since: Before) -> bool:
        if since.held & set(connection.execute(HELD).fetchall()):
            return False
        [(moved,)] = connection.execute(MOVED, {"since": since.at}).fetchall()
        return bool(moved)

    def _asked(self, question: Callable[[psycopg.Connection[Any]], Any]) -> Any:
        try:
            if self._connection is None:
                self._connection = psycopg.connect(self._database_url, autocommit=True, connect_timeout=3)
            return question(self._connection)
        except psycopg.OperationalError:
            self.close()
            return None


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of them lie; the nearest one that is there."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def process_of(description: str) -> int | None:
    """The process id in what a Submission says of the process that ran it (``host/pid interpreter ...``)."""
    number = description.partition(" ")[0].rpartition("/")[2]
    return int(number) if number.isdigit() else None


def holder(looker: Looker, submission_id: UUID | str) -> int | None:
    """The process id of the dispatcher that took this attempt on."""
    rows = looker.query("SELECT process FROM generations_submission WHERE id = %s", [str(submission_id)])
    return process_of(rows[0][0]) if rows else None
