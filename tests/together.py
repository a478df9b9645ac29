"""Many at once: real threads, each with a database connection of its own, let go at the same moment."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

from django.db import connection, connections

T = TypeVar("T")

PATIENCE = "SET lock_timeout = '60s'; SET statement_timeout = '60s'"
"""The turn comes when it comes, however busy the machine is."""


class Racers:
    """Threads that stay for several races, with their connections open: a race then costs what it does and no more."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._pool = ThreadPoolExecutor(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._each(lambda _: connections.close_all(), self._number)
        self._pool.shutdown()

    def race(self, calls: Sequence[Callable[[], T]], *, spread: float = 0, seed: int = 0) -> list[T | Exception]:
        """Run ``calls`` at once and give what each returned, or the exception that it raised, in their order.

        With fewer threads than calls, each thread makes several, one after the other; all begin together. ``spread``:
        each begins up to so many seconds later, by chance from ``seed``, so that many races try many orders.
        """
        number = min(self._number, len(calls))
        barrier = threading.Barrier(number)
        chance = random.Random(seed)
        waits = [chance.uniform(0, spread) for _ in range(number)]
        found: dict[int, T | Exception] = {}

        def run(first: int) -> None:
            with connection.cursor() as cursor:
                cursor.execute(PATIENCE)
            barrier.wait(timeout=30)
            time.sleep(waits[first])
            for index in range(first, len(calls), number):
                try:
                    found[index] = calls[index]()
                except Exception as error:  # noqa: BLE001  the caller looks at it
                    found[index] = error

        self._each(run, number)
        return [found[index] for index in range(len(calls))]

    def _each(self, work: Callable[[int], None], number: int) -> None:
        """Do ``work`` in so many threads, one time in each."""
        barrier = threading.Barrier(number)

        def once(index: int) -> None:
            barrier.wait(timeout=30)
            work(index)

        list(self._pool.map(once, range(number)))


def together(calls: Sequence[Callable[[], T]], *, threads: int | None = None) -> list[T | Exception]:
    """One race, of as many threads as there are calls, or of ``threads``."""
    with Racers(min(threads or len(calls), len(calls))) as racers:
        return racers.race(calls)


def until_somebody_waits() -> None:
    """Wait until another connection to this database waits for a lock; for whoever holds one, in its transaction."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with connection.cursor() as cursor:
            # A transaction sees who is active as it first looked, unless it is told to look again.
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if cursor.fetchone()[0]:
                return
        time.sleep(0.01)
    raise AssertionError("nobody waits")
