"""CPU seconds of server processes, read from ``/proc``: what can be trusted on a machine whose speed swings.

A process's own time and that of its ended children, so that a worker that was replaced is not lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import psutil
import redis
from django.conf import settings
from django.db import connection


def process_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes and all below them."""
    total = 0.0
    for pid in pids:
        try:
            root = psutil.Process(pid)
            family = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
        for process in family:
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system + times.children_user + times.children_system
    return total


def database_seconds() -> float | None:
    """PostgreSQL's time, all its processes together; None when it runs on another machine."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]
    try:
        backend = psutil.Process(pid)
        if "postgres" not in backend.name():
            return None
        return process_seconds([backend.ppid()])
    except psutil.NoSuchProcess:
        return None


def broker_seconds() -> float:
    """The Redis-protocol server's time, as it says itself."""
    client = redis.Redis.from_url(settings.REDIS_URL)
    cpu = client.info("cpu")
    client.close()
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


class Meter:
    """Measures what servers use between its two ends. ``pids`` are the roots of our server processes."""

    def __init__(self, pids: Iterable[int]) -> None:
        self.pids = list(pids)
        self._before = self._read()

    def seconds(self) -> float:
        """CPU seconds since it was made."""
        return self._read() - self._before

    def _read(self) -> float:
        return process_seconds(self.pids) + (database_seconds() or 0.0) + broker_seconds()


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))
