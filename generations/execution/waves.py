"""Parallel I/O with one database connection: threads make the calls, the owner of a ``Wave`` records what arrives.

Functions that run in the threads touch no database. Results come back in small waves, so that what has arrived is
recorded together and nothing waits for the slowest.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import lru_cache
from typing import Any, Generic, TypeVar

from generations.conf import limits

Item = TypeVar("Item")
Result = TypeVar("Result")

COALESCE_SECONDS = 0.01


class Wave(Generic[Item, Result]):
    """Items whose calls are under way."""

    def __init__(self) -> None:
        self._running: dict[Future[Result], Item] = {}

    def __len__(self) -> int:
        return len(self._running)

    def items(self) -> list[Item]:
        """Those that have not arrived yet."""
        return list(self._running.values())

    def start(self, item: Item, call: Callable[[], Result]) -> None:
        """Make ``call`` in a thread, on behalf of ``item``."""
        self._running[_pool(os.getpid()).submit(call)] = item

    def arrived(self, timeout: float) -> list[tuple[Item, Result | Exception]]:
        """What has arrived: waits until something has, or ``timeout`` seconds; an exception is a result too."""
        if not self._running:
            return []
        done, _ = wait(self._running, timeout=timeout, return_when=FIRST_COMPLETED)
        if done:
            done |= wait(self._running, timeout=COALESCE_SECONDS).done
        return [(self._running.pop(future), _outcome(future)) for future in done]


def _outcome(future: Future[Any]) -> Any:
    error = future.exception()
    if error is None:
        return future.result()
    if not isinstance(error, Exception):
        raise error
    return error


@lru_cache(maxsize=1)
def _pool(pid: int) -> ThreadPoolExecutor:
    """The threads of this process (not those of the one that it was forked from)."""
    return ThreadPoolExecutor(max_workers=limits().connections, thread_name_prefix=f"calls-{pid}")
