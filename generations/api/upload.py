"""Reading a multipart form that may be anything; what is large is written to temporary files meanwhile."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.http import HttpRequest, QueryDict, UnreadablePostError
from rest_framework.exceptions import ParseError
from rest_framework.request import Request

from generations.api import body
from generations.api.problems import Problem
from generations.api.views.base import plain
from generations.intake import inputs

FORM_OVERHEAD = 64 * 1024


def form(given: Request, *, most_bytes: int, known: frozenset[str], hint: str) -> dict[str, list[Any]]:
    """The form's fields and files, by name; ``hint`` says what to send where it has others than ``known``.

    Raises:
        Problem: 413, 415, or 400.
        Unavailable: it could not be written to the disk.
    """
    http = plain(given)
    body.check_length(http, most_bytes + FORM_OVERHEAD)
    body.check_headers(http, "multipart/form-data")
    try:
        with inputs.storing():
            sent = _parsed(given, http)
    except ParseError:
        raise malformed("The form could not be read.") from None
    fields: dict[str, list[Any]] = dict(sent.lists()) if isinstance(sent, QueryDict) else {}
    if unknown := sorted(set(fields) - known):
        raise malformed(f"There is no field {unknown[0][:80]!r}; {hint}.")
    return fields


def malformed(detail: str, *, field: str = "file") -> Problem:
    """The form is not as it must be."""
    return Problem(400, "malformed_body", detail, errors=[{"field": field, "message": detail}])


def _parsed(given: Request, http: HttpRequest) -> Any:
    """The parsed body.

    Raises:
        ParseError: it is none, or the client has broken off.
        OSError: it could not be written to the disk; nothing of it is left there.
    """
    try:
        return given.data
    except UnreadablePostError as error:
        raise ParseError from error
    except OSError:
        for handler in http.upload_handlers:
            with suppress(OSError):  # closing writes what is left, and cannot either; it removes the file all the same
                handler.upload_interrupted()
        raise
