"""The small arithmetic of recovery, and memory that is weighed for real."""

from __future__ import annotations

import os

import pytest

from config.drill.memory import Scales, Size
from config.drill.recovery import percentile, process_of


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
