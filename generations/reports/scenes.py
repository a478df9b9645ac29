"""Takes and scenes for answers and pages, in a number of queries that does not depend on how many they are.

A scene *shows* its chosen take, else the latest that completed; its *current* take is the latest one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Count, OuterRef, QuerySet, Subquery

from generations.lifecycle import Status
from generations.models import Asset, Generation, Scene, Submission
from generations.reports.eta import model_of
from generations.reports.pictures import first_results
from generations.reports.scene_answers import SceneAnswer, SceneImageAnswer, SceneImageMetadata, TakeStatus
from generations.signing import content_url

STATUS_OF: dict[str, TakeStatus] = {
    Status.PENDING: "pending",
    Status.PROCESSING: "in_progress",
    Status.COMPLETED: "completed",
    Status.FAILED: "failed",
    Status.CANCELLED: "failed",
}
CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Looks:
    """A scene with its takes of interest and how many it has."""

    scene: Scene
    shown: Generation | None
    current: Generation | None
    takes: int


def takes() -> QuerySet[Generation]:
    """Takes with what their answers need."""
    return Generation.objects.filter(scene__isnull=False).select_related("scene", "user").defer("raw_params", "context")


def looks(scenes: Sequence[Scene]) -> list[Looks]:
    """What each scene shows and what is current in it. Three queries."""
    found = _of_interest([scene.pk for scene in scenes])
    ids = {pk for row in found.values() for pk in row if pk is not None}
    by_id = {row.pk: row for row in takes().filter(pk__in=ids)} if ids else {}
    counts = Generation.objects.filter(scene__in=[scene.pk for scene in scenes]).order_by().values_list("scene")
    number = {pk: many for pk, many in counts.annotate(many=Count("pk")) if pk is not None}
    told = []
    for scene in scenes:
        chosen, completed, latest = found[scene.pk]
        shown = by_id.get(pk) if (pk := chosen or completed) else None
        told.append(Looks(scene, shown, by_id.get(latest) if latest else None, number.get(scene.pk, 0)))
    return told


def scenes(here: str, rows: Sequence[Scene]) -> list[SceneAnswer]:
    """The answers for scenes. Five queries."""
    told = looks(rows)
    wanted = {take.pk: take for one in told for take in (one.shown, one.current) if take is not None}
    answers = {answer.record_id: answer for answer in images(here, list(wanted.values()))}
    return [
        SceneAnswer.of(
            id=one.scene.pk,
            scene_number=one.scene.number,
            description=one.scene.description,
            takes=one.takes,
            image=answers[one.shown.pk] if one.shown else None,
            current=answers[one.current.pk] if one.current else None,
            created_at=one.scene.created_at,
        )
        for one in told
    ]


def images(here: str, rows: Sequence[Generation]) -> list[SceneImageAnswer]:
    """The answers for takes (of ``takes()``), in their order. Two queries."""
    if not rows:
        return []
    attempts = _attempts(rows)
    outputs = first_results(row.pk for row in rows)
    return [_image(here, row, attempts[row.pk], outputs.get(row.pk)) for row in rows]


def _of_interest(ids: Sequence[UUID]) -> dict[UUID, tuple[UUID | None, UUID | None, UUID | None]]:
    """(chosen, latest completed, latest) of each scene, each found by the index on (scene, -id)."""
    mine = Generation.objects.filter(scene=OuterRef("pk")).order_by("-pk")
    rows = (
        Scene.objects.filter(pk__in=ids)
        .annotate(
            completed=Subquery(mine.filter(status=Status.COMPLETED).values("pk")[:1]),
            latest=Subquery(mine.values("pk")[:1]),
        )
        .values_list("pk", "chosen", "completed", "latest")
    )
    return {pk: (chosen, completed, latest) for pk, chosen, completed, latest in rows}


def _attempts(rows: Sequence[Generation]) -> dict[UUID, list[Submission]]:
    found: dict[UUID, list[Submission]] = defaultdict(list)
    told = (
        "generation_id", "number", "state", "progress", "created_at", "sent_at", "accepted_at", "finished_at",
        "ended_at", "abandoned_at",
    )  # fmt: skip
    attempts = Submission.objects.filter(generation__in=[row.pk for row in rows]).order_by("number").only(*told)
    for attempt in attempts:
        found[attempt.generation_id].append(attempt)
    return found


def _image(here: str, row: Generation, attempts: list[Submission], output: Asset | None) -> SceneImageAnswer:
    assert row.scene is not None
    last = attempts[-1] if attempts else None
    cancelled = row.status == Status.CANCELLED
    took = _took(row)
    return SceneImageAnswer.of(
        record_id=row.pk,
        status=STATUS_OF[row.status],
        image_url=here + content_url(output) if output else None,
        thumbnail_url=here + content_url(output, thumbnail=True) if output and output.thumbnail_key else None,
        scene_number=row.scene.number,
        chosen=row.scene.chosen_id == row.pk,
        retry_count=row.retry_count,
        progress=_progress(row, last),
        generation_time_seconds=took,
        error_code=CANCELLED if cancelled else row.error_code or None,
        error_message="It was cancelled." if cancelled else row.error_message or None,
        requested_by=row.user.get_username(),
        last_attempted_at=(last.sent_at or last.created_at) if last else None,
        created_at=row.created_at,
        updated_at=_updated_at(row, attempts),
        metadata=SceneImageMetadata.of(
            model_used=model_of(row.params),
            generation_time=took,
            service=row.provider_id,
            **{name: row.metadata.get(name) for name in ("script_id", "style", "aspect_ratio", "user_tier")},
        ),
    )


def _took(row: Generation) -> float | None:
    if row.status != Status.COMPLETED or row.started_at is None or row.completed_at is None:
        return None
    return round((row.completed_at - row.started_at).total_seconds(), 2)


def _progress(row: Generation, last: Submission | None) -> int | None:
    if row.status == Status.COMPLETED:
        return 100
    if row.status == Status.PROCESSING:
        return last.progress if last is not None and last.is_open and last.abandoned_at is None else None
    return 0


def _updated_at(row: Generation, attempts: list[Submission]) -> datetime:
    """The last time that something about it was written down."""
    times = [row.created_at, row.started_at, row.cancel_requested_at, row.completed_at]
    for one in attempts:
        times += [one.created_at, one.sent_at, one.accepted_at, one.finished_at, one.ended_at, one.abandoned_at]
    return max(at for at in times if at is not None)
