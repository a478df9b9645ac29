"""``bench``: its arithmetic, and one row measured for real through the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.bench.load import Load, in_parallel
from config.bench.result import median_ratio

ROOT = Path(__file__).resolve().parents[2]


def test_takes_the_median_of_the_pairs_ratios() -> None:
    assert median_ratio([(2, 1), (30, 10), (1, 4)]) == 2


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 3.0), (0.99, 4.0), (1.0, 4.0)])
def test_gives_the_latency_below_which_a_share_stayed(share: float, expected: float) -> None:
    assert Load(2.0, [4.0, 1.0, 3.0, 2.0], {202: 4}).percentile(share) == expected


def test_counts_requests_per_second() -> None:
    assert Load(2.0, [0.1] * 10, {202: 10}).rate == 5


def test_raises_what_a_parallel_call_raised() -> None:
    def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        in_parallel([lambda: None, fails])


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "bench", *arguments],
        cwd=ROOT,
        env={**os.environ, "DARKROOM_BOOTSTRAP": "off"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_shows_32_claimers_on_500_slots_neither_oversubscribed_nor_falsely_full() -> None:
    ran = bench("P7", "--json", "--strict", "--pairs", "1")
    assert ran.returncode == 0, ran.stderr
    (row,) = json.loads(ran.stdout)["rows"]
    assert row["reached"] is True
    assert row["figures"]["oversubscribed"] == row["figures"]["false_full"] == 0


def test_names_the_rows_there_are_when_asked_for_another() -> None:
    ran = bench("P99")
    assert ran.returncode == 1
    assert "P1, P5, P7, P11" in ran.stderr
