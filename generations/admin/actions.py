"""What an operator may do to a Generation: retry, cancel, wake. Each only where it is legal.

The console asks first (``refusal``) so that it offers only what makes sense; ``generations.intake`` decides, in its
own guarded transaction, so a second click or a worker that was quicker changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from django.db import IntegrityError, OperationalError

from accounts.models import LedgerEntry
from generations.intake.cancel import cancel
from generations.intake.errors import Refusal
from generations.intake.ledger import movements, not_refundable
from generations.intake.retry import retry, wake
from generations.lifecycle import BILLABLE, State, Status
from generations.models import DeadLetter, Generation, Submission

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Action:
    """``name`` in URLs, ``title`` on buttons, ``done`` for the summary (``3 generations retried``)."""

    name: str
    title: str
    icon: str
    done: str
    explanation: str
    permission: str = "generations.change_generation"


RETRY = Action(
    "retry",
    "Retry",
    "replay",
    "retried",
    "A new generation with the same request is made, at today's price, with its own hold on the user's credits and "
    "its own deadline. The old one stays as it is; both point at each other.",
)
CANCEL = Action(
    "cancel",
    "Cancel",
    "cancel",
    "cancelled",
    "One that waits ends at once. One that is under way is stopped at the provider where the provider can do that; a "
    "result that arrives within the grace still wins and is kept. Held credits are released when it ends as cancelled.",
)
WAKE = Action(
    "wake",
    "Start now",
    "bolt",
    "woken",
    "It no longer waits for its schedule or its backoff: it starts as soon as an account has a free slot.",
)
REFUND = Action(
    "refund",
    "Refund",
    "undo",
    "refunded",
    "Credits go back to the user's wallet, once. The result stays his. The ledger, the timeline and the user see why.",
    permission="accounts.change_wallet",
)
EDIT = Action(
    "edit",
    "Edit and replay",
    "edit",
    "replayed",
    "A new generation with changed params is made, at today's price. It is another request; both point at each other.",
)
DISMISS = Action(
    "dismiss",
    "Dismiss",
    "archive",
    "dismissed",
    "It is no dead letter any more: nothing is to be done about it. It stays as it is, and this can be taken back.",
)
RESTORE = Action(
    "restore",
    "Take the dismissal back",
    "unarchive",
    "restored",
    "It is a dead letter again, unless it was retried or answered meanwhile.",
)
ACTIONS = {action.name: action for action in (RETRY, CANCEL, WAKE)}
"""Those that can be done to many at once, too; each refund wants a reason of its own."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: the Generation to look at, or the refusal's code and words."""

    generation_id: UUID | None
    code: str = ""
    detail: str = ""

    @property
    def done(self) -> bool:
        """Whether it was carried out."""
        return not self.code


def refusal(action: Action, generation: Generation, attempts: list[Submission]) -> str | None:
    """Why the action is not offered, for people; None: it is."""
    if action is RETRY:
        if generation.status == Status.COMPLETED:
            return "It is completed; there is nothing to retry. To make another one, request it with “reuse: none”."
        return "It has not ended yet. Cancel it first, or wait." if generation.is_live else None
    if not generation.is_live:
        return f"It has already ended ({generation.status})."
    if action is CANCEL:
        if generation.cancel_requested_at:
            return "Its cancel has already been asked for; it ends after the grace."
        if any(attempt.state == State.COLLECTING and not attempt.abandoned_at for attempt in attempts):
            return "Too late: the provider has finished, and its result is being fetched."
        return None
    if generation.status != Status.PENDING or generation.not_before is None:
        return "It waits for no time; it runs, or starts as soon as a slot is free."
    return None


def legal(generation: Generation, attempts: list[Submission], may: Callable[[str], bool]) -> list[Action]:
    """The actions that its page offers to somebody who ``may`` do what these permissions allow."""
    found = [action for action in ACTIONS.values() if refusal(action, generation, attempts) is None]
    if not_refundable(generation) is None and LedgerEntry.Kind.REFUND not in movements(generation.pk):
        found.append(REFUND)
    if RETRY in found:
        found.append(EDIT)
    if generation.dismissed_at is not None:
        found.append(RESTORE)
    elif generation.status == Status.FAILED and DeadLetter.objects.filter(pk=generation.pk).exists():
        found.append(DISMISS)
    return [action for action in found if may(action.permission)]


def may_be_billed(attempts: list[Submission]) -> bool:
    """Whether an attempt may still be billed, so that a retry could cost twice."""
    return any(attempt.state in BILLABLE for attempt in attempts)


def carry_out(
    action: Action, generation_id: UUID, *, actor: str, insist: bool = False, params: dict[str, Any] | None = None
) -> Outcome:
    """Do it, or say why not. ``params``: of a retry, instead of its own."""
    steps: dict[str, Callable[[], Generation]] = {
        RETRY.name: lambda: retry(generation_id, actor=actor, insist=insist, params=params).generation,
        CANCEL.name: lambda: cancel(generation_id, actor=actor),
        WAKE.name: lambda: wake(generation_id, actor=actor),
    }
    waiting = Generation.objects.filter(pk=generation_id, status=Status.PENDING, not_before__isnull=False)
    if action is WAKE and not waiting.exists():
        return Outcome(None, "not_waiting", "It waits for no time: it runs, has ended, or starts with the next slot.")
    try:
        return Outcome(steps[action.name]().pk)
    except Refusal as error:
        named = error.extra.get("generation")
        return Outcome(UUID(str(named)) if named else None, error.code, error.detail)
    except Generation.DoesNotExist:
        return Outcome(None, "gone", "It has been removed meanwhile.")
    except OperationalError:
        return Outcome(None, "database_busy", "The database did not answer in time; nothing changed. Try again.")
    except IntegrityError:
        # One bad row must not stop a bulk action, and must not go unnoticed.
        log.exception("console_action_refused", action=action.name, generation=str(generation_id))
        return Outcome(
            None, "inconsistent", "The database refused it: its rows contradict each other. Run manage.py audit."
        )
