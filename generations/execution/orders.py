"""From a reserved Submission to the conversation that submits it."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from uuid import UUID

from django.conf import settings

from generations import storage
from generations.conf import limits
from generations.execution.accounts import endpoint
from generations.models import GenerationInput, Submission
from providers import registry
from providers.base import InputFile, JobHandle, Order, SubmitResult
from providers.transport import Conversation


def trace_id() -> str:
    """A fresh UUID, for protocols that want one per request."""
    return str(uuid.uuid4())


def inputs_of(submissions: Iterable[Submission]) -> dict[UUID, list[InputFile]]:
    """The inputs of these Submissions' Generations, by Generation, in one query."""
    accounts = {submission.generation_id: submission.account_id for submission in submissions}
    found: dict[UUID, list[InputFile]] = defaultdict(list)
    rows = (
        GenerationInput.objects.filter(generation__in=accounts)
        .select_related("asset", "asset__submission")
        .order_by("generation", "index")
    )
    for row in rows:
        asset, made_by = row.asset, row.asset.submission
        same_account = made_by is not None and made_by.account_id == accounts[row.generation_id]
        found[row.generation_id].append(
            InputFile(
                role=row.role,
                name=f"{asset.sha256[:16]}{_extension(asset.key)}",
                mime_type=asset.mime_type,
                size=asset.size,
                sha256=asset.sha256,
                open=partial(storage.open_key, asset.key),
                provider_job_id=made_by.provider_job_id if made_by is not None and same_account else None,
            )
        )
    return found


def conversation(
    submission: Submission, inputs: Mapping[UUID, Sequence[InputFile]], credentials: Mapping[str, str]
) -> Conversation[SubmitResult]:
    """The submit of a reserved Submission, not begun."""
    generation, account = submission.generation, submission.account
    provider = registry.get(account.provider_id)
    params = provider.operations[generation.operation_type].model_validate(generation.params)
    order = Order(
        operation_type=generation.operation_type,
        params=params,
        inputs=inputs.get(generation.pk, ()),
        submission_id=str(submission.pk),
        trace_ids=trace_id,
        callback_url=callback_url(submission),
    )
    timeout = limits().blocking_submit_timeout if provider.blocking else limits().submit_timeout
    return Conversation(
        provider.submit(order, credentials), endpoint(account), request_id=str(submission.pk), total_timeout=timeout
    )


def callback_url(submission: Submission) -> str | None:
    """Where the provider may call back for this attempt; None while we have no public address."""
    if not settings.PUBLIC_URL:
        return None
    return f"{settings.PUBLIC_URL}/hooks/{submission.account.provider_id}/{submission.callback_token}"


def handle(submission: Submission) -> JobHandle:
    """What a poll of an accepted Submission needs."""
    return JobHandle(
        job_id=submission.provider_job_id or "",
        operation_type=submission.generation.operation_type,
        note=submission.job_handle,
        params=submission.generation.params,
        trace_ids=trace_id,
    )


def _extension(key: str) -> str:
    return f".{key.rpartition('.')[2]}"
