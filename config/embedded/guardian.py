"""Ends what is left when the supervisor is killed by force. Standard library only.

Run as a script in a session of its own; it reads its stdin, whose other end only the supervisor holds. A line
``+<pid> <signal>`` names a process group to see to, ``-<pid>`` one that has ended. When the pipe breaks, the
supervisor is gone, whatever killed it: every group named gets its signal, and SIGKILL a little later. The
leash of each process does the same for the process itself, but not for its children; this does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

GRACE_SECONDS = 3.0


class Guardian:
    """The supervisor's end: starts the guardian and tells it which groups there are."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def watch(self, pid: int, death_signal: int) -> None:
        """See to this group if we die: the signal goes to its leader, SIGKILL to the group."""
        self._tell(f"+{pid} {int(death_signal)}\n")

    def forget(self, pid: int) -> None:
        """This group has ended."""
        self._tell(f"-{pid}\n")

    def _tell(self, line: str) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError):  # somebody killed it: each process still has its leash
            stdin.write(line.encode())
            stdin.flush()

    def close(self) -> None:
        """End the guardian; whatever has not been forgotten is killed."""
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.close()
        self._process.wait()


def send(pid: int, number: int, *, group: bool) -> bool:
    """Send a signal; False when nobody is there any more."""
    try:
        (os.killpg if group else os.kill)(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def main() -> None:
    """Follow the supervisor's lines until the pipe ends, then see to what is left."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    groups: dict[int, int] = {}
    for line in sys.stdin:
        words = line[1:].split()
        if line.startswith("+"):
            groups[int(words[0])] = int(words[1])
        else:
            groups.pop(int(words[0]), None)
    for pid, number in groups.items():
        send(pid, number, group=number == signal.SIGKILL)
    end = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < end and any(send(pid, 0, group=True) for pid in groups):
        time.sleep(0.05)
    for pid in groups:
        send(pid, signal.SIGKILL, group=True)


if __name__ == "__main__":
    main()
