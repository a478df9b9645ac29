"""P5: whole lifecycles through real processes, against Celery tasks of three transactions each."""

from __future__ import annotations

import json
import time

from django.db import connection

from config.bench.cpu import Meter
from config.bench.house import House
from config.bench.load import post
from config.bench.peer_tasks import three_transactions
from config.bench.result import Row, median_ratio
from config.embedded.program import wait_until
from generations.lifecycle import Status
from generations.models import Generation

WORKERS = ("worker-dispatch", "worker-poll", "worker-collect", "worker-maintenance")
PATIENCE_SECONDS = 300
# Workers count as warm when the first ones have gone through.
WARM_UP = 20


def measure(house: House, *, pairs: int, size: int) -> Row:
    """The same number of worker processes on both sides; the sandbox's CPU is left out."""
    house.sandbox_account("modelslab", limit=64)
    rates, cpus = [], []
    peer = house.program(
        "peer", "celery", "-A", "config.bench.peer_tasks:app", "worker", "-Q", "bench", "-c", "6",
        "--without-gossip", "--without-mingle", "-n", "peer@%h", "--loglevel", "ERROR",
    )  # fmt: skip
    quick = {"DARKROOM_IMAGE_POLL_INTERVAL": "0.5"}
    with house.running("sandbox", "web", "beat", *WORKERS, extra=[peer], **quick) as pids:
        sandbox, *others = pids
        peer_pid, ours_pids = others[-1], others[:-1]
        del sandbox
        _ours(house, ours_pids, "warm", WARM_UP)
        _theirs([peer_pid], WARM_UP)
        for number in range(pairs):
            ours = _ours(house, ours_pids, f"pair {number}", size)
            theirs = _theirs([peer_pid], size)
            rates.append((size / ours[0], size / theirs[0]))
            cpus.append((ours[1] / size, theirs[1] / size))
    ratio = median_ratio(rates)
    return Row(
        id="P5",
        what="whole lifecycle against Celery tasks of three transactions: generations/s",
        goal=">= 2 x generations/s",
        reached=ratio >= 2,
        ratio=ratio,
        figures={
            "cpu_ratio": round(median_ratio(cpus), 2),
            "cpu_us_ours": round(cpus[-1][0] * 1e6),
            "cpu_us_celery": round(cpus[-1][1] * 1e6),
            "per_second_ours": round(rates[-1][0], 1),
            "per_second_celery": round(rates[-1][1], 1),
        },
    )


def _ours(house: House, pids: list[int], name: str, size: int) -> tuple[float, float]:
    """Wall and CPU seconds until all that was asked for is completed."""
    before = Generation.objects.filter(status=Status.COMPLETED).count()
    bodies = [
        json.dumps(
            {
                "operation_type": "text_to_image",
                "provider_id": "modelslab",
                "params": {"prompt": f"{name} {number} [[instant]]", "width": 256, "height": 256},
            }
        ).encode()
        for number in range(size)
    ]
    meter, started = Meter(pids), time.perf_counter()
    post(house.addresses.web, "/api/v1/generations", house.token, bodies, connections=8)
    completed = Generation.objects.filter(status=Status.COMPLETED)
    if not wait_until(lambda: completed.count() - before >= size, PATIENCE_SECONDS, interval=0.1):
        raise RuntimeError(f"only {completed.count() - before} of {size} completed; see {house.folder / 'log'}")
    return time.perf_counter() - started, meter.seconds()


def _theirs(pids: list[int], size: int) -> tuple[float, float]:
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE bench_row")
    meter, started = Meter(pids), time.perf_counter()
    for _ in range(size):
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO bench_row DEFAULT VALUES RETURNING id")
            row_id = cursor.fetchone()[0]
        three_transactions.delay(row_id=row_id)
    if not wait_until(lambda: _done() >= size, PATIENCE_SECONDS, interval=0.1):
        raise RuntimeError(f"only {_done()} of {size} Celery tasks were done")
    return time.perf_counter() - started, meter.seconds()


def _done() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM bench_row WHERE status = 'completed'")
        return int(cursor.fetchone()[0])
