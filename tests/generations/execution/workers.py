"""Workers in processes of their own, on the test's database: they die when they are killed, and stay dead."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from config.embedded.home import ROOT

PROGRAM = Path(__file__).with_name("worker_process.py")
KILLED = -signal.SIGKILL
NOBODY = "redis://127.0.0.1:1/0"
"""No hint arrives: the database alone is the queue."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a worker ended: its exit code, or the signal's number below zero, and who it was as an actor."""

    code: int
    actor: str


class Workers:
    """One parent process; each ``run`` is a child of it, forked for that."""

    def __init__(self) -> None:
        made = connection.settings_dict
        url = f"postgres://{made['USER']}:{made['PASSWORD']}@{made['HOST']}:{made['PORT']}/{made['NAME']}"
        env = {**os.environ, "DATABASE_URL": url, "REDIS_URL": NOBODY, "PYTHONPATH": str(ROOT), "LOG_LEVEL": "ERROR"}
        self._parent = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            env={**env, "DJANGO_SETTINGS_MODULE": "config.settings"},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self._parent.stdout is not None
        assert self._parent.stdout.readline() == "ready\n"

    def close(self) -> None:
        """End the parent, and with it whoever works for it."""
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        self._parent.wait(timeout=60)
        assert self._parent.stdout is not None
        self._parent.stdout.close()

    def start(
        self,
        *works: str,
        die: str = "",
        generation: Any = None,
        clock: float = 0,
        limits: Mapping[str, float] | None = None,
    ) -> None:
        """Let a new worker do these works (``dispatch``, ``poll``, ``collect``, ``tick``), one after the other.

        Args:
            die: the place at which it dies, as ``worker_process`` names them; with ``generation`` only when it is
                this one's turn.
            clock: seconds by which its own clock is wrong.
            limits: those that are scaled.
        """
        order = {
            "works": works,
            "die": die,
            "generation": str(generation.pk) if generation else None,
            "clock": clock,
            "limits": {**settings.DARKROOM, **{name: str(value) for name, value in (limits or {}).items()}},
            "media": settings.STORAGES["default"]["OPTIONS"]["location"],
        }
        assert self._parent.stdin is not None
        self._parent.stdin.write(json.dumps(order) + "\n")

    def ended(self) -> Ended:
        """Wait for the worker that was started, and say how it ended."""
        assert self._parent.stdout is not None
        return Ended(**json.loads(self._parent.stdout.readline()))

    def run(self, *works: str, **how: Any) -> int:
        """``start`` and wait; the exit code."""
        self.start(*works, **how)
        return self.ended().code
