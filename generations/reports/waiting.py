"""Why Generations wait: derived when read, never stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from uuid import UUID

from generations.lifecycle import Status
from generations.models import Generation
from generations.reports.capacity import COMING_BACK, Standing, standings


class WaitReason(StrEnum):
    """Why a pending Generation has no Submission yet."""

    SCHEDULED = "scheduled"
    BACKING_OFF = "backing_off"
    NO_CAPACITY = "no_capacity"
    COOLING_DOWN = "cooling_down"
    NO_ACCOUNT = "no_account"


def wait_reasons(generations: Sequence[Generation]) -> dict[UUID, str | None]:
    """The reason of each Generation of a page, in at most one query for all of them.

    None: it does not wait (it runs, has ended, or is due and a slot is free for it: the next claim takes it).
    """
    due = [row for row in generations if row.status == Status.PENDING and row.not_before is None]
    accounts: list[Standing] = []
    if due:
        accounts = standings(
            providers={row.provider_id for row in due}, users={row.user_id for row in due}, generations=due
        )
    return {generation.pk: reason(generation, accounts) for generation in generations}


def reason(generation: Generation, accounts: Iterable[Standing]) -> WaitReason | None:
    """Why this one waits, given how the Accounts stand.

    ``no_account``: none may serve it that is on and accepted by its provider with balance left, or every one that
    may refused it. ``cooling_down``: all that could are cooling down or exhausted, and come back by themselves.
    ``not_before`` is cleared when it has come, so while it is set the Generation waits for it.
    """
    if generation.status != Status.PENDING:
        return None
    if generation.not_before is not None:
        scheduled = generation.scheduled_at is not None and generation.not_before <= generation.scheduled_at
        return WaitReason.SCHEDULED if scheduled else WaitReason.BACKING_OFF
    able = [account for account in accounts if account.serves(generation)]
    if any(account.free for account in able):
        return None
    if any(account.usable for account in able):
        return WaitReason.NO_CAPACITY
    if any(account.condition in COMING_BACK and account.until for account in able):
        return WaitReason.COOLING_DOWN
    return WaitReason.NO_ACCOUNT
