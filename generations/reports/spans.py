"""Times in words for people."""

from __future__ import annotations

from datetime import datetime

STEPS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def span(seconds: float) -> str:
    """A length of time in its two largest units: ``4 s``, ``3 min 20 s``, ``2 d 5 h``. The sign is left out."""
    left = abs(seconds)
    if left < 1:
        return f"{left:.1f} s"
    left = round(left)
    for place, (unit, size) in enumerate(STEPS):
        if left >= size:
            number, rest = divmod(left, size)
            words = f"{number} {unit}"
            if place + 1 < len(STEPS):
                smaller, smaller_size = STEPS[place + 1]
                if rest >= smaller_size:
                    words += f" {rest // smaller_size} {smaller}"
            return words
    return "0 s"


def relative(at: datetime, now: datetime) -> str:
    """``in 3 min`` or ``3 min ago``."""
    seconds = (at - now).total_seconds()
    return f"in {span(seconds)}" if seconds > 0 else f"{span(seconds)} ago"


def both(at: datetime, now: datetime) -> str:
    """Absolute and relative: ``2026-11-23 09:43:57 UTC (in 3 min)``."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC ({relative(at, now)})"
