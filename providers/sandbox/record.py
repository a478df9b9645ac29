"""The durable record: SQLite, written by one thread in groups, fsynced before anyone waits in vain.

Everything that must be known after a kill -9 goes through ``add`` and, where an answer depends on
it, ``await durable()``: all callers that wait at the same moment share one commit and one fsync.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# What nobody waits for (polls, downloads) is written at the latest after this many seconds.
LAZY_SECONDS = 0.05
KEEP_DAYS = 7

SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, provider TEXT, key TEXT, method TEXT NOT NULL, path TEXT NOT NULL,
    kind TEXT NOT NULL, operation TEXT, request_id TEXT, trace_id TEXT, body_sha256 TEXT, prompt TEXT,
    remote_id TEXT, created INTEGER NOT NULL, fault TEXT, http_status INTEGER NOT NULL, error TEXT);
CREATE INDEX IF NOT EXISTS calls_kind ON calls (kind, id);
CREATE TABLE IF NOT EXISTS works (
    remote_id INTEGER PRIMARY KEY, provider TEXT NOT NULL, key TEXT NOT NULL, operation TEXT NOT NULL,
    prompt TEXT NOT NULL, spec TEXT NOT NULL, outputs INTEGER NOT NULL, cost REAL NOT NULL, request_id TEXT,
    accepted_at REAL NOT NULL, finish_at REAL NOT NULL, outcome TEXT NOT NULL, faults TEXT NOT NULL,
    echo TEXT NOT NULL, webhook TEXT, track_id TEXT, origin TEXT NOT NULL, in_flight INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS firings (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, fault TEXT NOT NULL, argument TEXT, phase TEXT NOT NULL, key TEXT,
    remote_id INTEGER, prompt_sha256 TEXT);
CREATE TABLE IF NOT EXISTS callbacks (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, remote_id INTEGER NOT NULL, what TEXT NOT NULL, url TEXT NOT NULL,
    http_status INTEGER, final INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS peaks (key TEXT PRIMARY KEY, most INTEGER NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS keys (key TEXT PRIMARY KEY, settings TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS uploads (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, provider TEXT NOT NULL, key TEXT NOT NULL, mime TEXT NOT NULL,
    file TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class Taken(RuntimeError):
    """Another sandbox already uses this data folder."""


class Record:
    """The database of one data folder, held by one process at a time."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock_file = (folder / "sandbox.lock").open("a")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Taken(f"Another sandbox is using {folder}. Stop it, or give another --data folder.") from error
        self._path = folder / "record.sqlite3"
        self._db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(SCHEMA)
        self._db.execute("DELETE FROM calls WHERE at < unixepoch() - ?", (KEEP_DAYS * 86400,))
        self._queue: list[tuple[str, Sequence[Any]]] = []
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._stopping = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._write_for_ever, name="record", daemon=True)
        self._thread.start()

    def add(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Queue one statement; statements are applied in the order of their adding."""
        with self._wake:
            self._queue.append((sql, values))
            if len(self._queue) == 1:
                self._wake.notify()

    async def durable(self) -> None:
        """Return once everything added so far is on the disk."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._wake:
            self._waiters.append((loop, future))
            self._wake.notify()
        await future

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Read what is committed, on a connection of its own (safe in any thread)."""
        db = sqlite3.connect(self._path)
        try:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(sql, values)]
        finally:
            db.close()

    def close(self) -> None:
        """Write what is queued and let go of the folder."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()
        self._db.close()
        self._lock_file.close()

    def _write_for_ever(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._queue or self._waiters or self._stopping)
                if not self._waiters and not self._stopping:
                    self._wake.wait_for(lambda: self._waiters or self._stopping, timeout=LAZY_SECONDS)
                batch, self._queue = self._queue, []
                waiters, self._waiters = self._waiters, []
                stopping = self._stopping
            if batch:
                self._commit(batch)
            for loop, future in waiters:
                loop.call_soon_threadsafe(_resolve, future)
            if stopping and not batch:
                return

    def _commit(self, batch: list[tuple[str, Sequence[Any]]]) -> None:
        try:
            self._db.execute("BEGIN")
            for sql, values in batch:
                self._db.execute(sql, values)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            # A witness that cannot write must not go on answering.
            print(f"sandbox: the record cannot be written ({error}); stopping.", file=sys.stderr, flush=True)
            os._exit(74)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
