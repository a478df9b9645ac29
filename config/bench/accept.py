"""P1: accepting with dedup, credits hold and durable wake-up, against ``bare``, in interleaved pairs."""

from __future__ import annotations

import json

from accounts import credits
from accounts.models import Price
from config.bench.cpu import Meter
from config.bench.house import House
from config.bench.load import Load, post
from config.bench.result import Row, median_ratio

CONNECTIONS = 8


def measure(house: House, *, pairs: int, size: int) -> Row:
    """Both servers run during the whole row; each round goes to one of them."""
    Price.objects.create(provider_id="modelslab", operation_type="text_to_image", credits=1)
    credits.grant(house.user_id, 10**9, reason="bench", actor="command:bench")
    rates, tails, cpus = [], [], []
    with house.running("web", extra=[house.bare()]) as (web, bare):
        ours, _ = _round(house, web, house.addresses.web, "/api/v1/generations", "warm", 50)
        theirs, _ = _round(house, bare, house.bare_port, "/bare", "warm", 50)
        for number in range(pairs):
            ours, our_cpu = _round(house, web, house.addresses.web, "/api/v1/generations", f"ours {number}", size)
            theirs, their_cpu = _round(house, bare, house.bare_port, "/bare", f"bare {number}", size)
            rates.append((ours.rate, theirs.rate))
            tails.append((ours.percentile(0.99), theirs.percentile(0.99)))
            cpus.append((our_cpu, their_cpu))
    if set(ours.statuses) | set(theirs.statuses) != {202}:
        raise RuntimeError(f"not every request was accepted: ours {ours.statuses}, bare {theirs.statuses}")
    rate, tail = median_ratio(rates), median_ratio(tails)
    return Row(
        id="P1",
        what="accept (dedup, hold, wake-up) against a bare DRF insert: requests/s",
        goal=">= 1.3 x requests/s, p99 <= 1.25 x",
        reached=rate >= 1.3 and tail <= 1.25,
        ratio=rate,
        figures={
            "p99_ratio": round(tail, 2),
            "cpu_ratio": round(median_ratio(cpus), 2),
            "cpu_us_ours": round(cpus[-1][0]),
            "cpu_us_bare": round(cpus[-1][1]),
            "per_second_ours": round(ours.rate),
            "per_second_bare": round(theirs.rate),
        },
    )


def _round(house: House, pid: int, port: int, path: str, name: str, size: int) -> tuple[Load, float]:
    """One round; gives the load and the CPU microseconds per request, database and broker included."""
    bodies = _bodies(name, size)
    meter = Meter([pid])
    load = post(port, path, house.token, bodies, connections=CONNECTIONS)
    return load, meter.seconds() / size * 1e6


def _bodies(name: str, size: int) -> list[bytes]:
    return [
        json.dumps(
            {
                "operation_type": "text_to_image",
                "provider_id": "modelslab",
                "params": {"prompt": f"{name} picture {number}"},
            }
        ).encode()
        for number in range(size)
    ]
