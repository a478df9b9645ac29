"""Query parameters and keyset pages: what is not known is refused, so that a typo never lists everything."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.db.models import Model, QuerySet
from django.http import HttpRequest, QueryDict
from django.utils.dateparse import parse_date, parse_datetime

from generations.api.problems import Problem

DEFAULT_LIMIT = 50
LARGEST_LIMIT = 100
PAGING = frozenset({"limit", "cursor"})

_SLUG = re.compile(r"[a-z0-9_-]{1,40}")
_OFFSET_SIGN_LOST = re.compile(r" (\d\d:?\d\d)$")
M = TypeVar("M", bound=Model)


def check_names(query: QueryDict, known: frozenset[str]) -> None:
    """Refuse parameters that are not in ``known``."""
    for name in query:
        if name not in known:
            allowed = f"Known: {', '.join(sorted(known))}." if known else "None is known here."
            raise _invalid(name, f"There is no query parameter {name[:80]!r}. {allowed}", code="unknown_parameter")


def choices(query: QueryDict, name: str, known: Sequence[str]) -> list[str]:
    """The values of a parameter that may be repeated or hold commas, each of them one of ``known``."""
    values = [value for text in query.getlist(name) for value in text.split(",")]
    for value in values:
        if value not in known:
            raise _invalid(name, f"{value[:80]!r} is none of {', '.join(known)}.")
    return values


def slug(query: QueryDict, name: str) -> str | None:
    """A short word such as a provider's."""
    text = query.get(name)
    if text is not None and not _SLUG.fullmatch(text):
        raise _invalid(name, "It must be a provider's name, such as pixverse.")
    return text


def text(query: QueryDict, name: str, *, longest: int = 200) -> str | None:
    """Words of a person's."""
    found = texts(query, name, longest=longest)
    return found[-1] if found else None


def texts(query: QueryDict, name: str, *, longest: int = 200) -> list[str]:
    """The same for a parameter that may be repeated."""
    found = query.getlist(name)
    if any(len(given) > longest or "\x00" in given for given in found):
        raise _invalid(name, f"It must be a text of at most {longest} characters.")
    return found


def identifier(query: QueryDict, name: str) -> UUID | None:
    """An id."""
    text = query.get(name)
    try:
        return None if text is None else UUID(text)
    except ValueError:
        raise _invalid(name, "It must be an id, such as 01a207cd-0168-7661-8dc1-15d46e9a95ba.") from None


def moment(query: QueryDict, name: str) -> datetime | None:
    """An ISO 8601 date (its midnight, UTC) or date and time; without an offset it is UTC."""
    text = query.get(name)
    if text is None:
        return None
    try:
        text = _OFFSET_SIGN_LOST.sub(r"+\1", text)  # an unescaped + in a URL arrives as a space
        at = parse_datetime(text)
        if at is None:
            day = parse_date(text)
            at = datetime(day.year, day.month, day.day) if day else None  # noqa: DTZ001  made UTC below
        if at is not None:
            return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise _invalid(name, "It must be a date and time, such as 2026-01-31T12:00:00Z.")


def page(
    request: HttpRequest, rows: QuerySet[M], *, scope: str, by: str = "pk", oldest_first: bool = False
) -> tuple[list[M], dict[str, Any]]:
    """One page of ``rows``, newest first by their ids (time-ordered, or counted), and the links to the next one.

    ``scope`` (whose list of what) is part of the cursor's signature: a cursor works only where it was given.
    ``by``: in the order of this number instead, which no two of them share.
    """
    query = request.GET
    limit = _limit(query)
    if (text := query.get("cursor")) is not None:
        last = _read_cursor(text, scope)  # a counted id is the integer that the UUID stands for
        value = last if by == "pk" else last.int
        rows = rows.filter(**{f"{by}__{'gt' if oldest_first else 'lt'}": value})
    found = list(rows.order_by(by if oldest_first else f"-{by}")[: limit + 1])
    if len(found) <= limit:
        return found, {"next": None, "next_cursor": None}
    found = found[:limit]
    last_key = getattr(found[-1], by)
    cursor = _write_cursor(UUID(int=last_key) if isinstance(last_key, int) else last_key, scope)
    kept = [(name, value) for name, values in query.lists() if name != "cursor" for value in values]
    following = urlencode([*kept, ("cursor", cursor)])
    return found, {"next": request.build_absolute_uri(f"{request.path}?{following}"), "next_cursor": cursor}


def _limit(query: QueryDict) -> int:
    text = query.get("limit")
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit()) or not text.strip("0"):
        raise _invalid("limit", f"It must be a whole number from 1 to {LARGEST_LIMIT}.")
    return LARGEST_LIMIT if len(text) > 6 else min(int(text), LARGEST_LIMIT)


def _write_cursor(last: UUID, scope: str) -> str:
    return base64.urlsafe_b64encode(last.bytes + _signature(last.bytes, scope)).decode()


def _read_cursor(text: str, scope: str) -> UUID:
    try:
        raw = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    if len(raw) == 24 and hmac.compare_digest(raw[16:], _signature(raw[:16], scope)):
        return UUID(bytes=raw[:16])
    raise _invalid("cursor", "This cursor was not given out for this list. Start again without one.")


def _signature(last: bytes, scope: str) -> bytes:
    return hmac.new(_key(settings.SECRET_KEY), scope.encode() + b"\0" + last, hashlib.sha256).digest()[:8]


@cache
def _key(secret: str) -> bytes:
    return hashlib.sha256(b"darkroom.cursor:" + secret.encode()).digest()


def _invalid(field: str, message: str, *, code: str = "invalid_parameter") -> Problem:
    return Problem(400, code, message, errors=[{"field": field[:80], "message": message}])
