"""P11: from the accepted request to the provider's door, on an idle system, as the sandbox saw it."""

from __future__ import annotations

import json
import time
from datetime import datetime
from functools import partial
from statistics import median

import requests

from config.bench.house import House
from config.bench.load import post
from config.bench.result import Row
from config.embedded.program import wait_until
from generations.models import Submission

GOAL_SECONDS = 0.3


def measure(house: House, *, size: int) -> Row:
    """One request after the other, each given time to leave; beside it the floor: a GET of the sandbox's health."""
    house.sandbox_account("modelslab", limit=64)
    delays, floors = [], []
    with house.running("sandbox", "web", "beat", "worker-dispatch", "worker-maintenance"):
        for number in range(size + 2):
            body = {
                "operation_type": "text_to_image",
                "provider_id": "modelslab",
                "params": {"prompt": f"p11 {number}"},
            }
            sent = _sent()
            asked_at = time.time()
            post(house.addresses.web, "/api/v1/generations", house.token, [json.dumps(body).encode()], connections=1)
            if not wait_until(partial(_more_than, sent), 20, 0.02):
                raise RuntimeError(f"a request did not leave within 20 s; see {house.folder / 'log'}")
            time.sleep(0.05)
            if number >= 2:  # the first ones load code
                delays.append(_arrived_at(house) - asked_at)
            started = time.perf_counter()
            requests.get(f"{house.addresses.sandbox_url}/_sandbox/health", timeout=5)
            floors.append(time.perf_counter() - started)
    delays.sort()
    p95 = delays[int(0.95 * (len(delays) - 1))]
    return Row(
        id="P11",
        what="from the request to the provider, idle system: p95 in ms",
        goal=f"p95 <= {GOAL_SECONDS * 1000:.0f} ms",
        reached=p95 <= GOAL_SECONDS,
        ratio=p95 / median(floors),
        figures={
            "p50_ms": round(median(delays) * 1000),
            "p95_ms": round(p95 * 1000),
            "floor_ms_one_http_call": round(median(floors) * 1000, 1),
        },
    )


def _sent() -> int:
    return Submission.objects.filter(sent_at__isnull=False).count()


def _more_than(before: int) -> bool:
    return _sent() > before


def _arrived_at(house: House) -> float:
    """When the sandbox recorded the newest submit, in seconds since the epoch."""
    reply = requests.get(f"{house.addresses.sandbox_url}/_sandbox/record", params={"kind": "submit"}, timeout=5)
    calls = reply.json()["calls"]
    at = calls[-1]["at"]
    return float(at) if isinstance(at, int | float) else datetime.fromisoformat(at).timestamp()
