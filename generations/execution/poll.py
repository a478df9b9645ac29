"""Poll: where do the accepted ones stand? Many at once, timeouts first, one bad poll never fails a live job.

Rows are claimed for a moment (``next_poll_at`` moves on, a poll token is set), asked about in threads, and what came
back is written in waves, fenced by the poll token.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import structlog
import uuid_utils.compat as uuid
from django.db import transaction
from django.db.models import Case, F, Min, Value, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Greatest, Now

from generations import wakeups
from generations.backoff import poll_delay
from generations.conf import limits, seconds
from generations.execution import failures, orders, poison, process, settle, verdicts
from generations.execution.accounts import endpoint, look_again
from generations.execution.expiry import DeadlineExceeded, expire
from generations.execution.failures import Failure
from generations.execution.persist import apart, patiently
from generations.execution.unknown import resubmits_once
from generations.execution.waves import Wave
from generations.lifecycle import State
from generations.models import Incident, Submission
from generations.models.bulk import update_rows
from generations.models.clock import database_now
from generations.models.generation import SUSPECT_AFTER
from providers import registry
from providers.base import PollResult
from providers.errors import AuthFailed, InsufficientCredits, JobFailed, JobLost, NoOutput, ProviderError
from providers.transport import converse

BATCH = 200
LINGER_STEP = 0.25
MISSES = 3
EMPTIES = 5
FENCE = "t.state = 'accepted' AND t.poll_token = %(token)s"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a poll of one Submission brought."""

    submission: Submission
    outcome: PollResult | Exception


def poll(linger: float = 0) -> int:
    """Poll everything that is due, in batches, until nothing is. Gives how many polls were made.

    ``linger``: for so many seconds also what becomes due meanwhile, so that a result is seen when it is expected
    and not when the next message comes.
    """
    made = 0
    stop_at = time.monotonic() + linger
    while True:
        token = uuid.uuid4()
        batch = _claim(token)
        made += len(batch)
        if not batch and not _wait_for_next(stop_at):
            return made
        wave: Wave[Submission, PollResult] = Wave()
        for submission in batch:
            wave.start(submission, _question(submission))
        renewed_at = time.monotonic()
        while wave:
            arrived = wave.arrived(timeout=limits().lease / 3)
            _write(token, [Answer(submission, outcome) for submission, outcome in arrived])
            if time.monotonic() - renewed_at > limits().lease / 3:
                _extend(token, wave.items())
                renewed_at = time.monotonic()


def _wait_for_next(stop_at: float) -> bool:
    """Wait a little for the next poll that becomes due before ``stop_at``; False: there is none."""
    left = stop_at - time.monotonic()
    if left <= 0:
        return False
    due_in = Submission.objects.filter(state=State.ACCEPTED).aggregate(due=Min("next_poll_at") - Now())["due"]
    if due_in is None or due_in.total_seconds() > left:
        return False
    # In small steps: a poll that is due sooner may be added meanwhile.
    time.sleep(min(max(due_in.total_seconds(), 0.02), LINGER_STEP))
    return True


def _claim(token: UUID) -> list[Submission]:
    """Due rows, fairly over the accounts, moved on so that no other poller takes them meanwhile."""
    with transaction.atomic():
        due = list(
            Submission.objects.select_for_update(skip_locked=True, of=("self",), no_key=True)
            .filter(state=State.ACCEPTED, next_poll_at__lte=Now())
            .select_related("generation", "account")
            .order_by("next_poll_at")[:BATCH]
        )
        if due and due[0].unwritten_claims >= SUSPECT_AFTER:
            due = due[:1]
        else:
            # A suspect is taken alone, when its turn has come.
            due = [submission for submission in due if submission.unwritten_claims < SUSPECT_AFTER]
        counts: dict[UUID, int] = {}
        mine = []
        for submission in due:
            counts[submission.account_id] = counts.get(submission.account_id, 0) + 1
            if counts[submission.account_id] <= limits().polls_per_account:
                mine.append(submission)
        if mine:
            Submission.objects.filter(pk__in=[submission.pk for submission in mine]).update(
                poll_token=token, next_poll_at=_next_try(), unwritten_claims=poison.one_more()
            )
            _tell_of_poison(mine)
        # Who answered last time is asked first: a provider that hangs holds up its own.
        return sorted(mine, key=lambda submission: submission.poll_errors > 0)


def _extend(token: UUID, submissions: Sequence[Submission]) -> None:
    """These wait for their turn or their answer still: no other poller takes them meanwhile."""
    Submission.objects.filter(
        pk__in=[submission.pk for submission in submissions], state=State.ACCEPTED, poll_token=token
    ).update(next_poll_at=Greatest(F("next_poll_at"), Now() + Value(seconds(limits().lease))))


def _next_try() -> Combinable:
    """When another poller takes it if this one is not heard of again: seldom, if that has happened often."""
    return Case(
        When(
            unwritten_claims__gte=poison.most_claims(),
            then=Now() + Value(seconds(max(limits().lease, limits().poison_poll_interval))),
        ),
        default=Now() + Value(seconds(limits().lease)),
    )


def _tell_of_poison(claimed: Sequence[Submission]) -> None:
    """Whose pollers have died too often: a person is told, once."""
    for submission in claimed:
        if submission.unwritten_claims >= poison.most_claims():
            settle.report(
                Incident.Kind.POISON,
                submission,
                f"{submission.unwritten_claims} workers in a row asked where it stands and were not heard of again. "
                f"It is asked about only every {limits().poison_poll_interval:.0f} s now, by a worker of its own; "
                "its deadline and its limit still end it.",
            )


def _question(submission: Submission) -> Callable[[], PollResult]:
    """The call that asks about this Submission (and asks to cancel it first, where somebody wishes so).

    All of it happens in the thread: what goes wrong with one (credentials that cannot be decrypted) is its own answer.
    """

    def ask() -> PollResult:
        provider = registry.get(submission.account.provider_id)
        credentials = submission.account.credentials
        target, handle = endpoint(submission.account), orders.handle(submission)
        timeout = limits().poll_timeout
        if provider.can_cancel and (submission.generation.cancel_requested_at or submission.abandoned_at):
            try:
                converse(
                    provider.cancel(handle, credentials), target, request_id=str(submission.pk), total_timeout=timeout
                )
            except ProviderError as error:
                log.info("cancel_not_taken", submission=str(submission.pk), code=error.code)
        result, _ = converse(
            provider.poll(handle, credentials), target, request_id=str(submission.pk), total_timeout=timeout
        )
        return result

    return ask


def _write(token: UUID, answers: Sequence[Answer]) -> None:
    """What came back; the lists below are disjoint."""
    if not answers:
        return
    now = database_now()
    going_on: list[tuple[Submission, dict[str, Any]]] = []
    done: list[tuple[Submission, PollResult]] = []
    failed: list[Failure] = []
    expired: list[tuple[Submission, dict[str, Any]]] = []
    for answer in answers:
        submission, outcome = answer.submission, answer.outcome
        if isinstance(outcome, PollResult) and outcome.state == "succeeded" and outcome.outputs:
            done.append((submission, outcome))
        elif failure := _failure(submission, outcome, now):
            failed.append(failure)
        else:
            over = _deadline_is_over(submission, outcome, now)
            (expired if over else going_on).append((submission, _next(submission, outcome, now)))
            _suspect(submission, outcome)
    apart(lambda some: _collecting(token, some), done)
    apart(lambda some: _go_on(token, some), going_on)
    apart(lambda some: _expire(token, some), expired)
    apart(lambda some: _fail(token, some), failed)
    if done:
        wakeups.wake_collect()
    for provider_id in {one.account.provider_id for one, _ in done} | {
        one.submission.account.provider_id for one in failed
    }:
        wakeups.wake_dispatch(provider_id)


def _update(token: UUID, rows: Sequence[tuple[Submission, dict[str, Any]]]) -> set[UUID]:
    columns = {submission.pk: row for submission, row in rows}
    return set(update_rows(Submission, columns, guard=FENCE, params={"token": token}, also="unwritten_claims = 0"))


@patiently
def _go_on(token: UUID, rows: Sequence[tuple[Submission, dict[str, Any]]]) -> None:
    _update(token, rows)


@patiently
@transaction.atomic
def _expire(token: UUID, rows: Sequence[tuple[Submission, dict[str, Any]]]) -> None:
    """The Generations fail for their deadline; only those whose attempt this poller still has in hand."""
    settle.lock(submission.generation_id for submission, _ in rows)
    touched = _update(token, rows)
    expire([submission for submission, _ in rows if submission.pk in touched], actor=process.actor())


@patiently
@transaction.atomic
def _fail(token: UUID, failed: Sequence[Failure]) -> None:
    failures.fail(failed, guard=FENCE, params={"token": token}, actor=process.actor())


def _suspect(submission: Submission, outcome: PollResult | Exception) -> None:
    """The provider refuses the account, not the job: the job lives on, and the account is looked at."""
    if isinstance(outcome, AuthFailed | InsufficientCredits):
        look_again(submission.account, outcome)
        wakeups.wake_refresh()


@patiently
def _collecting(token: UUID, done: Sequence[tuple[Submission, PollResult]]) -> None:
    """The provider is done: the slot is free from here on, and the result is to be fetched."""
    update_rows(
        Submission,
        {
            submission.pk: {
                "outputs": [{"url": output.url, "kind": output.kind} for output in result.outputs],
                "cost": _cost(submission, result),
                "raw_status": result.raw_status,
            }
            for submission, result in done
        },
        guard=FENCE,
        params={"token": token, "collect_ttl": limits().collect_ttl},
        also=(
            "state = 'collecting', finished_at = now(), progress = NULL, lease_until = NULL, unwritten_claims = 0,"
            " collect_by = now() + %(collect_ttl)s * interval '1 second'"
        ),
    )


def _failure(submission: Submission, outcome: PollResult | Exception, now: datetime) -> Failure | None:
    """Whether this answer (or the time) ends the attempt without a result."""
    if isinstance(outcome, PollResult):
        if outcome.state == "failed":
            error = outcome.error if isinstance(outcome.error, ProviderError) else JobFailed()
            return _failed(submission, outcome, error, verdicts.after_job, at_risk=False)
        if outcome.state == "missing" and _is_lost(submission, now):
            return _failed(submission, outcome, JobLost(), _after_lost(submission), at_risk=True)
        if outcome.state == "succeeded" and _is_empty(submission, now):
            return _failed(submission, outcome, NoOutput(), _after_lost(submission), at_risk=True)
    if submission.limit_at is not None and now >= submission.limit_at and _has_looked(submission, outcome):
        return _failed(submission, outcome, DeadlineExceeded(), None, at_risk=True)
    return None


def _failed(
    submission: Submission, outcome: object, error: ProviderError, decide: failures.Decide | None, *, at_risk: bool
) -> Failure:
    result = outcome if isinstance(outcome, PollResult) else None
    changes = {
        "raw_status": result.raw_status if result else submission.raw_status,
        "cost": _cost(submission, result) if result else submission.cost,
    }
    return Failure(submission, error, decide, cost_at_risk=at_risk, changes=changes)


def _after_lost(submission: Submission) -> failures.Decide | None:
    """Another attempt only where an operator has said so of the provider."""
    provider_id = submission.account.provider_id
    return verdicts.after_lost if resubmits_once([provider_id]) else None


def _cost(submission: Submission, result: PollResult) -> Decimal | None:
    cost = failures.storable_cost(result.cost)
    return submission.cost if cost is None else cost


def _is_lost(submission: Submission, now: datetime) -> bool:
    long = _lasts(submission.first_missed_at, now, limits().missing_grace)
    return long and submission.misses + 1 >= MISSES


def _is_empty(submission: Submission, now: datetime) -> bool:
    long = _lasts(submission.first_empty_at, now, limits().empty_grace)
    return long and submission.empties + 1 >= EMPTIES


def _lasts(since: datetime | None, now: datetime, grace: float) -> bool:
    """Whether it has been so for at least ``grace`` seconds."""
    return since is not None and (now - since).total_seconds() >= grace


def _deadline_is_over(submission: Submission, outcome: PollResult | Exception, now: datetime) -> bool:
    """Past its deadline, and this was a last look that counts."""
    deadline = submission.generation.deadline_at
    if submission.abandoned_at is not None or deadline is None or now < deadline:
        return False
    return _has_looked(submission, outcome)


def _has_looked(submission: Submission, outcome: PollResult | Exception) -> bool:
    """The provider has answered, or has not for so many last looks that it will do as one."""
    return isinstance(outcome, PollResult) or submission.last_looks + 1 >= limits().last_looks


def _next(submission: Submission, outcome: PollResult | Exception, now: datetime) -> dict[str, Any]:
    """The columns of one that goes on, with the time of its next poll."""
    answer = outcome if isinstance(outcome, PollResult) else None
    missing = answer is not None and answer.state == "missing"
    empty = answer is not None and answer.state == "succeeded"
    over = _end_of_patience(submission)
    late = over is not None and now >= over
    errors = 0 if answer else submission.poll_errors + 1
    if answer is None and late:
        delay = limits().last_look_interval
    elif answer is None:
        delay = min(limits().max_poll_interval, limits().backoff_base * 2 ** min(errors - 1, 6))
        delay = max(delay, min(getattr(outcome, "retry_after", None) or 0, limits().retry_after_cap))
    elif missing:
        delay = limits().missing_grace / MISSES
    elif empty:
        delay = limits().empty_grace / EMPTIES
    else:
        delay = _running_delay(submission, answer, now)
    next_poll_at = now + seconds(delay)
    if over is not None and now < over:
        next_poll_at = min(next_poll_at, over)
    if answer is None:
        log.warning(
            "poll_failed",
            submission=str(submission.pk),
            code=outcome.code if isinstance(outcome, ProviderError) else type(outcome).__name__,
            detail=str(outcome),
        )
    return {
        "next_poll_at": next_poll_at,
        "poll_errors": min(errors, 1000),
        "last_looks": submission.last_looks + 1 if late and answer is None else 0,
        "misses": submission.misses + 1 if missing else 0,
        "first_missed_at": (submission.first_missed_at or now) if missing else None,
        "empties": submission.empties + 1 if empty else 0,
        "first_empty_at": (submission.first_empty_at or now) if empty else None,
        "progress": _progress(submission, answer),
        "raw_status": answer.raw_status[:120] if answer is not None else submission.raw_status,
    }


def _progress(submission: Submission, answer: PollResult | None) -> int | None:
    if answer is None or answer.progress is None:
        return submission.progress
    return min(max(answer.progress, 0), 100)


def _end_of_patience(submission: Submission) -> datetime | None:
    """The next time at which a last look is due: the Generation's deadline, later the Submission's own limit."""
    if submission.abandoned_at is None and submission.generation.deadline_at is not None:
        return submission.generation.deadline_at
    return submission.limit_at


def _running_delay(submission: Submission, outcome: PollResult, now: datetime) -> float:
    shortest = limits().image_poll_interval if submission.generation.makes_image else limits().video_poll_interval
    if outcome.poll_after is not None:
        return min(max(outcome.poll_after, shortest / 2), limits().max_poll_interval)
    age = (now - submission.accepted_at).total_seconds() if submission.accepted_at else 0.0
    return poll_delay(age, shortest=shortest, longest=limits().max_poll_interval)
