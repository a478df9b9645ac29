"""What happened to one Generation, why it waits, and what comes next and when."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from generations.conf import limits
from generations.lifecycle import Status
from generations.models import Generation, Heartbeat, Submission, Switch, WebhookDelivery
from generations.models.clock import database_now
from generations.models.switch import Pauses
from generations.reports import overview
from generations.reports.capacity import Standing, standings
from generations.reports.eta import MOST_AHEAD, count_ahead, eta_of
from generations.reports.sentences import provider_title, reason
from generations.reports.spans import relative, span
from generations.reports.switches import told, with_names
from generations.reports.timeline import timeline
from generations.reports.usage import Use, at_cap
from generations.reports.waiting import WaitReason
from generations.reports.waiting import reason as wait_reason

MOST_WEBHOOKS = 5
TICK_LATE_SECONDS = 15
"""Three of its intervals without a tick: nothing moves."""

WAITS = {
    WaitReason.SCHEDULED: "it is scheduled for later",
    WaitReason.BACKING_OFF: "an attempt failed, and the next one follows after a pause",
    WaitReason.NO_CAPACITY: "every slot of the accounts that may serve it is in use",
    WaitReason.COOLING_DOWN: "every account that may serve it is cooling down or out of balance",
    WaitReason.PAUSED: "it is paused",
    WaitReason.USER_CAP: "its user has as many in flight as the user's cap allows",
    WaitReason.DAILY_CAP: "every account that may serve it has reached its cap for today (UTC)",
    WaitReason.HELD_BACK: "nothing new is sent until finished results can be kept up with again",
    WaitReason.NO_ACCOUNT: "no account may serve it",
}

RETURNING = frozenset({WaitReason.COOLING_DOWN, WaitReason.DAILY_CAP})
"""What it waits for comes back by itself, at a time that is known."""


def explain(generation: Generation) -> dict[str, Any]:
    """Everything that a person asks about one Generation, JSON-able; times in ISO 8601, UTC.

    Keys: ``generation`` (what it is), ``summary`` (one sentence), ``waiting`` (None, or the reason, the accounts
    with why each can't take it, how many go first, and for a paused one the switch), ``next`` (what comes, soonest
    first: ``text, at, in_seconds``), ``attempts`` (each with the process that ran it), ``story`` (the timeline),
    ``eta_seconds``.
    """
    now = database_now()
    story = timeline(generation)
    attempts = list(generation.submissions.select_related("account").order_by("number"))
    open_ones = [attempt for attempt in attempts if attempt.is_open]
    waiting = _waiting(generation) if generation.status == Status.PENDING else None
    paused = waiting is not None and waiting["reason"] == WaitReason.PAUSED
    tick = Heartbeat.objects.filter(name="tick").first()
    coming = [
        *_next_of_generation(generation, waiting, open_ones),
        *(step for one in open_ones for step in _next_of(one)),
        *_next_of_webhooks(generation),
    ]
    if (generation.is_live or open_ones) and (tick is None or (now - tick.at).total_seconds() > TICK_LATE_SECONDS):
        coming.insert(0, (_no_services(tick, now), None))
    coming.sort(key=lambda step: (step[1] is not None, step[1] or now))
    return {
        "generation": {**_about(generation, now), **_outcome(story)},
        "summary": _summary(generation, waiting, open_ones, _outcome(story), now),
        "waiting": waiting,
        "next": [
            {"text": text, "at": _iso(at), "in_seconds": round((at - now).total_seconds(), 1) if at else None}
            for text, at in coming
        ],
        "eta_seconds": None if paused else eta_of(generation, now=now),
        "attempts": [_attempt(attempt) for attempt in attempts],
        "story": story,
        "now": _iso(now),
    }


def _about(generation: Generation, now: datetime) -> dict[str, Any]:
    retries = generation.retries.order_by("pk").values_list("pk", flat=True)
    return {
        "id": str(generation.pk),
        "status": generation.status,
        "provider_id": generation.provider_id,
        "provider": provider_title(generation.provider_id),
        "operation_type": generation.operation_type,
        "prompt": generation.prompt,
        "user": str(generation.user),
        "user_id": generation.user_id,
        "priority": generation.priority,
        "price": generation.price,
        "error_code": generation.error_code,
        "error_message": generation.error_message,
        "retry_of": str(generation.retry_of_id) if generation.retry_of_id else None,
        "retries": [str(pk) for pk in retries],
        "created_at": _iso(generation.created_at),
        "started_at": _iso(generation.started_at),
        "completed_at": _iso(generation.completed_at),
        "age_seconds": round((now - generation.created_at).total_seconds(), 1),
    }


def _outcome(story: list[dict[str, Any]]) -> dict[str, Any]:
    """What came of it: ``outputs_arrived``, ``outputs_expected``, ``partial``, and ``refunded`` credits."""
    data = {line["kind"]: line["data"] for line in story if line["kind"] in {"completed", "credits_refund"}}
    completed, refund = data.get("completed", {}), data.get("credits_refund")
    return {
        "outputs_arrived": completed.get("outputs"),
        "outputs_expected": completed.get("expected"),
        "partial": bool(completed.get("partial")),
        "refunded": refund["available_change"] if refund else None,
    }


def _attempt(attempt: Submission) -> dict[str, Any]:
    return {
        "id": str(attempt.pk),
        "number": attempt.number,
        "state": attempt.state,
        "account": str(attempt.account),
        "slot": attempt.slot,
        "provider_job_id": attempt.provider_job_id,
        "raw_status": attempt.raw_status,
        "progress": attempt.progress,
        "error_code": attempt.error_code,
        "error_message": attempt.error_message,
        "abandoned": attempt.abandoned_at is not None,
        "process": attempt.process,
        "created_at": _iso(attempt.created_at),
        "sent_at": _iso(attempt.sent_at),
        "ended_at": _iso(attempt.ended_at),
    }


def _waiting(generation: Generation) -> dict[str, Any]:
    accounts = [
        account
        for account in standings(
            providers=[generation.provider_id], users=[generation.user_id], generations=[generation]
        )
        if account.belongs_to(generation)
    ]
    pauses = Pauses(with_names(Switch.objects.pauses()))
    full = at_cap([generation.user_id])
    why = wait_reason(generation, accounts, pauses, full)
    switch = pauses.of(generation.provider_id, generation.operation_type) if why == WaitReason.PAUSED else None
    use = full.get(generation.user_id)
    ahead = count_ahead(generation)
    return {
        "reason": why,
        "text": _paused(switch) if switch else _why(why, use),
        "paused": told(switch).as_dict() if switch else None,
        "ahead": ahead,
        "ahead_is_at_least": ahead >= MOST_AHEAD,
        "returns_at": _iso(_returns_at(generation, accounts)) if why in RETURNING else None,
        "held_back": overview.held_back() if why == WaitReason.HELD_BACK else [],
        "accounts": [_account(account, generation, why) for account in accounts],
    }


def _why(reason: WaitReason | None, use: Use | None) -> str:
    if reason is None:
        return "it is due, and the next claim takes it"
    numbers = f" ({use.used:,} of {use.limit:,})" if reason == WaitReason.USER_CAP and use else ""
    return WAITS[reason] + numbers


def _paused(switch: Switch) -> str:
    """Who paused it, since when and why."""
    paused = told(switch)
    since = f"{switch.created_at:%Y-%m-%d %H:%M} UTC"
    return f"{paused.title} is paused by {paused.who} since {since} ({paused.reason.rstrip('.')})"


def _account(account: Standing, generation: Generation, why: WaitReason | None) -> dict[str, Any]:
    # Where a slot is free, what keeps it is its own.
    its_own = f"a slot is free, but {WAITS[why]}" if why else None
    return {
        "id": str(account.id),
        "label": account.label,
        "own": account.owner_id is not None,
        "limit": account.limit,
        "held": account.held,
        "free": account.free,
        "daily_cap": account.daily_cap,
        "used_today": account.used_today,
        "condition": account.condition,
        "until": _iso(account.until),
        "why_not": account.why_not(generation) or its_own,
    }


def _returns_at(generation: Generation, accounts: list[Standing]) -> datetime | None:
    return min(
        (account.until for account in accounts if account.serves(generation) and account.until and account.comes_back),
        default=None,
    )


def _summary(
    generation: Generation,
    waiting: dict[str, Any] | None,
    open_ones: list[Submission],
    outcome: dict[str, Any],
    now: datetime,
) -> str:
    match generation.status:
        case Status.PENDING:
            age = span((now - generation.created_at).total_seconds())
            assert waiting is not None
            verb = "It waits" if waiting["reason"] else "It is about to start"
            return f"{verb} (accepted {age} ago): {waiting['text']}."
        case Status.PROCESSING:
            return f"It is being made: {_doing(open_ones[-1])}." if open_ones else "It is being made."
        case Status.COMPLETED:
            text = "It is completed"
            if outcome["partial"]:
                text += f" with {outcome['outputs_arrived']} of {outcome['outputs_expected']} outputs"
        case Status.CANCELLED:
            text = "It was cancelled"
        case _:
            text = f"It failed: {reason(generation.error_code, generation.error_message)}"
    if generation.completed_at is not None:
        text += f" ({relative(generation.completed_at, now)})"
    if outcome["refunded"] is not None:
        text += f". {outcome['refunded']:,} of its {generation.price or 0:,} credits were given back"
    if open_ones:
        text += f". Attempt {open_ones[-1].number} may still be billed and is followed on"
    return f"{text}."


def _doing(attempt: Submission) -> str:
    title = provider_title(attempt.account.provider_id)
    progress = f", {attempt.progress}% done" if attempt.progress is not None else ""
    doing = {
        "reserved": "has its slot and is about to be sent",
        "sending": f"is being sent to {title}",
        "unknown": f"may have reached {title} or not",
        "accepted": f"runs at {title} as job {attempt.provider_job_id}{progress}",
        "collecting": "is done, and its result is being fetched",
    }
    return f"attempt {attempt.number} {doing.get(attempt.state, attempt.state)}"


Step = tuple[str, datetime | None]


def _next_of_generation(
    generation: Generation, waiting: dict[str, Any] | None, open_ones: list[Submission]
) -> Iterator[Step]:
    """What comes next for the Generation itself."""
    if generation.status == Status.FAILED and not generation.retries.exists():
        yield f"Nothing by itself. A replay makes a new one: manage.py deadletters --replay {generation.pk}", None
    if generation.status == Status.PROCESSING:
        if generation.deadline_at and not any(one.state == "collecting" for one in open_ones):
            yield "Its deadline: the provider is asked a last time, then it fails", generation.deadline_at
        if generation.cancel_at:
            yield "Its cancel takes effect, unless a result arrives before", generation.cancel_at
    if waiting is not None:
        yield from _start(generation, waiting)
        yield "It fails with queue_timeout if it still waits", generation.queue_until


def _start(generation: Generation, waiting: dict[str, Any]) -> Iterator[Step]:
    """When one that waits starts."""
    if generation.not_before is not None:
        yield "It becomes due", generation.not_before
        return
    match waiting["reason"]:
        case None:
            yield "The next claim takes it (a tick comes every 5 s)", None
        case WaitReason.NO_CAPACITY:
            ahead = f"{'at least ' if waiting['ahead_is_at_least'] else ''}{waiting['ahead']}"
            yield f"It starts when a slot comes free and it is its turn; {ahead} may go first", None
        case WaitReason.USER_CAP:
            yield "It starts when one of its user's is through, or an operator raises the cap", None
        case WaitReason.PAUSED:
            key = waiting["paused"]["key"]
            yield f"It starts when somebody lifts the pause, in the console or by: manage.py switch off {key}", None
        case WaitReason.HELD_BACK:
            for one in waiting["held_back"]:
                yield f"It starts when this is over: {one['text'].lower()} ({one['detail'].rstrip('.')})", None
        case WaitReason.NO_ACCOUNT:
            yield "It starts when an operator adds or switches on an account that may serve it", None
        case _ if waiting["returns_at"]:
            yield "The first of its accounts comes back", datetime.fromisoformat(waiting["returns_at"])


def _next_of(attempt: Submission) -> Iterator[Step]:
    """What comes next for an open attempt."""
    name = f"Attempt {attempt.number}"
    match attempt.state:
        case "reserved":
            yield (
                f"{name} goes back to the queue if its worker has not sent it (no attempt is used)",
                attempt.lease_until,
            )
        case "sending":
            yield f"{name} counts as unknown if its worker has not said what came of it", attempt.lease_until
        case "unknown":
            yield f"{name} is known when the provider calls back; it is never sent again by itself", None
            yield f"{name} is given up: its slot is freed, its cost noted as at risk", attempt.limit_at
        case "accepted":
            yield f"{name}: the provider is asked again", attempt.next_poll_at
            yield f"{name} is given up if the provider is not done, and its slot freed", attempt.limit_at
        case "collecting":
            tries = f" (try {attempt.collect_tries + 1} of {limits().collect_tries})"
            if attempt.lease_until is None:
                yield f"{name}: a collector fetches the result{tries}", None
            else:
                yield f"{name}: a collector has the result until then, or tries it then{tries}", attempt.lease_until
            yield f"{name} fails if its result is not stored", attempt.collect_by
        case _:
            return


def _next_of_webhooks(generation: Generation) -> Iterator[Step]:
    """What comes next for what its endpoints are to be told."""
    waiting = generation.deliveries.filter(state=WebhookDelivery.State.PENDING)
    for delivery in waiting.order_by("next_try_at")[:MOST_WEBHOOKS]:
        verb = "is sent again" if delivery.tries else "is sent"
        yield f"The webhook to {delivery.host} {verb}", delivery.next_try_at


def _no_services(tick: Heartbeat | None, now: datetime) -> str:
    seen = f"the last tick was {relative(tick.at, now)}" if tick else "no tick was ever seen"
    return f"Nothing moves: the services are not running ({seen}). Start them with: manage.py up"


def _iso(at: datetime | None) -> str | None:
    return at.isoformat().replace("+00:00", "Z") if at else None
