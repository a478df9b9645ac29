"""What is kept of a call and its reply: readable, bounded, JSON, and without a secret.

Secrets are marked in the ``Call`` (``Secret``), so that nothing here has to guess what is one:
they are replaced where they stand, and wherever the provider echoes them.
"""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus

from providers.base import Call, Reply, Secret

HIDDEN = "***"
LONGEST_TEXT = 1_000
LONGEST_LIST = 20
LONGEST_OBJECT = 60
DEEPEST = 6
LARGEST_BODY = 4_000
"""Characters of a body's JSON that are kept."""
_KEPT_HEADERS = ("content-type", "content-length", "date", "retry-after", "x-request-id", "ai-trace-id", "server")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One call and its reply, as stored on the Submission.

    ``request``: ``method, url, headers, body`` (and ``files``). ``response``: ``status, headers,
    body``, or None when none came. ``elapsed`` is in seconds.
    """

    request: dict[str, Any]
    response: dict[str, Any] | None
    elapsed: float


def secrets_of(call: Call) -> frozenset[str]:
    """Every form in which a secret of this call could be echoed: as it is, quoted, in base64, without its scheme."""
    found: set[str] = set()
    for secret in _secrets_in([call.headers, call.query, call.form, call.json]):
        words = [str(secret), *str(secret).split()[1:]]
        for word in words:
            found |= {word, quote(word), quote(word, safe=""), quote_plus(word), b64encode(word.encode()).decode()}
    return frozenset(word for word in found if word)


def _secrets_in(value: Any) -> Iterator[Secret]:
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _secrets_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _secrets_in(item)


def scrub(text: str, secrets: Iterable[str]) -> str:
    """``text`` with each secret hidden, the longest first."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def request_record(call: Call, url: str, headers: Mapping[str, str], secrets: frozenset[str]) -> dict[str, Any]:
    """What was asked (``headers``: those that were sent), without its secrets and without the bytes of files."""
    body = call.json if call.json is not None else dict(call.form) or None
    record: dict[str, Any] = {
        "method": call.method,
        "url": _text(url, secrets),
        "headers": _kept(dict(headers), secrets),
        "body": _body(body, secrets),
    }
    if call.files:
        record["files"] = {
            name: {
                "name": _text(file.name, secrets),
                "mime_type": file.mime_type,
                "size": file.size,
                "sha256": file.sha256,
            }
            for name, file in call.files.items()
        }
    return record


def response_record(reply: Reply, secrets: frozenset[str]) -> dict[str, Any]:
    """What came back: the JSON where it is some, else the beginning of the text."""
    try:
        body = reply.json()
    except ValueError:
        body = reply.body[: LONGEST_TEXT * 4].decode("utf-8", "replace")
    headers = {name: value for name, value in reply.headers.items() if name in _KEPT_HEADERS}
    return {"status": reply.status, "headers": _kept(headers, secrets), "body": _body(body, secrets)}


def _body(value: Any, secrets: frozenset[str]) -> Any:
    kept = _kept(value, secrets)
    text = json.dumps(kept, ensure_ascii=False)
    if len(text) <= LARGEST_BODY:
        return kept
    return f"{text[:LARGEST_BODY]}… ({len(text):,} characters)"


def _kept(value: Any, secrets: frozenset[str], depth: int = 0) -> Any:
    """``value`` as bounded JSON that PostgreSQL takes (no NaN, no NUL, no lone surrogate), secrets hidden."""
    if isinstance(value, str):
        return _text(value, secrets)
    if value is None or isinstance(value, (bool, int, float)):
        return _number(value, secrets)
    if depth >= DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        items = list(value.items())
        kept = {_text(str(name), secrets): _kept(item, secrets, depth + 1) for name, item in items[:LONGEST_OBJECT]}
        if len(items) > LONGEST_OBJECT:
            kept["…"] = f"{len(items) - LONGEST_OBJECT:,} more"
        return kept
    if isinstance(value, (list, tuple)):
        listed = [_kept(item, secrets, depth + 1) for item in value[:LONGEST_LIST]]
        if len(value) > LONGEST_LIST:
            listed.append(f"… {len(value) - LONGEST_LIST:,} more")
        return listed
    return f"<{type(value).__name__}>"


def _number(value: Any, secrets: frozenset[str]) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    return HIDDEN if str(value) in secrets else value


def _text(value: str, secrets: frozenset[str]) -> str:
    # Hidden before it is cut, or half a secret would stay at the edge.
    text = HIDDEN if isinstance(value, Secret) else scrub(value, secrets)
    if len(text) > LONGEST_TEXT:
        text = f"{text[:LONGEST_TEXT]}… ({len(text):,} characters)"
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
