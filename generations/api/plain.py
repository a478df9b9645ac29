"""Problem documents from views that are not REST framework's, and from Django's own error handlers."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views import defaults
from pydantic_core import to_json

from generations.api.problems import MEDIA_TYPE, document

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
    """Django's handler500."""
    if not _machine(request):
        return defaults.server_error(request)
    return problem(request, 500, "internal_error", "Something went wrong on our side; it is logged.")


def _machine(request: HttpRequest) -> bool:
    return request.path.startswith(MACHINES)
