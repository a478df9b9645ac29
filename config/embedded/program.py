"""One program that we run: how it starts, how it is asked to stop, and what waits for what."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

LEASH = Path(__file__).with_name("leash.py")
Identity = str | tuple[int, int] | None


@dataclass(frozen=True)
class Program:
    """What the supervisor and the embedded servers know about one process.

    ``stage`` orders the shutdown: lower ones are stopped, and waited for, first. ``stop_seconds`` is how long
    a polite stop may take before SIGKILL. ``death_signal`` is what it gets when the process that started it
    dies by force. ``prepare`` runs before every start, ``ready`` says whether it does its work.
    """

    name: str
    argv: tuple[str, ...]
    stage: int
    env: Mapping[str, str] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10
    death_signal: signal.Signals = signal.SIGKILL
    identity: Identity = None
    cwd: Path | None = None
    prepare: Callable[[], None] | None = None
    ready: Callable[[], bool] | None = None


def leashed(argv: tuple[str, ...], identity: Identity = None, death_signal: int = signal.SIGKILL) -> list[str]:
    """The command line that runs ``argv`` as a child which does not outlive this process.

    The kernel ties it to the *thread* that starts it, so programs are started from the main thread only.
    """
    order = json.dumps({"parent": os.getpid(), "death_signal": int(death_signal), "identity": identity})
    return [sys.executable, "-I", "-S", str(LEASH), order, shutil.which(argv[0]) or argv[0], *argv[1:]]


def spawn(program: Program, output: int | IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, its output going to ``output``.

    In a session of its own a Ctrl-C in the terminal reaches us alone, and we stop our programs in order.
    """
    if program.prepare is not None:
        program.prepare()
    return subprocess.Popen(
        leashed(program.argv, program.identity, program.death_signal),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=dict(program.env) if program.env is not None else None,
        cwd=program.cwd,
        start_new_session=True,
    )


def stop(process: subprocess.Popen[bytes], program: Program) -> None:
    """Ask a process to end, wait as long as it may take, then end its whole group."""
    if process.poll() is None:
        process.send_signal(program.stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(program.stop_seconds)
    kill_group(process.pid)
    process.wait()


def kill_group(pid: int) -> None:
    """SIGKILL to what is left of the process group that ``pid`` leads (``spawn`` made it the leader)."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def wait_until(check: Callable[[], bool], seconds: float, interval: float = 0.02) -> bool:
    """Ask ``check`` until it says yes (True) or the time is over (False)."""
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() >= end:
            return False
        time.sleep(interval)
    return True
