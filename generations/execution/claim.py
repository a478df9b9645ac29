"""The claim (T2): due Generations get Submissions with slots, decided one claimer at a time per provider.

Serialise the decision, parallelise the work: an advisory lock is held for the few milliseconds in which the usable
capacity is read, the due work that it can serve is found and matched, and the Submissions are inserted.
"""

# ruff: noqa: S608  (nothing but constants of this file is put into the SQL)

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from django.contrib.postgres.expressions import ArraySubquery
from django.db import connection, transaction
from django.db.models import Exists, Max, OuterRef, Value
from django.db.models.functions import Coalesce, Now

from accounts.models import Account
from generations.conf import limits, seconds
from generations.execution import caps, process
from generations.execution.matching import Assignment, Candidate, Capacity, free_slots, match
from generations.lifecycle import HOLDS_SLOT, Status
from generations.models import Generation, HeldBack, Submission, Switch
from generations.models.generation import SUSPECT_AFTER
from generations.models.switch import Pauses

MATURE_BATCH = 1000

# Whether a user (w) may have more in flight. A subquery that is asked for each user who waits, so that the caps of
# those who do not wait cost nothing.
MAY_START = """w.user_id <> ALL(%(passed)s::integer[])
       AND coalesce((SELECT c.max_in_flight > (SELECT count(*) FROM generations_generation f
                                                WHERE f.user_id = c.user_id AND f.status = 'processing')
                       FROM accounts_usercap c WHERE c.user_id = w.user_id), TRUE)"""

# Who waits with which operation is found by jumping from one pair to the next in the index (generation_due), so that
# the cost does not grow with how much each has waiting, nor with what is paused. Where a jump lands is the pair's best
# row; of the best users the best rows are read.
UNPINNED = f"""
WITH RECURSIVE waiting(user_id, operation_type, id, priority, not_sent) AS (
    (SELECT user_id, operation_type, id, priority, not_sent FROM generations_generation
      WHERE provider_id = %(provider)s AND status = 'pending' AND not_before IS NULL AND account_id IS NULL
      ORDER BY user_id, operation_type, priority DESC, id LIMIT 1)
    UNION ALL
    SELECT n.* FROM waiting w
     CROSS JOIN LATERAL (
        SELECT g.user_id, g.operation_type, g.id, g.priority, g.not_sent FROM generations_generation g
         WHERE g.provider_id = %(provider)s AND g.status = 'pending' AND g.not_before IS NULL
           AND g.account_id IS NULL AND (g.user_id, g.operation_type) > (w.user_id, w.operation_type)
         ORDER BY g.user_id, g.operation_type, g.priority DESC, g.id LIMIT 1) n
), accounts AS (
    SELECT * FROM unnest(%(accounts)s::uuid[], %(owners)s::integer[]) AS a(id, owner_id)
), going AS (
    SELECT w.* FROM waiting w
     WHERE w.operation_type <> ALL(%(paused)s)
       AND EXISTS (SELECT 1 FROM accounts a WHERE a.owner_id IS NULL OR a.owner_id = w.user_id)
       AND {MAY_START}
), best AS (
    SELECT DISTINCT ON (w.user_id) w.user_id, head.id, head.priority
      FROM going w
      CROSS JOIN LATERAL (
        SELECT w.id, w.priority
         WHERE (w.not_sent >= %(suspect_after)s) = %(suspects)s
           AND EXISTS (SELECT 1 FROM accounts a
                        WHERE (a.owner_id IS NULL OR a.owner_id = w.user_id)
                          AND NOT EXISTS (SELECT 1 FROM generations_accountexclusion e
                                           WHERE e.generation_id = w.id AND e.account_id = a.id))
        UNION ALL
        (SELECT g.id, g.priority FROM generations_generation g
          WHERE g.provider_id = %(provider)s AND g.user_id = w.user_id AND g.operation_type = w.operation_type
            AND g.status = 'pending' AND g.not_before IS NULL AND g.account_id IS NULL
            AND (g.not_sent >= %(suspect_after)s) = %(suspects)s
            AND EXISTS (SELECT 1 FROM accounts a
                         WHERE (a.owner_id IS NULL OR a.owner_id = g.user_id)
                           AND NOT EXISTS (SELECT 1 FROM generations_accountexclusion e
                                            WHERE e.generation_id = g.id AND e.account_id = a.id))
          ORDER BY g.priority DESC, g.id LIMIT 1)
        LIMIT 1) head
     ORDER BY w.user_id, head.priority DESC, head.id
), heads AS (
    SELECT best.user_id
      FROM best
      LEFT JOIN (SELECT user_id, count(*) AS n FROM generations_generation
                  WHERE provider_id = %(provider)s AND status = 'processing' GROUP BY user_id) busy
             ON busy.user_id = best.user_id
     ORDER BY best.priority DESC, coalesce(busy.n, 0), best.id
     LIMIT %(size)s
)
SELECT c.id, c.user_id, c.priority, NULL::uuid,
       ARRAY(SELECT e.account_id FROM generations_accountexclusion e WHERE e.generation_id = c.id)
  FROM heads h
  JOIN going w ON w.user_id = h.user_id
  CROSS JOIN LATERAL (
    SELECT g.id, g.user_id, g.priority FROM generations_generation g
     WHERE g.provider_id = %(provider)s AND g.user_id = w.user_id AND g.operation_type = w.operation_type
       AND g.status = 'pending' AND g.not_before IS NULL AND g.account_id IS NULL
       AND (g.not_sent >= %(suspect_after)s) = %(suspects)s
       AND EXISTS (SELECT 1 FROM accounts a
                    WHERE (a.owner_id IS NULL OR a.owner_id = g.user_id)
                      AND NOT EXISTS (SELECT 1 FROM generations_accountexclusion e
                                       WHERE e.generation_id = g.id AND e.account_id = a.id))
     ORDER BY g.priority DESC, g.id LIMIT %(size)s) c
"""

# The same for those that are pinned to an account: who waits for each with which operation, and their best rows.
PINNED = f"""
WITH RECURSIVE accounts AS (
    SELECT * FROM unnest(%(accounts)s::uuid[], %(owners)s::integer[]) AS a(id, owner_id)
), waiting(account_id, user_id, operation_type) AS (
    SELECT a.id, n.user_id, n.operation_type FROM accounts a
     CROSS JOIN LATERAL (
        SELECT g.user_id, g.operation_type FROM generations_generation g
         WHERE g.account_id = a.id AND g.status = 'pending' AND g.not_before IS NULL
         ORDER BY g.user_id, g.operation_type LIMIT 1) n
    UNION ALL
    SELECT w.account_id, n.user_id, n.operation_type FROM waiting w
     CROSS JOIN LATERAL (
        SELECT g.user_id, g.operation_type FROM generations_generation g
         WHERE g.account_id = w.account_id AND g.status = 'pending' AND g.not_before IS NULL
           AND (g.user_id, g.operation_type) > (w.user_id, w.operation_type)
         ORDER BY g.user_id, g.operation_type LIMIT 1) n
)
SELECT c.id, c.user_id, c.priority, c.account_id, ARRAY[]::uuid[]
  FROM waiting w
  JOIN accounts a ON a.id = w.account_id AND (a.owner_id IS NULL OR a.owner_id = w.user_id)
  CROSS JOIN LATERAL (
    SELECT g.id, g.user_id, g.priority, g.account_id FROM generations_generation g
     WHERE g.account_id = w.account_id AND g.user_id = w.user_id AND g.operation_type = w.operation_type
       AND g.status = 'pending' AND g.not_before IS NULL
       AND (g.not_sent >= %(suspect_after)s) = %(suspects)s
       AND NOT EXISTS (SELECT 1 FROM generations_accountexclusion e
                        WHERE e.generation_id = g.id AND e.account_id = w.account_id)
     ORDER BY g.priority DESC, g.id LIMIT %(size)s) c
 WHERE w.operation_type <> ALL(%(paused)s)
   AND {MAY_START}
"""


def claim(provider_id: str, token: UUID, at_most: int, *, suspects: bool = False) -> list[Submission]:
    """Reserve slots for up to ``at_most`` due Generations of a provider, in one short transaction.

    What is paused is left where it is. The Submissions are ``reserved``, owned by ``token`` for a lease, with
    ``generation`` and ``account`` loaded.
    ``suspects``: only Generations whose dispatchers have died (see ``poison``), which are else passed over.
    """
    with transaction.atomic():
        lock(provider_id)
        pauses = Pauses(Switch.objects.pauses())
        if pauses.of_provider(provider_id):
            return []
        accounts = _accounts(provider_id)
        capacities = [_capacity(account) for account in accounts]
        capacities = [capacity for capacity in capacities if capacity.free]
        if not capacities:
            return []
        by_id = {account.pk: account for account in accounts}
        submissions: list[Submission] = []
        passed: set[int] = set()
        while capacities and len(submissions) < at_most:
            size = min(at_most - len(submissions), sum(len(capacity.free) for capacity in capacities))
            candidates = _candidates(
                provider_id, capacities, size, paused=pauses.operations, passed=passed, suspects=suspects
            )
            if not candidates:
                break
            allowances = caps.allowances({candidate.user_id for candidate in candidates})
            assignments = match(candidates, capacities, _in_flight(provider_id), allowances)[:size]
            reserved = _reserve(assignments, by_id, token)
            submissions += reserved
            if len(reserved) < len(assignments) or len(assignments) in {len(candidates), size}:
                break
            # Some found no free slot where they may run, or their user has as many in flight as he may. They may have
            # hidden others that can run where some are left.
            passed |= {user for user, left in allowances.items() if not left}
            capacities = [capacity for capacity in capacities if capacity.free]
        return submissions


def lock(provider_id: str) -> None:
    """One claimer per provider at a time, until the transaction ends; in a statement of its own, so that the next
    statement sees what the one before has committed. Whoever pauses takes it too: no claim is then under way that has
    not seen the pause."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('darkroom.claim'), hashtext(%s))", [provider_id])


def _accounts(provider_id: str) -> list[Account]:
    held = Submission.objects.filter(account=OuterRef("pk"), state__in=HOLDS_SLOT).values("slot")
    able = Account.objects.of_provider(provider_id).usable()
    # While results cannot be kept up with, there is none.
    able = able.filter(~Exists(HeldBack.objects.active()))
    return list(able.annotate(held_slots=ArraySubquery(held), used_today=caps.used_today()))


def _capacity(account: Account) -> Capacity:
    held: list[int] = account.held_slots  # type: ignore[attr-defined]  # annotated above
    used_today: int | None = account.used_today  # type: ignore[attr-defined]
    left = None if account.daily_cap is None or used_today is None else account.daily_cap - used_today
    free = free_slots(account.limit, held, left)
    if account.exhausted_at is not None:
        # A probe: one tells whether there are credits again.
        free = free[-1:] if not held else []
    return Capacity(
        account_id=account.pk,
        owner_id=account.owner_id,
        priority=account.priority,
        limit=account.limit,
        held=len(held),
        last_used_at=account.last_used_at,
        free=free,
    )


def _candidates(
    provider_id: str,
    capacities: Sequence[Capacity],
    size: int,
    *,
    paused: Sequence[str],
    passed: Collection[int],
    suspects: bool,
) -> list[Candidate]:
    """The best of what is due and these accounts may serve: nothing of the operations that are ``paused``, nor of the
    users that were ``passed`` over."""
    values: dict[str, Any] = {
        "provider": provider_id,
        "accounts": [capacity.account_id for capacity in capacities],
        "owners": [capacity.owner_id for capacity in capacities],
        "paused": paused,
        "size": size,
        "suspects": suspects,
        "suspect_after": SUSPECT_AFTER,
        "passed": list(passed),
    }
    found: list[Candidate] = []
    with connection.cursor() as cursor:
        for query in (UNPINNED, PINNED):
            cursor.execute(query, values)
            found += [Candidate(row[0], row[1], row[2], row[3], frozenset(row[4])) for row in cursor.fetchall()]
    return found


def _in_flight(provider_id: str) -> dict[int, int]:
    """How many each user has in flight at this provider (bounded by the provider's slots)."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT user_id, count(*) FROM generations_generation"
            " WHERE provider_id = %s AND status = 'processing' GROUP BY user_id",
            [provider_id],
        )
        return dict(cursor.fetchall())


def _reserve(assignments: Sequence[Assignment], accounts: dict[UUID, Account], token: UUID) -> list[Submission]:
    by_id = {assignment.generation_id: assignment for assignment in assignments}
    # Whoever is being cancelled at this moment is skipped.
    generations = {
        generation.pk: generation
        for generation in Generation.objects.select_for_update(skip_locked=True, no_key=True)
        .filter(pk__in=by_id, status=Status.PENDING, not_before=None)
        .order_by("pk")
    }
    if not generations:
        return []
    Generation.objects.filter(pk__in=generations).update(
        status=Status.PROCESSING, started_at=Coalesce("started_at", Now())
    )
    numbers = dict(
        Submission.objects.filter(generation__in=generations)
        .values_list("generation")
        .annotate(last=Max("number"))
        .values_list("generation", "last")
    )
    lease_until = Now() + Value(seconds(limits().lease))
    submissions = [
        Submission(
            generation=generations[assignment.generation_id],
            number=numbers.get(assignment.generation_id, 0) + 1,
            account=accounts[assignment.account_id],
            slot=assignment.slot,
            limit_seen=assignment.limit,
            choice=assignment.choice,
            token=token,
            lease_until=lease_until,
            process=process.description(),
        )
        for assignment in assignments
        if assignment.generation_id in generations
    ]
    Submission.objects.bulk_create(submissions)
    # Only a hint for the next choice: an Account that is being settled at this moment is not waited for.
    used = Account.objects.select_for_update(skip_locked=True, no_key=True).filter(
        pk__in={submission.account_id for submission in submissions}
    )
    Account.objects.filter(pk__in=used.values("pk")).update(last_used_at=Now())
    return submissions


def suspects_wait(provider_id: str) -> bool:
    """Whether a due Generation of this provider has seen its dispatchers die before they sent it."""
    due = Generation.objects.filter(provider_id=provider_id, status=Status.PENDING, not_before=None)
    return due.filter(not_sent__gte=SUSPECT_AFTER).exists()


def mature(provider_id: str | None = None) -> int:
    """What was scheduled or backing off and has come is due now: a batch of it. Gives how many."""
    rows = Generation.objects.filter(status=Status.PENDING, not_before__lte=Now())
    if provider_id is not None:
        rows = rows.filter(provider_id=provider_id)
    if not rows.exists():
        return 0
    with transaction.atomic():
        locked = rows.select_for_update(skip_locked=True, no_key=True).order_by("not_before")
        ids = list(locked.values_list("pk", flat=True)[:MATURE_BATCH])
        return Generation.objects.filter(pk__in=ids).update(not_before=None)


def extend_leases(submissions: Sequence[Submission], token: UUID) -> None:
    """The owner is still at it: the leases of what it has reserved are renewed."""
    Submission.objects.filter(
        pk__in=[submission.pk for submission in submissions], token=token, lease_until__gt=Now()
    ).update(lease_until=Now() + Value(seconds(limits().lease)))
