"""T4: what came of the submits is written down, fenced by the dispatcher's token, in small waves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Now

from generations import wakeups
from generations.conf import limits, seconds
from generations.execution import failures, process, settle, verdicts
from generations.execution.failures import Failure
from generations.execution.persist import apart, patiently
from generations.execution.unknown import adopt_told
from generations.models import Event, Incident, Submission
from generations.models.away import AWAY
from generations.models.bulk import update_rows
from generations.models.clock import database_now
from providers.base import SubmitResult
from providers.errors import OutcomeUnknown, ProviderError
from providers.transport import Conversation

Outcome = tuple[Submission, SubmitResult | Exception, Conversation[SubmitResult] | None]

FENCE = "t.state = ANY(%(states)s) AND t.token = %(token)s AND t.lease_until > now()"

log = structlog.get_logger(__name__)


def record(token: UUID, outcomes: Sequence[Outcome], *, sent: bool = True) -> None:
    """Write down what came of these submits; ``sent=False``: they failed before the billable call.

    A database that is away is waited for (20 s); then the job ids are at least in the log, and recovery makes the
    Submissions ``unknown``.
    """
    if not outcomes:
        return
    try:
        refused = apart(lambda some: _record(token, some, sent=sent), outcomes)
        for unwritten, error in refused:
            _record_unwritable(token, unwritten, error, sent=sent)
    except AWAY:
        for submission, outcome, _ in outcomes:
            job_id = outcome.job_id if isinstance(outcome, SubmitResult) else None
            log.critical("outcome_not_recorded", submission=str(submission.pk), provider_job_id=job_id)
        raise
    finished = any(isinstance(outcome, SubmitResult) and outcome.outputs for _, outcome, _ in outcomes)
    if finished:
        wakeups.wake_collect()


@patiently
def _record(token: UUID, outcomes: Sequence[Outcome], *, sent: bool) -> None:
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
        # Generations before Submissions, as everywhere.
        settle.lock(submission.generation_id for submission, _, _ in rejected)
        _accept(accepted, fence)
        doubted = _doubt(unknown, fence)
        failed = failures.fail(
            [
                Failure(submission, error, verdicts.after_submit, changes=_kept(conversation))
                for submission, error, conversation in rejected
            ],
            guard=f"{FENCE} AND t.told_job_id = ''",
            params=fence,
            actor=process.actor(),
        )
        # A callback has named its job: whatever the answer says, the provider has taken it.
        doubted |= _doubt([one for one in rejected if one[0].pk not in failed], fence)
    if doubted:
        adopt_told(doubted)
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
                "cost": failures.storable_cost(result.cost),
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
            Submission,
            rows,
            guard=FENCE,
            params={**fence, "collect_ttl": limits().collect_ttl},
            also=state,
            returning=["told_job_id"],
        )
        for submission, result, _ in accepted:
            if submission.pk not in rows:
                continue
            if submission.pk not in touched:
                _late_acceptance(submission, result, fence["token"])
            elif touched[submission.pk][0] not in {"", result.job_id}:
                detail = (
                    f"It was accepted as job {result.job_id}, and called back about as job {touched[submission.pk][0]}."
                )
                settle.report(Incident.Kind.DUPLICATE_CHARGE, submission, detail)


def _late_acceptance(submission: Submission, result: SubmitResult, token: UUID) -> None:
    """The lease was over: the id is taken if the Submission is unknown (or nobody has recovered it yet) and has none,
    else it is a second charge."""
    taken = Submission.objects.filter(
        Q(state="unknown") | Q(state="sending", token=token), pk=submission.pk, provider_job_id=None
    ).update(
        state="accepted",
        provider_job_id=result.job_id,
        job_handle=dict(result.note),
        lease_until=None,
        accepted_at=Now(),
        next_poll_at=Now(),
        error_code="",
        error_message="",
    )
    log.warning("late_acceptance", submission=str(submission.pk), provider_job_id=result.job_id, taken=bool(taken))
    ours = Submission.objects.filter(pk=submission.pk, provider_job_id=result.job_id)
    # A callback may have told the id first, which is all that it tells.
    known = bool(taken) or ours.filter(job_handle={}).update(job_handle=dict(result.note)) or ours.exists()
    if not known:
        settle.report(
            Incident.Kind.DUPLICATE_CHARGE, submission, f"The provider also accepted it as job {result.job_id}."
        )


def _doubt(unknown: list[Any], fence: dict[str, Any]) -> set[UUID]:
    """The call may have arrived: a callback, the provider's own list, a person or the limit moves it on.

    Gives the ids of those that are unknown now.
    """
    touched = update_rows(
        Submission,
        {
            submission.pk: {
                "error_code": OutcomeUnknown.code,
                "error_message": _said(error),
                **_kept(conversation),
            }
            for submission, error, conversation in unknown
        },
        guard=FENCE,
        params={**fence, "reconcile_after": limits().reconcile_after},
        also=(
            "state = 'unknown', lease_until = NULL, token = gen_random_uuid(),"
            " next_poll_at = now() + %(reconcile_after)s * interval '1 second',"
            " misses = 0, last_looks = 0, poll_token = NULL"
        ),
    )
    Event.objects.bulk_create(
        Event(
            generation_id=submission.generation_id,
            attempt=submission.number,
            kind=Event.Kind.OUTCOME_UNKNOWN,
            actor=process.actor(),
            data={"message": _said(error)},
        )
        for submission, error, _ in unknown
        if submission.pk in touched
    )
    return set(touched)


@patiently
def _record_unwritable(token: UUID, outcome: Outcome, reason: Exception, *, sent: bool) -> None:
    """The database does not take this outcome: it proves nothing, and a person must see it.

    Most likely the provider gave this Submission a job id that belongs to another one.
    """
    submission, result, _ = outcome
    if not sent:
        return  # Nothing billable has left; recovery takes it when its lease is over.
    if isinstance(result, SubmitResult) and isinstance(reason, IntegrityError):
        error = OutcomeUnknown(f"The provider answered with job {result.job_id}, which belongs to another attempt.")
    else:
        error = OutcomeUnknown(f"The provider's answer could not be stored ({type(reason).__name__}).")
    with transaction.atomic():
        _doubt([(submission, error, None)], {"token": token, "states": ["sending"]})
        settle.report(Incident.Kind.DUPLICATE_CHARGE, submission, error.detail)


def _said(error: Exception) -> str:
    """Words for people. What is no ProviderError is a fault of ours; its own words may hold what was sent."""
    return error.detail if isinstance(error, ProviderError) else f"It broke off ({type(error).__name__})."


def _first_poll(submission: Submission, result: SubmitResult) -> float:
    image = submission.generation.makes_image
    shortest = limits().image_poll_interval if image else limits().video_poll_interval
    return min(max(result.poll_after or shortest, 0), limits().max_poll_interval)


def _kept(conversation: Conversation[SubmitResult] | None) -> dict[str, Any]:
    """The last exchange, redacted: what is kept of the request and the response."""
    last = conversation.exchanges[-1] if conversation and conversation.exchanges else None
    return {"request": last.request if last else None, "response": last.response if last else None}
