"""Bars over time: they"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from generations.admin.sparkline import HEIGHT, LEAST, STEP, bars, highest, width_of

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_stand_for_an_hour_each_and_cover_the_whole_time() -> None:
    drawn = bars({NOON: 3, NOON + 2 * HOUR: 6}, NOON - 20 * HOUR, NOON + 4 * HOUR, 6)

    assert len(drawn) == 24
    assert [bar.number for bar in drawn if bar.number] == [3, 6]
    assert [bar.x for bar in drawn] == [STEP * place for place in range(24)]
    tall = max(drawn, key=lambda bar: bar.height)
    assert (tall.height, tall.y, tall.since, tall.until) == (HEIGHT, 0, NOON + 2 * HOUR, NOON + 3 * HOUR)
    assert tall.title == "20 Nov 14:00 to 20 Nov 15:00 UTC: 6"


def test_are_cut_to_the_time_that_is_looked_at() -> None:
    since, until = NOON + timedelta(minutes=10), NOON + timedelta(hours=1, minutes=20)

    first, last = bars({NOON: 1, NOON + HOUR: 1}, since, until, 1)

    assert (first.since, first.until) == (since, NOON + HOUR)
    assert (last.since, last.until) == (NOON + HOUR, until)


def test_stand_for_more_in_a_look_over_days() -> None:
    hours = {NOON + number * HOUR: 1 for number in range(12)}

    for days, width, number in ((1, 1, 24), (7, 6, 28), (30, 24, 30)):
        since, until = NOON - timedelta(days=days), NOON
        assert width_of(since, until) == width * HOUR
        assert number <= len(bars({}, since, until, 1)) <= number + 1
    drawn = bars(hours, NOON, NOON + timedelta(days=7), 6)
    assert [bar.number for bar in drawn if bar.number] == [6, 6]
    assert highest([hours, {NOON: 2}], 6 * HOUR) == 6


def test_can_be_seen_however_little_they_stand_for() -> None:
    [small] = [bar for bar in bars({NOON: 1}, NOON, NOON + 4 * HOUR, 10_000) if bar.number]

    assert small.height == LEAST
    assert highest([], HOUR) == 0
    assert {bar.height for bar in bars({}, NOON, NOON + HOUR, 0)} == {0}
