"""What the list of Generations shows beside their own columns: a few queries for a page, however long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

from generations.lifecycle import Status
from generations.models import Asset, Generation, Submission
from generations.reports.partial import partials
from generations.reports.waiting import wait_reasons

STATUS_TONES = {
    Status.PENDING: "wait",
    Status.PROCESSING: "busy",
    Status.COMPLETED: "good",
    Status.FAILED: "bad",
    Status.CANCELLED: "plain",
}
WAIT_WORDS = {
    "scheduled": "scheduled for later",
    "backing_off": "waits before its next attempt",
    "no_capacity": "all slots are in use",
    "cooling_down": "its accounts are cooling down",
    "user_cap": "its user has as many in flight as his cap allows",
    "daily_cap": "its accounts have reached their cap for today",
    "held_back": "held back until results can be stored",
    "paused": "paused by an operator",
    "no_account": "no account may serve it",
}


@dataclass(slots=True)
class Facts:
    """One row's: its newest attempt's account, how many attempts, what they cost, and its first result."""

    attempts: int = 0
    account: str = ""
    state: str = ""
    progress: int | None = None
    cost: Decimal | None = None
    cost_at_risk: bool = False
    asset: Asset | None = None
    outputs: int = 0
    reason: str = ""
    submissions: list[UUID] = field(default_factory=list)


def facts_of(generations: Sequence[Generation]) -> dict[UUID, Facts]:
    """The facts of each, by id."""
    facts = {generation.pk: Facts() for generation in generations}
    _add_attempts(facts)
    _add_results(facts)
    reasons = wait_reasons(generations)
    partial = partials([row.pk for row in generations if row.status == Status.COMPLETED])
    for generation in generations:
        reason = reason_of(generation, reasons.get(generation.pk))
        facts[generation.pk].reason = reason or partial.get(generation.pk, "")
    return facts


def reason_of(generation: Generation, wait_reason: str | None) -> str:
    """Why it stands where it stands, in a few words; empty when all is well."""
    if generation.status == Status.FAILED:
        return generation.error_code.replace("_", " ")
    if generation.is_live and generation.cancel_requested_at:
        return "cancel requested"
    if wait_reason:
        return WAIT_WORDS.get(str(wait_reason), str(wait_reason).replace("_", " "))
    return ""


def _add_attempts(facts: dict[UUID, Facts]) -> None:
    attempts = (
        Submission.objects.filter(generation__in=list(facts))
        .order_by("generation", "number")
        .values_list(
            "pk",
            "generation_id",
            "state",
            "progress",
            "cost",
            "cost_at_risk",
            "account__label",
            "account__provider_id",
        )
    )
    for pk, generation_id, state, progress, cost, at_risk, label, provider_id in attempts:
        fact = facts[generation_id]
        fact.attempts += 1
        fact.account, fact.state, fact.progress = f"{provider_id}/{label}", state, progress
        fact.cost_at_risk |= at_risk
        fact.submissions.append(pk)
        if cost is not None:
            fact.cost = (fact.cost or Decimal(0)) + cost


def _add_results(facts: dict[UUID, Facts]) -> None:
    owner = {pk: fact for fact in facts.values() for pk in fact.submissions}
    assets = Asset.objects.filter(submission__in=list(owner), role=Asset.Role.OUTPUT).order_by("submission", "index")
    for asset in assets:
        assert asset.submission_id is not None
        fact = owner[asset.submission_id]
        fact.outputs += 1
        if fact.asset is None:
            fact.asset = asset
