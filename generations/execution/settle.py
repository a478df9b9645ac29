"""How a Generation ends (T5, T6): status, money, claim, Event and webhook deliveries in the caller's one transaction.

Lock order: generation, submission, account, wallet. Callers lock the Generations first (``lock``), change their
Submissions, then end them here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from accounts import credits
from accounts.credits import Movement
from generations.execution.announce import News, announce
from generations.lifecycle import BILLABLE, Status
from generations.models import Event, Generation, Incident, Submission
from generations.models.bulk import update_rows
from generations.models.webhook import EVENT_OF

NO_BILLABLE = (
    "NOT EXISTS (SELECT 1 FROM generations_submission s WHERE s.generation_id = t.id AND s.state = ANY(%(billable)s))"
)
BILLABLE_STATES = [str(state) for state in BILLABLE]


@dataclass(frozen=True, slots=True)
class Ending:
    """How one Generation ends. ``code`` and ``message`` are empty for a completed one; ``data`` goes to the Event."""

    generation_id: UUID
    status: Status
    code: str = ""
    message: str = ""
    attempt: int | None = None
    data: dict[str, Any] = field(default_factory=dict)


def lock(generation_ids: Iterable[UUID]) -> dict[UUID, Generation]:
    """Lock these Generations, in the order of their ids, and read them afresh."""
    rows = Generation.objects.select_for_update(no_key=True).filter(pk__in=set(generation_ids)).order_by("pk")
    return {generation.pk: generation for generation in rows}


def end(endings: Sequence[Ending], *, actor: str) -> set[UUID]:
    """End live Generations and settle their money. Those that ended already are left alone.

    A completed one captures; the others release, and give up their claim to be the answer unless an attempt of
    theirs may still be billed.

    Returns:
        The ids of those that ended now.
    """
    if not endings:
        return set()
    by_id = {ending.generation_id: ending for ending in endings}
    ended = update_rows(
        Generation,
        {
            ending.generation_id: {
                "status": str(ending.status),
                "error_code": ending.code,
                "error_message": ending.message,
            }
            for ending in by_id.values()
        },
        guard="t.status IN ('pending', 'processing')",
        also=(
            "completed_at = now(), not_before = NULL, active_fingerprint = CASE"
            f" WHEN v.status = 'completed' OR NOT ({NO_BILLABLE}) THEN t.active_fingerprint END"
        ),
        params={"billable": BILLABLE_STATES},
        returning=["user_id", "price", "completed_at"],
    )
    captured: list[Movement] = []
    released: list[Movement] = []
    for generation_id, (user_id, price, _) in ended.items():
        if price is not None:
            completed = by_id[generation_id].status == Status.COMPLETED
            (captured if completed else released).append(Movement(user_id, generation_id, price))
    Event.objects.bulk_create(
        Event(
            generation_id=generation_id,
            attempt=by_id[generation_id].attempt,
            kind=by_id[generation_id].status.value,
            actor=actor,
            data=_event_data(by_id[generation_id]),
        )
        for generation_id in ended
    )
    credits.capture(captured, actor=actor)
    credits.release(released, actor=actor)
    announce(
        [
            News(generation_id, user_id, EVENT_OF[by_id[generation_id].status], completed_at)
            for generation_id, (user_id, _, completed_at) in ended.items()
        ]
    )
    return set(ended)


def give_up_claims(generation_ids: Iterable[UUID]) -> None:
    """Ended without a result, and no attempt may be billed any more: the same request may be made anew."""
    rows: dict[UUID, dict[str, Any]] = {generation_id: {"active_fingerprint": None} for generation_id in generation_ids}
    update_rows(
        Generation,
        rows,
        guard=f"t.status IN ('failed', 'cancelled') AND t.active_fingerprint IS NOT NULL AND {NO_BILLABLE}",
        params={"billable": BILLABLE_STATES},
    )


def report(kind: Incident.Kind, submission: Submission, detail: str) -> None:
    """An Incident of an attempt, once per kind."""
    Incident.objects.bulk_create(
        [
            Incident(
                kind=kind,
                generation_id=submission.generation_id,
                submission=submission,
                account_id=submission.account_id,
                detail=detail,
            )
        ],
        ignore_conflicts=True,
    )


def _event_data(ending: Ending) -> dict[str, Any]:
    if ending.code:
        return {"code": ending.code, "message": ending.message, **ending.data}
    return ending.data
