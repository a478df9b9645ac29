"""Collect: finished results become Assets, then the Generation completes (T5).

Bytes first, rows after: files are stored content-addressed, then one transaction inserts the Assets, ends the
Submission and the Generation, and captures the credits. A crash between leaves bytes without a row, which cleanup
removes; never a row without bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import structlog
import uuid_utils.compat as uuid
from django.db import transaction
from django.db.models import Q, Value
from django.db.models.functions import Now
from pydantic import ValidationError

from accounts.models import UserCap
from generations import wakeups
from generations.backoff import poll_delay
from generations.conf import limits, seconds
from generations.execution import exports, failures, orders, poison, process, settle
from generations.execution.accounts import endpoint
from generations.execution.announce import News, announce
from generations.execution.failures import Failure
from generations.execution.leases import FREE
from generations.execution.persist import apart, patiently
from generations.execution.results import Collected, StorageFailed, StoredOutput, collect_outputs
from generations.execution.settle import Ending
from generations.execution.waves import Wave
from generations.lifecycle import State, Status
from generations.models import Asset, Event, Incident, Submission, WebhookEvent
from generations.models.bulk import update_rows
from generations.models.clock import database_now
from generations.models.generation import SUSPECT_AFTER
from providers import registry
from providers.base import Output
from providers.errors import AssetUnusable, ProviderError
from providers.transport import converse

LOOK_SECONDS = 2
"""While downloads go on, this often it is looked what else waits."""
RUN_SECONDS = 60
"""A run takes on nothing more after this, and the next one begins: with those that must be alone."""
FENCE = "t.state = 'collecting' AND t.token = %(token)s AND t.lease_until > now()"

log = structlog.get_logger(__name__)


def collect() -> int:
    """Fetch and store everything that waits, until nothing does. Gives how many were tried.

    New ones join as connections become free, so that a slow download keeps nobody waiting. Those whose collectors
    have died come first, each alone in this process (see ``poison``).
    """
    tried = 0
    token = uuid.uuid4()
    wave: Wave[Submission, Collected] = Wave()
    started_at = renewed_at = time.monotonic()
    while True:
        going_on = time.monotonic() - started_at < RUN_SECONDS
        batch = _next(token, wave) if going_on else []
        tried += len(batch)
        for submission in batch:
            wave.start(submission, _work(submission))
        if not wave:
            if not going_on:
                wakeups.wake_collect()
            return tried
        _write(token, wave.arrived(timeout=LOOK_SECONDS))
        if time.monotonic() - renewed_at > limits().lease / 3:
            _extend(token, wave.items())
            renewed_at = time.monotonic()


def _next(token: UUID, wave: Wave[Submission, Collected]) -> list[Submission]:
    """What this process takes on beside what it has."""
    if not wave:
        return _claim(token, 1, suspects=True) or _claim(token, limits().connections)
    if any(submission.unwritten_claims >= SUSPECT_AFTER for submission in wave.items()):
        return []
    room = limits().connections - len(wave)
    return _claim(token, room) if room else []


def _claim(token: UUID, at_most: int, *, suspects: bool = False) -> list[Submission]:
    """Those that nobody is at (no lease, or an expired one, which is also how a next try waits).

    ``suspects``: only those whose collectors have died, but not so often that recovery gives them up.
    """
    claims = (
        Q(unwritten_claims__gte=SUSPECT_AFTER, unwritten_claims__lt=poison.most_claims())
        if suspects
        else Q(unwritten_claims__lt=SUSPECT_AFTER)
    )
    with transaction.atomic():
        rows = list(
            Submission.objects.select_for_update(skip_locked=True, of=("self",), no_key=True)
            .filter(FREE, claims, state=State.COLLECTING)
            .select_related("generation", "account")
            .order_by("lease_until", "id")[:at_most]
        )
        if rows:
            Submission.objects.filter(pk__in=[row.pk for row in rows]).update(
                token=token,
                lease_until=Now() + Value(seconds(limits().lease)),
                unwritten_claims=poison.one_more(),
            )
            _take_over([row for row in rows if row.unwritten_claims])
        return rows


def _take_over(left: Sequence[Submission]) -> None:
    """Whose collector has died: its timeline says so."""
    Event.objects.bulk_create(
        Event(
            generation_id=submission.generation_id,
            attempt=submission.number,
            kind=Event.Kind.RECOVERED,
            actor=process.actor(),
        )
        for submission in left
    )


def _extend(token: UUID, submissions: Sequence[Submission]) -> None:
    if submissions:
        Submission.objects.filter(
            pk__in=[one.pk for one in submissions], state=State.COLLECTING, token=token, lease_until__gt=Now()
        ).update(lease_until=Now() + Value(seconds(limits().lease)))


def _work(submission: Submission) -> Callable[[], Collected]:
    """The fetching and storing of one. All of it happens in the thread, also what may go wrong with one alone."""

    def fresh_links() -> Sequence[Output]:
        provider = registry.get(submission.account.provider_id)
        result, _ = converse(
            provider.poll(orders.handle(submission), submission.account.credentials),
            endpoint(submission.account),
            request_id=str(submission.pk),
            total_timeout=limits().poll_timeout,
        )
        return result.outputs

    def fetch() -> Collected:
        outputs = [Output(url=output["url"], kind=output["kind"]) for output in submission.outputs]
        return collect_outputs(outputs, endpoint(submission.account), fresh_links)

    return fetch


def _write(token: UUID, arrived: Sequence[tuple[Submission, Collected | Exception]]) -> None:
    """T5 for what is stored; another try, or the end, for what is not."""
    stored: list[tuple[Submission, Collected]] = []
    unusable: list[tuple[Submission, ProviderError]] = []
    again: list[tuple[Submission, ProviderError]] = []
    now = database_now()
    for submission, result in arrived:
        outcome = result if isinstance(result, Collected) else _broken(submission, result)
        if outcome.error is None:
            stored.append((submission, outcome))
            continue
        counts = isinstance(outcome.error, AssetUnusable)
        last = (counts and submission.collect_tries + 1 >= limits().collect_tries) or (
            submission.collect_by is not None and now >= submission.collect_by
        )
        if last and outcome.stored:
            stored.append((submission, outcome))  # some of several: completed, and flagged as partial
        elif last:
            unusable.append((submission, outcome.error))
        else:
            again.append((submission, outcome.error))
    # Each in a transaction of its own: they have nothing to do with one another, and locks are held briefly.
    for (submission, _), refused in apart(lambda some: _finish(token, some), stored):
        again.append((submission, StorageFailed(f"It could not be written down: {type(refused).__name__}.")))
    apart(lambda some: _give_up(token, some), unusable)
    apart(lambda some: _try_again(token, some), again)
    _wake_capped([submission for submission, _ in (*stored, *unusable)])


def _wake_capped(through: Sequence[Submission]) -> None:
    """These use up nothing of their users' caps any more: another of theirs may start."""
    users = {submission.generation.user_id for submission in through}
    if users and UserCap.objects.filter(pk__in=users, max_in_flight__isnull=False).exists():
        for provider_id in {submission.account.provider_id for submission in through}:
            wakeups.wake_dispatch(provider_id)


def _broken(submission: Submission, error: Exception) -> Collected:
    """A fault of ours: it waits, as when the storage is down, until ``collect_by``."""
    log.error("collect_failed", submission=str(submission.pk), exc_info=error)
    return Collected((), StorageFailed(f"It could not be collected: {type(error).__name__}."))


@patiently
@transaction.atomic
def _give_up(token: UUID, unusable: Sequence[tuple[Submission, ProviderError]]) -> None:
    """The result cannot be had: the Generation fails, and what it cost is at risk."""
    failures.fail(
        [Failure(submission, error, cost_at_risk=True) for submission, error in unusable],
        guard=FENCE,
        params={"token": token},
        actor=process.actor(),
    )


@patiently
@transaction.atomic
def _finish(token: UUID, stored: Sequence[tuple[Submission, Collected]]) -> None:
    """T5: Assets, Submission, Generation, capture, Event, webhook deliveries and exports in one commit."""
    generations = settle.lock(submission.generation_id for submission, _ in stored)
    touched = update_rows(
        Submission,
        {submission.pk: {"error_code": "", "error_message": ""} for submission, _ in stored},
        guard=FENCE,
        params={"token": token},
        also="state = 'succeeded', ended_at = now(), lease_until = NULL, unwritten_claims = 0",
        returning=["abandoned_at"],
    )
    ours = [(submission, collected) for submission, collected in stored if submission.pk in touched]
    assets = {
        submission.pk: [
            _asset(generations[submission.generation_id].user_id, submission, output) for output in collected.stored
        ]
        for submission, collected in ours
    }
    Asset.objects.bulk_create(asset for some in assets.values() for asset in some)
    captured = [(submission, collected) for submission, collected in ours if touched[submission.pk][0] is None]
    ended = settle.end(
        [
            Ending(
                submission.generation_id,
                Status.COMPLETED,
                attempt=submission.number,
                data=_summary(submission, collected),
            )
            for submission, collected in captured
        ],
        actor=process.actor(),
    )
    exports.order_for_answers(
        {submission.generation_id: assets[submission.pk] for submission, _ in ours if submission.generation_id in ended}
    )
    late = [submission for submission, _ in ours if submission.generation_id not in ended]
    for submission in late:
        _late(submission)
    settle.give_up_claims(submission.generation_id for submission in late)
    announce([News(one.generation_id, one.generation.user_id, WebhookEvent.LATE_RESULT) for one in late])


def _late(submission: Submission) -> None:
    """The Generation had ended without it: the result is kept and shown, and a person is told."""
    Event.objects.create(
        generation_id=submission.generation_id,
        attempt=submission.number,
        kind=Event.Kind.LATE_RESULT,
        actor=process.actor(),
    )
    settle.report(Incident.Kind.LATE_RESULT, submission, "The result is stored; its credits were released before.")


@patiently
@transaction.atomic
def _try_again(token: UUID, again: Sequence[tuple[Submission, ProviderError]]) -> None:
    now = database_now()
    rows: dict[UUID, dict[str, Any]] = {}
    for submission, error in again:
        counts = isinstance(error, AssetUnusable)
        waits = (now - submission.finished_at).total_seconds() if submission.finished_at else 0.0
        delay = max(
            poll_delay(waits, shortest=limits().backoff_base, longest=limits().backoff_cap),
            min(error.retry_after or 0, limits().retry_after_cap),
        )
        rows[submission.pk] = {
            "collect_tries": submission.collect_tries + counts,
            "error_code": error.code,
            "error_message": error.detail,
            "lease_until": now + seconds(delay),
        }
    _tell_of_storage(again)
    touched = update_rows(
        Submission,
        rows,
        guard=FENCE,
        params={"token": token},
        also="token = gen_random_uuid(), unwritten_claims = 0",
    )
    Event.objects.bulk_create(
        Event(
            generation_id=submission.generation_id,
            attempt=submission.number,
            kind=Event.Kind.COLLECT_FAILED,
            actor=process.actor(),
            data={"code": error.code, "message": error.detail},
        )
        for submission, error in again
        if submission.pk in touched and submission.error_code != error.code
    )


def _tell_of_storage(again: Sequence[tuple[Submission, ProviderError]]) -> None:
    """One Incident for all that cannot be stored, until somebody has seen it: it is the storage's fault, not theirs."""
    failed = [(submission, error) for submission, error in again if isinstance(error, StorageFailed)]
    if failed and not Incident.objects.filter(kind=Incident.Kind.STORAGE, seen_at=None).exists():
        submission, error = failed[0]
        settle.report(Incident.Kind.STORAGE, submission, error.detail)


def _asset(user_id: int, submission: Submission, output: StoredOutput) -> Asset:
    return Asset(
        user_id=user_id,
        role=Asset.Role.OUTPUT,
        submission=submission,
        index=output.index,
        key=output.key,
        thumbnail_key=output.thumbnail_key,
        sha256=output.sha256,
        size=output.size,
        mime_type=output.info.mime_type,
        width=output.info.width,
        height=output.info.height,
        duration=output.info.duration,
    )


def _summary(submission: Submission, collected: Collected) -> dict[str, Any]:
    arrived = len(collected.stored)
    try:
        params = registry.get(submission.account.provider_id).operations[submission.generation.operation_type]
        expected = params.model_validate(submission.generation.params).output_count
    except (KeyError, ValidationError):  # of an older version of the adapter; what has come is kept all the same
        expected = arrived
    return {"outputs": arrived, "expected": expected, "partial": arrived < expected}
