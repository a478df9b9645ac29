"""Unknown outcomes: is the provider's own list of recent work any wiser?

1. What a callback told while the attempt was still being sent is taken (``unknown.adopt_told``).
2. Due rows are claimed for a moment; each account's list is read once, or each attempt is looked up by our reference
   where the provider can do that. Nothing of it costs anything.
3. Where exactly one job that nobody has fits exactly one attempt, it is that attempt's. All else is evidence for the
   person who decides.
"""

from __future__ import annotations

import uuid as uuid4
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
import uuid_utils.compat as uuid
from django.db import transaction
from django.db.models import F, Q, QuerySet, Value
from django.db.models.functions import Least, Now

from accounts.models import Account
from generations.conf import limits, seconds
from generations.execution import process, unknown
from generations.execution.accounts import endpoint
from generations.execution.failures import storable_cost
from generations.execution.persist import apart, patiently
from generations.execution.waves import Wave
from generations.lifecycle import State
from generations.models import Event, Submission
from generations.models.bulk import storable
from generations.models.clock import database_now
from providers import registry
from providers.base import RecentJob, SubmitResult
from providers.transport import converse

BATCH = 200
KEPT_JOBS = 5
"""Jobs that are kept as evidence with an attempt."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sent:
    """An attempt as the matching sees it. ``open``: its own answer may still come."""

    id: UUID
    prompt: str
    sent_at: datetime
    open: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """What one call is about: an account's list for all of its attempts, or the lookup of one of them."""

    account: Account
    submissions: tuple[Submission, ...]
    by_reference: bool


Found = tuple[RecentJob, ...] | SubmitResult | None


def reconcile() -> int:
    """Look at every unknown outcome that is due. Gives how many were looked at."""
    unknown.adopt_told()
    token = uuid.uuid4()
    looked = 0
    while batch := _claim(token):
        looked += len(batch)
        wave: Wave[Look, Found] = Wave()
        for look in _looks(batch):
            wave.start(look, _question(look))
        while wave:
            for look, found in wave.arrived(timeout=limits().lease / 3):
                if isinstance(found, Exception):
                    log.info("list_not_read", account=str(look.account.pk), error=type(found).__name__)
                    _not_read(token, look)
                else:
                    _write(token, look, found)
    return looked


def due() -> bool:
    """Whether anything is to be looked at now."""
    return _due().exists() or Submission.objects.filter(state=State.UNKNOWN, told_job_id__gt="").exists()


def match_jobs(
    attempts: Sequence[Sent], jobs: Sequence[RecentJob], *, patience: timedelta, skew: timedelta
) -> dict[UUID, RecentJob]:
    """Which job is surely whose. Pure.

    A job may be an attempt's when it has an id, tells the same prompt, and began between the attempt's leaving and
    ``patience`` later, give or take ``skew``. It is the attempt's only if each is the other's one and only candidate.
    """
    fits = {
        attempt.id: [
            job
            for job in jobs
            if job.job_id is not None
            and job.prompt is not None
            and _plain(job.prompt) == _plain(attempt.prompt)
            and attempt.sent_at - skew <= job.at <= attempt.sent_at + patience + skew
        ]
        for attempt in attempts
    }
    claimed_by: dict[str | None, int] = defaultdict(int)
    for found in fits.values():
        for job in found:
            claimed_by[job.job_id] += 1
    waiting = {attempt.id for attempt in attempts if not attempt.open}
    return {
        attempt: found[0]
        for attempt, found in fits.items()
        if attempt in waiting and len(found) == 1 and claimed_by[found[0].job_id] == 1
    }


def _plain(prompt: str) -> str:
    return " ".join(prompt.split())


def _due() -> Any:
    able = [one.slug for one in registry.all() if one.can_find or one.lists_recent]
    return Submission.objects.filter(
        Q(next_poll_at=None) | Q(next_poll_at__lte=Now()), state=State.UNKNOWN, account__provider_id__in=able
    )


def _claim(token: UUID) -> list[Submission]:
    """Due ones, moved on so that nobody else looks meanwhile and a look that breaks off is made again."""
    with transaction.atomic():
        rows = list(
            _due()
            .select_for_update(skip_locked=True, of=("self",), no_key=True)
            .select_related("generation", "account")
            .order_by("next_poll_at")[:BATCH]
        )
        Submission.objects.filter(pk__in=[row.pk for row in rows]).update(
            poll_token=token, next_poll_at=Now() + Value(seconds(limits().reconcile_interval))
        )
        return rows


def _looks(batch: Sequence[Submission]) -> list[Look]:
    by_account: dict[UUID, list[Submission]] = defaultdict(list)
    for submission in batch:
        by_account[submission.account_id].append(submission)
    looks = []
    for rows in by_account.values():
        account = rows[0].account
        if registry.get(account.provider_id).can_find:
            looks += [Look(account, (row,), by_reference=True) for row in rows]
        else:
            looks.append(Look(account, tuple(rows), by_reference=False))
    return looks


def _question(look: Look) -> Callable[[], Found]:
    """The call; all of it happens in the thread."""

    def trace_id() -> str:
        return str(uuid4.uuid4())

    def ask() -> Found:
        account, first = look.account, look.submissions[0]
        provider, credentials = registry.get(account.provider_id), account.credentials
        target, timeout = endpoint(account), limits().poll_timeout
        if look.by_reference:
            story = provider.find(str(first.pk), first.generation.operation_type, credentials)
            found, _ = converse(story, target, request_id=str(first.pk), total_timeout=timeout)
            return found
        since, until = _window(look.submissions)
        jobs, _ = converse(
            provider.recent(since, until, credentials, trace_id),
            target,
            request_id=str(first.pk),
            total_timeout=timeout,
        )
        return jobs

    return ask


def _patience() -> timedelta:
    return seconds(limits().submit_timeout + limits().sending_grace)


def _window(submissions: Sequence[Submission]) -> tuple[datetime, datetime]:
    """From just before the first left until the last can have arrived."""
    sent = [row.sent_at for row in submissions if row.sent_at is not None]
    skew = seconds(limits().reconcile_skew)
    return min(sent) - skew, max(sent) + _patience() + skew


def _ours(token: UUID, look: Look) -> QuerySet[Submission]:
    """Those that nobody else has in hand."""
    ids = [row.pk for row in look.submissions]
    return Submission.objects.filter(pk__in=ids, state=State.UNKNOWN, poll_token=token)


@patiently
def _not_read(token: UUID, look: Look) -> None:
    """No answer: asked again sooner. So many in a row will do as one, or a provider's outage would be for ever."""
    _ours(token, look).update(
        poll_token=None,
        last_looks=Least(F("last_looks") + 1, 1000),
        next_poll_at=Now() + Value(seconds(min(limits().last_look_interval, limits().reconcile_interval))),
    )


@patiently
def _write(token: UUID, look: Look, found: Found) -> None:
    """Take what is certain, keep the rest as evidence; a row that cannot be written keeps nobody else's."""
    ours = list(_ours(token, look).select_related("generation", "account"))
    jobs: list[RecentJob] = []
    sure: Mapping[UUID, RecentJob] = {}
    if isinstance(found, tuple):
        jobs = _of_nobody(look.account, found)
        attempts = _candidates(look.account, look.submissions)
        sure = match_jobs(attempts, jobs, patience=_patience(), skew=seconds(limits().reconcile_skew))
    now = database_now()

    def write(rows: Sequence[Submission]) -> None:
        for row in rows:
            job = sure.get(row.pk)
            if isinstance(found, SubmitResult):
                taken = _adopt(row, found.job_id, job_handle=dict(found.note))
            else:
                taken = job is not None and _adopt(row, str(job.job_id), cost=storable_cost(job.cost))
            if not taken:
                _keep_evidence(row, jobs, now)

    for row in ours:
        apart(write, [row])


def _adopt(row: Submission, job_id: str, **changes: Any) -> bool:
    with transaction.atomic():
        if not unknown.adopt(row, job_id, **changes):
            return False
        Event.objects.create(
            generation_id=row.generation_id,
            attempt=row.number,
            kind=Event.Kind.FOUND,
            actor=process.actor(),
            data={"job_id": job_id},
        )
    return True


def _of_nobody(account: Account, jobs: Sequence[RecentJob]) -> list[RecentJob]:
    """Those that no attempt of ours has yet."""
    named = [job.job_id for job in jobs if job.job_id is not None]
    taken = set(
        Submission.objects.filter(account=account, provider_job_id__in=named).values_list("provider_job_id", flat=True)
    )
    return [job for job in jobs if job.job_id not in taken]


def _candidates(account: Account, submissions: Sequence[Submission]) -> list[Sent]:
    """Every attempt of the account that the jobs could be of: also those whose own answer may still come."""
    since, until = _window(submissions)
    skew = seconds(limits().reconcile_skew)
    rows = Submission.objects.filter(
        account=account,
        sent_at__range=(since - _patience() - skew, until + skew),
        state__in=[State.UNKNOWN, State.SENDING],
    ).select_related("generation")
    return [
        Sent(row.pk, row.generation.prompt, row.sent_at, open=row.state == State.SENDING)
        for row in rows
        if row.sent_at is not None
    ]


def _keep_evidence(row: Submission, jobs: Sequence[RecentJob], now: datetime) -> None:
    """What the list said, on the row; an Event when it says something new."""
    skew, sent_at = seconds(limits().reconcile_skew), row.sent_at or now
    near = [job for job in jobs if sent_at - skew <= job.at <= sent_at + _patience() + skew]
    told: dict[str, Any] = {
        "jobs": len(near),
        "same_prompt": sum(_plain(job.prompt or "") == _plain(row.generation.prompt) for job in near),
        "candidates": [
            {
                "job_id": job.job_id,
                "at": job.at.isoformat(),
                "what": job.what,
                "cost": None if job.cost is None else str(job.cost),
                "prompt": None if job.prompt is None else job.prompt[:200],
            }
            for job in near[:KEPT_JOBS]
        ],
    }
    told = storable(told)
    before = {name: value for name, value in (row.evidence or {}).items() if name != "looked_at"}
    with transaction.atomic():
        kept = Submission.objects.filter(pk=row.pk, state=State.UNKNOWN, poll_token=row.poll_token).update(
            evidence={**told, "looked_at": now.isoformat()},
            poll_token=None,
            misses=Least(F("misses") + 1, 1000),
            last_looks=0,
        )
        if kept and before != told:
            Event.objects.create(
                generation_id=row.generation_id,
                attempt=row.number,
                kind=Event.Kind.EVIDENCE,
                actor=process.actor(),
                data={"message": _in_words(told), **told},
            )


def _in_words(told: Mapping[str, Any]) -> str:
    if not told["jobs"]:
        return "no job of that time that is not accounted for"
    same = told["same_prompt"]
    return f"{told['jobs']} jobs of that time are nobody's, {same} of them with the same prompt"
