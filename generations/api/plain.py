"""Problem documents from views that are not REST framework's, and from Django's own error handlers."""

from __future__ import annotations

import sys

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.views import defaults
from pydantic_core import to_json

from generations.api.problems import MEDIA_TYPE, database_lost, document
from generations.models.away import AWAY

MACHINES = ("/api/", "/hooks/", "/content/", "/healthz", "/readyz", "/metrics")


def problem(request: HttpRequest, status: int, code: str, detail: str, **headers: str) -> HttpResponse:
    """A problem document as a plain response; a HEAD gets its headers only. ``headers`` with _ for -."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    body = b"" if request.method == "HEAD" else to_json(document(status, code, detail))
    return HttpResponse(body, status=status, content_type=MEDIA_TYPE, headers=named)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Django's handler400."""
    if not _machine(request):
        return defaults.bad_request(request, exception)
    return problem(request, 400, "bad_request", "The request could not be understood.")


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Django's handler403."""
    if not _machine(request):
        return defaults.permission_denied(request, exception)
    return problem(request, 403, "permission_denied", "You may not do this.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Django's handler404."""
    if not _machine(request):
        return defaults.page_not_found(request, exception)
    return problem(request, 404, "not_found", "There is nothing at this address. The API is described at /api/docs/.")


def server_error(request: HttpRequest) -> HttpResponseBase:
    """Django's handler500, called while the error is being handled. A database that is away is a 503, also on pages."""
    error = sys.exception()
    if isinstance(error, AWAY):
        return _database_lost(request, error)
    if not _machine(request):
        return defaults.server_error(request)
    return problem(request, 500, "internal_error", "Something went wrong on our side; it is logged.")


def _database_lost(request: HttpRequest, error: BaseException) -> HttpResponse:
    told, headers = database_lost(error)
    headers["Cache-Control"] = "no-store"
    if _machine(request):
        return HttpResponse(to_json(told), status=503, content_type=MEDIA_TYPE, headers=headers)
    # Without the request: nothing that a context processor adds could be read now.
    page = render_to_string("pages/unavailable.html", {"again": request.get_full_path(), "safe": _safe(request)})
    return HttpResponse(page, status=503, headers=headers)


def _safe(request: HttpRequest) -> bool:
    """Whether the browser may simply ask again."""
    return request.method in {"GET", "HEAD"}


def _machine(request: HttpRequest) -> bool:
    return request.path.startswith(MACHINES)
