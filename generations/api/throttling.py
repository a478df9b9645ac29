"""How fast one caller may ask: a token bucket per caller in this process's memory.

It costs no round trip and cannot fail with Redis; with several web processes each counts for itself.
"""

from __future__ import annotations

import threading
import time
from functools import cache
from typing import Any

from django.conf import settings
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

MOST_CALLERS = 10_000
PERIODS = {"second": 1.0, "minute": 60.0, "hour": 3600.0}


class Bucket:
    """At most ``number`` calls of a caller in a burst, and ``number`` per ``period`` in the long run.

    It remembers one number per caller: when the bucket would be full again (the generic cell rate algorithm).
    """

    def __init__(self, number: float, period: float) -> None:
        self.number = number
        self.period = period
        self._full_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def take(self, caller: str, now: float | None = None) -> float:
        """Take one call; 0 when it is allowed, else the seconds to wait."""
        if not self.number:
            return 0.0
        now = time.monotonic() if now is None else now
        with self._lock:
            full_at = max(self._full_at.get(caller, now), now) + self.period / self.number
            wait = full_at - now - self.period
            if wait > 1e-9:
                return wait
            if len(self._full_at) >= MOST_CALLERS:
                self._full_at = {name: at for name, at in self._full_at.items() if at > now}
            self._full_at[caller] = full_at
            return 0.0


def parse_rate(text: str) -> tuple[float, float]:
    """``6000/minute`` as (6000, 60.0); ``0`` or empty: no limit.

    Raises:
        ValueError: it is neither.
    """
    number, _, period = text.partition("/")
    if number.strip() in {"", "0"}:
        return 0.0, 1.0
    if period not in PERIODS:
        raise ValueError(f"A rate is written as 6000/minute (or /second, /hour), not {text!r}.")
    return float(number), PERIODS[period]


@cache
def bucket(rate: str, purpose: str) -> Bucket:  # noqa: ARG001  each purpose counts for itself
    """The one bucket of this process for a rate and a purpose."""
    return Bucket(*parse_rate(rate))


class UserThrottle(BaseThrottle):
    """``settings.API_RATE`` per user."""

    def allow_request(self, request: Request, view: Any) -> bool:
        """Whether this call is allowed; ``wait`` says how long it is not."""
        self._wait = bucket(settings.API_RATE, "user").take(str(request.user.pk))
        return self._wait == 0

    def wait(self) -> float:
        """Seconds to wait."""
        return self._wait


class _FailedLogins:
    """``settings.API_FAILED_LOGIN_RATE`` per address. A right token is never held up by others' wrong ones."""

    def check(self, address: str) -> None:
        """Count a wrong token. Raises Throttled when there were too many."""
        if wait := bucket(settings.API_FAILED_LOGIN_RATE, "failed login").take(address):
            raise Throttled(wait=wait)


failed_logins = _FailedLogins()
