"""Assets: upload an input, list, look, keep, remove. The bytes themselves are in ``generations.api.content``."""

from __future__ import annotations

from typing import BinaryIO, cast
from uuid import UUID

from django.core.files.uploadedfile import UploadedFile
from django.db.models import Q, QuerySet
from django.http import QueryDict
from django.shortcuts import get_object_or_404
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from generations.api import body, docs, query, requests, upload
from generations.api.answers import AssetPage
from generations.api.requests import AssetChange
from generations.api.views.base import ApiView, answer, caller, here, plain
from generations.conf import limits
from generations.intake import assets, inputs
from generations.models import Asset
from generations.reports import representation

LONGEST_NAME = 200


class AssetListView(ApiView):
    """Upload one; list one's own."""

    parser_classes = [MultiPartParser]
    query_names = query.PAGING | {"role", "kind", "favourite", "generation", "created_after", "created_before"}

    @docs.list_assets
    def get(self, given: Request) -> Response:
        """A page of the caller's Assets, newest first."""
        http, user = plain(given), caller(given)
        found, links = query.page(http, _filtered(http.GET, user.pk), scope=f"assets of {user.pk}")
        return answer(AssetPage.of(results=[representation.asset(here(given), row) for row in found], **links))

    @docs.upload_asset
    def post(self, given: Request) -> Response:
        """201 with the stored file; the same bytes give the same Asset."""
        http = plain(given)
        file = _file(given)
        row = inputs.store_upload(caller(given).pk, cast("BinaryIO", file), name=(file.name or "")[-LONGEST_NAME:])
        told = representation.asset(here(given), row)
        return answer(told, 201, Location=http.build_absolute_uri(f"/api/v1/assets/{row.pk}"))


class AssetView(ApiView):
    """One Asset."""

    @docs.get_asset
    def get(self, given: Request, asset_id: UUID) -> Response:
        """What it is, with fresh links to its bytes."""
        return answer(representation.asset(here(given), _own(given, asset_id)))

    @docs.change_asset
    def patch(self, given: Request, asset_id: UUID) -> Response:
        """As it is now."""
        wanted = requests.read(AssetChange, body.json_object(plain(given)))
        row = _own(given, asset_id)
        assets.keep(row, favourite=wanted.favourite)
        return answer(representation.asset(here(given), row))

    @docs.remove_asset
    def delete(self, given: Request, asset_id: UUID) -> Response:
        """204: it is gone."""
        assets.remove_upload(_own(given, asset_id))
        return Response(status=204)


def _own(given: Request, asset_id: UUID) -> Asset:
    """The caller's Asset; somebody else's is as good as none."""
    return get_object_or_404(Asset.objects.of_user(caller(given).pk), pk=asset_id)


def _filtered(given: QueryDict, user_id: int) -> QuerySet[Asset]:
    rows: QuerySet[Asset] = Asset.objects.of_user(user_id)
    if roles := query.choices(given, "role", Asset.Role.values):
        rows = rows.filter(role__in=roles)
    if kinds := query.choices(given, "kind", ["image", "video"]):
        rows = rows.filter(Q(*(Q(mime_type__startswith=f"{kind}/") for kind in kinds), _connector=Q.OR))
    if favourite := query.choices(given, "favourite", ["true", "false"]):
        rows = rows.filter(favourite__in=[text == "true" for text in favourite])
    if (generation := query.identifier(given, "generation")) is not None:
        rows = rows.filter(submission__generation=generation)
    if (after := query.moment(given, "created_after")) is not None:
        rows = rows.filter(created_at__gte=after)
    if (before := query.moment(given, "created_before")) is not None:
        rows = rows.filter(created_at__lt=before)
    return rows


def _file(given: Request) -> UploadedFile[bytes]:
    """The one part named ``file``.

    Raises:
        Problem: 413, 415, or 400 for any other form.
    """
    hint = "send one part named file"
    form = upload.form(given, most_bytes=limits().max_input_bytes, known=frozenset({"file"}), hint=hint)
    files = form.get("file", [])
    if len(files) != 1 or not isinstance(files[0], UploadedFile):
        raise upload.malformed("Send exactly one file, as the part named file.")
    return files[0]
