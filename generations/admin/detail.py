"""What the page of one Generation shows: a constant number of queries, whatever happened to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils.safestring import SafeString

from accounts.admin.words import NOTHING, ago, amount, pretty_json, span
from accounts.models import LedgerEntry
from generations.admin.actions import legal
from generations.admin.batch import batch_link
from generations.admin.chapter import scene_link
from generations.admin.family import family
from generations.admin.history import STATE_TONES, generation_link
from generations.admin.prompt import version_link
from generations.admin.rows import STATUS_TONES, reason_of
from generations.lifecycle import State, Status
from generations.models import Asset, Export, Generation, Submission
from generations.reports.explain import explain
from generations.reports.sentences import choice_text
from generations.reports.waiting import wait_reasons
from generations.signing import content_url

_LINE_TONES = {
    "completed": "good",
    "failed": "bad",
    "cancelled": "plain",
    "outcome_unknown": "warn",
    "incident": "bad",
    "abandoned": "warn",
    "collect_failed": "warn",
    "late_result": "warn",
    "retrying": "warn",
    "account_excluded": "warn",
    "asset_stored": "good",
    "attempt_accepted": "busy",
    "attempt_sent": "busy",
    "webhook_delivered": "good",
    "webhook_failed": "warn",
    "webhook_interrupted": "warn",
    "webhook_ended": "bad",
}


@dataclass(frozen=True, slots=True)
class File:
    """An Asset with its links, and for an input the role that it plays."""

    asset: Asset
    url: str
    thumbnail: str
    role: str = ""
    exports: tuple[Export, ...] = ()

    @property
    def facts(self) -> str:
        """``image/png · 1024 x 1024 · 812,345 bytes``."""
        parts = [self.asset.mime_type]
        if self.asset.width and self.asset.height:
            parts.append(f"{self.asset.width} x {self.asset.height}")
        if self.asset.duration:
            parts.append(f"{self.asset.duration:.1f} s")
        return " · ".join([*parts, f"{self.asset.size:,} bytes"])


@dataclass(frozen=True, slots=True)
class Attempt:
    """A Submission with what a reader wants to know of it in words."""

    row: Submission
    tone: str
    choice: str
    facts: list[tuple[str, str]]
    request: str
    response: str
    choice_json: str


@dataclass(frozen=True, slots=True)
class Moment:
    """A line of the timeline; ``after`` is how long after the one before."""

    at: datetime
    kind: str
    text: str
    actor: str
    tone: str
    after: str


@dataclass(frozen=True, slots=True)
class _Step:
    """What comes next, and when (None: nobody can say)."""

    text: str
    at: datetime | None

    @classmethod
    def of(cls, step: dict[str, Any]) -> _Step:
        return cls(step["text"], datetime.fromisoformat(step["at"]) if step["at"] else None)

    @property
    def when(self) -> SafeString | str:
        """``in 12 s``, with the exact time as a tooltip."""
        return ago(self.at) if self.at else ""


def detail(generation: Generation, *, may: Callable[[str], bool]) -> dict[str, Any]:
    """The template's context, for somebody who ``may`` do what these permissions allow."""
    attempts = list(generation.submissions.select_related("account").order_by("number"))
    outputs = _files(Asset.objects.filter(submission__in=[row.pk for row in attempts], role=Asset.Role.OUTPUT))
    inputs = generation.inputs.select_related("asset").order_by("index")
    reason = wait_reasons([generation])[generation.pk]
    status = Status(generation.status)
    explained = explain(generation)
    return {
        "generation": generation,
        "tone": STATUS_TONES[status],
        "reason": reason_of(generation, reason),
        "partial": explained["generation"] if explained["generation"]["partial"] else None,
        "explained": explained,
        "coming": [_Step.of(step) for step in explained["next"]],
        "outputs": outputs,
        "inputs": [_file(row.asset, row.role) for row in inputs],
        "attempts": [_attempt(row) for row in reversed(attempts)],
        "moments": _moments(explained["story"]),
        "ledger": LedgerEntry.objects.filter(reference=generation.pk, kind__in=_MONEY).order_by("pk"),
        "incidents": list(generation.incidents.order_by("pk")),
        "links": _links(generation),
        "family": family(generation),
        "facts": _facts(generation, attempts),
        "actions": legal(generation, attempts, may),
        "params": pretty_json(generation.params),
        "raw_params": pretty_json(generation.raw_params) if generation.raw_params != generation.params else "",
        "context_json": pretty_json(generation.context) if generation.context is not None else "",
        "metadata_json": pretty_json(generation.metadata) if generation.metadata else "",
        "other_params": [
            (name.replace("_", " "), value if isinstance(value, str | int | float) else pretty_json(value))
            for name, value in generation.params.items()
            if name != "prompt" and value not in (None, "", [], {})
        ],
        "live": generation.is_live,
    }


_MONEY = [LedgerEntry.Kind.HOLD, LedgerEntry.Kind.CAPTURE, LedgerEntry.Kind.RELEASE, LedgerEntry.Kind.REFUND]


def _file(asset: Asset, role: str = "") -> File:
    thumbnail = content_url(asset, thumbnail=True) if asset.thumbnail_key and not asset.expired_at else ""
    return File(asset, content_url(asset), thumbnail, role)


def _files(assets: Any) -> list[File]:
    """With their exports: two queries."""
    files = [_file(asset) for asset in assets.order_by("submission", "index")]
    made: dict[UUID, list[Export]] = defaultdict(list)
    if files:
        for export in Export.objects.filter(asset__in=[file.asset.pk for file in files]).order_by("pk"):
            made[export.asset_id].append(export)
    return [replace(file, exports=tuple(made[file.asset.pk])) for file in files]


def _attempt(row: Submission) -> Attempt:
    times = (
        ("claimed", row.created_at),
        ("sent", row.sent_at),
        ("accepted", row.accepted_at),
        ("provider done", row.finished_at),
        ("ended", row.ended_at),
        ("abandoned", row.abandoned_at),
        ("next look", row.next_poll_at if row.is_open else None),
        ("given up at", row.limit_at if row.is_open else None),
    )
    cost = "unknown; it may have been billed" if row.cost_at_risk else amount(row.cost)
    facts = [
        ("Provider's job id", row.provider_job_id or NOTHING),
        ("Provider's status", row.raw_status or NOTHING),
        ("Cost at the provider", cost),
        ("Process", row.process or NOTHING),
        *((name.capitalize(), f"{at:%Y-%m-%d %H:%M:%S} UTC") for name, at in times if at),
    ]
    if row.poll_errors or row.misses or row.empties or row.collect_tries:
        counts = (
            (row.poll_errors, "polls failed"),
            (row.misses, "times not known there"),
            (row.empties, "times done without result"),
            (row.collect_tries, "tries to fetch"),
        )
        facts.append(("Troubles", ", ".join(f"{number} {what}" for number, what in counts if number)))
    return Attempt(
        row,
        STATE_TONES[State(row.state)],
        choice_text(row).strip(" ()"),
        facts,
        pretty_json(row.request) if row.request else "",
        pretty_json(row.response) if row.response else "",
        pretty_json(row.choice) if row.choice else "",
    )


def _moments(story: list[dict[str, Any]]) -> list[Moment]:
    moments = []
    before: datetime | None = None
    for line in story:
        at = datetime.fromisoformat(line["at"])
        after = f"+ {span(at - before)}" if before and (at - before).total_seconds() >= 1 else ""
        tone = _LINE_TONES.get(line["kind"], "plain")
        moments.append(Moment(at, line["kind"], line["text"], line["actor"], tone, after))
        before = at
    return moments


def _facts(generation: Generation, attempts: list[Submission]) -> list[tuple[str, str]]:
    """The facts beside the picture."""
    times = (
        ("Accepted", generation.created_at),
        ("Scheduled for", generation.scheduled_at),
        ("Not before", generation.not_before),
        ("Started", generation.started_at),
        ("Deadline", generation.deadline_at if generation.is_live else None),
        ("Queue limit", generation.queue_until if generation.status == Status.PENDING else None),
        ("Cancel asked for", generation.cancel_requested_at),
        ("Ended", generation.completed_at),
    )
    took = generation.completed_at - generation.created_at if generation.completed_at else None
    costs = [row.cost for row in attempts if row.cost is not None]
    retries = f"{generation.retry_count} after errors, {generation.busy_bounces} while the provider was busy"
    return [
        ("User", str(generation.user)),
        ("Price", "free" if generation.price is None else f"{generation.price:,} credits"),
        ("Cost at the provider", amount(sum(costs)) if costs else NOTHING),
        ("Priority", str(generation.priority)),
        ("Pinned account", str(generation.account) if generation.account else "none; any that may serve it"),
        *((name, f"{at:%Y-%m-%d %H:%M:%S} UTC") for name, at in times if at),
        *([("Took", span(took))] if took is not None else []),
        ("Attempts", f"{len(attempts)} ({retries})"),
        ("Fingerprint", generation.fingerprint),
        ("Answers the same request", "yes" if generation.active_fingerprint else "no"),
    ]


def _links(generation: Generation) -> list[tuple[str, list[SafeString]]]:
    """The Generations that it comes from, and those that come from it."""
    related = (
        ("Retry of", [generation.retry_of_id] if generation.retry_of_id else []),
        ("Retried as", generation.retries.order_by("pk").values_list("pk", flat=True)[:20]),
        ("Made from", [generation.parent_id] if generation.parent_id else []),
        ("Led to", generation.children.order_by("pk").values_list("pk", flat=True)[:20]),
    )
    found = [(title, [generation_link(pk) for pk in pks]) for title, pks in related]
    items = generation.batch_items.select_related("batch").order_by("pk")[:20]
    found.append(("In the batch", [batch_link(item) for item in items]))
    if (version := generation.prompt_version) is not None:
        found.append(("Prompt", [version_link(version)]))
    if generation.scene is not None:
        found.append(("A take of", [scene_link(generation.scene)]))
    return [(title, links) for title, links in found if links]
