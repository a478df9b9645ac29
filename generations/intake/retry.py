"""Retrying what ended without a result, and waking what waits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from accounts.credits import PriceList
from generations import wakeups
from generations.execution import settle
from generations.fingerprint import fingerprint
from generations.intake import caps, inputs
from generations.intake.batch_items import follow
from generations.intake.errors import Conflict, Invalid
from generations.intake.inputs import ResolvedInput
from generations.intake.pace import next_start
from generations.intake.store import Accepted, Prepared, Reuse, store
from generations.intake.validation import validated_params
from generations.lifecycle import LIVE, Status
from generations.models import DeadLetter, Event, Generation, GenerationInput, Submission, WebhookEndpoint


def retry(
    generation_id: UUID,
    *,
    actor: str,
    insist: bool = False,
    params: dict[str, Any] | None = None,
    only_dead: bool = False,
    per_minute: int | None = None,
) -> Accepted:
    """Make a new Generation of a failed or cancelled one: today's price, its own hold, deadline and claim.

    Args:
        insist: also while an earlier attempt may still be billed, or although the changed request has an answer; it
            then takes no claim.
        params: instead of the original's, as they are given. Changed ones make it another request, with a fingerprint
            of its own.
        only_dead: only while it is a dead letter: the second of two people who replay it is refused, also when the
            first one's retry has ended already.
        per_minute: it starts after the replays that are planned at its provider already, at most so many a minute.

    Raises:
        Conflict: ``not_retryable`` (live or completed), ``live_twin`` (the same request is live or was retried
            already), ``already_answered`` (the changed request is completed), ``possibly_billed``, ``not_dead``.
        Invalid, PaymentRequired: the given params are wrong, or the provider's rules or prices have changed meanwhile.
        CapReached: its user has as much as his caps allow.
        Unavailable: intake is stopped.
    """
    original = Generation.objects.get(pk=generation_id)
    if original.status in LIVE:
        raise Conflict.naming("not_retryable", "It has not ended yet; there is nothing to retry.", generation_id)
    if original.status == Status.COMPLETED:
        raise Conflict.naming("not_retryable", "It is completed; ask for it anew with reuse=none.", generation_id)
    if not insist:
        refuse_if_billable(original)
    prepared = again(original, params)
    new = prepared.generation
    changed = list(changes(original, new.params)) if params is not None else []
    reuse: Reuse = "none" if insist else "completed" if new.fingerprint != original.fingerprint else "in_flight"
    with transaction.atomic():
        caps.lock(original.user_id)  # before any Generation, as in every T1
        # Two clicks: the second waits here and then sees the first one's Generation.
        settle.lock([generation_id])
        _refuse_if_twin(original, new.fingerprint)
        if only_dead and not DeadLetter.objects.filter(pk=generation_id).exists():
            raise Conflict.naming("not_dead", "It was retried, answered or dismissed meanwhile.", generation_id)
        if per_minute is not None:
            new.scheduled_at = new.not_before = next_start(new.provider_id, per_minute)
        if original.batch_item is not None and original.batch_item.batch.cancelled_at is not None:
            new.standalone = True  # its batch wants it no more, and somebody does
        accepted = store(prepared, reuse, actor=actor)
        if accepted.reused:
            raise _answered(accepted.generation)
        follow({original.pk: accepted})
        note({original.pk: accepted}, actor=actor, changed=changed)
    return accepted


def note(retries: Mapping[UUID, Accepted], *, actor: str, changed: Sequence[str] = ()) -> None:
    """Say on each of these Generations by which one it was retried, and which params were ``changed``."""
    more = {"changed": list(changed)} if changed else {}
    Event.objects.bulk_create(
        Event(
            generation_id=pk,
            kind=Event.Kind.RETRIED,
            actor=actor,
            data={"generation": str(accepted.generation.pk), **more},
        )
        for pk, accepted in retries.items()
    )


def changes(original: Generation, params: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Which canonical params differ from the original's, by name: (before, after)."""
    before = _today(original)
    names = sorted({*before, *params})
    return {name: (before.get(name), params.get(name)) for name in names if before.get(name) != params.get(name)}


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


def refuse_if_billable(original: Generation) -> None:
    """Nothing is made anew while an attempt at it may still be paid for.

    Raises:
        Conflict: ``possibly_billed``.
    """
    if Submission.objects.billable().filter(generation=original).exists():
        raise Conflict.naming(
            "possibly_billed",
            "An attempt of it may still be running (and be billed) at the provider. Wait until it is known, or insist.",
            original.pk,
        )


def _refuse_if_twin(original: Generation, fingerprint: str) -> None:
    """A retry of it is live, or the request that would be made is."""
    same = Q(retry_of=original) | Q(user_id=original.user_id, active_fingerprint=fingerprint)
    twin = Generation.objects.live().filter(same).first()
    if twin is not None:
        what = "A retry of it" if twin.retry_of_id == original.pk else "The same request"
        raise Conflict.naming("live_twin", f"{what} is under way already.", twin.pk)


def _answered(answer: Generation) -> Conflict:
    if answer.status in LIVE:
        return Conflict.naming("live_twin", "The same request is under way already.", answer.pk)
    return Conflict.naming(
        "already_answered",
        "What you changed it to was completed already. Nothing was made and nothing is paid; insist to make another.",
        answer.pk,
    )


def again(original: Generation, params: dict[str, Any] | None = None) -> Prepared:
    """The Generation that a retry would make, not saved yet; with other ``params``, if they are given.

    Raises:
        Invalid: the provider's rules don't allow it (any more).
    """
    return _again(original, params, _Beside.of([original]))


def again_all(originals: Sequence[Generation]) -> list[Prepared]:
    """The same for many, in three queries."""
    beside = _Beside.of(originals)
    return [_again(original, None, beside) for original in originals]


@dataclass(frozen=True, slots=True)
class _Beside:
    """What is to be known beside the Generations that are made anew: inputs and webhook_urls by their ids, prices."""

    inputs: Mapping[UUID, Sequence[ResolvedInput]]
    urls: Mapping[UUID, Sequence[str]]
    prices: PriceList

    @classmethod
    def of(cls, originals: Sequence[Generation]) -> _Beside:
        """Three queries."""
        ids = [original.pk for original in originals]
        given: dict[UUID, list[ResolvedInput]] = defaultdict(list)
        for row in GenerationInput.objects.filter(generation__in=ids).select_related("asset").order_by("index"):
            given[row.generation_id].append(ResolvedInput(row.role, row.asset))
        urls: dict[UUID, list[str]] = defaultdict(list)
        for endpoint in WebhookEndpoint.objects.filter(generation__in=ids).order_by("pk"):
            if endpoint.generation_id is not None:
                urls[endpoint.generation_id].append(endpoint.url)
        return cls(given, urls, PriceList.today())


def _again(original: Generation, params: dict[str, Any] | None, beside: _Beside) -> Prepared:
    given = tuple(beside.inputs.get(original.pk, ()))
    valid = validated_params(
        original.provider_id, original.operation_type, original.params if params is None else params
    )
    inputs.check(given, valid)
    canonical = valid.canonical()
    version_id = original.prompt_version_id if canonical.get("prompt") == original.prompt else None
    generation = Generation(
        user_id=original.user_id,
        provider_id=original.provider_id,
        operation_type=original.operation_type,
        params=canonical,
        raw_params=original.raw_params if params is None else params,
        context=original.context,
        metadata=original.metadata,
        priority=original.priority,
        account_id=original.account_id,
        parent_id=original.parent_id,
        prompt_version_id=version_id,
        scene_id=original.scene_id,
        batch_item_id=original.batch_item_id,
        standalone=original.standalone,
        retry_of=original,
        fingerprint=original.fingerprint if params is None else _print_of(original, canonical, given, version_id),
        price=beside.prices.of(original.provider_id, original.operation_type, valid.model_name, valid.output_count),
    )
    return Prepared(generation, given, tuple(beside.urls.get(original.pk, ())))


def _print_of(
    original: Generation, canonical: dict[str, Any], inputs: Sequence[ResolvedInput], version_id: UUID | None
) -> str:
    """The original's own where nothing has changed, whatever it was made from then."""
    if canonical == _today(original):
        return original.fingerprint
    return fingerprint(
        provider_id=original.provider_id,
        operation_type=original.operation_type,
        params=canonical,
        inputs=[(one.role, one.asset.sha256) for one in inputs],
        account=str(original.account_id) if original.account_id else None,
        context=original.context,
        prompt_version=str(version_id) if version_id else None,
        variation=original.batch_item.variation if original.batch_item else None,
    )


def _today(original: Generation) -> dict[str, Any]:
    """Its params with the defaults that the provider's model has today; as they are where it takes them no more."""
    try:
        return validated_params(original.provider_id, original.operation_type, original.params).canonical()
    except Invalid:
        params: dict[str, Any] = original.params
        return params
