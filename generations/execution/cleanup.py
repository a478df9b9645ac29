"""Cleanup: what is past its age, and stored bytes that nothing refers to. In chunks, each a commit of its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from django.contrib.sessions.models import Session
from django.db import DatabaseError, models, transaction
from django.db.models import Exists, OuterRef, ProtectedError, Q
from django.db.models.functions import Now
from knox.models import AuthToken

from generations.conf import limits
from generations.execution import retention
from generations.execution.orphans import Swept, sweep
from generations.lifecycle import ENDED, OPEN
from generations.models import (
    Asset,
    Batch,
    BatchItem,
    CallbackNonce,
    Generation,
    GenerationInput,
    IdempotencyKey,
    Incident,
    LibraryItem,
    Submission,
    WebhookDelivery,
    WebhookEndpoint,
)
from generations.models.clock import database_now

CHUNK = 200

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Cleaned:
    """What was removed, or, in a dry run, would be."""

    dry_run: bool
    generations: int = 0
    batches: int = 0
    kept_generations: int = 0
    """Old enough, but something is made from their result, a batch or a library shows them, somebody wants to keep it,
    or the row was in use."""
    idempotency_keys: int = 0
    callback_nonces: int = 0
    webhook_deliveries: int = 0
    expired_assets: int = 0
    """Results and exports past their age: their files go, the rows stay."""
    lone_exports: int = 0
    """Exports' files that no export knows any more."""
    tokens: int = 0
    sessions: int = 0
    files: Swept = field(default_factory=Swept)
    """Zeros where files were not looked at."""

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


def run(
    *,
    dry_run: bool,
    days: float | None = None,
    statuses: Collection[str] = (),
    asset_days: float | None = None,
    files: bool = True,
) -> Cleaned:
    """Remove what is past its age.

    Always: expired Idempotency-Keys, nonces of callbacks, API tokens and sessions, old webhook deliveries, exports'
    files that no export knows any more. With ``files``: temporary files that were left behind and stored bytes without
    a row, both older than ``limits().orphan_hours``.

    Args:
        dry_run: only count.
        days: also batches that were closed longer ago, and Generations that ended longer ago, with all that belongs
            to them (their files become orphans and go after ``orphan_hours``, unless something else has the same
            bytes). Their ledger entries stay. Without it none is removed.
        statuses: of those, only the ones that ended so; empty for all that have ended.
        asset_days: results and exports older than this expire. Without it ``limits().asset_days`` says so; of that 0
            means that they are kept for ever.

    Raises:
        ValueError: an age below 0, or a status that is no end.
    """
    unknown = set(statuses) - {str(status) for status in ENDED}
    wrong = [age for age in (days, asset_days) if age is not None and age < 0]
    if unknown or wrong:
        raise ValueError(
            f"Only ended ones can be removed, by an age of 0 days or more; not {sorted(unknown) or wrong}."
        )
    if asset_days is None and limits().asset_days > 0:
        asset_days = limits().asset_days
    cleaned = Cleaned(dry_run=dry_run)
    if days is not None:
        cleaned.batches = _expired(_old_batches(timedelta(days=days), database_now()), dry_run=dry_run)
        _generations(cleaned, timedelta(days=days), statuses or [str(status) for status in ENDED])
    cleaned.idempotency_keys = _expired(IdempotencyKey.objects.filter(expires_at__lte=Now()), dry_run=dry_run)
    cleaned.callback_nonces = _expired(CallbackNonce.objects.filter(expires_at__lte=Now()), dry_run=dry_run)
    cleaned.webhook_deliveries = _deliveries(dry_run=dry_run)
    cleaned.tokens = _expired(AuthToken.objects.filter(expiry__lte=Now()), dry_run=dry_run)
    cleaned.sessions = _expired(Session.objects.filter(expire_date__lte=Now()), dry_run=dry_run)
    if asset_days is not None:
        cleaned.expired_assets = retention.expire(timedelta(days=asset_days), dry_run=dry_run)
    cleaned.lone_exports = retention.remove_lone_exports(dry_run=dry_run)
    if files:
        cleaned.files = sweep(dry_run=dry_run)
    return cleaned


def _expired(rows: models.QuerySet[Any], *, dry_run: bool) -> int:
    """Delete these rows a chunk at a time; how many."""
    if dry_run:
        return rows.count()
    total = 0
    while True:
        ids = list(rows.order_by().values_list("pk", flat=True)[:CHUNK])
        if not ids:
            return total
        # The condition again: a row that was renewed meanwhile stays.
        total += rows.filter(pk__in=ids).delete()[1].get(rows.model._meta.label, 0)


def _deliveries(*, dry_run: bool) -> int:
    """Those that ended long ago, with their tries; then the removed endpoints of which nothing is left.

    A day they are kept in any case: so far back the audit looks for those that are missing.
    """
    days = max(limits().webhook_days, 1)
    number = _expired(WebhookDelivery.objects.filter(ended_at__lt=Now() - timedelta(days=days)), dry_run=dry_run)
    told = WebhookDelivery.objects.filter(endpoint=OuterRef("pk"))
    _expired(WebhookEndpoint.objects.filter(~Exists(told), removed_at__isnull=False), dry_run=dry_run)
    return number


def _removable(age: timedelta, statuses: Collection[str], now: datetime) -> models.QuerySet[Generation]:
    """Ended long ago, no attempt open, no incident unseen, no webhook to send, nothing made from their result; no
    batch, library or scene shows it, and nobody wants to keep it."""
    me = OuterRef("pk")
    own = Submission.objects.filter(generation=me)
    used = GenerationInput.objects.filter(asset__submission__generation=me).exclude(generation=me)
    shown = BatchItem.objects.filter(~Q(batch__in=_old_batches(age, now)), generation=me)
    return (
        Generation.objects.filter(completed_at__lt=now - age, status__in=statuses)
        .exclude(Exists(own.filter(state__in=OPEN)))
        .exclude(Exists(Incident.objects.filter(generation=me, seen_at=None)))
        .exclude(Exists(WebhookDelivery.objects.filter(generation=me, state=WebhookDelivery.State.PENDING)))
        .exclude(Exists(used))
        .exclude(Exists(shown))
        .exclude(Exists(Asset.objects.filter(submission__generation=me, favourite=True)))
        .exclude(Exists(LibraryItem.objects.filter(picture__submission__generation=me)))
        .exclude(Exists(Generation.objects.shown_in_scenes().filter(pk=me)))
    )


def _old_batches(age: timedelta, now: datetime) -> models.QuerySet[Batch]:
    """Closed for longer than that."""
    return Batch.objects.filter(closed_at__lt=now - age)


def _generations(cleaned: Cleaned, age: timedelta, statuses: Collection[str]) -> None:
    """Oldest first and onwards, so that those which must stay are passed once."""
    now = database_now()
    old = Generation.objects.filter(completed_at__lt=now - age, status__in=statuses)
    if cleaned.dry_run:
        cleaned.generations = _removable(age, statuses, now).count()
        cleaned.kept_generations = old.count() - cleaned.generations
        return
    total = old.count()
    left: set[UUID] = set()
    since = datetime.min.replace(tzinfo=UTC)
    while rows := list(
        _removable(age, statuses, now)
        .filter(completed_at__gte=since)
        .exclude(pk__in=left)
        .order_by("completed_at")
        .values_list("pk", "completed_at")[:CHUNK]
    ):
        ids, since = [pk for pk, _ in rows], rows[-1][1] or since
        if not _delete(ids):
            # Something holds on to one of them at this moment: the others go one by one.
            left.update(pk for pk in ids if not _delete([pk]))
        cleaned.generations += len(set(ids) - left)
    cleaned.kept_generations = max(0, total - cleaned.generations)


def _delete(ids: Sequence[UUID]) -> bool:
    """Delete these Generations with everything of theirs, all or none. False: something holds on to one of them."""
    try:
        with transaction.atomic():
            rows = Generation.objects.select_for_update().filter(pk__in=ids).order_by("pk")
            locked = [row.pk for row in rows.only("pk")]
            Generation.objects.filter(pk__in=locked).delete()
    except (ProtectedError, DatabaseError) as error:
        log.info("cleanup_left", generations=len(ids), error=type(error).__name__)
        return False
    return True
