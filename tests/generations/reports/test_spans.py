"""Times in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from generations.reports.spans import both, relative, span

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (0.25, "0.2 s"),
        (4, "4 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (2 * 86400 + 5 * 3600 + 59, "2 d 5 h"),
        (-90, "1 min 30 s"),
    ],
)
def test_says_a_span_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_says_before_and_after() -> None:
    assert relative(NOW + timedelta(minutes=3), NOW) == "in 3 min"
    assert relative(NOW - timedelta(minutes=3), NOW) == "3 min ago"
    assert both(NOW + timedelta(hours=1), NOW) == "2026-11-23 10:30:00 UTC (in 1 h)"
