"""Hints to look: small messages that may be lost, doubled or late. The database is the queue.

One hint per provider is under way at a time (a marker in Redis that the woken task removes before it looks), so a
thousand requests send one message. A broker that is down costs a caller at most a second, once every few seconds,
and no request: the tick finds the work.
"""

from __future__ import annotations

import threading
import time

import redis
import structlog
from celery import current_app
from django.conf import settings
from kombu import Connection
from prometheus_client import Counter

DISPATCH = "generations.tasks.dispatch"
POLL = "generations.tasks.poll"
COLLECT = "generations.tasks.collect"
DELIVER = "generations.tasks.deliver"
EXPORT = "generations.tasks.export"
REFRESH = "generations.tasks.refresh_credits"
RECONCILE = "generations.tasks.reconcile"
CANARY = "generations.tasks.canary"

SENT: dict[str, frozenset[str]] = {
    DISPATCH: frozenset({"provider_id"}),
    POLL: frozenset(),
    COLLECT: frozenset(),
    DELIVER: frozenset(),
    EXPORT: frozenset(),
    REFRESH: frozenset(),
    RECONCILE: frozenset(),
    CANARY: frozenset({"name"}),  # sent by doctor
}
"""Every task name that is sent, with its arguments: a system check binds them to the tasks' signatures."""

MARKER_SECONDS = 5
SILENCE_SECONDS = 3.0
TIMEOUT_SECONDS = 0.5

log = structlog.get_logger(__name__)
swallowed = Counter("darkroom_wakeups_swallowed", "Hints that could not be sent; the tick finds the work instead.")
_local = threading.local()
_silent_until = 0.0


def wake_dispatch(provider_id: str) -> None:
    """Somebody should look whether this provider has work that can start."""
    _wake(DISPATCH, provider_id=provider_id)


def wake_poll() -> None:
    """Somebody should look which polls are due."""
    _wake(POLL)


def wake_collect() -> None:
    """Somebody should look which results wait to be fetched."""
    _wake(COLLECT)


def wake_deliver() -> None:
    """Somebody should look which webhooks are due."""
    _wake(DELIVER)


def wake_export() -> None:
    """Somebody should look which exports wait to be made."""
    _wake(EXPORT)


def wake_refresh() -> None:
    """Somebody should look at the accounts whose credentials or balance must be known better."""
    _wake(REFRESH)


def wake_reconcile() -> None:
    """Somebody should look for unknown outcomes in the providers' own lists."""
    _wake(RECONCILE)


def awake(name: str, **kwargs: str) -> None:
    """The woken task says that it is about to look: from now on a new hint is worth sending."""
    try:
        _redis().delete(_marker(name, kwargs))
    except redis.RedisError:
        swallowed.inc()


def _wake(name: str, **kwargs: str) -> None:
    global _silent_until  # noqa: PLW0603
    if time.monotonic() < _silent_until:
        swallowed.inc()
        return
    try:
        if _redis().set(_marker(name, kwargs), "1", nx=True, ex=MARKER_SECONDS):
            _send(name, kwargs)
    except Exception as error:  # noqa: BLE001  a hint must never fail what it hints at
        _silent_until = time.monotonic() + SILENCE_SECONDS
        swallowed.inc()
        log.warning("wakeup_swallowed", task=name, error=type(error).__name__)


def _send(name: str, kwargs: dict[str, str]) -> None:
    current_app.send_task(name, kwargs=kwargs, connection=_connection(), retry=False, ignore_result=True)


def _marker(name: str, kwargs: dict[str, str]) -> str:
    return ":".join(["darkroom", "wake", name.rpartition(".")[2], *kwargs.values()])


def _redis() -> redis.Redis:
    client = getattr(_local, "redis", None)
    if client is None:
        client = _local.redis = redis.Redis.from_url(
            settings.REDIS_URL, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
        )
    return client


def _connection() -> Connection:
    """A producer's connection of this thread: a second at most, no retries. The workers' have other limits."""
    connection: Connection | None = getattr(_local, "connection", None)
    if connection is None:
        connection = _local.connection = Connection(
            settings.REDIS_URL,
            transport_options={
                "socket_timeout": TIMEOUT_SECONDS,
                "socket_connect_timeout": TIMEOUT_SECONDS,
                "max_retries": 0,
                "retry_on_timeout": False,
            },
        )
    return connection
