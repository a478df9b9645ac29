"""How Pixverse signs its callbacks; the shared note wire/pixverse.md (section 6) is the source of every fact here."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from providers import replies
from providers.base import Reply

SKEW_SECONDS = 300
LONGEST_NONCE = 120
MILLISECONDS_LENGTH = 13
"""So many digits are milliseconds, as one client sends; fewer are seconds, as the documents say."""
UNESCAPED = "!'()*"
"""What JavaScript's encodeURIComponent leaves as it is beside letters, digits and ``-_.~``."""


def verify(headers: Mapping[str, str], body: bytes, *, secret: str, form: str, now: float) -> str:
    """Check the Base64 of HMAC-SHA256 over ``timestamp\\nnonce\\npayload``; gives the nonce.

    The sources disagree on ``payload``: the JSON as a query string (form ``query``), or the percent-encoded body
    (``raw``).

    Raises:
        ValueError: not signed with this secret, or not within 300 s of ``now`` (Unix seconds).
    """
    timestamp, nonce = headers.get("webhook-timestamp", ""), headers.get("webhook-nonce", "")
    if not (
        timestamp.isascii()
        and timestamp.isdigit()
        and len(timestamp) <= MILLISECONDS_LENGTH
        and 0 < len(nonce) <= LONGEST_NONCE
    ):
        raise ValueError("it is not signed")
    sent_at = int(timestamp) / (1000 if len(timestamp) == MILLISECONDS_LENGTH else 1)
    if abs(now - sent_at) > SKEW_SECONDS:
        raise ValueError(f"its timestamp is more than {SKEW_SECONDS} s off")
    payload = quote(body, safe=UNESCAPED) if form == "raw" else _query_string(body)
    text = f"{timestamp}\n{nonce}\n{payload}".encode()
    wanted = base64.b64encode(hmac.new(secret.encode(), text, hashlib.sha256).digest())
    if not hmac.compare_digest(wanted, headers.get("webhook-signature", "").encode()):
        raise ValueError("its signature is wrong")
    return nonce


def _query_string(body: bytes) -> str:
    """A flat JSON object as ``key=value&...`` in its own order; what is no text is written as JSON."""
    found = replies.json_object(Reply(200, {}, body))
    if found is None:
        raise ValueError("its body is no JSON object")
    return urlencode({name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()})
