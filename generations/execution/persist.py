"""Writing down what has happened outside, whatever the database says to it.

Only around functions that do nothing but write, each in one transaction of its own: they can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog
from django.db import close_old_connections
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from generations.models.away import AWAY

Item = TypeVar("Item")

RETRY_SECONDS = 20

log = structlog.get_logger(__name__)

patiently = retry(
    retry=retry_if_exception_type(AWAY),
    stop=stop_after_delay(RETRY_SECONDS),
    wait=wait_fixed(0.5),
    before_sleep=lambda _: close_old_connections(),
    reraise=True,
)
"""Decorates a writing function: a database that is away is waited for, 20 s."""


def apart(write: Callable[[Sequence[Item]], None], items: Sequence[Item]) -> list[tuple[Item, Exception]]:
    """Write all together; if the database refuses that, one by one, so that one bad row harms no other.

    Returns:
        Those that could not be written, with the reason.

    Raises:
        OperationalError, InterfaceError, InternalError: the database is away; nothing is wrong with the rows.
    """
    if not items:
        return []
    try:
        write(items)
    except AWAY:
        raise
    except Exception as error:  # whatever a provider made us store
        if len(items) == 1:
            log.exception("not_written", error=type(error).__name__)
            return [(items[0], error)]
        return [refused for item in items for refused in apart(write, [item])]
    return []
