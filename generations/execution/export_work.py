"""Make the exports that are due: claimed (token, lease), made in threads outside every transaction, written down.

As with deliveries: fair between users, and a worker that dies leaves a lease behind, after which another one makes it.
What goes wrong with an export changes nothing for the Generation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
import uuid_utils.compat as uuid
from django.db import connection, transaction
from django.db.models import Value
from django.db.models.functions import Now
from django.utils.text import slugify

from generations import wakeups
from generations.backoff import poll_delay
from generations.conf import limits, seconds
from generations.execution import poison
from generations.execution.export_files import Corrupted, Made, StoredFile, make
from generations.execution.lanes import Due, choose
from generations.execution.leases import FREE
from generations.execution.persist import apart, patiently
from generations.execution.waves import Wave
from generations.formats import Wanted
from generations.media import MediaInfo, ToolFailed, UnusableMedia
from generations.models import Asset, Export, HeldBack, Incident
from generations.models.bulk import update_rows
from generations.models.clock import database_now
from generations.models.generation import SUSPECT_AFTER

LOOK_SECONDS = 2
"""While exports are being made, this often it is looked what else is due."""
RUN_SECONDS = 60
"""A run takes on nothing more after this, and the next one begins: with those that must be alone."""
LONGEST_MESSAGE = 500
LONGEST_WORDS = 30
NO_ROOM = (HeldBack.Reason.DISK_LOW, HeldBack.Reason.STORAGE_DOWN)
FENCE = "t.state = 'pending' AND t.token = %(token)s AND t.lease_until IS NOT NULL"

# A loose index scan over the users who have any pending, then the oldest due ones of each.
DUE = """
WITH RECURSIVE lanes(user_id) AS (
    (SELECT e.user_id FROM generations_export e WHERE e.state = 'pending' ORDER BY e.user_id LIMIT 1)
    UNION ALL
    SELECT n.user_id FROM lanes l CROSS JOIN LATERAL (
        SELECT e.user_id FROM generations_export e
         WHERE e.state = 'pending' AND e.user_id > l.user_id
         ORDER BY e.user_id LIMIT 1) n
)
SELECT c.id, l.user_id, '', c.next_try_at
  FROM lanes l
  CROSS JOIN LATERAL (
    SELECT e.id, e.next_try_at FROM generations_export e
     WHERE e.state = 'pending' AND e.user_id = l.user_id AND e.next_try_at <= statement_timestamp()
       AND (e.lease_until IS NULL OR e.lease_until <= statement_timestamp()) AND e.unwritten_claims < %(suspect)s
     ORDER BY e.next_try_at LIMIT %(size)s) c
"""

log = structlog.get_logger(__name__)


def run() -> int:
    """Make everything that is due, until nothing is. Gives how many were tried.

    New ones join as others are done. Those whose makers have died come first, each alone in this process. While the
    disk is nearly full none is made: what is left of it is for results.
    """
    if HeldBack.objects.active().filter(reason__in=NO_ROOM).exists():
        return 0
    tried = 0
    token = uuid.uuid4()
    wave: Wave[Export, Made] = Wave()
    started_at = renewed_at = time.monotonic()
    while True:
        going_on = time.monotonic() - started_at < RUN_SECONDS
        batch = _next(token, wave) if going_on else []
        tried += len(batch)
        for export in batch:
            wave.start(export, _work(export))
        if not wave:
            if not going_on:
                wakeups.wake_export()
            return tried
        _write(token, wave.arrived(timeout=LOOK_SECONDS))
        if time.monotonic() - renewed_at > limits().lease / 3:
            _extend(token, wave.items())
            renewed_at = time.monotonic()


# --- before it is made ----------------------------------------------------------------------------------


def _next(token: UUID, wave: Wave[Export, Made]) -> list[Export]:
    """What this process takes on beside what it has."""
    if not wave:
        return _claim(token, _suspect) or _claim(token, lambda: _fair(limits().exports_at_once, []))
    if any(export.unwritten_claims >= SUSPECT_AFTER for export in wave.items()):
        return []
    room = limits().exports_at_once - len(wave)
    under_way = [(export.user_id, "") for export in wave.items()]
    return _claim(token, lambda: _fair(room, under_way)) if room > 0 else []


def _suspect() -> list[UUID]:
    """The one that waits longest of those whose makers have died."""
    rows = Export.objects.filter(
        FREE, state=Export.State.PENDING, unwritten_claims__gte=SUSPECT_AFTER, next_try_at__lte=Now()
    )
    return list(rows.order_by("next_try_at").values_list("pk", flat=True)[:1])


def _fair(room: int, under_way: Sequence[tuple[int, str]]) -> list[UUID]:
    most = limits().exports_at_once
    with connection.cursor() as cursor:
        cursor.execute(DUE, {"size": most, "suspect": SUSPECT_AFTER})
        found = [Due(*row) for row in cursor.fetchall()]
    return choose(found, under_way, room=room, per_lane=most, per_user=most)


def _claim(token: UUID, candidates: Callable[[], list[UUID]]) -> list[Export]:
    """Those of them that nobody is at: owned by ``token`` for a lease."""
    with transaction.atomic():
        chosen = candidates()
        if not chosen:
            return []
        locked = (
            Export.objects.select_for_update(skip_locked=True, of=("self",), no_key=True)
            .filter(FREE, pk__in=chosen, state=Export.State.PENDING)
            .select_related("asset__submission__generation")
            .order_by("pk")
        )
        rows = _without_hopeless(list(locked))
        if rows:
            Export.objects.filter(pk__in=[row.pk for row in rows]).update(
                token=token,
                lease_until=Now() + Value(seconds(limits().lease)),
                unwritten_claims=poison.one_more(),
            )
        return rows


def _without_hopeless(rows: list[Export]) -> list[Export]:
    """Those that may be made. The others end: the original is gone, or workers die over them."""
    gone = [row for row in rows if row.asset.expired_at]
    _end(gone, "The original has expired; its file was removed.")
    deadly = [row for row in rows if row not in gone and row.unwritten_claims >= poison.most_claims()]
    message = f"Workers died {poison.most_claims()} times while they made it; it is not tried again by itself."
    _end(deadly, message)
    Incident.objects.bulk_create(
        Incident(kind=Incident.Kind.POISON, generation_id=_generation_of(row), detail=f"Export {row.pk}: {message}")
        for row in deadly
    )
    return [row for row in rows if row not in gone and row not in deadly]


def _end(rows: Sequence[Export], message: str) -> None:
    if rows:
        Export.objects.filter(FREE, pk__in=[row.pk for row in rows], state=Export.State.PENDING).update(
            state=Export.State.FAILED,
            next_try_at=None,
            lease_until=None,
            token=uuid.uuid4(),
            ended_at=Now(),
            error_code="export_failed",
            error_message=message,
        )


def _extend(token: UUID, exports: Sequence[Export]) -> None:
    if exports:
        Export.objects.filter(
            pk__in=[export.pk for export in exports], state=Export.State.PENDING, token=token, lease_until__gt=Now()
        ).update(lease_until=Now() + Value(seconds(limits().lease)))


def _work(export: Export) -> Callable[[], Made]:
    """The making of one, for a thread."""
    asset = export.asset
    info = MediaInfo(
        "video" if asset.kind == "video" else "image",
        asset.mime_type,
        asset.key.rpartition(".")[2],
        asset.width or 0,
        asset.height or 0,
        asset.duration,
    )
    original = StoredFile(asset.key, asset.thumbnail_key, asset.sha256, asset.size, info)
    return lambda: make(original, Wanted(export.format, "pad" if export.fit == "pad" else "crop", export.colour))


# --- after it -------------------------------------------------------------------------------------------


def _write(token: UUID, arrived: Sequence[tuple[Export, Made | Exception]]) -> None:
    made: list[tuple[Export, Made]] = []
    failed: list[tuple[Export, Exception]] = []
    for export, result in arrived:
        if isinstance(result, Made):
            made.append((export, result))
        else:
            failed.append((export, result))
    failed += [(export, error) for (export, _), error in apart(lambda some: _finish(token, some), made)]
    # What the database does not take is tried again when its lease is over.
    apart(lambda some: _fail(token, some), failed)


@patiently
@transaction.atomic
def _finish(token: UUID, made: Sequence[tuple[Export, Made]]) -> None:
    """The Assets and the exports in one commit; nothing from a maker that is too late."""
    assets = {export.pk: _assets(export, result) for export, result in made}
    touched = update_rows(
        Export,
        {
            pk: {"result_id": result.pk, "poster_id": poster.pk if poster else None}
            for pk, (result, poster) in assets.items()
        },
        guard=FENCE,
        params={"token": token},
        also=(
            "state = 'done', next_try_at = NULL, lease_until = NULL, unwritten_claims = 0, token = gen_random_uuid(),"
            " ended_at = now(), error_code = '', error_message = ''"
        ),
    )
    Asset.objects.bulk_create(asset for pk in touched for asset in assets[pk] if asset is not None)


def _assets(export: Export, made: Made) -> tuple[Asset, Asset | None]:
    """The rows of what was made, not saved."""
    poster = _asset(export, made.poster, "-poster") if made.poster else None
    return _asset(export, made.result), poster


def _asset(export: Export, file: StoredFile, suffix: str = "") -> Asset:
    made_by = export.asset.submission
    words = slugify(made_by.generation.prompt)[:LONGEST_WORDS].strip("-") if made_by else ""
    return Asset(
        user_id=export.user_id,
        role=Asset.Role.EXPORT,
        name=f"{words or export.asset.kind}-{export.format}{suffix}.{file.info.extension}",
        key=file.key,
        thumbnail_key=file.thumbnail_key,
        sha256=file.sha256,
        size=file.size,
        mime_type=file.info.mime_type,
        width=file.info.width,
        height=file.info.height,
        duration=file.info.duration,
    )


@patiently
@transaction.atomic
def _fail(token: UUID, failed: Sequence[tuple[Export, Exception]]) -> None:
    """Another try, or the end. The storage's failures are waited for; of what is no use nothing comes later either."""
    now = database_now()
    touched = update_rows(
        Export,
        {export.pk: _what_follows(export, error, now) for export, error in failed},
        guard=FENCE,
        params={"token": token},
        also=(
            "lease_until = NULL, unwritten_claims = 0, token = gen_random_uuid(),"
            " ended_at = CASE WHEN v.state <> 'pending' THEN now() END"
        ),
    )
    _tell_of_storage([(export, error) for export, error in failed if export.pk in touched])


def _what_follows(export: Export, error: Exception, now: datetime) -> dict[str, Any]:
    code = "storage_failed" if isinstance(error, OSError) else "export_failed"
    tries = export.tries + (code == "export_failed")
    hopeless = isinstance(error, UnusableMedia) or tries >= limits().export_tries
    ends = hopeless or now >= export.asked_at + seconds(limits().export_ttl)
    age = (now - export.asked_at).total_seconds()
    wait = poll_delay(age, shortest=limits().backoff_base, longest=limits().backoff_cap)
    log.info("export_failed", export=str(export.pk), code=code, error=type(error).__name__, ends=ends)
    return {
        "state": str(Export.State.FAILED if ends else Export.State.PENDING),
        "next_try_at": None if ends else now + seconds(wait),
        "tries": tries,
        "error_code": code,
        "error_message": _message(error)[:LONGEST_MESSAGE],
    }


def _message(error: Exception) -> str:
    """For people."""
    if isinstance(error, UnusableMedia | ToolFailed | Corrupted):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "The original is not in the storage."
    if isinstance(error, OSError):
        return f"The storage is full or does not answer ({error.strerror or type(error).__name__})."
    log.error("export_broken", exc_info=error)
    return f"A fault of ours ({type(error).__name__}); logged."


def _tell_of_storage(failed: Sequence[tuple[Export, Exception]]) -> None:
    """One Incident for all that cannot be stored, until somebody has seen it: it is the storage's fault."""
    first = next(((export, error) for export, error in failed if isinstance(error, OSError)), None)
    if first and not Incident.objects.filter(kind=Incident.Kind.STORAGE, seen_at=None).exists():
        export, error = first
        Incident.objects.create(
            kind=Incident.Kind.STORAGE, generation_id=_generation_of(export), detail=f"Export: {_message(error)}"
        )


def _generation_of(export: Export) -> UUID | None:
    """Of which Generation its original is a result."""
    made_by = export.asset.submission
    return made_by.generation_id if made_by else None
