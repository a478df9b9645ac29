"""The outermost layer: every request has an id, is logged once without secrets, and its id is in the answer."""

from __future__ import annotations

from typing import Any

import structlog
from django.http import HttpRequest, HttpResponse
from django_structlog.middlewares import RequestMiddleware

from config.log import without_capabilities


class RequestLog(RequestMiddleware):
    """django-structlog's middleware, with paths that hide tokens and an ``X-Request-ID`` in each answer."""

    def prepare(self, request: HttpRequest) -> None:
        """Give the request its id."""
        super().prepare(request)
        request.META["darkroom.request_id"] = structlog.contextvars.get_contextvars().get("request_id", "")

    def handle_response(self, request: HttpRequest, response: HttpResponse) -> None:
        """Log how it ended, and tell the id."""
        response.headers["X-Request-ID"] = request.META["darkroom.request_id"]
        super().handle_response(request, response)

    @staticmethod
    def format_request(request: Any) -> str:
        """Method and path as they may be logged."""
        return f"{request.method} {without_capabilities(request.path)}"
