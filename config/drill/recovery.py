"""How long until the house goes on after a fault.

It has recovered when all of this is true (the words are those of ``missing``):

* ``tick``, ``poll``: one has run that began after the fault: beat, broker, workers and database work together again;
* ``web``: the web process answers;
* ``held`` and a state: whoever held work in it when the fault struck has moved it on, has renewed the lease, or has
  lost it to another;
* ``progress``: an attempt has been sent, seen to be finished, or ended since; or there is nothing to do;
* ``return``, of a rolling restart only: the last program is back.

One watch looks for all strikes, some times a second, so that looking is no load; times are the database's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from config.stack import responds

LOOK_SECONDS = 0.2
AWAITED = frozenset({"tick", "poll", "web", "progress"})

HELD = """
SELECT id, state, token, poll_token, lease_until FROM generations_submission
 WHERE state IN ('reserved', 'sending', 'accepted', 'collecting')
"""
STAND = """
SELECT clock_timestamp(),
       (SELECT at FROM generations_heartbeat WHERE name = 'tick'),
       (SELECT at FROM generations_heartbeat WHERE name = 'poll'),
       (SELECT greatest(max(sent_at), max(finished_at), max(ended_at)) FROM generations_submission),
       EXISTS (SELECT 1 FROM generations_generation WHERE status IN ('pending', 'processing'))
"""


@dataclass(frozen=True, slots=True)
class Stand:
    """How things stand. ``seen_at`` is by our own clock, when the look began; ``at`` and the others by the
    database's, None where there was none yet; ``held`` is who holds what."""

    seen_at: float
    at: datetime
    tick_at: datetime | None
    poll_at: datetime | None
    progress_at: datetime | None
    busy: bool
    held: frozenset[tuple[Any, ...]]
    web: bool


def missing(before: Stand, now: Stand) -> set[str]:
    """What has not come since ``before``; empty when the house has recovered."""

    def since(at: datetime | None) -> bool:
        return at is not None and at > before.at

    there = {
        "tick": since(now.tick_at),
        "poll": since(now.poll_at),
        "web": now.web,
        "progress": since(now.progress_at) or not now.busy,
    }
    held = {f"held {state}" for _id, state, *_ in before.held & now.held}
    return {name for name, seen in there.items() if not seen} | held


class Watch:
    """Looks again and again, in a thread of its own; ``now`` is the last look at which the database was there."""

    def __init__(self, database_url: str, web_url: str) -> None:
        self._database_url = database_url.replace("postgres://", "postgresql://", 1)
        self._web_url = web_url
        self._connection: psycopg.Connection[Any] | None = None
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="watch", daemon=True)
        self.now: Stand | None = None

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._leaving.set()
        if self._thread.is_alive():
            self._thread.join()

    def since(self, moment: float) -> Stand | None:
        """The last look, if it began after this moment of our own clock."""
        now = self.now
        return now if now is not None and now.seen_at > moment else None

    def holder(self, submission_id: UUID | str) -> int | None:
        """The process id of the dispatcher that took this attempt on."""
        with suppress(psycopg.OperationalError), psycopg.connect(self._database_url, connect_timeout=3) as connection:
            rows = connection.execute(
                "SELECT process FROM generations_submission WHERE id = %s", [str(submission_id)]
            ).fetchall()
            return process_of(rows[0][0]) if rows else None
        return None

    def _look_on(self) -> None:
        while not self._leaving.wait(LOOK_SECONDS):
            began = time.monotonic()
            web = responds(f"{self._web_url}/healthz")
            try:
                self.now = self._look(began, web=web)
            except psycopg.OperationalError:
                self._close()
        self._close()

    def _look(self, began: float, *, web: bool) -> Stand:
        if self._connection is None:
            self._connection = psycopg.connect(self._database_url, autocommit=True, connect_timeout=3)
        [(at, tick_at, poll_at, progress_at, busy)] = self._connection.execute(STAND).fetchall()
        held = frozenset(self._connection.execute(HELD).fetchall())
        return Stand(began, at, tick_at, poll_at, progress_at, busy=busy, held=held, web=web)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of them lie; the nearest one that is there."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def process_of(description: str) -> int | None:
    """The process id in what a Submission says of the process that ran it (``host/pid interpreter ...``)."""
    number = description.partition(" ")[0].rpartition("/")[2]
    return int(number) if number.isdigit() else None
