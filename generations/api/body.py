"""Reading a JSON body that may be anything: what gets through is an object that PostgreSQL can store."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest

from generations.api.problems import Problem

LARGEST = 256 * 1024
DEEPEST = 32
LARGEST_INTEGER = 2**63 - 1


def json_object(request: HttpRequest, *, optional: bool = False) -> dict[str, Any]:
    """The body, which must be one JSON object. With ``optional`` an empty body is an empty object.

    Raises:
        Problem: 413 over 256 kB, 415 for another content type or encoding, else 400.
    """
    raw = _read(request)
    if optional and not raw:
        return {}
    check_headers(request, "application/json")
    if raw.startswith(b"\xef\xbb\xbf"):
        raise _malformed("The body starts with a byte order mark; send plain UTF-8.")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise _malformed(f"The body is not valid UTF-8 (byte {error.start}).") from None
    body = _parse(text)
    if not isinstance(body, dict):
        raise _malformed("The body must be one JSON object.")
    return body


def check_headers(request: HttpRequest, media_type: str) -> None:
    """Refuse (415) another content type than ``media_type`` in UTF-8, and any content encoding."""
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise Problem(415, "unsupported_encoding", "Send the body as it is, without Content-Encoding.")
    if request.content_type != media_type:
        given = request.content_type or "none"
        raise Problem(415, "unsupported_media_type", f"Send Content-Type: {media_type}, not {given[:80]!r}.")
    charset = (request.content_params or {}).get("charset", "utf-8").strip("\"'").lower()
    if media_type == "application/json" and charset not in {"utf-8", "utf8"}:
        raise Problem(415, "unsupported_media_type", "JSON is read as UTF-8 only.")


def check_length(request: HttpRequest, most: int) -> None:
    """Refuse (413) a body that says it is longer than ``most`` bytes, before any of it is read."""
    text = request.META.get("CONTENT_LENGTH") or "0"
    if text.isascii() and text.isdigit() and (len(text) > 15 or int(text) > most):
        raise Problem(413, "body_too_large", f"The body may be at most {most} bytes long.")


def sha256(body: dict[str, Any]) -> str:
    """The hash of the body's meaning: spaces and the order of keys make no difference."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _read(request: HttpRequest) -> bytes:
    check_length(request, LARGEST)
    raw = request.read(LARGEST + 1)
    if len(raw) > LARGEST:
        raise Problem(413, "body_too_large", f"The body may be at most {LARGEST} bytes long.")
    return bytes(raw)


def _parse(text: str) -> Any:
    try:
        body = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_float=_finite,
            parse_int=_bounded,
            parse_constant=_constant,
        )
    except json.JSONDecodeError as error:
        raise _malformed(f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise _malformed(f"The body is nested more than {DEEPEST} deep.") from None
    # Without so many brackets it cannot be too deep, and without escapes it holds no text that UTF-8 cannot.
    if text.count("[") + text.count("{") > DEEPEST or "\\u" in text:
        for depth, item in _walk(body):
            if depth > DEEPEST:
                raise _malformed(f"The body is nested more than {DEEPEST} deep.")
            if isinstance(item, str):
                _check_text(item)
    return body


def _walk(body: Any) -> Iterator[tuple[int, Any]]:
    """Everything in the body with its depth, keys included; without recursion."""
    left = [(1, body)]
    while left:
        depth, item = left.pop()
        yield depth, item
        if isinstance(item, dict):
            left.extend((depth + 1, part) for pair in item.items() for part in pair)
        elif isinstance(item, list):
            left.extend((depth + 1, part) for part in item)


def _check_text(text: str) -> None:
    if "\x00" in text:
        raise _malformed("The body holds the character U+0000, which cannot be stored.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _malformed("The body holds half of a surrogate pair, which is no character.") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _malformed(f"The key {twice[:80]!r} stands twice in one object.")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _malformed(f"The number {text[:40]} is too large.")
    return number


def _bounded(text: str) -> int:
    if len(text) > 20 or abs(number := int(text)) > LARGEST_INTEGER:
        raise _malformed(f"The number {text[:40]} is too large.")
    return number


def _constant(text: str) -> Any:
    raise _malformed(f"{text} is not JSON.")


def _malformed(detail: str) -> Problem:
    return Problem(400, "malformed_body", detail)
