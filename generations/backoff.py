"""How long to wait before trying again. Pure: chance and limits are passed in."""

from __future__ import annotations

from collections.abc import Callable


def retry_delay(
    n: int,
    *,
    base: float,
    cap: float,
    retry_after: float | None = None,
    retry_after_cap: float,
    jitter: Callable[[], float],
) -> float:
    """Seconds until the next try after the ``n``-th failure (``n`` starts at 0).

    ``min(cap, base * 2**n)`` times a jitter of 0.5 to 1.5 (``jitter`` gives 0 to 1), or the provider's
    ``retry_after`` where that is longer; it is believed up to ``retry_after_cap``, and never below 0.
    """
    delay = min(cap, base * 2.0 ** min(n, 30)) * (0.5 + jitter())
    wished = min(max(retry_after or 0.0, 0.0), retry_after_cap)
    return max(delay, wished)


def delivery_delay(
    n: int, *, left: float, base: float, cap: float, retry_after: float | None = None, jitter: Callable[[], float]
) -> float | None:
    """Seconds until the next try of a webhook after its ``n``-th failure (``n`` starts at 0); None: no further one.

    As ``retry_delay``, with Retry-After believed up to ``cap``. ``left`` is how long it is tried at all, from now.
    """
    delay = retry_delay(n, base=base, cap=cap, retry_after=retry_after, retry_after_cap=cap, jitter=jitter)
    return delay if delay <= left else None


def poll_delay(age: float, *, shortest: float, longest: float) -> float:
    """Seconds until the next poll of a job that runs since ``age`` seconds: a tenth of its age, within bounds."""
    return min(max(age / 10, shortest), longest)
