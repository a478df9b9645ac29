"""P7: one account with 500 slots and 32 claimers: nothing oversubscribed, nobody told "full" who could have had one.

The peer is the usual ``SELECT ... FOR UPDATE SKIP LOCKED`` on the account's row, whose losers take "locked" for "full".
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from dataclasses import dataclass
from statistics import median

from django.db import connection, transaction

from accounts.models import Account
from config.bench.cpu import Meter
from config.bench.house import House
from config.bench.load import in_parallel
from config.bench.result import Row, median_ratio
from generations.execution.claim import claim
from generations.fingerprint import fingerprint
from generations.models import Generation, Submission
from generations.models.clock import database_now

SLOTS = 500
CLAIMERS = 32
ASK = 4
MOST_TRIES = 50_000


@dataclass(frozen=True, slots=True)
class Round:
    """All slots taken once, by one side."""

    per_second: float
    cpu_us: float
    oversubscribed: int
    false_full: float


def measure(house: House, *, pairs: int) -> Row:
    """More work than slots; every claimer goes on until it is told that there is no slot."""
    account = house.sandbox_account("pixverse", limit=SLOTS)
    rounds = [(_ours(house, account), _theirs(account)) for _ in range(pairs)]
    ours = [one for one, _ in rounds]
    wrong = sum(one.oversubscribed for one in ours)
    refused = sum(one.false_full for one in ours)
    return Row(
        id="P7",
        what=f"{CLAIMERS} claimers on one account with {SLOTS} slots, against SKIP LOCKED: slots/s",
        goal="0 oversubscribed, 0 false full",
        reached=wrong == 0 and refused == 0,
        ratio=median_ratio([(one.per_second, other.per_second) for one, other in rounds]),
        figures={
            "oversubscribed": wrong,
            "false_full": int(refused),
            "skip_locked_false_full_percent": round(median(other.false_full for _, other in rounds) * 100),
            "cpu_ratio": round(median_ratio([(one.cpu_us, other.cpu_us) for one, other in rounds]), 2),
            "cpu_us_ours": round(ours[-1].cpu_us),
            "cpu_us_skip_locked": round(rounds[-1][1].cpu_us),
        },
    )


def _ours(house: House, account: Account) -> Round:
    """One round of claims; ``false_full``: how many claimers were told "full" while a slot was free."""
    Submission.objects.all().delete()
    Generation.objects.all().delete()
    _wait_for_slots(house.user_id, SLOTS + CLAIMERS * ASK)
    false_full, lock = [], threading.Lock()

    def claimer() -> None:
        while claim("pixverse", uuid.uuid4(), ASK):
            pass
        held = Submission.objects.holding_slot().filter(account=account).count()
        if held < SLOTS:
            with lock:
                false_full.append(held)
        connection.close()

    meter, started = Meter([os.getpid()]), time.perf_counter()
    in_parallel([claimer] * CLAIMERS)
    seconds, cpu = time.perf_counter() - started, meter.seconds()
    slots = list(Submission.objects.holding_slot().filter(account=account).values_list("slot", flat=True))
    oversubscribed = len(slots) - len(set(slots)) + abs(len(slots) - SLOTS)
    return Round(SLOTS / seconds, cpu / SLOTS * 1e6, oversubscribed, len(false_full))


def _wait_for_slots(user_id: int, count: int) -> None:
    """Pending Generations without going through intake (which P1 measures)."""
    until = database_now()
    Generation.objects.bulk_create(
        Generation(
            user_id=user_id,
            provider_id="pixverse",
            operation_type="text_to_video",
            params={"prompt": str(number)},
            raw_params={},
            fingerprint=fingerprint(
                provider_id="pixverse",
                operation_type="text_to_video",
                params={"prompt": str(number)},
                inputs=[],
                account=None,
                context=None,
            ),
            queue_until=until.replace(year=until.year + 1, day=1),
        )
        for number in range(count)
    )


def _theirs(account: Account) -> Round:
    """The same slots by SKIP LOCKED on the account's row, a row per slot; a claimer that finds it locked tries again.

    ``false_full``: the share of tries that found "no account" although slots were free.
    """
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE bench_row")
    full, tries, lock = [0], [0], threading.Lock()

    def claimer() -> None:
        open_slots = True
        while open_slots and tries[0] < MOST_TRIES:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(
                    "SELECT (SELECT count(*) FROM bench_row)"
                    " FROM accounts_account WHERE id = %s FOR UPDATE SKIP LOCKED",
                    [account.pk],
                )
                found = cursor.fetchone()
                if found and found[0] < SLOTS:
                    cursor.execute("INSERT INTO bench_row DEFAULT VALUES")
                open_slots = not found or found[0] < SLOTS
            with lock:
                tries[0] += 1
                full[0] += found is None
        connection.close()

    meter, started = Meter([os.getpid()]), time.perf_counter()
    in_parallel([claimer] * CLAIMERS)
    seconds, cpu = time.perf_counter() - started, meter.seconds()
    return Round(SLOTS / seconds, cpu / SLOTS * 1e6, 0, full[0] / tries[0])
