"""What a request would cost, how long it would take, and whether it has an answer already. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef

from accounts.models import Account
from generations.conf import limits
from generations.intake.request import Request, prepare
from generations.lifecycle import HOLDS_SLOT, LIVE, Status
from generations.models import Generation, Submission
from generations.models.clock import database_now
from generations.reports.eta import eta_seconds


@dataclass(frozen=True, slots=True)
class Quote:
    """``price`` in credits (None: free); ``reuses``: what would answer it; ``conflict``: what would refuse it."""

    price: int | None
    reuses: Generation | None
    conflict: Generation | None
    eta_seconds: float | None
    accounts: list[dict[str, Any]]


def quote(user_id: int, request: Request) -> Quote:
    """Look at a request without accepting it.

    Raises:
        Invalid, NotFound: as accepting it would.
    """
    generation = prepare(user_id, request).generation
    reuses, conflict = _holder(generation, request.reuse)
    model = str(generation.params.get("model") or generation.params.get("model_id") or "")
    return Quote(
        price=0 if reuses else generation.price,
        reuses=reuses,
        conflict=conflict,
        eta_seconds=eta_seconds(generation.provider_id, generation.operation_type, model, priority=generation.priority),
        accounts=_accounts(user_id, request),
    )


def _holder(generation: Generation, reuse: str) -> tuple[Generation | None, Generation | None]:
    if reuse == "none":
        return None, None
    holder = Generation.objects.filter(user_id=generation.user_id, active_fingerprint=generation.fingerprint).first()
    if holder is None:
        return None, None
    if holder.status in LIVE:
        return holder, None
    if holder.status != Status.COMPLETED:
        return None, holder
    oldest = database_now() - timedelta(days=limits().reuse_days)
    young = holder.completed_at is not None and holder.completed_at >= oldest
    return (holder if reuse == "completed" and young else None), None


def _accounts(user_id: int, request: Request) -> list[dict[str, Any]]:
    """The accounts that may serve it, in words; other users' are not told of."""
    held = Submission.objects.filter(account=OuterRef("pk"), state__in=HOLDS_SLOT).values("slot")
    rows = Account.objects.of_provider(request.provider_id).serving(user_id).annotate(held=ArraySubquery(held))
    if request.account_id is not None:
        rows = rows.filter(pk=request.account_id)
    usable = set(Account.objects.of_provider(request.provider_id).usable().values_list("pk", flat=True))
    return [
        {
            "id": str(account.pk),
            "label": account.label,
            "limit": account.limit,
            "free_slots": max(0, account.limit - len(account.held)),  # type: ignore[attr-defined]
            "usable": account.pk in usable,
        }
        for account in rows.order_by("-priority", "label")
    ]
