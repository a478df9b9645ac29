"""Bars over time, as plain numbers for an inline SVG: people look before they read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

HOUR = timedelta(hours=1)
HEIGHT = 30
STEP = 8
LEAST = 2
"""The height of a bar that stands for anything at all."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: where it stands, and what it says. ``number`` 0: there is none, but the place can be pointed at."""

    x: int
    y: int
    height: int
    number: int
    since: datetime
    until: datetime

    @property
    def title(self) -> str:
        """``20 Nov 12:00 to 13:00 UTC: 3``."""
        return f"{self.since:%d %b %H:%M} to {self.until:%d %b %H:%M} UTC: {self.number:,}"


def width_of(since: datetime, until: datetime) -> timedelta:
    """How much time one bar covers: an hour; in a look over days more, so that there are about thirty bars."""
    length = until - since
    for most, width in ((timedelta(hours=49), HOUR), (timedelta(days=8), 6 * HOUR)):
        if length <= most:
            return width
    return 24 * HOUR


def bars(hours: Mapping[datetime, int], since: datetime, until: datetime, highest: int) -> list[Bar]:
    """The bars from ``since`` to ``until``; ``highest`` is what the tallest of the page stands for.

    ``hours``: numbers by the beginning of the hour. The first and the last bar are cut to the time looked at.
    """
    width = width_of(since, until)
    start = floor(since, width)
    numbers: dict[datetime, int] = {}
    for hour, number in hours.items():
        at = floor(hour, width)
        numbers[at] = numbers.get(at, 0) + number
    found: list[Bar] = []
    while start < until:
        number = numbers.get(start, 0)
        height = max(LEAST, round(number * HEIGHT / max(highest, 1))) if number else 0
        found.append(
            Bar(
                x=len(found) * STEP,
                y=HEIGHT - height,
                height=height,
                number=number,
                since=max(start, since),
                until=min(start + width, until),
            )
        )
        start += width
    return found


def highest(many: list[Mapping[datetime, int]], width: timedelta) -> int:
    """The largest number that any bar of these stands for."""
    most = 0
    for hours in many:
        numbers: dict[datetime, int] = {}
        for hour, number in hours.items():
            at = floor(hour, width)
            numbers[at] = numbers.get(at, 0) + number
        most = max(most, *numbers.values(), 0)
    return most


def floor(at: datetime, width: timedelta) -> datetime:
    """The beginning of the bar that this time belongs to."""
    zero = datetime(2000, 1, 1, tzinfo=UTC)
    return zero + (at - zero) // width * width
