"""Why Generations wait: derived when read, never stored."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from generations.lifecycle import Status
from generations.models import Generation, Switch
from generations.models.switch import Pauses
from generations.reports.capacity import Condition, Standing, standings
from generations.reports.usage import at_cap


class WaitReason(StrEnum):
    """Why a pending Generation has no Submission yet."""

    SCHEDULED = "scheduled"
    BACKING_OFF = "backing_off"
    NO_CAPACITY = "no_capacity"
    COOLING_DOWN = "cooling_down"
    USER_CAP = "user_cap"
    DAILY_CAP = "daily_cap"
    HELD_BACK = "held_back"
    PAUSED = "paused"
    NO_ACCOUNT = "no_account"


def wait_reasons(generations: Sequence[Generation]) -> dict[UUID, str | None]:
    """The reason of each Generation of a page, in at most four queries for all of them.

    None: it does not wait (it runs, has ended, or is due and a slot is free for it: the next claim takes it).
    """
    due = [row for row in generations if row.status == Status.PENDING and row.not_before is None]
    accounts: list[Standing] = []
    full: Container[int] = ()
    pauses = Pauses(Switch.objects.pauses() if due else ())
    if due:
        users = {row.user_id for row in due}
        accounts = standings(providers={row.provider_id for row in due}, users=users, generations=due)
        full = at_cap(users)
    return {generation.pk: reason(generation, accounts, pauses, full) for generation in generations}


def reason(
    generation: Generation, accounts: Iterable[Standing], pauses: Pauses, full: Container[int] = ()
) -> WaitReason | None:
    """Why this one waits, given how the Accounts stand, what is paused, and which users have as many in flight as they
    may (``full``).

    ``paused``: a person has paused it, or its batch; however the Accounts stand, it does not start before that is
    lifted.
    ``no_account``: none may serve it that is on and accepted by its provider with balance left, or every one that
    may refused it. ``user_cap``: its user has as many in flight as he may, whatever is free. ``cooling_down``: all
    that could are cooling down or exhausted, and come back by themselves; ``daily_cap``: they come back at midnight
    (UTC), for their daily cap is reached. ``held_back``: a slot is free, and nothing new is sent until results can be
    kept up with again. ``not_before`` is cleared when it has come, so while it is set the Generation waits for it.
    """
    if generation.status != Status.PENDING:
        return None
    if generation.not_before is not None:
        return _until(generation, generation.not_before)
    if pauses.of(generation.provider_id, generation.operation_type):
        return WaitReason.PAUSED
    able = [account for account in accounts if account.serves(generation)]
    usable = [account for account in able if account.usable]
    returning = [account for account in able if account.comes_back]
    if not usable and not returning:
        return WaitReason.NO_ACCOUNT
    if generation.user_id in full:
        return WaitReason.USER_CAP
    if any(account.free for account in usable):
        return WaitReason.HELD_BACK if usable[0].held_back else None
    if usable:
        return WaitReason.NO_CAPACITY
    capped = all(account.condition == Condition.DAILY_CAP for account in returning)
    return WaitReason.DAILY_CAP if capped else WaitReason.COOLING_DOWN


def _until(generation: Generation, not_before: datetime) -> WaitReason:
    """Why it waits for a time. What a paused batch keeps waiting is kept until it has waited too long."""
    if not_before == generation.queue_until:
        return WaitReason.PAUSED
    scheduled = generation.scheduled_at is not None and not_before <= generation.scheduled_at
    return WaitReason.SCHEDULED if scheduled else WaitReason.BACKING_OFF


def could_run(generation: Generation, accounts: Iterable[Standing]) -> bool:
    """Whether an account may serve it, now or when one comes back by itself."""
    return any(account.usable or account.comes_back for account in accounts if account.serves(generation))
