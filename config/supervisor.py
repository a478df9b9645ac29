"""A small supervisor: starts programs, prefixes their log lines, restarts the dead, stops all in order.

1. Each program runs on a leash (``config.embedded.leash``), leader of a session of its own.
2. What dies is started again: after half a second, then after twice as long each time, up to 30 s; a minute of
   good running forgets earlier deaths.
3. A shutdown goes stage by stage: the programs of one stage are asked together to stop and waited for, each at
   most its own time, before the next stage. A second request kills at once, but leaves the servers their moment
   to write.
4. Should this process be killed by force, the guardian and the leashes end everything.

All of it happens in the main thread, because a leash is tied to the thread that starts it.
"""

from __future__ import annotations

import os
import select
import selectors
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from config.embedded.guardian import Guardian
from config.embedded.postgres import PostgresError
from config.embedded.program import Program, kill_group, spawn
from config.embedded.valkey import ValkeyError

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
GOOD_RUN_SECONDS = 60.0
# From this stage on a program keeps data, and is never killed without its polite stop.
SERVER_STAGE = 60

LineSink = Callable[[str, str], None]


@dataclass
class Child:
    """One supervised program and its current process."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    failures: int = 0
    restart_at: float | None = None
    starts: int = 0
    stop_asked_at: float | None = None
    unfinished: bytes = field(default=b"", repr=False)

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Runs programs until it is asked to stop. ``line`` gets every log line: the program's name and the text."""

    def __init__(self, line: LineSink, changed: Callable[[], None] = lambda: None) -> None:
        self.line = line
        self.changed = changed
        self.children: dict[str, Child] = {}
        self.stop_requests = 0
        self._selector = selectors.DefaultSelector()
        self._guardian = Guardian()
        self._handlers: dict[int, Any] = {}

    # --- starting ------------------------------------------------------------------------

    def add(self, program: Program) -> None:
        """Start a program and keep it running."""
        child = self.children[program.name] = Child(program)
        self._start(child)
        self.changed()

    def adopt(self, program: Program, process: subprocess.Popen[bytes]) -> None:
        """Keep a program running that was started before."""
        child = Child(program, process, started_at=time.monotonic(), starts=1)
        self.children[program.name] = child
        self._guardian.watch(process.pid, program.death_signal)
        self.changed()

    def pids(self) -> dict[str, int]:
        """The process id of each program that runs now."""
        return {name: child.process.pid for name, child in self.children.items() if child.process and child.alive}

    def _start(self, child: Child) -> None:
        child.restart_at = None
        try:
            process = spawn(child.program, subprocess.PIPE)
        except (OSError, PostgresError, ValkeyError) as error:
            self._schedule(child, f"cannot be started: {error}")
            return
        child.process, child.started_at = process, time.monotonic()
        child.starts += 1
        self._guardian.watch(process.pid, child.program.death_signal)
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._selector.register(process.stdout, selectors.EVENT_READ, child)

    # --- running -------------------------------------------------------------------------

    def request_stop(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Ask for the shutdown; asked again, for the fast one. Also the signal handler."""
        self.stop_requests += 1

    def handle_signals(self) -> None:
        """Let SIGINT, SIGTERM and SIGHUP ask for the shutdown."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._handlers[number] = signal.signal(number, self.request_stop)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Keep everything running until a stop is asked for, or ``until`` says True."""
        while not self.stop_requests and not until():
            self.step()

    def step(self, seconds: float = 0.2) -> None:
        """Pass on the log lines of up to ``seconds``; see who died; start again who is due."""
        self._read(seconds)
        now = time.monotonic()
        for child in self.children.values():
            if child.process is not None and not child.alive:
                code = child.process.returncode
                self._bury(child)
                self._schedule(child, f"ended with {describe(code)}")
                self.changed()
            elif child.restart_at is not None and child.restart_at <= now:
                self._start(child)
                self.changed()

    def _read(self, seconds: float) -> None:
        if not self._selector.get_map():
            time.sleep(min(seconds, 0.05))
            return
        for key, _ in self._selector.select(seconds):
            self._drain(key.data)

    def _drain(self, child: Child) -> None:
        """Pass on the whole lines that a process has written."""
        pipe = child.process.stdout if child.process else None
        if pipe is None:
            return
        data = b""
        try:
            data = os.read(pipe.fileno(), 65536)
        except BlockingIOError:
            return
        *lines, child.unfinished = (child.unfinished + data).split(b"\n")
        if not data:
            self._selector.unregister(pipe)
            pipe.close()
            assert child.process is not None
            child.process.stdout = None
            lines, child.unfinished = ([child.unfinished] if child.unfinished else []), b""
        for line in lines:
            self.line(child.program.name, line.decode(errors="replace").rstrip("\r"))

    def _bury(self, child: Child) -> None:
        """Pass on a dead process's last lines, and end what it has left of its group."""
        process = child.process
        assert process is not None
        kill_group(process.pid)
        while process.stdout is not None and select.select([process.stdout], [], [], 0)[0]:
            self._drain(child)
        if process.stdout is not None:  # a grandchild in another session still holds it
            self._selector.unregister(process.stdout)
            process.stdout.close()
        self._guardian.forget(process.pid)
        child.process = None

    def _schedule(self, child: Child, reason: str) -> None:
        if time.monotonic() - child.started_at > GOOD_RUN_SECONDS:
            child.failures = 0
        delay = min(FIRST_DELAY * 2**child.failures, LONGEST_DELAY)
        child.failures += 1
        child.restart_at = time.monotonic() + delay
        self.line(child.program.name, f"{reason}; starting it again in {delay:g} s")

    # --- stopping ------------------------------------------------------------------------

    def shutdown(self) -> None:
        """Stop everything, stage by stage; faster when asked a second time meanwhile."""
        requests = max(self.stop_requests, 1)
        for stage in sorted({child.program.stage for child in self.children.values()}):
            group = [child for child in self.children.values() if child.program.stage == stage]
            self._stop_stage(group, requests)
        self._guardian.close()
        self._selector.close()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self.changed()

    def _stop_stage(self, group: list[Child], requests: int) -> None:
        for child in group:
            child.restart_at = None
            if child.process is not None and child.alive:
                child.stop_asked_at = time.monotonic()
                child.process.send_signal(child.program.stop_signal)
        while waiting := [child for child in group if child.alive]:
            self._read(0.05)
            now = time.monotonic()
            for child in waiting:
                assert child.process is not None
                assert child.stop_asked_at is not None
                forced = self.stop_requests > requests and child.program.stage < SERVER_STAGE
                if forced or now - child.stop_asked_at > child.program.stop_seconds:
                    self.line(child.program.name, "does not stop; killing it" if not forced else "killed")
                    kill_group(child.process.pid)
        for child in group:
            if child.process is not None:
                self._bury(child)


def describe(code: int) -> str:
    """A return code in words: ``exit code 3``, ``SIGKILL``."""
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
