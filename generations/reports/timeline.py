"""One Generation's whole story, in order, a sentence for each line.

Events, attempts, money, files, incidents, webhooks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.template.defaultfilters import filesizeformat

from accounts.models import LedgerEntry
from generations.models import AccountExclusion, Asset, Event, Generation, Incident, Submission, WebhookDelivery
from generations.reports.sentences import choice_text, end_of_attempt, event_text, provider_title, reason

MONEY = {
    LedgerEntry.Kind.HOLD: "{} credits were set aside.",
    LedgerEntry.Kind.CAPTURE: "{} credits were spent.",
    LedgerEntry.Kind.RELEASE: "{} credits were given back.",
    LedgerEntry.Kind.REFUND: "{} credits were refunded.",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line. ``rank`` orders lines of the same instant (one commit) as cause before effect."""

    at: datetime
    rank: int
    kind: str
    text: str
    actor: str = ""
    attempt: int | None = None
    data: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form; ``at`` in ISO 8601, UTC."""
        return {
            "at": self.at.isoformat().replace("+00:00", "Z"),
            "kind": self.kind,
            "actor": self.actor,
            "attempt": self.attempt,
            "text": self.text,
            "data": self.data,
        }


def timeline(generation: Generation) -> list[dict[str, Any]]:
    """The whole story as JSON-able lines, oldest first: ``at, kind, actor, attempt, text, data``.

    ``kind`` is an Event's, or one of ``attempt_reserved, attempt_sent, attempt_accepted, attempt_finished,
    attempt_ended, credits_<kind>, asset_stored, account_excluded, incident, webhook_due, webhook_delivered,
    webhook_failed, webhook_interrupted, webhook_ended``. Eight queries at most, however long it is.
    """
    return [line.as_dict() for line in lines(generation)]


def lines(generation: Generation) -> list[Line]:
    """The same, before it is made JSON-able."""
    submissions = list(generation.submissions.select_related("account").order_by("number"))
    found = [_event(event) for event in generation.events.order_by("id")]
    for submission in submissions:
        found += _attempt(submission)
    numbers = {submission.pk: submission.number for submission in submissions}
    assets = Asset.objects.filter(submission__in=list(numbers), role=Asset.Role.OUTPUT).order_by("id")
    found += [_asset(asset, numbers) for asset in assets]
    # The kinds are named so that the unique index on (reference, kind) serves the question.
    entries = LedgerEntry.objects.filter(reference=generation.pk, kind__in=MONEY).order_by("id")
    found += [_money(entry) for entry in entries]
    found += [_exclusion(row) for row in generation.exclusions.select_related("account").order_by("created_at")]
    found += [_incident(row, numbers) for row in generation.incidents.order_by("id")]
    for delivery in generation.deliveries.prefetch_related("attempts").order_by("id"):
        found += _delivery(delivery)
    return sorted(found, key=lambda line: (line.at, line.rank))


def _event(event: Event) -> Line:
    ends = event.kind in {Event.Kind.COMPLETED, Event.Kind.FAILED, Event.Kind.CANCELLED}
    rank = 0 if event.kind == Event.Kind.ACCEPTED else 10 if ends else 8
    return Line(event.at, rank, event.kind, event_text(event), event.actor, event.attempt, event.data)


def _attempt(submission: Submission) -> Iterator[Line]:
    number, account = submission.number, submission.account
    title = provider_title(account.provider_id)

    # The process that a Submission names is its dispatcher; who polled and collected stands in the Events.
    dispatcher = f"worker:{submission.process.partition(' ')[0]}" if submission.process else ""

    def line(at: datetime, rank: int, kind: str, text: str, **data: Any) -> Line:
        actor = dispatcher if kind in {"reserved", "sent", "accepted"} else ""
        return Line(at, rank, f"attempt_{kind}", text, actor, number, data)

    yield line(
        submission.created_at,
        2,
        "reserved",
        f"Attempt {number} took slot {submission.slot} of {submission.limit_seen} of {account}"
        f"{choice_text(submission)}.",
        submission=str(submission.pk),
        account=str(account.pk),
        label=account.label,
        slot=submission.slot,
        limit=submission.limit_seen,
        choice=submission.choice,
        process=submission.process,
    )
    if submission.sent_at:
        yield line(submission.sent_at, 3, "sent", f"Attempt {number} went to {title}.")
    if submission.accepted_at:
        job = submission.provider_job_id
        yield line(
            submission.accepted_at,
            4,
            "accepted",
            f"{title} accepted attempt {number} as job {job}.",
            provider_job_id=job,
        )
    if submission.finished_at:
        text = f"{title} has finished attempt {number}. Its slot is free; the result is fetched now."
        yield line(submission.finished_at, 5, "finished", text, outputs=len(submission.outputs))
    if submission.ended_at:
        yield line(
            submission.ended_at,
            7,
            "ended",
            end_of_attempt(submission),
            state=submission.state,
            error_code=submission.error_code,
            error_message=submission.error_message,
            cost=None if submission.cost is None else str(submission.cost),
            cost_at_risk=submission.cost_at_risk,
        )


def _asset(asset: Asset, numbers: dict[UUID, int]) -> Line:
    shape = f", {asset.width}x{asset.height}" if asset.width and asset.height else ""
    length = f", {asset.duration:.1f} s" if asset.duration else ""
    size = filesizeformat(asset.size).replace("\xa0", " ")
    text = f"Output {asset.index} was verified and stored: {asset.mime_type}{shape}{length}, {size}."
    data = {"asset": str(asset.pk), "sha256": asset.sha256, "size": asset.size, "mime_type": asset.mime_type}
    attempt = numbers[asset.submission_id] if asset.submission_id else None
    return Line(asset.created_at, 6, "asset_stored", text, "", attempt, data)


def _money(entry: LedgerEntry) -> Line:
    amount = abs(entry.available_change or entry.held_change)
    text = MONEY[LedgerEntry.Kind(entry.kind)].format(f"{amount:,}")
    rank = 1 if entry.kind == LedgerEntry.Kind.HOLD else 9
    data = {"available_change": entry.available_change, "held_change": entry.held_change, "reason": entry.reason}
    return Line(entry.created_at, rank, f"credits_{entry.kind}", text, entry.actor, None, data)


def _exclusion(exclusion: AccountExclusion) -> Line:
    text = f"{exclusion.account} refused it ({exclusion.code}) and is not asked again."
    data = {"account": str(exclusion.account_id), "code": exclusion.code}
    return Line(exclusion.created_at, 8, "account_excluded", text, "", None, data)


def _incident(incident: Incident, numbers: dict[UUID, int]) -> Line:
    text = f"Incident: {incident.get_kind_display()}."
    if incident.detail:
        text += f" {incident.detail}"
    attempt = numbers.get(incident.submission_id) if incident.submission_id else None
    data = {"incident": str(incident.pk), "incident_kind": incident.kind, "seen": incident.seen_at is not None}
    return Line(incident.created_at, 8, "incident", text, "", attempt, data)


def _delivery(delivery: WebhookDelivery) -> Iterator[Line]:
    """What one endpoint was told. Its host only is named: the rest of the URL may be a secret."""
    about = {"delivery": str(delivery.pk), "endpoint": str(delivery.endpoint_id), "event": delivery.event}
    host = delivery.host
    yield Line(delivery.created_at, 11, "webhook_due", f"A webhook ({delivery.event}) is due to {host}.", data=about)
    for attempt in sorted(delivery.attempts.all(), key=lambda attempt: attempt.number):
        data = {**about, "try": attempt.number, "status": attempt.status, "error_code": attempt.error_code}
        name = f"Try {attempt.number} of the webhook to {host}"
        if attempt.elapsed is None:
            kind, text = "webhook_interrupted", f"{name} began; nothing was heard of what came of it."
        elif attempt.error_code:
            kind, text = "webhook_failed", f"{name} failed: {reason(attempt.error_code, attempt.error_message)}."
        else:
            kind, text = "webhook_delivered", f"{name} was delivered (HTTP {attempt.status})."
        yield Line(attempt.started_at, 12, kind, text, data=data)
    if delivery.state == WebhookDelivery.State.FAILED and delivery.ended_at:
        why = reason(delivery.error_code, delivery.error_message)
        text = f"The webhook to {host} is not sent any more by itself: {why}."
        yield Line(delivery.ended_at, 13, "webhook_ended", text, data=about)
