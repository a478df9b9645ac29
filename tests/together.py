"""Many at once: real threads, each with a database connection of its own, let go at the same moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connection, connections

T = TypeVar("T")


def together(calls: Sequence[Callable[[], T]], *, threads: int | None = None) -> list[T | Exception]:
    """Run ``calls`` at once and give what each returned, or the exception that it raised, in their order.

    With fewer ``threads`` than calls, each thread makes several, one after the other; all begin together.
    """
    number = min(threads or len(calls), len(calls))
    barrier = threading.Barrier(number)

    def run(first: int) -> dict[int, T | Exception]:
        results: dict[int, T | Exception] = {}
        try:
            connections["default"].ensure_connection()
            barrier.wait(timeout=30)
            for index in range(first, len(calls), number):
                try:
                    results[index] = calls[index]()
                except Exception as error:  # noqa: BLE001  the caller looks at it
                    results[index] = error
        finally:
            connections.close_all()
        return results

    with ThreadPoolExecutor(number) as pool:
        found: dict[int, T | Exception] = {}
        for results in pool.map(run, range(number)):
            found |= results
    return [found[index] for index in range(len(calls))]


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
