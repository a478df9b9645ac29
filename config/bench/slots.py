"""P7: one account with 500 slots and 32 claimers: nothing oversubscribed, nobody told "full" who could have had one.

The peer is the usual ``SELECT ... FOR UPDATE SKIP LOCKED`` on the account's row, whose losers take "locked" for "full".
"""

from __future__ import annotations

import threading
import uuid

from django.db import connection, transaction

from accounts.models import Account
from config.bench.house import House
from config.bench.load import in_parallel
from config.bench.result import Row
from generations.execution.claim import claim
from generations.fingerprint import fingerprint
from generations.models import Generation, Submission
from generations.models.clock import database_now

SLOTS = 500
CLAIMERS = 32
ASK = 4


def measure(house: House) -> Row:
    """More work than slots; every claimer goes on until it is told that there is no slot."""
    account = house.sandbox_account("pixverse", limit=SLOTS)
    _wait_for_slots(house.user_id, SLOTS + CLAIMERS * ASK)
    false_full, lock = [], threading.Lock()

    def claimer() -> None:
        while True:
            got = claim("pixverse", uuid.uuid4(), ASK)
            if not got:
                held = Submission.objects.holding_slot().filter(account=account).count()
                if held < SLOTS:
                    with lock:
                        false_full.append(held)
                break
        connection.close()

    in_parallel([claimer] * CLAIMERS)
    slots = list(Submission.objects.holding_slot().filter(account=account).values_list("slot", flat=True))
    oversubscribed = len(slots) - len(set(slots)) + max(0, len(slots) - SLOTS)
    share = _peer_false_full(account)
    return Row(
        id="P7",
        what=f"{CLAIMERS} claimers on one account with {SLOTS} slots: oversubscribed + false full",
        goal="0 oversubscribed, 0 false full",
        reached=oversubscribed == 0 and not false_full and len(slots) == SLOTS,
        ratio=None,
        figures={
            "slots_taken": len(slots),
            "oversubscribed": oversubscribed,
            "false_full": len(false_full),
            "skip_locked_false_full_percent": round(share * 100),
        },
    )


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


def _peer_false_full(account: Account) -> float:
    """The share of SKIP LOCKED tries that find "no account" although it has free slots."""
    full, tries, lock = [0], [0], threading.Lock()

    def claimer() -> None:
        for _ in range(SLOTS // CLAIMERS):
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(
                    'SELECT id FROM accounts_account WHERE id = %s AND "limit" > 0 FOR UPDATE SKIP LOCKED',
                    [account.pk],
                )
                found = cursor.fetchone()
                if found:
                    cursor.execute("UPDATE accounts_account SET last_used_at = now() WHERE id = %s", [account.pk])
            with lock:
                tries[0] += 1
                full[0] += found is None
        connection.close()

    in_parallel([claimer] * CLAIMERS)
    return full[0] / tries[0]
