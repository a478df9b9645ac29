"""How long to wait before trying again."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generations.backoff import delivery_delay, poll_delay, retry_delay

CHANCE = st.floats(0, 1, exclude_max=True)


def delay(n: int, *, chance: float = 0.5, retry_after: float | None = None, cap: float = 60) -> float:
    return retry_delay(n, base=5, cap=cap, retry_after=retry_after, retry_after_cap=900, jitter=lambda: chance)


@pytest.mark.parametrize(
    ("n", "seconds"), [(0, 5), (1, 10), (2, 20), (3, 40), (4, 60), (5, 60), (31, 60), (1_000_000, 60)]
)
def test_doubles_up_to_the_cap(n: int, seconds: float) -> None:
    assert delay(n) == seconds


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 2.5), (0.25, 3.75), (0.5, 5.0), (1.0, 7.5)])
def test_spreads_from_half_to_one_and_a_half(chance: float, seconds: float) -> None:
    assert delay(0, chance=chance) == seconds


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [(None, 5), (0, 5), (-30, 5), (4.9, 5), (5.1, 5.1), (120, 120), (900, 900), (901, 900), (math.inf, 900)],
)
def test_waits_as_long_as_the_provider_wishes_within_reason(retry_after: float | None, seconds: float) -> None:
    assert delay(0, retry_after=retry_after) == seconds


def test_believes_no_nonsense() -> None:
    assert delay(0, retry_after=math.nan) == 5


@given(n=st.integers(0, 10_000), chance=CHANCE, retry_after=st.none() | st.floats(allow_nan=False))
def test_stays_within_its_bounds(n: int, chance: float, retry_after: float | None) -> None:
    seconds = delay(n, chance=chance, retry_after=retry_after)

    assert 2.5 <= seconds <= max(90, 900)
    assert seconds >= min(retry_after or 0, 900)


@given(n=st.integers(0, 60), chance=CHANCE)
def test_never_waits_less_after_one_more_failure(n: int, chance: float) -> None:
    assert delay(n, chance=chance) <= delay(n + 1, chance=chance)


@pytest.mark.parametrize(("age", "seconds"), [(0, 2), (19, 2), (20, 2), (50, 5), (299, 29.9), (300, 30), (10_000, 30)])
def test_polls_more_seldom_the_older_a_job_is(age: float, seconds: float) -> None:
    assert poll_delay(age, shortest=2, longest=30) == pytest.approx(seconds)


def test_polls_soon_where_clocks_disagree() -> None:
    assert poll_delay(-5, shortest=2, longest=30) == 2


DAY = 86_400
WEBHOOK: dict[str, float] = {"base": 5, "cap": 8 * 3600}


def schedule(chance: float) -> list[float]:
    """When a webhook is tried that fails every time, in seconds after the first."""
    tries = [0.0]
    while True:
        left = 3 * DAY - tries[-1]
        pause = delivery_delay(len(tries) - 1, left=left, jitter=lambda: chance, **WEBHOOK)
        if pause is None:
            return tries
        tries.append(tries[-1] + pause)


def test_tries_a_webhook_over_about_three_days() -> None:
    tries = schedule(0.5)
    assert [round(at) for at in tries[:5]] == [0, 5, 15, 35, 75]
    assert sum(at < 3600 for at in tries) == 10
    assert len(tries) == 21
    assert 2.5 * DAY < tries[-1] <= 3 * DAY


@settings(deadline=None)  # the machine may be busy
@given(chance=CHANCE)
def test_tries_a_webhook_until_its_last_day_and_never_after_it(chance: float) -> None:
    tries = schedule(chance)
    assert 2.4 * DAY < tries[-1] <= 3 * DAY
    assert 15 < len(tries) < 40


@pytest.mark.parametrize(
    ("retry_after", "left", "seconds"),
    [
        (None, 100, 5),
        (60, 100, 60),
        (1e9, DAY, 8 * 3600),
        (-5, 100, 5),
        (60, 59, None),
        (None, 4, None),
        (None, -1, None),
    ],
)
def test_waits_as_long_as_an_endpoint_wishes_while_there_is_time(
    retry_after: float | None, left: float, seconds: float | None
) -> None:
    assert delivery_delay(0, left=left, retry_after=retry_after, jitter=lambda: 0.5, **WEBHOOK) == seconds
