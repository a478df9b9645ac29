"""T4: what came of the submits is written down, fenced by the dispatcher's token, in small waves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog
from django.db import IntegrityError, OperationalError, close_old_connections, transaction
from django.db.models.functions import Now
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from generations import wakeups
from generations.conf import limits, seconds
from generations.execution import failures, process, settle, verdicts
from generations.execution.failures import Failure
from generations.models import Event, Incident, Submission
from generations.models.bulk import update_rows
from generations.models.clock import database_now
from providers.base import SubmitResult
from providers.errors import OutcomeUnknown, ProviderError
from providers.transport import Conversation

Outcome = tuple[Submission, SubmitResult | Exception, Conversation[SubmitResult] | None]

FENCE = "t.state = ANY(%(states)s) AND t.token = %(token)s AND t.lease_until > now()"
RETRY_DATABASE_SECONDS = 20

log = structlog.get_logger(__name__)


def record(token: UUID, outcomes: Sequence[Outcome], *, sent: bool = True) -> None:
    """Write down what came of these submits; ``sent=False``: they failed before the billable call.

    A database that is away is waited for (20 s); then the job ids are at least in the log, and recovery makes the
    Submissions ``unknown``.
    """
    if not outcomes:
        return
    try:
        _record(token, outcomes, sent=sent)
    except OperationalError:
        for submission, outcome, _ in outcomes:
            job_id = outcome.job_id if isinstance(outcome, SubmitResult) else None
            log.critical("outcome_not_recorded", submission=str(submission.pk), provider_job_id=job_id)
        raise
    finished = any(isinstance(outcome, SubmitResult) and outcome.outputs for _, outcome, _ in outcomes)
    if finished:
        wakeups.wake_collect()


@retry(
    retry=retry_if_exception_type(OperationalError),
    stop=stop_after_delay(RETRY_DATABASE_SECONDS),
    wait=wait_fixed(0.5),
    before_sleep=lambda _: close_old_connections(),
    reraise=True,
)
def _record(token: UUID, outcomes: Sequence[Outcome], *, sent: bool) -> None:
    try:
        _record_together(token, outcomes, sent=sent)
    except IntegrityError:
        # One of them carries a job id that another Submission has: find it alone.
        if len(outcomes) == 1:
            _record_second_id(token, outcomes[0])
            return
        for outcome in outcomes:
            _record(token, [outcome], sent=sent)


def _record_together(token: UUID, outcomes: Sequence[Outcome], *, sent: bool) -> None:
    accepted, rejected, unknown = [], [], []
    for submission, outcome, conversation in outcomes:
        if isinstance(outcome, SubmitResult):
            accepted.append((submission, outcome, conversation))
        elif isinstance(outcome, ProviderError) and not (sent and isinstance(outcome, OutcomeUnknown)):
            rejected.append((submission, outcome, conversation))
        else:
            unknown.append((submission, outcome, conversation))
    fence = {"token": token, "states": ["sending"] if sent else ["reserved"]}
    with transaction.atomic():
        _accept(accepted, fence)
        _doubt(unknown, fence)
        failures.fail(
            [
                Failure(submission, error, verdicts.after_submit, changes=_kept(conversation))
                for submission, error, conversation in rejected
            ],
            guard=FENCE,
            params=fence,
            actor=process.actor(),
        )
    for submission, error, _ in rejected:
        log.warning(
            "provider:error",
            generation=str(submission.generation_id),
            submission=str(submission.pk),
            code=error.code,
            detail=error.detail,
        )


def _accept(accepted: list[Any], fence: dict[str, Any]) -> None:
    now = database_now()
    for finished in (False, True):
        rows = {}
        for submission, result, conversation in accepted:
            if bool(result.outputs) != finished:
                continue
            rows[submission.pk] = {
                "provider_job_id": result.job_id,
                "job_handle": dict(result.note),
                "outputs": [{"url": output.url, "kind": output.kind} for output in result.outputs],
                "cost": result.cost,
                "next_poll_at": now + seconds(_first_poll(submission, result)),
                **_kept(conversation),
            }
        state = (
            "state = 'collecting', accepted_at = now(), finished_at = now(), lease_until = NULL,"
            " collect_by = now() + %(collect_ttl)s * interval '1 second'"
            if finished
            else "state = 'accepted', accepted_at = now(), lease_until = NULL"
        )
        touched = update_rows(
            Submission, rows, guard=FENCE, params={**fence, "collect_ttl": limits().collect_ttl}, also=state
        )
        for submission, result, _ in accepted:
            if submission.pk in rows and submission.pk not in touched:
                _late_acceptance(submission, result)


def _late_acceptance(submission: Submission, result: SubmitResult) -> None:
    """The lease was over: the id is taken if the Submission is unknown and has none, else it is a second charge."""
    taken = Submission.objects.filter(pk=submission.pk, state="unknown", provider_job_id=None).update(
        state="accepted",
        provider_job_id=result.job_id,
        job_handle=dict(result.note),
        accepted_at=Now(),
        next_poll_at=Now(),
    )
    log.warning("late_acceptance", submission=str(submission.pk), provider_job_id=result.job_id, taken=bool(taken))
    known = Submission.objects.filter(pk=submission.pk, provider_job_id=result.job_id).exists()
    if not taken and not known:
        settle.report(
            Incident.Kind.DUPLICATE_CHARGE, submission, f"The provider also accepted it as job {result.job_id}."
        )


def _doubt(unknown: list[Any], fence: dict[str, Any]) -> None:
    """The call may have arrived. Nothing follows by itself: a callback or the limit moves it on."""
    touched = update_rows(
        Submission,
        {
            submission.pk: {
                "error_code": OutcomeUnknown.code,
                "error_message": str(error),
                **_kept(conversation),
            }
            for submission, error, conversation in unknown
        },
        guard=FENCE,
        params=fence,
        also="state = 'unknown', lease_until = NULL, token = gen_random_uuid()",
    )
    Event.objects.bulk_create(
        Event(
            generation_id=submission.generation_id,
            attempt=submission.number,
            kind=Event.Kind.OUTCOME_UNKNOWN,
            actor=process.actor(),
            data={"message": str(error)},
        )
        for submission, error, _ in unknown
        if submission.pk in touched
    )


def _record_second_id(token: UUID, outcome: Outcome) -> None:
    """The provider gave this Submission a job id that belongs to another one: it proves nothing about ours."""
    submission, result, conversation = outcome
    assert isinstance(result, SubmitResult)
    error = OutcomeUnknown(f"The provider answered with job {result.job_id}, which belongs to another attempt.")
    with transaction.atomic():
        _doubt([(submission, error, conversation)], {"token": token, "states": ["sending"]})
        settle.report(Incident.Kind.DUPLICATE_CHARGE, submission, error.detail)


def _first_poll(submission: Submission, result: SubmitResult) -> float:
    image = submission.generation.makes_image
    shortest = limits().image_poll_interval if image else limits().video_poll_interval
    return min(max(result.poll_after or shortest, 0), limits().max_poll_interval)


def _kept(conversation: Conversation[SubmitResult] | None) -> dict[str, Any]:
    """The last exchange, redacted: what is kept of the request and the response."""
    last = conversation.exchanges[-1] if conversation and conversation.exchanges else None
    return {"request": last.request if last else None, "response": last.response if last else None}
