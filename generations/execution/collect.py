"""Collect: finished results become Assets, then the Generation completes (T5).

Bytes first, rows after: files are stored content-addressed, then one transaction inserts the Assets, ends the
Submission and the Generation, and captures the credits. A crash between leaves bytes without a row, which cleanup
removes; never a row without bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import structlog
import uuid_utils.compat as uuid
from django.db import transaction
from django.db.models import Q, Value
from django.db.models.functions import Now

from generations.backoff import retry_delay
from generations.conf import limits, seconds
from generations.execution import failures, orders, process, settle
from generations.execution.accounts import endpoint
from generations.execution.failures import Failure
from generations.execution.results import Collected, StorageFailed, StoredOutput, collect_outputs
from generations.execution.settle import Ending
from generations.execution.waves import Wave
from generations.lifecycle import State, Status
from generations.models import Asset, Event, Incident, Submission
from generations.models.bulk import update_rows
from generations.models.clock import database_now
from providers import registry
from providers.base import Output
from providers.errors import AssetUnusable, ProviderError
from providers.transport import converse

BATCH = 32
FENCE = "t.state = 'collecting' AND t.token = %(token)s AND t.lease_until > now()"

log = structlog.get_logger(__name__)


def collect() -> int:
    """Fetch and store everything that waits, in batches, until nothing does. Gives how many were tried."""
    tried = 0
    while True:
        token = uuid.uuid4()
        batch = _claim(token)
        if not batch:
            return tried
        tried += len(batch)
        wave: Wave[Submission, Collected] = Wave()
        for submission in batch:
            wave.start(submission, _work(submission))
        while wave:
            arrived = wave.arrived(timeout=limits().lease / 3)
            _write(token, arrived)
            _extend(token, wave.items())


def _claim(token: UUID) -> list[Submission]:
    """Those that nobody is at (no lease, or an expired one, which is also how a next try waits)."""
    with transaction.atomic():
        rows = list(
            Submission.objects.select_for_update(skip_locked=True, of=("self",), no_key=True)
            .filter(Q(lease_until=None) | Q(lease_until__lte=Now()), state=State.COLLECTING)
            .select_related("generation", "account")
            .order_by("lease_until", "id")[:BATCH]
        )
        Submission.objects.filter(pk__in=[row.pk for row in rows]).update(
            token=token, lease_until=Now() + Value(seconds(limits().lease))
        )
        return rows


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
    for submission, outcome in arrived:
        if isinstance(outcome, Exception):
            log.error("collect_failed", submission=str(submission.pk), exc_info=outcome)
            again.append((submission, StorageFailed(f"It could not be collected: {type(outcome).__name__}.")))
            continue
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
    with transaction.atomic():
        _finish(token, stored)
        failures.fail(
            [Failure(submission, error, cost_at_risk=True) for submission, error in unusable],
            guard=FENCE,
            params={"token": token},
            actor=process.actor(),
        )
        _try_again(token, again)


def _finish(token: UUID, stored: Sequence[tuple[Submission, Collected]]) -> None:
    """T5: Assets, Submission, Generation, capture and Event in one commit."""
    generations = settle.lock(submission.generation_id for submission, _ in stored)
    touched = update_rows(
        Submission,
        {submission.pk: {"error_code": "", "error_message": ""} for submission, _ in stored},
        guard=FENCE,
        params={"token": token},
        also="state = 'succeeded', ended_at = now(), lease_until = NULL",
    )
    ours = [(submission, collected) for submission, collected in stored if submission.pk in touched]
    Asset.objects.bulk_create(
        _asset(generations[submission.generation_id].user_id, submission, output)
        for submission, collected in ours
        for output in collected.stored
    )
    captured = [(submission, collected) for submission, collected in ours if submission.abandoned_at is None]
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
    for submission, _ in ours:
        if submission.generation_id not in ended:
            _late(submission)
    settle.give_up_claims(submission.generation_id for submission, _ in ours if submission.generation_id not in ended)


def _late(submission: Submission) -> None:
    """The Generation had ended without it: the result is kept and shown, and a person is told."""
    Event.objects.create(
        generation_id=submission.generation_id,
        attempt=submission.number,
        kind=Event.Kind.LATE_RESULT,
        actor=process.actor(),
    )
    settle.report(Incident.Kind.LATE_RESULT, submission, "The result is stored; its credits were released before.")


def _try_again(token: UUID, again: Sequence[tuple[Submission, ProviderError]]) -> None:
    now = database_now()
    rows: dict[UUID, dict[str, Any]] = {}
    for submission, error in again:
        counts = isinstance(error, AssetUnusable)
        delay = retry_delay(
            submission.collect_tries,
            base=limits().backoff_base,
            cap=limits().backoff_cap,
            retry_after=error.retry_after,
            retry_after_cap=limits().retry_after_cap,
            jitter=lambda: 0.5,
        )
        rows[submission.pk] = {
            "collect_tries": submission.collect_tries + counts,
            "error_code": error.code,
            "error_message": error.detail,
            "lease_until": now + seconds(delay),
        }
        if isinstance(error, StorageFailed):
            settle.report(Incident.Kind.STORAGE, submission, error.detail)
    touched = update_rows(Submission, rows, guard=FENCE, params={"token": token}, also="token = gen_random_uuid()")
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
    params = registry.get(submission.account.provider_id).operations[submission.generation.operation_type]
    expected = params.model_validate(submission.generation.params).output_count
    arrived = len(collected.stored)
    return {"outputs": arrived, "expected": expected, "partial": arrived < expected}
