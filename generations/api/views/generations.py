"""Generations: ask, list, look, cancel, retry, tell the story and the family, quote."""

from __future__ import annotations

import hashlib
from uuid import UUID

from django.db.models import Exists, OuterRef, QuerySet
from django.http import QueryDict
from django.shortcuts import get_object_or_404
from django.utils.http import parse_etags
from pydantic_core import to_json
from rest_framework.request import Request
from rest_framework.response import Response

from generations.api import body, docs, query, requests
from generations.api.answers import (
    GenerationPage,
    LineageAnswer,
    QuoteAccount,
    QuoteAnswer,
    RelativeAnswer,
    TimelineAnswer,
    TimelineLine,
)
from generations.api.requests import GenerationRequest, RetryRequest
from generations.api.views.base import ApiView, actor, answer, caller, here, plain
from generations.intake import cancel, quote, request, retry
from generations.lifecycle import LIVE, Operation, Status
from generations.models import BatchItem, Generation
from generations.reports import lineage, representation, timeline
from generations.reports.answers import GenerationAnswer
from generations.signing import content_url


class GenerationListView(ApiView):
    """Ask for one; list one's own."""

    query_names = query.PAGING | {
        *("status", "provider_id", "operation_type", "batch", "scene", "created_after", "created_before")
    }

    @docs.list_generations
    def get(self, given: Request) -> Response:
        """A page of the caller's Generations, newest first."""
        http, user = plain(given), caller(given)
        rows, links = query.page(http, _filtered(http.GET, user.pk), scope=f"generations of {user.pk}")
        return answer(GenerationPage.of(results=representation.page(here(given), rows), **links))

    @docs.create_generation
    def post(self, given: Request) -> Response:
        """Accept a request: 202, or 200 with the Generation that answers it already."""
        http = plain(given)
        sent = body.json_object(http)
        wanted = requests.read(GenerationRequest, sent)
        accepted = request.accept(
            caller(given).pk, wanted.to_intake(), idempotency=requests.idempotency(http, sent), actor=actor(given)
        )
        if accepted.reused or accepted.replayed:
            told = representation.one(here(given), accepted.generation, reused=accepted.reused)
        else:
            told = representation.new(here(given), accepted.generation, has_inputs=bool(wanted.inputs))
        headers = {"Idempotent-Replayed": "true"} if accepted.replayed else {}
        return answer(told, 200 if accepted.reused else 202, Location=told.links.self, **headers)


class GenerationView(ApiView):
    """One Generation."""

    @docs.get_generation
    def get(self, given: Request, generation_id: UUID) -> Response:
        """How far it is; 304 when nothing but the ETA has changed since the caller's ETag."""
        http = plain(given)
        told = representation.one(here(given), _own(given, generation_id))
        tag = _tag(told)
        if {tag, "*"} & set(parse_etags(http.headers.get("If-None-Match", ""))):
            return Response(status=304, headers={"ETag": tag})
        return answer(told, ETag=tag, Cache_Control="private, no-cache")


class CancelView(ApiView):
    """Cancel one."""

    @docs.cancel_generation
    def post(self, given: Request, generation_id: UUID) -> Response:
        """200 when it is cancelled, 202 when that has been asked for."""
        http = plain(given)
        requests.read(requests.Body, body.json_object(http, optional=True))
        row = cancel.cancel(_own(given, generation_id).pk, actor=actor(given))
        return answer(representation.one(here(given), row), 202 if row.status in LIVE else 200)


class RetryView(ApiView):
    """Retry one that failed or was cancelled."""

    @docs.retry_generation
    def post(self, given: Request, generation_id: UUID) -> Response:
        """202 with the new Generation, whose ``retry_of`` is this one; with other params, where they are given."""
        http = plain(given)
        wanted = requests.read(RetryRequest, body.json_object(http, optional=True))
        accepted = retry.retry(
            _own(given, generation_id).pk, actor=actor(given), insist=wanted.insist, params=wanted.params
        )
        told = representation.one(here(given), accepted.generation, reused=accepted.reused)
        return answer(told, 202, Location=told.links.self)


class TimelineView(ApiView):
    """One's whole story."""

    @docs.get_timeline
    def get(self, given: Request, generation_id: UUID) -> Response:
        """Everything that happened, in order."""
        row = _own(given, generation_id)
        lines = [TimelineLine.of(**line) for line in timeline.timeline(row)]
        return answer(TimelineAnswer.of(id=row.pk, status=row.status, lines=lines))


class LineageView(ApiView):
    """One's family."""

    @docs.get_lineage
    def get(self, given: Request, generation_id: UUID) -> Response:
        """Its ancestors and descendants among the caller's own."""
        row = _own(given, generation_id)
        family = lineage.lineage(row)
        nodes = [_relative(here(given), one) for one in family.relatives]
        return answer(LineageAnswer.of(id=row.pk, nodes=nodes, truncated=family.truncated))


class QuoteView(ApiView):
    """What a request would cost and do."""

    @docs.quote_generation
    def post(self, given: Request) -> Response:
        """The price, what would answer it, how long it would take; nothing is kept."""
        wanted = requests.read(GenerationRequest, body.json_object(plain(given)))
        told = quote.quote(caller(given).pk, wanted.to_intake())
        return answer(
            QuoteAnswer.of(
                price=told.price,
                would_reuse=told.reuses.pk if told.reuses else None,
                conflict=told.conflict.pk if told.conflict else None,
                cap_reached=told.cap_reached,
                eta_seconds=None if told.eta_seconds is None else round(told.eta_seconds),
                accounts=[QuoteAccount.model_validate(account) for account in told.accounts],
            )
        )


def _own(given: Request, generation_id: UUID) -> Generation:
    """The caller's Generation; somebody else's is as good as none."""
    return get_object_or_404(Generation.objects.of_user(caller(given).pk), pk=generation_id)


def _relative(here: str, one: lineage.Relative) -> RelativeAnswer:
    row, picture = one.generation, one.picture
    return RelativeAnswer.of(
        id=row.pk,
        depth=one.depth,
        came_from=one.came_from,
        parent=row.parent_id,
        retry_of=row.retry_of_id,
        provider_id=row.provider_id,
        operation_type=row.operation_type,
        status=row.status,
        prompt=row.prompt,
        url=here + content_url(picture) if picture else None,
        thumbnail_url=here + content_url(picture, thumbnail=True) if picture and picture.thumbnail_key else None,
        created_at=row.created_at,
    )


def _filtered(given: QueryDict, user_id: int) -> QuerySet[Generation]:
    rows: QuerySet[Generation] = Generation.objects.of_user(user_id)
    if statuses := query.choices(given, "status", Status.values):
        rows = rows.filter(status__in=statuses)
    if operations := query.choices(given, "operation_type", Operation.values):
        rows = rows.filter(operation_type__in=operations)
    if provider_id := query.slug(given, "provider_id"):
        rows = rows.filter(provider_id=provider_id)
    if (batch := query.identifier(given, "batch")) is not None:
        rows = rows.filter(Exists(BatchItem.objects.filter(generation=OuterRef("pk"), batch=batch)))
    if (scene := query.identifier(given, "scene")) is not None:
        rows = rows.filter(scene=scene)
    if (after := query.moment(given, "created_after")) is not None:
        rows = rows.filter(created_at__gte=after)
    if (before := query.moment(given, "created_before")) is not None:
        rows = rows.filter(created_at__lt=before)
    return rows


def _tag(told: GenerationAnswer) -> str:
    """A weak ETag: the ETA moves all the time and does not count."""
    content = to_json(told, exclude={"eta_seconds"})
    return f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'
