"""Exports: which formats there are, ask, list, look, make anew; and all of a batch as a ZIP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import structlog
from django.db.models import F
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils.http import content_disposition_header
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from zipstream import ZipStream

from generations import storage
from generations.api import body, docs_exports, query, requests
from generations.api.answers_exports import (
    ExportAnswer,
    ExportFormatAnswer,
    ExportFormatList,
    ExportList,
    ExportPage,
)
from generations.api.problems import Problem
from generations.api.rendering import JSONRenderer
from generations.api.requests_exports import NewExports, as_given
from generations.api.views.base import ApiView, answer, caller, here, plain
from generations.formats import FORMATS
from generations.intake import exports
from generations.models import Asset, Batch, BatchItem, Export
from generations.reports import representation
from generations.reports.bundle import MISSING, Bundle, bundle

PATH = "/api/v1/exports"
CHUNK = 256 * 1024

log = structlog.get_logger(__name__)


class FormatListView(ApiView):
    """The formats."""

    @docs_exports.list_formats
    def get(self, given: Request) -> Response:
        """All, in the order in which people see them."""
        results = [
            ExportFormatAnswer.of(
                name=one.name,
                title=one.title,
                width=one.width or None,
                height=one.height or None,
                fit=one.fit,
                videos="still" if one.printed else "video",
            )
            for one in FORMATS.values()
        ]
        return answer(ExportFormatList.of(results=results))


class ExportListView(ApiView):
    """Ask for some; list one's own."""

    query_names = query.PAGING | {"asset", "generation", "batch", "format", "state"}

    @docs_exports.list_exports
    def get(self, given: Request) -> Response:
        """A page of the caller's exports, newest first."""
        http, user = plain(given), caller(given)
        rows = Export.objects.of_user(user.pk).with_files()
        if (asset := query.identifier(http.GET, "asset")) is not None:
            rows = rows.filter(asset=asset)
        if (generation := query.identifier(http.GET, "generation")) is not None:
            rows = rows.filter(asset__submission__generation=generation)
        if (batch := query.identifier(http.GET, "batch")) is not None:
            answers = BatchItem.objects.filter(batch=batch, detached_at=None).values("generation")
            rows = rows.filter(asset__submission__generation__in=answers)
        if names := query.choices(http.GET, "format", list(FORMATS)):
            rows = rows.filter(format__in=names)
        if states := query.choices(http.GET, "state", Export.State.values):
            rows = rows.filter(state__in=states)
        found, links = query.page(http, rows, scope=f"exports of {user.pk}")
        return answer(ExportPage.of(results=[_told(given, row) for row in found], **links))

    @docs_exports.create_exports
    def post(self, given: Request) -> Response:
        """202 with all that were asked for."""
        wanted = requests.read(NewExports, body.json_object(plain(given)))
        rows = exports.ask(caller(given).pk, wanted.assets, as_given(wanted.formats))
        return answer(ExportList.of(results=[_told(given, row) for row in rows]), 202)


class ExportView(ApiView):
    """One export."""

    @docs_exports.get_export
    def get(self, given: Request, export_id: UUID) -> Response:
        """How far it is, with fresh links to its files."""
        return answer(_told(given, _own(given, export_id)))


class ExportRegenerateView(ApiView):
    """Make one anew."""

    @docs_exports.regenerate_export
    def post(self, given: Request, export_id: UUID) -> Response:
        """202: it waits for its maker."""
        requests.read(requests.Body, body.json_object(plain(given), optional=True))
        exports.regenerate(_own(given, export_id))
        return answer(_told(given, _own(given, export_id)), 202, Location=f"{here(given)}{PATH}/{export_id}")


class ZipRenderer(BaseRenderer):
    """Lets a client say that it takes a ZIP; problems are told as JSON all the same."""

    media_type = "application/zip"
    format = "zip"
    charset = None

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        """What is no ZIP."""
        return JSONRenderer().render(data)


class BatchZipView(ApiView):
    """A batch's files in one."""

    query_names = frozenset({"formats"})
    renderer_classes = [JSONRenderer, ZipRenderer]

    @docs_exports.download_batch
    def get(self, given: Request, batch_id: UUID) -> HttpResponseBase:
        """Streamed from the storage, a file after the other; nothing of it is written down on the way."""
        formats = query.choices(plain(given).GET, "formats", list(FORMATS))
        batch = get_object_or_404(Batch.objects.of_user(caller(given).pk), pk=batch_id)
        found = bundle(batch, formats)
        if not found.entries:
            raise Problem(409, "nothing_to_download", "None of its files is there (yet). Come back when some are done.")
        Asset.objects.filter(pk__in=[one.asset_id for one in found.entries]).update(downloads=F("downloads") + 1)
        packed = _packed(found)
        response = StreamingHttpResponse(_chunks(packed, batch_id), content_type="application/zip")
        response["Content-Length"] = str(len(packed))
        response["Content-Disposition"] = content_disposition_header(True, f"{found.name}.zip") or "attachment"  # noqa: FBT003
        return response


def _packed(found: Bundle) -> ZipStream:
    """The ZIP to be: stored, not deflated, as pictures and videos get no smaller; hence its length is known."""
    packed = ZipStream(sized=True)
    for one in found.entries:
        packed.add(_content(one.key), one.name, size=one.size)
    if note := found.note():
        packed.add(note, f"{found.name}/{MISSING}")
    return packed


def _content(key: str) -> Iterator[bytes]:
    with storage.open_key(key) as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _chunks(packed: ZipStream, batch_id: UUID) -> Iterator[bytes]:
    """A file that cannot be read breaks the download off: its length then tells the client that it is not whole."""
    try:
        yield from packed
    except Exception as error:
        log.exception("zip_broken_off", batch=str(batch_id), error=type(error).__name__)
        raise


def _own(given: Request, export_id: UUID) -> Export:
    """The caller's export; somebody else's is as good as none."""
    return get_object_or_404(Export.objects.of_user(caller(given).pk).with_files(), pk=export_id)


def _told(given: Request, row: Export) -> ExportAnswer:
    made_by = row.asset.submission
    return ExportAnswer.of(
        id=row.pk,
        asset=row.asset_id,
        generation=made_by.generation_id if made_by else None,
        format=row.format,
        fit=row.fit,
        colour=row.colour,
        state=row.state,
        result=representation.asset(here(given), row.result) if row.result else None,
        poster=representation.asset(here(given), row.poster) if row.poster else None,
        error_code=row.error_code or None,
        error_message=row.error_message or None,
        next_try_at=row.next_try_at,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )
