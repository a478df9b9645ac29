"""Start the sandbox as a process of its own and wait until it listens."""

from __future__ import annotations

import re
import selectors
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

START_SECONDS = 20.0
STOP_SECONDS = 5.0
ROOT = Path(__file__).resolve().parents[2]


class SandboxProcess:
    """``with SandboxProcess(folder, "--speed", "0.1") as sandbox: sandbox.base_url``.

    ``start`` after ``kill`` goes on with the same data, on the same port.
    """

    def __init__(self, data: Path, *arguments: str, port: int = 0) -> None:
        self.data = data
        self.arguments = arguments
        self.port = port
        self._process: subprocess.Popen[str] | None = None

    @property
    def base_url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id. Raises RuntimeError when it does not run."""
        if self._process is None:
            raise RuntimeError("The sandbox does not run.")
        return self._process.pid

    def start(self) -> Self:
        """Start and wait for the line that names the port. Raises RuntimeError with what it said instead."""
        command = [sys.executable, "-m", "providers.sandbox", "--port", str(self.port), "--data", str(self.data)]
        self._process = subprocess.Popen(
            [*command, *self.arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            line = self._process.stdout.readline() if selector.select(START_SECONDS) else ""
        match = re.fullmatch(r"sandbox listening on http://[^:]+:(\d+)\n", line)
        if match is None:
            self._process.kill()
            said = self._process.communicate()[1]
            self._process = None
            raise RuntimeError(f"The sandbox did not start: {line}{said}")
        self.port = int(match[1])
        return self

    def stop(self) -> int:
        """Ask it to stop (SIGTERM) and wait; returns the exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            process.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        return process.returncode

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
