"""What a person says of an attempt whose outcome nobody knows: billed, not billed, or ask again all the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from generations import wakeups
from generations.conf import Limits
from generations.execution import failures, settle, unknown
from generations.execution.failures import Failure
from generations.execution.verdicts import Verdict
from generations.intake import caps
from generations.intake.errors import Conflict, Invalid, NotFound
from generations.intake.retry import retry
from generations.lifecycle import State, Status
from generations.models import Event, Generation, Incident, Submission
from providers.errors import OutcomeUnknown, ProviderError

LONGEST_NOTE = 500
MOST_COST = Decimal(10) ** 10

Resolution = Submission.Resolution


class NotBilled(ProviderError):
    """A person found that the provider never took it; nothing was billed."""

    code = "not_billed"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person says, and on what grounds. ``job_id`` and ``cost`` only with ``billed``."""

    decision: Resolution
    note: str
    job_id: str = ""
    cost: Decimal | None = None

    def check(self) -> None:
        """Raises Invalid, naming the field."""
        if not self.note.strip() or len(self.note) > LONGEST_NOTE or "\x00" in self.note:
            raise Invalid(
                "note_needed", f"Say on what grounds, in at most {LONGEST_NOTE} characters: it is kept.", field="note"
            )
        if self.decision != Resolution.BILLED and (self.job_id or self.cost is not None):
            raise Invalid("not_with_this", "A job id or a cost belongs to “billed” only.", field="decision")
        if len(self.job_id) > unknown.LONGEST_JOB_ID or not (self.job_id.isprintable() and self.job_id.isascii()):
            raise Invalid("no_job_id", "This is no provider's job id.", field="job_id")
        if self.cost is not None and not (self.cost.is_finite() and 0 <= self.cost < MOST_COST):
            raise Invalid("no_cost", "The cost must be 0 or more.", field="cost")


@dataclass(frozen=True, slots=True)
class Resolved:
    """What came of it: the attempt, and the Generation to look at (a new one where it was asked for anew)."""

    submission: Submission
    generation: Generation


def resolve(submission_id: UUID, answer: Answer, *, actor: str) -> Resolved:
    """Settle an unknown outcome, or one that was given up with its cost at risk.

    * ``billed`` with a job id: the attempt is followed on as that job, and completes if the provider has a result.
      Not once it has ended.
    * ``billed`` without: the attempt ends; its Generation, if it still lives, fails and its credits are released.
    * ``not_billed``: the attempt ends and cost nothing; a Generation that still lives goes back into the queue.
    * ``resubmit``: the attempt is left to itself (it keeps its slot until its limit), and another one follows; where
      the Generation has ended already, as a new Generation, at today's price.

    Raises:
        Invalid, NotFound: as it says.
        Conflict: ``not_unknown`` (its outcome is known), ``already_resolved``; for ``resubmit`` also
            ``being_cancelled`` and what ``retry`` raises.
        PaymentRequired: the new Generation of a ``resubmit`` cannot be paid for.
    """
    answer.check()
    with transaction.atomic():
        if answer.decision == Resolution.RESUBMIT:
            _lock_caps(submission_id)
        submission = _locked(submission_id)
        known: dict[tuple[bool, Resolution], Callable[[Submission, Answer, str], Generation]] = {
            (True, Resolution.BILLED): _billed,
            (True, Resolution.NOT_BILLED): _not_billed,
            (True, Resolution.RESUBMIT): _resubmit,
            (False, Resolution.BILLED): _close,
            (False, Resolution.NOT_BILLED): _close,
            (False, Resolution.RESUBMIT): _ask_anew,
        }
        generation = known[submission.state == State.UNKNOWN, answer.decision](submission, answer, actor)
        Event.objects.create(
            generation_id=submission.generation_id,
            attempt=submission.number,
            kind=Event.Kind.RESOLVED,
            actor=actor,
            data=_told(answer, generation, submission),
        )
        # Whoever has decided has seen it.
        Incident.objects.filter(submission=submission, kind=Incident.Kind.COST_AT_RISK, seen_at=None).update(
            seen_at=Now(), seen_by=actor
        )
    wakeups.wake_dispatch(submission.account.provider_id)
    submission.refresh_from_db()
    generation.refresh_from_db()
    return Resolved(submission, generation)


def _lock_caps(submission_id: UUID) -> None:
    """A new Generation may follow, and whoever has caps is locked before any Generation, as in every T1."""
    user_id = Submission.objects.filter(pk=submission_id).values_list("generation__user", flat=True).first()
    if user_id is not None:
        caps.lock(user_id)


def _locked(submission_id: UUID) -> Submission:
    generation_id = Submission.objects.filter(pk=submission_id).values_list("generation", flat=True).first()
    if generation_id is None:
        raise NotFound("unknown_attempt", "There is no such attempt.")
    settle.lock([generation_id])
    submission = (
        Submission.objects.select_for_update(of=("self",), no_key=True)
        .select_related("generation", "account")
        .get(pk=submission_id)
    )
    if submission.resolution:
        said = Resolution(submission.resolution).label
        raise Conflict("already_resolved", f"A person has already said of it: {said}. Its timeline has the note.")
    if submission.state != State.UNKNOWN and not submission.cost_at_risk:
        raise Conflict("not_unknown", f"Its outcome is known: it is {submission.state}. There is nothing to resolve.")
    return submission


def _told(answer: Answer, generation: Generation, submission: Submission) -> dict[str, Any]:
    told: dict[str, Any] = {"decision": answer.decision.value, "message": answer.note.strip()}
    if answer.job_id:
        told["job_id"] = answer.job_id
    if answer.cost is not None:
        told["cost"] = str(answer.cost)
    if generation.pk != submission.generation_id:
        told["generation"] = str(generation.pk)
    return told


def _billed(submission: Submission, answer: Answer, actor: str) -> Generation:
    if answer.job_id:
        changes = {"resolution": answer.decision, "cost": answer.cost}
        if not unknown.adopt(submission, answer.job_id, **changes):
            raise Invalid("job_taken", "Another attempt of this account has that job id already.", field="job_id")
        return submission.generation
    error = OutcomeUnknown("A person found that the provider took it and billed it; its result cannot be had.")
    return _end(submission, answer, error, actor, at_risk=answer.cost is None)


def _not_billed(submission: Submission, answer: Answer, actor: str) -> Generation:
    return _end(submission, answer, NotBilled(), actor, at_risk=False, decide=_back_to_queue)


def _resubmit(submission: Submission, answer: Answer, actor: str) -> Generation:
    generation = submission.generation
    Submission.objects.filter(pk=submission.pk).update(resolution=answer.decision)
    if submission.abandoned_at is not None or generation.status != Status.PROCESSING:
        return retry(generation.pk, actor=actor, insist=True).generation
    if generation.cancel_requested_at is not None:
        raise Conflict.naming("being_cancelled", "It is being cancelled; nothing more is asked for.", generation.pk)
    unknown.ask_again([submission], kind=Event.Kind.ABANDONED, actor=actor, data={})
    return generation


def _close(submission: Submission, answer: Answer, _actor: str) -> Generation:
    """It has ended already; only what it cost was open."""
    if answer.job_id:
        raise Invalid("has_ended", "The attempt has ended; say only what it cost.", field="job_id")
    cost = Decimal(0) if answer.decision == Resolution.NOT_BILLED else answer.cost
    changes = {} if cost is None else {"cost": cost, "cost_at_risk": False}
    Submission.objects.filter(pk=submission.pk).update(resolution=answer.decision, **changes)
    return submission.generation


def _ask_anew(submission: Submission, answer: Answer, actor: str) -> Generation:
    Submission.objects.filter(pk=submission.pk).update(resolution=answer.decision)
    return retry(submission.generation_id, actor=actor).generation


def _end(
    submission: Submission,
    answer: Answer,
    error: ProviderError,
    actor: str,
    *,
    at_risk: bool,
    decide: failures.Decide | None = None,
) -> Generation:
    cost = Decimal(0) if answer.decision == Resolution.NOT_BILLED else answer.cost
    failures.fail(
        [
            Failure(
                submission,
                error,
                decide,
                cost_at_risk=at_risk,
                changes={"resolution": answer.decision.value, "cost": cost},
            )
        ],
        guard="t.state = 'unknown'",
        params={},
        actor=actor,
    )
    return submission.generation


def _back_to_queue(
    _error: ProviderError, _generation: Generation, _limits: Limits, _jitter: Callable[[], float]
) -> Verdict:
    """The provider never took it: another attempt is safe, and uses up nothing."""
    return Verdict(delay=0)
