"""From rows to answers: a page of Generations in a number of queries that does not depend on how many they are.

``here`` is the address by which we are reached, ``https://studio.example.org``; links begin with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from accounts.models import LedgerEntry
from generations.lifecycle import LIVE, Status
from generations.models import Asset, Event, Generation, GenerationInput, Submission
from generations.reports.answers import AssetAnswer, AttemptAnswer, GenerationAnswer, InputAnswer, Links
from generations.reports.eta import eta_of
from generations.reports.waiting import WaitReason, wait_reasons
from generations.signing import content_url

PATH = "/api/v1/generations"


@dataclass
class _Beside:
    """What belongs to one Generation in other tables."""

    wait_reason: str | None = None
    reused: bool = False
    completion: dict[str, Any] = field(default_factory=dict)
    refunded: int | None = None
    inputs: list[GenerationInput] = field(default_factory=list)
    attempts: list[Submission] = field(default_factory=list)
    outputs: list[Asset] = field(default_factory=list)
    retries: list[UUID] = field(default_factory=list)


def page(here: str, rows: Sequence[Generation]) -> list[GenerationAnswer]:
    """The answers for a page of rows. Five queries, and a few more for those that wait or had a price."""
    beside = _beside(rows)
    return [_generation(here, row, beside[row.pk]) for row in rows]


def one(here: str, row: Generation, *, reused: bool | None = None) -> GenerationAnswer:
    """The answer for one row, with its ETA unless it answers a POST (``reused`` says how)."""
    beside = _beside([row])[row.pk]
    if reused is not None:
        beside.reused = reused
        return _generation(here, row, beside)
    knowable = row.is_live and beside.wait_reason != WaitReason.PAUSED
    eta = eta_of(row) if knowable else None
    return _generation(here, row, beside, eta=None if eta is None else round(eta))


def new(here: str, row: Generation, *, has_inputs: bool) -> GenerationAnswer:
    """The answer for a row that was made just now: nothing belongs to it yet but its inputs. No query without them."""
    beside = _Beside(wait_reason=wait_reasons([row])[row.pk] if row.not_before else None)
    if has_inputs:
        beside.inputs = list(row.inputs.select_related("asset").order_by("index"))
    return _generation(here, row, beside)


def asset(here: str, row: Asset) -> AssetAnswer:
    """A stored file with fresh links to its bytes."""
    return AssetAnswer.of(
        id=row.pk,
        role=row.role,
        url=here + content_url(row),
        thumbnail_url=here + content_url(row, thumbnail=True) if row.thumbnail_key and not row.expired_at else None,
        download_url=here + content_url(row, download=True),
        mime_type=row.mime_type,
        bytes=row.size,
        sha256=row.sha256,
        width=row.width,
        height=row.height,
        duration=row.duration,
        name=row.name or None,
        favourite=row.favourite,
        downloads=row.downloads,
        created_at=row.created_at,
        expired_at=row.expired_at,
    )


def _beside(rows: Sequence[Generation]) -> dict[UUID, _Beside]:
    found: dict[UUID, _Beside] = defaultdict(_Beside)
    ids = [row.pk for row in rows]
    if not ids:
        return found
    for pk, reason in wait_reasons(rows).items():
        found[pk].wait_reason = reason
    for given in GenerationInput.objects.filter(generation__in=ids).select_related("asset").order_by("index"):
        found[given.generation_id].inputs.append(given)
    attempts = Submission.objects.filter(generation__in=ids).select_related("account").order_by("number")
    told = ("generation_id", "number", "state", "progress", "error_code", "sent_at", "ended_at", "abandoned_at")
    for attempt in attempts.only(*told, "account__label"):
        found[attempt.generation_id].attempts.append(attempt)
    outputs = Asset.objects.filter(submission__generation__in=ids).select_related("submission")
    for output in outputs.order_by("submission__number", "index"):
        if output.submission is not None:
            found[output.submission.generation_id].outputs.append(output)
    for pk, of in Generation.objects.filter(retry_of__in=ids).order_by("pk").values_list("pk", "retry_of"):
        if of is not None:
            found[of].retries.append(pk)
    _add_outcomes(found, rows)
    return found


def _add_outcomes(found: dict[UUID, _Beside], rows: Sequence[Generation]) -> None:
    """What Events and the ledger tell: answered another request too, how it completed, what was given back."""
    kinds = [Event.Kind.REUSED, Event.Kind.COMPLETED]
    for event in Event.objects.filter(generation__in=[row.pk for row in rows], kind__in=kinds):
        if event.kind == Event.Kind.COMPLETED:
            found[event.generation_id].completion = event.data
        else:
            found[event.generation_id].reused = True
    paid = [row.pk for row in rows if row.price and row.status == Status.COMPLETED]
    refunds = LedgerEntry.objects.filter(reference__in=paid, kind=LedgerEntry.Kind.REFUND) if paid else []
    for entry in refunds:
        if entry.reference is not None:
            found[entry.reference].refunded = entry.available_change


def _generation(here: str, row: Generation, beside: _Beside, *, eta: int | None = None) -> GenerationAnswer:
    captured, late = _split(row, beside.outputs)
    return GenerationAnswer.of(
        id=row.pk,
        status=row.status,
        wait_reason=beside.wait_reason,
        progress=_progress(row, beside.attempts),
        provider_id=row.provider_id,
        operation_type=row.operation_type,
        params=row.params,
        raw_params=row.raw_params,
        context=row.context,
        metadata=row.metadata,
        priority=row.priority,
        scheduled_at=row.scheduled_at,
        account=row.account_id,
        price=row.price,
        refunded=beside.refunded,
        reused=beside.reused,
        retry_of=row.retry_of_id,
        retries=beside.retries,
        parent=row.parent_id,
        prompt_version=row.prompt_version_id,
        scene=row.scene_id,
        retry_count=row.retry_count,
        error_code=row.error_code or None,
        error_message=row.error_message or None,
        inputs=[_input(here, given) for given in beside.inputs],
        outputs=[asset(here, output) for output in captured],
        partial=bool(beside.completion.get("partial")),
        outputs_expected=beside.completion.get("expected"),
        outputs_arrived=beside.completion.get("outputs"),
        late_outputs=[asset(here, output) for output in late],
        attempts=[_attempt(attempt) for attempt in beside.attempts],
        created_at=row.created_at,
        started_at=row.started_at,
        completed_at=row.completed_at,
        cancel_requested_at=row.cancel_requested_at,
        eta_seconds=eta,
        links=_links(here, row),
    )


def _split(row: Generation, outputs: list[Asset]) -> tuple[list[Asset], list[Asset]]:
    """Captured results, and those of abandoned attempts, which came after the end."""
    captured: list[Asset] = []
    late: list[Asset] = []
    for output in outputs:
        abandoned = output.submission is not None and output.submission.abandoned_at is not None
        (late if abandoned or row.status != Status.COMPLETED else captured).append(output)
    return captured, late


def _progress(row: Generation, attempts: list[Submission]) -> int | None:
    if row.status == Status.COMPLETED:
        return 100
    if row.status != Status.PROCESSING:
        return None
    running = [attempt for attempt in attempts if attempt.is_open and attempt.abandoned_at is None]
    return running[-1].progress if running else None


def _input(here: str, row: GenerationInput) -> InputAnswer:
    return InputAnswer.of(role=row.role, asset=asset(here, row.asset))


def _attempt(row: Submission) -> AttemptAnswer:
    return AttemptAnswer.of(
        number=row.number,
        account=row.account.label,
        state=row.state,
        error_code=row.error_code or None,
        started_at=row.sent_at,
        ended_at=row.ended_at,
    )


def _links(here: str, row: Generation) -> Links:
    own = f"{here}{PATH}/{row.pk}"
    cancel = row.status in LIVE and row.cancel_requested_at is None
    retry = row.status in {Status.FAILED, Status.CANCELLED}
    facts: dict[str, Any] = {
        "self": own,
        "timeline": f"{own}/timeline",
        "cancel": f"{own}/cancel" if cancel else None,
        "retry": f"{own}/retry" if retry else None,
    }
    return Links.of(**facts)
