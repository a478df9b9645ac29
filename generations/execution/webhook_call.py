"""One webhook on its way: signed as Standard Webhooks says, sent by the guarded POST, and its answer judged.

Runs in threads; touches no database.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from standardwebhooks import Webhook

from providers import post
from providers.errors import NotDelivered, OutcomeUnknown, ProviderError


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one try. ``error_code`` is empty when it was delivered; ``elapsed`` in seconds."""

    elapsed: float = 0.0
    status: int | None = None
    error_code: str = ""
    error_message: str = ""
    answer: str = ""
    retry_after: float | None = None


def signed(message_id: str, body: str, secrets: Sequence[str], at: datetime) -> dict[str, str]:
    """The headers of Standard Webhooks: one signature for each of ``secrets`` that is in force."""
    signatures = [Webhook(secret).sign(message_id, at, body) for secret in secrets]
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def send(url: str, body: bytes, headers: dict[str, str], timeout: float, allowed: Sequence[str]) -> Outcome:
    """Send it once, and tell what came of it, whatever that is."""
    started = time.monotonic()
    try:
        answer = post.post(url, body, headers, total_timeout=timeout, allowed_origins=allowed)
    except ProviderError as error:
        code = {NotDelivered: "not_delivered", OutcomeUnknown: "no_answer"}.get(type(error), error.code)
        return Outcome(time.monotonic() - started, error_code=code, error_message=error.detail)
    code, message = _judged(answer.status)
    return Outcome(
        time.monotonic() - started,
        status=answer.status,
        error_code=code,
        error_message=message,
        answer=answer.body,
        retry_after=answer.retry_after,
    )


def _judged(status: int) -> tuple[str, str]:
    """Error code and message of an answer; both empty for 2xx, which alone is success."""
    if 200 <= status < 300:
        return "", ""
    if status == 410:
        return "gone", "It answered HTTP 410 (gone): it is told nothing any more."
    if 300 <= status < 400:
        return "redirect", f"It answered HTTP {status}: redirects are not followed. Enter the address that it leads to."
    return "http_error", f"It answered HTTP {status}."
