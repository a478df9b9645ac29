"""Every error of the API as RFC 9457 ``application/problem+json``, with a stable ``code``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import IntegrityError
from django.http import Http404, UnreadablePostError
from psycopg.errors import ForeignKeyViolation
from pydantic import ValidationError
from rest_framework import exceptions
from rest_framework.response import Response

from generations.intake.errors import (
    CapReached,
    Conflict,
    Forbidden,
    Invalid,
    KeyReused,
    NotFound,
    PaymentRequired,
    Refusal,
    Unavailable,
)
from generations.models.away import AWAY

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5

log = structlog.get_logger(__name__)

STATUS_OF: tuple[tuple[type[Refusal], int], ...] = (
    (Invalid, 400),
    (PaymentRequired, 402),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (KeyReused, 422),
    (CapReached, 429),
    (Unavailable, 503),
)
CODE_OF: dict[type[Exception], str] = {
    exceptions.NotAuthenticated: "not_authenticated",
    exceptions.AuthenticationFailed: "invalid_token",
    exceptions.PermissionDenied: "permission_denied",
    exceptions.NotFound: "not_found",
    exceptions.MethodNotAllowed: "method_not_allowed",
    exceptions.NotAcceptable: "not_acceptable",
    exceptions.UnsupportedMediaType: "unsupported_media_type",
    exceptions.Throttled: "throttled",
    exceptions.ParseError: "malformed_body",
}


class Problem(Exception):
    """The request is refused for a reason of HTTP's own; what intake refuses is a ``Refusal``."""

    def __init__(
        self, status: int, code: str, detail: str, *, errors: Sequence[Mapping[str, str]] = (), **extra: Any
    ) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.extra = extra
        super().__init__(detail)


def document(status: int, code: str, detail: str, **members: Any) -> dict[str, Any]:
    """A problem document: type, title, status, detail, code, the request's id, and ``members``."""
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    return {
        "type": f"urn:darkroom:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        **({"request_id": request_id} if request_id else {}),
        **{name: member for name, member in members.items() if member is not None},
    }


def of_validation(error: ValidationError, *, within: str = "") -> Problem:
    """What pydantic found, field by field."""
    errors = [
        {
            "field": ".".join(map(str, (*filter(None, [within]), *found["loc"]))),
            "message": found["msg"].removeprefix("Value error, "),
        }
        for found in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    unknown = [found["field"] for found in errors if found["message"].startswith("Extra inputs")]
    detail = (
        f"There is no field {', '.join(unknown)} to set here."
        if unknown
        else f"{errors[0]['field']}: {errors[0]['message']}"
    )
    return Problem(400, "invalid_request", detail, errors=errors)


def handle(error: Exception, context: Mapping[str, Any]) -> Response:
    """REST framework's exception handler: never anything but a problem document, whatever was raised."""
    if isinstance(error, Problem):
        members = {"errors": list(error.errors) or None, **error.extra}
        return _response(document(error.status, error.code, error.detail, **members))
    if isinstance(error, Refusal):
        status = next((status for kind, status in STATUS_OF if isinstance(error, kind)), 400)
        errors = [{"field": error.field, "message": error.detail}] if error.field else None
        headers = {"Retry-After": str(math.ceil(error.retry_after))} if error.retry_after is not None else {}
        return _response(document(status, error.code, error.detail, **{"errors": errors, **error.extra}), headers)
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    elif isinstance(error, SuspiciousOperation | UnreadablePostError):
        error = exceptions.ParseError("The request could not be read.")
    if isinstance(error, exceptions.APIException):
        return _of_framework(error)
    if isinstance(error, AWAY):
        return _response(*database_lost(error))
    if isinstance(error, IntegrityError) and isinstance(error.__cause__, ForeignKeyViolation):
        detail = "Something that this needs was removed just now. Nothing was changed; look, and send it again."
        return _response(document(409, "removed_meanwhile", detail))
    log.error("request_failed", view=type(context.get("view")).__name__, exc_info=error)
    detail = "Something went wrong on our side; it is logged under this request_id. Nothing is known to have changed."
    return _response(document(500, "internal_error", detail))


def _of_framework(error: exceptions.APIException) -> Response:
    headers = {}
    if header := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = header
    if isinstance(error, exceptions.Throttled):
        wait = max(1, math.ceil(getattr(error, "wait", None) or 1))
        headers["Retry-After"] = str(wait)
        detail = f"Too many requests. Try again in {wait} s."
    else:
        detail = str(error.detail)
    code = next((code for kind, code in CODE_OF.items() if isinstance(error, kind)), "refused")
    return _response(document(error.status_code, code, detail), headers)


def database_lost(error: BaseException) -> tuple[dict[str, Any], dict[str, str]]:
    """What is said when the database is away: a problem document, and headers."""
    log.warning("database_unavailable", error=type(error).__name__, detail=str(error)[:300])
    detail = (
        "The database cannot be reached or is too busy. Nothing was accepted unless an earlier answer said so; "
        "try again, with the same Idempotency-Key if you sent one."
    )
    return document(503, "database_unavailable", detail), {"Retry-After": str(RETRY_AFTER_SECONDS)}


def _response(body: dict[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status=body["status"], headers=headers, content_type=MEDIA_TYPE)
