"""A user's caps at the door: how many may wait, and how many are accepted a day.

Decided without a race: who has caps is locked first, then inserts, then is counted. (How many may be in flight is
the claim's matter: what is above that waits.)
"""

from __future__ import annotations

from datetime import datetime

from accounts.models import UserCap
from generations.execution import caps
from generations.intake.errors import CapReached
from generations.reports.spans import relative
from generations.reports.usage import Use, usage


def lock(user_id: int) -> UserCap | None:
    """The user's caps, his alone until the transaction ends; None (and nobody waits) for who has none."""
    return UserCap.objects.select_for_update().filter(pk=user_id).first()


def check(cap: UserCap, now: datetime, *, new: int) -> None:
    """Count the caller's own ``new`` Generations too, which are inserted already.

    Raises:
        CapReached: they are too many; the caller's transaction is to be rolled back.
    """
    if cap.max_queued is not None:
        waiting = caps.queued([cap.pk])[: cap.max_queued + new].count()
        if waiting > cap.max_queued:
            raise refusal(Use("max_queued", cap.max_queued, waiting - new), now, new)
    if cap.max_per_day is not None:
        start, end = caps.day_of(now)
        today = caps.accepted_since([cap.pk], start)[: cap.max_per_day + new].count()
        if today > cap.max_per_day:
            raise refusal(Use("max_per_day", cap.max_per_day, today - new, end), now, new)


def would_refuse(user_id: int, now: datetime, *, new: int = 1) -> CapReached | None:
    """Why ``new`` requests of this user would be refused now; None: no cap stands in their way."""
    full = (use for use in usage(user_id) if use.used + new > use.limit and use.cap != "max_in_flight")
    return next((refusal(use, now, new) for use in full), None)


def refusal(use: Use, now: datetime, new: int = 1) -> CapReached:
    """What it means, in words, that a cap leaves no room for ``new`` more."""
    more = f" These are {new:,} more." if new > 1 else ""
    if use.resets_at is None:
        return CapReached(
            f"{use.used:,} of your generations wait already, and no more than {use.limit:,} may.{more} Wait until some "
            "have started, or cancel some.",
            use.cap,
            use.limit,
            use.used,
        )
    return CapReached(
        f"{use.used:,} of your requests were accepted today, and no more than {use.limit:,} a day may be.{more} The "
        f"next day begins {relative(use.resets_at, now)}, at {use.resets_at:%Y-%m-%d %H:%M} UTC.",
        use.cap,
        use.limit,
        use.used,
        resets_at=use.resets_at,
        retry_after=(use.resets_at - now).total_seconds(),
    )
