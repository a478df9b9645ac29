"""Reading replies that may be anything. Shared by the adapters; knows no provider."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from providers.base import Reply

LONGEST_MESSAGE = 300
LONGEST_URL = 2_048
_WORD_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LARGEST_ID = 2**63 - 1


def json_object(reply: Reply) -> dict[str, Any] | None:
    """The body as a JSON object, or None when it is anything else."""
    try:
        body = reply.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def number_id(value: object) -> str | None:
    """An int64 id (or its digits) as text, else None."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST_ID:
        return str(value)
    return None


def word_id(value: object) -> str | None:
    """An id that may be a number or a short word, as text, else None."""
    if isinstance(value, str) and _WORD_ID.fullmatch(value):
        return value
    return number_id(value)


def message(value: object) -> str:
    """A provider's message for people: the text, or the texts of a field -> list object; short, one line."""
    if isinstance(value, Mapping):
        texts = [f"{field}: {message(text)}" for field, text in list(value.items())[:5]]
    elif isinstance(value, (list, tuple)):
        texts = [message(text) for text in value[:5] if isinstance(text, str)]
    else:
        texts = [value] if isinstance(value, str) else []
    return " ".join(" ".join(text.split()) for text in texts)[:LONGEST_MESSAGE]


def money(value: object) -> Decimal | None:
    """An amount (a number or its text) that is finite and not negative, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        amount = Decimal(str(value)[:40])
    except (InvalidOperation, ValueError):
        return None
    return amount if amount.is_finite() and 0 <= amount < 10**15 else None


def seconds(value: object) -> float | None:
    """A duration in seconds (a number or its text), finite and not negative, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and found >= 0 else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Retry-After in seconds: a number, or an HTTP date, measured from the reply's own ``Date``.

    None when it is missing, negative or nonsense; a date in the past is 0. No upper bound: how long
    to believe it is the executor's matter.
    """
    text = headers.get("retry-after", "").strip()
    if (found := seconds(text)) is not None:
        return found
    try:
        until, now = parsedate_to_datetime(text), parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def web_url(value: object) -> str | None:
    """An absolute URL of a sane length, or a ``data:`` URL. Whether it may be fetched is the downloader's question."""
    if not isinstance(value, str):
        return None
    if value.startswith("data:"):
        return value
    try:
        scheme = urlsplit(value).scheme
    except ValueError:
        return None
    return value if scheme and len(value) <= LONGEST_URL else None


def is_placeholder(url: str) -> bool:
    """Whether a result's URL is that of the file that stands in for moderated ones (``.../default.mp4``)."""
    return not url.startswith("data:") and PurePosixPath(urlsplit(url).path).stem.lower() == "default"
