"""Progress for people: live lines on a terminal, plain ones elsewhere."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Sequence
from typing import TextIO

from config.main_job import Work

COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)
# All steps count from here, whoever shows them.
STARTED = time.monotonic()
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Console:
    """Everything that ``up`` shows: steps with their seconds, the works, and the processes' log lines."""

    def __init__(self, stream: TextIO = sys.stdout, *, quiet: bool = False, log: TextIO | None = None) -> None:
        self.stream, self.quiet, self.log = stream, quiet, log
        self.live = stream.isatty() and not quiet
        self.echo = False  # pass log lines on to the screen
        self._lock = threading.RLock()
        self._drawn = 0
        self._told: dict[str, str] = {}
        self._colours: dict[str, int] = {}

    def say(self, text: str = "") -> None:
        """A line that stays."""
        if self.quiet:
            return
        with self._lock:
            self._wipe()
            print(text, file=self.stream, flush=True)

    def step(self, text: str) -> None:
        """Something is done: a line with the seconds since the start."""
        self.say(f"  {self._paint('✓', 32)} {text} {self._paint(f'({time.monotonic() - STARTED:.1f} s)', 2)}")

    def doing(self, text: str) -> None:
        """Something is going on: replaces itself on a terminal, nothing elsewhere."""
        if self.live:
            self._draw([f"  {self._frame()} {text}"])

    def works(self, works: Sequence[Work], seconds: float) -> None:
        """How far each Generation is: redrawn on a terminal, a line per change elsewhere."""
        if self.quiet:
            return
        if self.live:
            self._draw([self._bar(work, seconds) for work in works])
            if all(work.ended for work in works):
                with self._lock:
                    self._drawn = 0
            return
        for work in works:
            told = f"{work.status} {work.reason}".strip()
            if self._told.get(work.id) != told:
                self._told[work.id] = told
                self.say(f"  {work.operation_type} at {work.provider_id}: {told} ({seconds:.1f} s)")

    def line(self, name: str, text: str) -> None:
        """A process's log line: always into the log file, on the screen when ``echo`` is on."""
        with self._lock:
            if self.log is not None:
                self.log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {name:<18} | {text}\n")
                self.log.flush()
            if self.echo and not self.quiet:
                colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
                self._wipe()
                print(f"{self._paint(f'{name:<18} |', colour)} {text}", file=self.stream, flush=True)

    def _bar(self, work: Work, seconds: float) -> str:
        width = 24
        mark = {"completed": self._paint("✓", 32), "failed": self._paint("✗", 31)}.get(work.status, self._frame())
        share = 1.0 if work.status == "completed" else (work.progress or 0) / 100
        bar = "█" * round(share * width) + "░" * (width - round(share * width))
        detail = f"{work.status} {work.reason}".strip()
        return f"  {mark} {work.operation_type:<14} {bar} {seconds:5.1f} s  {detail}"

    def _frame(self) -> str:
        return SPINNER[int(time.monotonic() * 10) % len(SPINNER)]

    def _paint(self, text: str, code: int) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.stream.isatty() else text

    def _draw(self, lines: list[str]) -> None:
        width = shutil.get_terminal_size().columns - 1
        with self._lock:
            self._wipe()
            self.stream.write("\n".join(line[: width + 9] for line in lines) + "\n")
            self.stream.flush()
            self._drawn = len(lines)

    def _wipe(self) -> None:
        """Take the live lines away again."""
        if self._drawn:
            self.stream.write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0
