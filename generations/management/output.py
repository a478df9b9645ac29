"""How commands print: aligned tables, JSON, times given as ``2h`` or a date."""

from __future__ import annotations

import json
import re
import shutil
from argparse import ArgumentTypeError
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, OutputWrapper
from django.utils.dateparse import parse_date, parse_datetime

SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(min|m|h|d|w)")
UNITS = {"min": 60, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
GAP = "  "
NARROWEST = 10


def as_json(value: Any) -> str:
    """Indented JSON, Unicode as it is."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def table(command: BaseCommand, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table, columns aligned, numbers to the right.

    On a terminal the headers are bold and the last column is cut to the width; elsewhere nothing is cut.
    """
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(len(line[place]) for line in [list(headers), *cells]) for place in range(len(headers))]
    numeric = [
        bool(rows) and all(isinstance(row[place], int | float | None) for row in rows) for place in range(len(headers))
    ]
    last = _room_for_last(command.stdout, widths)

    def line(texts: Sequence[str]) -> str:
        padded = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(texts, widths, numeric, strict=True)
        ]
        if last is not None and len(texts[-1]) > last:
            padded[-1] = texts[-1][: last - 1] + "…"
        return GAP.join(padded).rstrip()

    command.stdout.write(command.style.MIGRATE_HEADING(line(headers)))
    for texts in cells:
        command.stdout.write(line(texts))


def moment(text: str) -> datetime:
    """A point in time: ``30m``, ``2h``, ``3d`` (that long ago), or an ISO date or time (UTC where it names no zone).

    Raises:
        ArgumentTypeError: it is neither.
    """
    span = SPAN.fullmatch(text.strip())
    if span:
        return datetime.now(UTC) - timedelta(seconds=float(span[1]) * UNITS[span[2]])
    try:
        at = parse_datetime(text)
        day = None if at else parse_date(text)
    except ValueError:
        at, day = None, None
    if at is None and day is not None:
        at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    if at is None:
        raise ArgumentTypeError(
            f"{text!r} is no time. Give an age (30m, 2h, 3d) or a date (2026-11-23, 2026-11-23T09:30)."
        )
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def positive(text: str) -> int:
    """A whole number above 0.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no whole number above 0.")
    return int(text)


def _room_for_last(stream: OutputWrapper, widths: Sequence[int]) -> int | None:
    """How wide the last column may be; None: as it is."""
    if not stream.isatty():
        return None
    taken = sum(widths[:-1]) + len(GAP) * (len(widths) - 1)
    return max(NARROWEST, shutil.get_terminal_size().columns - taken)
