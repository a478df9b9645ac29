"""An Asset's bytes, by signed link: outside authentication, so that ``<img>``, players and ``curl`` just work."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO

import structlog
from django.db.models import F
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.http import parse_etags
from django.utils.text import slugify
from django.views.decorators.http import require_safe

from generations import storage
from generations.api.plain import problem
from generations.conf import limits
from generations.models import Asset
from generations.signing import BadSignature, SignatureExpired, SignedContent, unsign

CHUNK = 64 * 1024

log = structlog.get_logger(__name__)
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class _Part:
    """The next ``left`` bytes of a file, in chunks. Closes the file with the response, read or not."""

    def __init__(self, file: IO[bytes], left: int) -> None:
        self._file = file
        self._left = left

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = self._file.read(min(CHUNK, self._left)) if self._left > 0 else b""
        if not chunk:
            raise StopIteration
        self._left -= len(chunk)
        return chunk

    def close(self) -> None:
        """The response is done, whole or not."""
        self._file.close()


@require_safe
def content(request: HttpRequest, token: str) -> HttpResponseBase:
    """The bytes that ``token`` names: whole, or the one range that is asked for."""
    try:
        named = unsign(token)
    except SignatureExpired:
        return problem(request, 403, "link_expired", "This link has expired. Ask the API for the asset again.")
    except BadSignature:
        return problem(request, 404, "not_found", "There is nothing at this address.")
    asset = Asset.objects.select_related("submission__generation").filter(pk=named.asset_id).first()
    key = (asset.thumbnail_key if named.thumbnail else asset.key) if asset else ""
    if asset is None or not key:
        return problem(request, 404, "not_found", "There is nothing at this address (any more).")
    if asset.expired_at:
        return problem(request, 410, "asset_expired", "This file has become too old and was removed.")
    tag = f'"{PurePosixPath(key).stem}"'  # keys are content-addressed
    if {tag, "*"} & set(parse_etags(request.headers.get("If-None-Match", ""))):
        return _described(HttpResponse(status=304), tag)
    try:
        file = storage.open_key(key)
        size = storage.storage().size(key) if named.thumbnail else asset.size
    except FileNotFoundError:
        return problem(request, 404, "content_missing", "The file is missing in the storage; tell the operator.")
    except OSError as error:
        log.warning("content_unreadable", key=key, error=type(error).__name__)
        detail = "The storage does not answer at this moment. Try again."
        return problem(request, 503, "storage_unavailable", detail, Retry_After="10")
    response = _body(request, file, size, tag)
    response["Content-Type"] = _media_type(asset, key, named)
    download = request.GET.get("download") == "1"
    response["Content-Disposition"] = f'{"attachment" if download else "inline"}; filename="{_name(asset, key, named)}"'
    if download and request.method == "GET" and response.status_code == 200:
        Asset.objects.filter(pk=asset.pk).update(downloads=F("downloads") + 1)
    return _described(response, tag)


def _body(request: HttpRequest, file: IO[bytes], size: int, tag: str) -> HttpResponseBase:
    asked = request.headers.get("Range", "")
    if request.headers.get("If-Range", tag) != tag:
        asked = ""
    match = _RANGE.fullmatch(asked.replace(" ", ""))
    if match is None or match.group() == "bytes=-":  # several ranges, or none that we read: the whole
        return _stream(_Part(file, size), 200, size)
    first, last = _bounds(match, size)
    if first >= size or last < first:
        file.close()
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"})
    file.seek(first)
    length = last - first + 1
    partial = _stream(_Part(file, length), 206, length)
    partial["Content-Range"] = f"bytes {first}-{last}/{size}"
    return partial


def _stream(part: _Part, status: int, length: int) -> StreamingHttpResponse:
    response = StreamingHttpResponse(part, status=status)
    response["Content-Length"] = str(length)
    return response


def _bounds(match: re.Match[str], size: int) -> tuple[int, int]:
    """First and last byte, inclusive; ``bytes=-500`` means the last 500."""
    start, end = match.groups()
    if not start:
        return (max(0, size - int(end)), size - 1) if int(end) else (size, size)
    return int(start), min(int(end), size - 1) if end else size - 1


def _described(response: HttpResponseBase, tag: str) -> HttpResponseBase:
    """What every answer about these bytes says. They never change, so they may be kept; a page cannot run in them."""
    response["ETag"] = tag
    response["Accept-Ranges"] = "bytes"
    response["Cache-Control"] = f"private, max-age={int(limits().signed_url_seconds)}, immutable"
    response["Content-Security-Policy"] = (
        "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'"
    )
    response["X-Content-Type-Options"] = "nosniff"
    return response


def _media_type(asset: Asset, key: str, named: SignedContent) -> str:
    return (mimetypes.guess_type(key)[0] or "image/jpeg") if named.thumbnail else asset.mime_type


def _name(asset: Asset, key: str, named: SignedContent) -> str:
    """A file name for people: from the prompt, or the upload's own."""
    extension = PurePosixPath(key).suffix
    if asset.submission is not None:
        words = slugify(asset.submission.generation.prompt)[:60].strip("-")
        number = f"-{asset.index + 1}" if asset.index else ""
    else:
        words, number = slugify(PurePosixPath(asset.name).stem)[:60], ""
    small = "-small" if named.thumbnail else ""
    return f"{words or asset.kind}{number}-{asset.pk.hex[-6:]}{small}{extension}"
