"""A database connection that is dropped by the server at a given moment: the backend is really terminated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connections

from tests.wire import url_of


class Drop:
    """Counts what is sent to the database, and drops the connection at the ``nth``."""

    def __init__(self, nth: int, *, acknowledgements: bool) -> None:
        self.nth = nth
        self.acknowledgements = acknowledgements
        self.count = 0
        self.at = ""
        """The statement that it was dropped at; empty: there were not so many."""

    def statement(self, execute: Callable[..., Any], sql: str, *others: Any) -> Any:
        """Django's execute wrapper."""
        if not self.acknowledgements and self._is_the_one(sql):
            terminate()
        return execute(sql, *others)

    def commit(self, real: Callable[[], None]) -> None:
        """In place of a connection's own."""
        the_one = self._is_the_one("COMMIT")
        if the_one and not self.acknowledgements:
            terminate()
        real()
        if the_one and self.acknowledgements:
            terminate()
            made = connections["default"]
            with made.wrap_database_errors:
                made.connection.execute("SELECT 'is anybody there?'")

    def _is_the_one(self, sql: str) -> bool:
        self.count += 1
        if self.count != self.nth:
            return False
        self.at = sql
        return True


def terminate() -> None:
    """End this thread's backend, and wait until it has gone."""
    pid = connections["default"].connection.info.backend_pid
    with psycopg.connect(url_of(), autocommit=True) as another:
        another.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


@contextmanager
def dropped(nth: int, *, acknowledgements: bool = False) -> Iterator[Drop]:
    """The connection is dropped before the ``nth`` statement or commit in here is sent.

    ``acknowledgements``: only commits are counted, and the ``nth`` is done, but its answer is lost.
    """
    drop = Drop(nth, acknowledgements=acknowledgements)
    made: Any = connections["default"]
    made.ensure_connection()
    real = made._commit
    made._commit = lambda: drop.commit(real)
    try:
        with made.execute_wrapper(drop.statement):
            yield drop
    finally:
        del made._commit
