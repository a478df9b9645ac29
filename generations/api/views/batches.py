"""Batches: ask, quote, list, look, cancel, pause, resume, retry, regenerate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import Wallet
from generations.api import body, docs_batches, query, requests
from generations.api.answers_batches import (
    BatchAnswer,
    BatchCounts,
    BatchCredits,
    BatchItemAnswer,
    BatchItemPage,
    BatchLinks,
    BatchPage,
    BatchQuoteAnswer,
    BatchRetryAnswer,
)
from generations.api.requests import Body
from generations.api.requests_batches import InsistRequest, NewBatch
from generations.api.views.base import ApiView, actor, answer, caller, here, plain
from generations.intake import batch_changes, batches
from generations.lifecycle import Status
from generations.models import Batch, BatchItem
from generations.reports import batches as reports
from generations.reports import representation


class BatchListView(ApiView):
    """Ask for one; list one's own."""

    query_names = query.PAGING

    @docs_batches.list_batches
    def get(self, given: Request) -> Response:
        """A page of the caller's batches, newest first."""
        http, user = plain(given), caller(given)
        rows, links = query.page(http, Batch.objects.of_user(user.pk), scope=f"batches of {user.pk}")
        return answer(BatchPage.of(results=told_batches(given, rows), **links))

    @docs_batches.create_batch
    def post(self, given: Request) -> Response:
        """Accept a batch."""
        http = plain(given)
        sent = body.json_object(http)
        wanted = requests.read(NewBatch, sent).to_intake()
        accepted = batches.accept(
            caller(given).pk, wanted, idempotency=requests.idempotency(http, sent), actor=actor(given)
        )
        (told,) = told_batches(given, [accepted.batch])
        headers = {"Idempotent-Replayed": "true"} if accepted.replayed else {}
        return answer(told, 202, Location=told.links.self, **headers)


class BatchQuoteView(ApiView):
    """What a batch would cost and do."""

    @docs_batches.quote_batch
    def post(self, given: Request) -> Response:
        """The price, how many would be reused, how long it would take; nothing is kept."""
        user = caller(given)
        wanted = requests.read(NewBatch, body.json_object(plain(given))).to_intake()
        told = batches.quote(user.pk, wanted)
        balance = Wallet.objects.filter(user=user.pk).values_list("available", flat=True).first()
        return answer(
            BatchQuoteAnswer.of(
                items=list(told.items),
                price=told.price,
                reused=told.reused,
                conflicts=list(told.conflicts),
                cap_reached=told.cap_reached,
                balance=balance or 0,
                eta_seconds=None if told.eta_seconds is None else round(told.eta_seconds),
            )
        )


class BatchView(ApiView):
    """One batch."""

    @docs_batches.get_batch
    def get(self, given: Request, batch_id: UUID) -> Response:
        """How far it is."""
        return answer(told_batches(given, [_own(given, batch_id)])[0])


class BatchItemListView(ApiView):
    """A batch's items."""

    query_names = query.PAGING | {"status"}

    @docs_batches.list_items
    def get(self, given: Request, batch_id: UUID) -> Response:
        """A page of them, in their order, each with the generation that answers it."""
        http, batch = plain(given), _own(given, batch_id)
        rows: QuerySet[BatchItem] = BatchItem.objects.filter(batch=batch).select_related("generation")
        if statuses := query.choices(http.GET, "status", Status.values):
            wanted = Q(generation__status__in=statuses, detached_at=None)
            detached = Q(detached_at__isnull=False) if Status.CANCELLED in statuses else Q(pk=None)
            rows = rows.filter(wanted | detached)
        items, links = query.page(http, rows, scope=f"items of {batch.pk}", oldest_first=True)
        told = representation.page(here(given), [item.generation for item in items])
        before = reports.earlier(items)
        results = [
            BatchItemAnswer.of(
                variation_key=item.variation_key,
                position=item.position,
                variation=item.variation,
                library_item=item.library_item_id,
                status=str(Status.CANCELLED) if item.detached_at else one.status,
                reused=item.reused,
                generation=one,
                earlier=before.get(item.pk, []),
            )
            for item, one in zip(items, told, strict=True)
        ]
        return answer(BatchItemPage.of(results=results, **links))


class BatchCancelView(ApiView):
    """Cancel one."""

    @docs_batches.cancel_batch
    def post(self, given: Request, batch_id: UUID) -> Response:
        """200 when all of it has ended, 202 when some is at the provider still."""
        told = _changed(given, batch_id, lambda pk: batch_changes.cancel(pk, actor=actor(given)))
        return answer(told, 200 if told.closed_at else 202)


class BatchPauseView(ApiView):
    """Pause one."""

    @docs_batches.pause_batch
    def post(self, given: Request, batch_id: UUID) -> Response:
        """What waits is kept waiting."""
        return answer(_changed(given, batch_id, batch_changes.pause))


class BatchResumeView(ApiView):
    """Resume one."""

    @docs_batches.resume_batch
    def post(self, given: Request, batch_id: UUID) -> Response:
        """What waits goes on."""
        return answer(_changed(given, batch_id, lambda pk: batch_changes.resume(pk, actor=actor(given))))


class BatchRetryView(ApiView):
    """Retry what failed."""

    @docs_batches.retry_batch
    def post(self, given: Request, batch_id: UUID) -> Response:
        """New generations for the items that failed."""
        wanted = requests.read(InsistRequest, body.json_object(plain(given), optional=True))
        batch = _own(given, batch_id)
        told = batch_changes.retry_failed(batch.pk, insist=wanted.insist, actor=actor(given))
        batch.refresh_from_db()
        (after,) = told_batches(given, [batch])
        return answer(
            BatchRetryAnswer.of(retried=told.retried, possibly_billed=list(told.possibly_billed), batch=after), 202
        )


class RegenerateView(ApiView):
    """Make one item anew."""

    @docs_batches.regenerate_item
    def post(self, given: Request, batch_id: UUID, variation_key: str) -> Response:
        """A new generation for it."""
        wanted = requests.read(InsistRequest, body.json_object(plain(given), optional=True))
        batch = _own(given, batch_id)
        if "\x00" in variation_key:  # the database could not read it
            raise Http404
        try:
            row = batch_changes.regenerate(batch.pk, variation_key, insist=wanted.insist, actor=actor(given))
        except BatchItem.DoesNotExist:
            raise Http404 from None
        told = representation.one(here(given), row, reused=False)
        return answer(told, 202, Location=told.links.self)


def _own(given: Request, batch_id: UUID) -> Batch:
    """The caller's batch; somebody else's is as good as none."""
    return get_object_or_404(Batch.objects.of_user(caller(given).pk), pk=batch_id)


def _changed(given: Request, batch_id: UUID, change: Callable[[UUID], None]) -> BatchAnswer:
    """The batch after ``change(id)``, which takes no body."""
    requests.read(Body, body.json_object(plain(given), optional=True))
    batch = _own(given, batch_id)
    change(batch.pk)
    batch.refresh_from_db()
    return told_batches(given, [batch])[0]


def told_batches(given: Request, rows: list[Batch]) -> list[BatchAnswer]:
    """The answers for batches, in a number of queries that does not depend on how many they are."""
    standings = reports.standings(rows)
    return [_batch(here(given), row, standings[row.pk]) for row in rows]


def _batch(address: str, row: Batch, standing: reports.Standing) -> BatchAnswer:
    spent = standing.credits
    return BatchAnswer.of(
        id=row.pk,
        name=row.name,
        mode=row.mode,
        status=standing.status.value,
        paused=row.paused_at is not None,
        progress=standing.progress,
        counts=BatchCounts.of(
            total=standing.total, **{str(status): standing.counts.get(status, 0) for status in Status.values}
        ),
        reused=standing.reused,
        credits=BatchCredits.of(
            charged=spent.charged, held=spent.held, released=spent.released, refunded=spent.refunded
        ),
        provider_id=row.provider_id,
        operation_type=row.operation_type,
        params=row.params,
        metadata=row.metadata,
        export_formats=row.export_formats,
        created_at=row.created_at,
        closed_at=row.closed_at,
        cancelled_at=row.cancelled_at,
        links=_links(address, row, standing),
    )


def _links(address: str, row: Batch, standing: reports.Standing) -> BatchLinks:
    own = f"{address}/api/v1/batches/{row.pk}"
    live = row.closed_at is None and row.cancelled_at is None
    failed = standing.counts.get(Status.FAILED, 0) and row.cancelled_at is None
    facts: dict[str, Any] = {
        "self": own,
        "items": f"{own}/items",
        "cancel": f"{own}/cancel" if live else None,
        "pause": f"{own}/pause" if live and row.paused_at is None else None,
        "resume": f"{own}/resume" if live and row.paused_at is not None else None,
        "retry": f"{own}/retry" if failed else None,
        "exports": f"{address}/api/v1/exports?batch={row.pk}",
        "zip": f"{own}/zip" if standing.counts.get(Status.COMPLETED, 0) else None,
    }
    return BatchLinks.of(**facts)
