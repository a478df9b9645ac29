"""Retrying what ended without a result, and waking what waits."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from accounts import credits
from generations import wakeups
from generations.execution import settle
from generations.intake import caps
from generations.intake.errors import Conflict, Invalid
from generations.intake.inputs import ResolvedInput
from generations.intake.request import Accepted, Prepared, store
from generations.intake.validation import validated_params
from generations.lifecycle import LIVE, Status
from generations.models import Event, Generation, Submission, WebhookEndpoint
from providers.errors import InvalidParams


def retry(generation_id: UUID, *, actor: str, insist: bool = False) -> Accepted:
    """Make a new Generation of a failed or cancelled one: today's price, its own hold, deadline and claim.

    ``insist``: also while an earlier attempt may still be billed; it then takes no claim.

    Raises:
        Conflict: ``not_retryable`` (live or completed), ``live_twin`` (the same request is live or was retried
            already), ``possibly_billed``.
        Invalid, PaymentRequired: the provider's rules or prices have changed meanwhile.
        CapReached: its user has as much as his caps allow.
    """
    original = Generation.objects.get(pk=generation_id)
    if original.status in LIVE:
        raise Conflict.naming("not_retryable", "It has not ended yet; there is nothing to retry.", generation_id)
    if original.status == Status.COMPLETED:
        raise Conflict.naming("not_retryable", "It is completed; ask for it anew with reuse=none.", generation_id)
    if not insist:
        _refuse_if_billable(original)
    prepared = _again(original)
    with transaction.atomic():
        caps.lock(original.user_id)  # before any Generation, as in every T1
        # Two clicks: the second waits here and then sees the first one's Generation.
        settle.lock([generation_id])
        _refuse_if_twin(original)
        accepted = store(prepared, "none" if insist else "in_flight", actor=actor)
        if accepted.reused:
            raise Conflict.naming("live_twin", "The same request is under way already.", accepted.generation.pk)
        Event.objects.create(
            generation=original,
            kind=Event.Kind.RETRIED,
            actor=actor,
            data={"generation": str(accepted.generation.pk)},
        )
    return accepted


def wake(generation_id: UUID, *, actor: str) -> Generation:
    """Somebody says "now": a scheduled or backing-off Generation becomes due at once.

    Raises:
        Conflict: ``not_waiting``: it is not pending.
    """
    with transaction.atomic():
        woken = Generation.objects.filter(pk=generation_id, status=Status.PENDING).update(not_before=None)
        if not woken:
            raise Conflict.naming("not_waiting", "It is not waiting in the queue.", generation_id)
        Event.objects.create(generation_id=generation_id, kind=Event.Kind.WOKEN, actor=actor)
    generation = Generation.objects.get(pk=generation_id)
    wakeups.wake_dispatch(generation.provider_id)
    return generation


def _refuse_if_billable(original: Generation) -> None:
    if Submission.objects.billable().filter(generation=original).exists():
        raise Conflict.naming(
            "possibly_billed",
            "An attempt of it may still be running (and be billed) at the provider. Wait until it is known, or insist.",
            original.pk,
        )


def _refuse_if_twin(original: Generation) -> None:
    """A retry of it is live, or the same request is."""
    same = Q(retry_of=original) | Q(user_id=original.user_id, active_fingerprint=original.fingerprint)
    twin = Generation.objects.live().filter(same).first()
    if twin is not None:
        what = "A retry of it" if twin.retry_of_id == original.pk else "The same request"
        raise Conflict.naming("live_twin", f"{what} is under way already.", twin.pk)


def _again(original: Generation) -> Prepared:
    params = validated_params(original.provider_id, original.operation_type, original.params)
    inputs = tuple(
        ResolvedInput(row.role, row.asset) for row in original.inputs.select_related("asset").order_by("index")
    )
    try:
        params.check_inputs(Counter(one.role for one in inputs))
    except InvalidParams as error:
        raise Invalid("invalid_input", error.detail, field="inputs") from error
    generation = Generation(
        user_id=original.user_id,
        provider_id=original.provider_id,
        operation_type=original.operation_type,
        params=params.canonical(),
        raw_params=original.raw_params,
        context=original.context,
        metadata=original.metadata,
        priority=original.priority,
        account_id=original.account_id,
        parent_id=original.parent_id,
        retry_of=original,
        fingerprint=original.fingerprint,
        price=credits.price_of(original.provider_id, original.operation_type, params.model_name, params.output_count),
    )
    urls = WebhookEndpoint.objects.filter(generation=original).order_by("pk").values_list("url", flat=True)
    return Prepared(generation, inputs, tuple(urls))
