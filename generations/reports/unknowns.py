"""The inbox of unknown outcomes: what nobody knows, what speaks for what, and what is at stake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connection

from generations.lifecycle import LIVE, State
from generations.models import Submission, UnknownOutcome
from generations.reports.sentences import provider_title
from generations.reports.spans import span
from providers import registry
from providers.registry import UnknownProvider

# What the newest attempts of an account cost, by operation: at most so many rows of the index are read of each.
USUAL_COST = """
SELECT a.id, g.operation_type, avg(newest.cost)
  FROM unnest(%s::uuid[]) AS a(id)
  CROSS JOIN LATERAL (
    SELECT s.generation_id, s.cost FROM generations_submission s
     WHERE s.account_id = a.id ORDER BY s.id DESC LIMIT 500) newest
  JOIN generations_generation g ON g.id = newest.generation_id
 WHERE newest.cost > 0
 GROUP BY a.id, g.operation_type
"""


@dataclass(frozen=True, slots=True)
class AtStake:
    """One unknown outcome with what is at stake.

    ``usual_cost`` is the mean of what the account's newest attempts at the operation cost, in the provider's unit.
    ``held`` are the user's credits that wait with it, ``keeps_slot`` whether it holds one of the account's slots.
    """

    submission: Submission
    usual_cost: Decimal | None
    unit: str
    held: int
    keeps_slot: bool

    @property
    def evidence(self) -> str:
        """What the provider's own list says, as a sentence."""
        return evidence_text(self.submission)

    @property
    def what_next(self) -> str:
        """What happens when nobody says anything."""
        return next_text(self.submission)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form; amounts as texts."""
        row = self.submission
        generation = row.generation
        return {
            "id": str(row.pk),
            "generation": str(row.generation_id),
            "attempt": row.number,
            "state": row.state,
            "status": generation.status,
            "provider_id": row.account.provider_id,
            "account": row.account.label,
            "user": generation.user.get_username(),
            "operation_type": generation.operation_type,
            "prompt": generation.prompt,
            "why": row.error_message,
            "sent_at": row.sent_at,
            "limit_at": row.limit_at if self.keeps_slot else None,
            "evidence": row.evidence,
            "evidence_text": self.evidence,
            "what_next": self.what_next,
            "usual_cost": None if self.usual_cost is None else f"{self.usual_cost:f}",
            "unit": self.unit,
            "held_credits": self.held,
            "keeps_slot": self.keeps_slot,
        }


def waiting(most: int = 100) -> int:
    """How many of them are there; stops counting at ``most``."""
    return UnknownOutcome.objects.order_by("-pk").values("pk")[:most].count()


def described(rows: Sequence[Submission]) -> list[AtStake]:
    """These attempts (with ``account``, ``generation`` and its user loaded) with what is at stake; one query."""
    usual = _usual_costs({row.account_id for row in rows})
    return [
        AtStake(
            row,
            usual_cost=usual.get((row.account_id, row.generation.operation_type)),
            unit=_unit(row.account.provider_id),
            held=(row.generation.price or 0) if row.generation.status in LIVE else 0,
            keeps_slot=row.state == State.UNKNOWN,
        )
        for row in rows
    ]


def evidence_text(row: Submission) -> str:
    """What the provider's own list says of an attempt, for people."""
    title = provider_title(row.account.provider_id)
    if row.told_job_id:
        return f"{title} called back about it: it is job {row.told_job_id}."
    if row.evidence is None:
        if _can_look(row.account.provider_id):
            return f"{title}'s own list has not been read yet."
        return f"{title} has no list of recent work that we could read. Look into its console."
    jobs, same = row.evidence.get("jobs", 0), row.evidence.get("same_prompt", 0)
    if not jobs:
        return f"{title} lists no job of that time that is not accounted for: it was probably never taken."
    what = "one job" if jobs == 1 else f"{jobs} jobs"
    return f"{title} lists {what} of that time that no attempt of ours has, {same} with the same prompt."


def next_text(row: Submission) -> str:
    """What happens to an attempt when nobody says anything, for people."""
    if row.state != State.UNKNOWN:
        return "It has ended; only what it cost is open."
    if row.limit_at is None:
        return "It waits for a callback."
    left = f"After {span((row.limit_at - row.sent_at).total_seconds())}" if row.sent_at else "At its limit"
    return f"{left} from its sending it is given up: its slot is free again, and its cost stays at risk."


def _usual_costs(account_ids: set[UUID]) -> dict[tuple[UUID, str], Decimal]:
    if not account_ids:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(USUAL_COST, [list(account_ids)])
        return {(account, operation): mean for account, operation, mean in cursor.fetchall()}


def _unit(provider_id: str) -> str:
    try:
        return registry.get(provider_id).balance_unit
    except UnknownProvider:  # its adapter is no longer shipped; its attempts are history
        return ""


def _can_look(provider_id: str) -> bool:
    try:
        provider = registry.get(provider_id)
    except UnknownProvider:
        return False
    return provider.lists_recent or provider.can_find
