"""The short form, for real: a house of its own, everything goes wrong, and all is well."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.drill.forms import BAD_DAY, SHORT, Kind

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.timeout(600)  # a minute and a half; several on a machine that is busy
def test_loses_nothing_pays_nothing_twice_and_leaves_nothing_hanging_when_everything_goes_wrong() -> None:
    ran = subprocess.run(
        [sys.executable, "manage.py", "drill", "--short", "--seed", "3", "--json"],
        cwd=ROOT,
        env={**os.environ, "DARKROOM_BOOTSTRAP": "off"},
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert ran.returncode in (0, 1), ran.stderr
    report = json.loads(ran.stdout)
    assert not report["problems"], "\n".join([*report["problems"], ran.stderr])
    assert (report["ok"], ran.returncode) == (True, 0)

    assert report["generations"]["accepted"] >= SHORT.generations
    works = report["generations"]
    assert sum(works["by_status"].values()) == works["accepted"] + works["in_batches"]
    assert report["batches"] == {"accepted": SHORT.batches, "items": SHORT.batches * 8, "closed": SHORT.batches}
    assert set(report["generations"]["by_status"]) == {"completed", "failed"}
    assert report["generations"]["lost"] == 0
    assert report["requests"]["answered_by_another"] > 0
    assert report["attempts"]["most_posts_for_one"] == 1
    assert report["attempts"]["leaked_slots"] == 0
    assert report["credits"]["leaked"] == {}
    assert report["invariants_violated"] == 0
    assert all(seen["most"] <= seen["limit"] and not seen["refused"] for seen in report["accounts"].values())
    assert set(report["accounts"]) == {login.label for login in SHORT.logins}
    unknown = report["unknown_outcomes"]
    assert unknown["opened"] == unknown["resolved"] + unknown["expired"]
    assert unknown["expired"] > 0
    assert all(report["sandbox_faults"][fault] for fault in BAD_DAY)
    assert {name: strike["made"] for name, strike in report["strikes"].items()} == {
        kind.value: SHORT.strikes[kind] for kind in Kind
    }
    assert all(strike["max"] > 0 for strike in report["strikes"].values())
    assert {"web", "worker-dispatch", "worker-poll", "worker-collect", "worker-maintenance"} <= set(report["memory"])
