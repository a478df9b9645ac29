"""The small arithmetic of recovery, and memory that is weighed for real."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from config.drill.memory import Scales, Size
from config.drill.recovery import AWAITED, Stand, missing, percentile, process_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=1)
MINE, YOURS = ("an attempt", "sending", 1), ("another", "sending", 2)
BEFORE = Stand(1.0, NOON, NOON, NOON, NOON, busy=True, held=frozenset({MINE, YOURS}), web=True)
RECOVERED = replace(BEFORE, at=LATER, tick_at=LATER, poll_at=LATER, progress_at=LATER, held=frozenset())


def test_has_recovered_when_everything_works_again() -> None:
    assert missing(BEFORE, RECOVERED) == set()


@pytest.mark.parametrize(
    ("change", "awaited"),
    [
        ({"tick_at": NOON}, "tick"),
        ({"tick_at": None}, "tick"),
        ({"poll_at": NOON}, "poll"),
        ({"web": False}, "web"),
        ({"held": frozenset({MINE})}, "held sending"),
        ({"progress_at": NOON}, "progress"),
    ],
)
def test_waits_for_each_part_of_a_recovery(change: dict[str, Any], awaited: str) -> None:
    assert missing(BEFORE, replace(RECOVERED, **change)) == {awaited}


def test_waits_for_no_progress_where_nothing_is_to_be_done_and_for_nothing_that_is_held_since() -> None:
    assert missing(BEFORE, replace(RECOVERED, progress_at=NOON, busy=False)) == set()
    assert missing(BEFORE, replace(RECOVERED, held=frozenset({(*MINE, "renewed")}))) == set()


def test_misses_everything_at_the_moment_of_the_fault() -> None:
    assert missing(BEFORE, replace(BEFORE, web=False)) == AWAITED | {"held sending"}


@pytest.mark.parametrize(("share", "expected"), [(0, 1.0), (0.5, 3.0), (0.95, 4.0), (1, 4.0)])
def test_gives_the_value_below_which_a_share_lies(share: float, expected: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == expected


@pytest.mark.parametrize(
    ("description", "pid"),
    [("host/4711 python somewhere 0.1.0", 4711), ("a/b/12 python", 12), ("", None), ("host/none of it", None)],
)
def test_reads_the_process_id_of_what_ran_an_attempt(description: str, pid: int | None) -> None:
    assert process_of(description) == pid


def test_weighs_the_largest_process_of_each_program_that_matters() -> None:
    scales = Scales()
    pids = {"web": os.getpid(), "worker-poll": 2**22 + 1, "sandbox": os.getpid()}
    scales.weigh(pids, warming_up=True)
    ballast = bytearray(os.urandom(1)) * (40 * 2**20)
    scales.weigh(pids, warming_up=False)
    assert list(scales.sizes) == ["web"]
    assert scales.sizes["web"].growth > 20
    assert len(ballast) > 0


def test_counts_growth_from_the_warm_up() -> None:
    assert Size(100, 130, 150).as_dict() == {"warm": 100, "end": 130, "most": 150, "growth": 30}
