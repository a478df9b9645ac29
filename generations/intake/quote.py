"""What a request would cost, how long it would take, and whether it has an answer already. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from generations.intake import caps
from generations.intake.request import Request, prepare
from generations.intake.store import Reuse, holders, may_answer
from generations.lifecycle import Status
from generations.models import Generation, Switch
from generations.models.clock import database_now
from generations.models.switch import Pauses
from generations.reports.capacity import standings
from generations.reports.eta import eta_seconds, model_of


@dataclass(frozen=True, slots=True)
class Quote:
    """``price`` in credits (None: free); ``reuses``: what would answer it; ``conflict``: what would refuse it;
    ``cap_reached``: the user's cap that would refuse it, in words."""

    price: int | None
    reuses: Generation | None
    conflict: Generation | None
    cap_reached: str | None
    eta_seconds: float | None
    accounts: list[dict[str, Any]]


def quote(user_id: int, request: Request) -> Quote:
    """Look at a request without accepting it.

    Raises:
        Invalid, NotFound: as accepting it would.
    """
    generation = prepare(user_id, request).generation
    reuses, conflict = _holder(generation, request.reuse)
    model = model_of(generation.params)
    refused = None if reuses or conflict else caps.would_refuse(user_id, database_now())
    where = (generation.provider_id, generation.operation_type)
    paused = Pauses(Switch.objects.pauses()).of(*where)
    return Quote(
        price=0 if reuses else generation.price,
        reuses=reuses,
        conflict=conflict,
        cap_reached=refused.detail if refused else None,
        eta_seconds=None if paused else eta_seconds(*where, model, priority=generation.priority),
        accounts=_accounts(user_id, request),
    )


def _holder(generation: Generation, reuse: Reuse) -> tuple[Generation | None, Generation | None]:
    if reuse == "none":
        return None, None
    holder = holders([generation]).get(generation.fingerprint)
    if holder is None:
        return None, None
    if may_answer(holder, reuse, database_now()):
        return holder, None
    return None, None if holder.status == Status.COMPLETED else holder


def _accounts(user_id: int, request: Request) -> list[dict[str, Any]]:
    """The accounts that may serve it, in words; other users' are not told of."""
    return [
        {
            "id": str(standing.id),
            "label": standing.label,
            "limit": standing.limit,
            "free_slots": standing.free,
            "usable": standing.usable,
            "why_not": None if standing.usable else standing.why_not(),
        }
        for standing in standings(providers=[request.provider_id], users=[user_id])
        if request.account_id in {None, standing.id}
    ]
