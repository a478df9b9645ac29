"""P11: from the accepted request to the provider's door, on an idle system, as the sandbox saw it."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime
from functools import partial
from statistics import median

import requests

from config.bench.cpu import Meter
from config.bench.house import House
from config.bench.load import post
from config.bench.result import Row, median_ratio
from config.embedded.program import wait_until
from config.first_run import sandbox_base_url
from generations.models import Submission

GOAL_SECONDS = 0.3
WARM_UP = 2


def measure(house: House, *, size: int) -> Row:
    """One request after the other, each given time to leave, and after each the same request sent to the provider
    directly: what standing between costs."""
    house.sandbox_account("modelslab", limit=64)
    pairs, cpus = [], []
    with house.running("web", "beat", "worker-dispatch", "worker-maintenance", "sandbox") as pids:
        for number in range(size + WARM_UP):
            meter = Meter(pids[1:])
            ours = _ours(house, f"p11 {number}")
            cpu = meter.seconds()
            meter = Meter([os.getpid()])
            theirs = _directly(house, f"p11 directly {number}")
            if number >= WARM_UP:
                pairs.append((ours, theirs))
                cpus.append((cpu, meter.seconds()))
    delays = sorted(ours for ours, _ in pairs)
    p95 = delays[int(0.95 * (len(delays) - 1))]
    return Row(
        id="P11",
        what="from the request to the provider on an idle system, against asking it directly",
        goal=f"p95 <= {GOAL_SECONDS * 1000:.0f} ms",
        reached=p95 <= GOAL_SECONDS,
        ratio=median_ratio(pairs),
        figures={
            "p50_ms": round(median(delays) * 1000),
            "p95_ms": round(p95 * 1000),
            "directly_p50_ms": round(median(theirs for _, theirs in pairs) * 1000, 1),
            "cpu_us_ours": round(median(ours for ours, _ in cpus) * 1e6),
            "cpu_us_directly": round(median(theirs for _, theirs in cpus) * 1e6),
        },
    )


def _ours(house: House, prompt: str) -> float:
    """Seconds from our request to its arrival at the provider."""
    body = {"operation_type": "text_to_image", "provider_id": "modelslab", "params": {"prompt": prompt}}
    sent = _sent()
    asked_at = time.time()
    post(house.addresses.web, "/api/v1/generations", house.token, [json.dumps(body).encode()], connections=1)
    if not wait_until(partial(_more_than, sent), 20, 0.02):
        raise RuntimeError(f"a request did not leave within 20 s; see {house.folder / 'log'}")
    time.sleep(0.05)
    return _arrived_at(house) - asked_at


def _directly(house: House, prompt: str) -> float:
    """The same without us between."""
    base = sandbox_base_url("modelslab", house.addresses.sandbox_url)
    asked_at = time.time()
    reply = requests.post(
        f"{base}/v6/images/text2img",
        json={"key": "sandbox-directly", "model_id": "flux", "prompt": prompt, "width": 512, "height": 512},
        timeout=20,
    )
    reply.raise_for_status()
    return _arrived_at(house) - asked_at


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
