"""Accepting a request (T1): the Generation, its claim, the hold and the idempotency key in one commit.

The same request of the same user is answered with the same Generation, as the ``reuse`` policy says; the database's
unique index on (user, active_fingerprint) is what makes that true under any race.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from accounts import credits
from accounts.credits import Movement, NotEnoughCredits
from accounts.models import Account
from generations import wakeups
from generations.conf import limits, seconds
from generations.fingerprint import fingerprint
from generations.intake import caps, switches, webhooks
from generations.intake.errors import Conflict, KeyReused, NotFound, PaymentRequired, Unavailable
from generations.intake.inputs import InputRef, ResolvedInput, resolve
from generations.intake.validation import validated_params
from generations.lifecycle import LIVE, Status
from generations.models import Event, Generation, GenerationInput, IdempotencyKey
from generations.models.clock import database_now

Reuse = Literal["completed", "in_flight", "none"]
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks for, as it was given."""

    provider_id: str
    operation_type: str
    params: dict[str, Any]
    inputs: tuple[InputRef, ...] = ()
    reuse: Reuse = "completed"
    context: Any = None
    metadata: dict[str, Any] = field(default_factory=dict)
    priority: int = 5
    scheduled_at: datetime | None = None
    account_id: UUID | None = None
    parent_id: UUID | None = None
    webhook_url: str | None = None
    """Who asks wants to be told here; makes no difference to what is asked."""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The caller's key and the sha-256 of the body that it stands for."""

    key: str
    body_sha256: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer: a Generation, whether it was there before (``reused``), whether this is a replay of an answer."""

    generation: Generation
    reused: bool
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that was found to be valid: a Generation not yet saved, and its inputs."""

    generation: Generation
    inputs: tuple[ResolvedInput, ...]
    webhook_urls: tuple[str, ...] = ()


def accept(user_id: int, request: Request, *, idempotency: Idempotency | None = None, actor: str) -> Accepted:
    """Accept a request, or answer it with what is there.

    Raises:
        Invalid, NotFound, Conflict, KeyReused, PaymentRequired, CapReached, Unavailable: nothing was changed.
    """
    if idempotency is not None and (replay := _replay(user_id, idempotency)):
        return replay
    if any(ref.url for ref in request.inputs):
        _, stopped = switches.look()
        if stopped:
            raise stopped  # nothing is fetched for what is not accepted
    prepared = prepare(user_id, request)
    try:
        return store(prepared, request.reuse, idempotency=idempotency, actor=actor)
    except _KeyTaken:
        assert idempotency is not None
        replay = _replay(user_id, idempotency)
        if replay is None:
            raise Conflict("try_again", "The same key is being used at this moment. Send it again.") from None
        return replay


def prepare(user_id: int, request: Request) -> Prepared:
    """Check a request and make the Generation that it would become; saves nothing (but inputs fetched from URLs).

    Raises:
        Invalid, NotFound: as it says.
    """
    params = validated_params(request.provider_id, request.operation_type, request.params)
    if request.webhook_url is not None:
        webhooks.check_url(request.webhook_url, field="webhook_url")
    account = _pinned_account(user_id, request)
    parent = _parent(user_id, request.parent_id)
    inputs = resolve(user_id, request.inputs, params)
    canonical = params.canonical()
    print_ = fingerprint(
        provider_id=request.provider_id,
        operation_type=request.operation_type,
        params=canonical,
        inputs=[(one.role, one.asset.sha256) for one in inputs],
        account=str(account.pk) if account else None,
        context=request.context,
    )
    generation = Generation(
        user_id=user_id,
        provider_id=request.provider_id,
        operation_type=request.operation_type,
        params=canonical,
        raw_params=request.params,
        context=request.context,
        metadata=request.metadata,
        priority=request.priority,
        scheduled_at=request.scheduled_at,
        not_before=request.scheduled_at,
        account=account,
        parent=parent,
        fingerprint=print_,
        price=credits.price_of(request.provider_id, request.operation_type, params.model_name, params.output_count),
    )
    return Prepared(generation, inputs, (request.webhook_url,) if request.webhook_url else ())


def store(prepared: Prepared, reuse: Reuse, *, idempotency: Idempotency | None = None, actor: str) -> Accepted:
    """T1: insert the Generation unless its request has an answer already; three rounds at most.

    Raises:
        Conflict: ``possibly_billed``: an earlier attempt at the same request ended and may still be billed.
        PaymentRequired, CapReached, KeyReused: nothing was changed.
        Unavailable: intake is stopped, and nothing that is there answers the request.
    """
    generation = prepared.generation
    generation.active_fingerprint = None if reuse == "none" else generation.fingerprint
    # One commit for all rounds: who is refused in the last one has taken nobody's claim away in an earlier one.
    with transaction.atomic():
        cap = caps.lock(generation.user_id)
        for _ in range(ROUNDS):
            now, stopped = switches.look()
            if stopped:
                return _only_answered(generation, reuse, idempotency, now, stopped)
            start = max(now, generation.scheduled_at) if generation.scheduled_at else now
            generation.created_at = now
            generation.queue_until = start + seconds(limits().queue_ttl)
            if generation.not_before is not None and generation.not_before <= now:
                generation.not_before = None
            if _insert(generation):
                if cap is not None:
                    caps.check(cap, now)
                _complete_insert(prepared, idempotency, actor, now)
                return Accepted(generation, reused=False)
            answer = _existing(generation, reuse, now)
            if answer is not None:
                webhooks.follow(answer, prepared.webhook_urls, is_new=False)
                if idempotency is not None:
                    _remember(idempotency, answer, reused=True, now=now)
                return Accepted(answer, reused=True)
        raise Conflict("try_again", "The same request is being changed at this moment. Send it again.")


def _only_answered(
    generation: Generation, reuse: Reuse, idempotency: Idempotency | None, now: datetime, stopped: Unavailable
) -> Accepted:
    """Intake is stopped: what is there already answers all the same; nothing is made, and nobody's claim taken away."""
    if reuse == "none":
        raise stopped
    holder = Generation.objects.filter(user_id=generation.user_id, active_fingerprint=generation.fingerprint).first()
    if holder is None or not may_answer(holder, reuse, now):
        raise stopped
    if idempotency is not None:
        _remember(idempotency, holder, reused=True, now=now)
    return Accepted(holder, reused=True)


def _insert(generation: Generation) -> bool:
    """INSERT ... ON CONFLICT DO NOTHING; False: somebody else holds the claim to be the answer."""
    if generation.active_fingerprint is None:
        generation.save(force_insert=True)
        return True
    Generation.objects.bulk_create([generation], ignore_conflicts=True)
    return Generation.objects.filter(pk=generation.pk).exists()


def _complete_insert(prepared: Prepared, idempotency: Idempotency | None, actor: str, now: datetime) -> None:
    """The rest of T1, beside the inserted Generation."""
    generation = prepared.generation
    if idempotency is not None:
        _remember(idempotency, generation, reused=False, now=now)
    GenerationInput.objects.bulk_create(
        GenerationInput(generation=generation, asset=one.asset, role=one.role, index=index)
        for index, one in enumerate(prepared.inputs)
    )
    if generation.price is not None:
        try:
            credits.hold([Movement(generation.user_id, generation.pk, generation.price)], actor=actor)
        except NotEnoughCredits as error:
            raise PaymentRequired(
                balance=error.balance, required=error.required, operation_type=generation.operation_type
            ) from error
    webhooks.follow(generation, prepared.webhook_urls, is_new=True)
    Event.objects.create(generation=generation, kind=Event.Kind.ACCEPTED, actor=actor)
    if generation.not_before is None:
        transaction.on_commit(lambda: wakeups.wake_dispatch(generation.provider_id))


def _existing(generation: Generation, reuse: Reuse, now: datetime) -> Generation | None:
    """The holder of the claim, where it may answer this request. None: it no longer stands in the way, try again.

    Raises:
        Conflict: it ended without a result, but an attempt of it may still be billed.
    """
    holder = Generation.objects.filter(
        user_id=generation.user_id, active_fingerprint=generation.active_fingerprint
    ).first()
    if holder is None:
        return None
    if may_answer(holder, reuse, now):
        return holder
    if holder.status != Status.COMPLETED:
        raise Conflict.naming(
            "possibly_billed",
            f"The same request ended as {holder.status}, and the provider may still be working on it (and bill it). "
            "Wait until that is known, or insist with reuse=none.",
            holder.pk,
        )
    usable = Q(completed_at__gte=_oldest(now)) if reuse == "completed" else Q(pk=None)
    lost = Generation.objects.filter(
        ~usable, pk=holder.pk, status=Status.COMPLETED, active_fingerprint=holder.active_fingerprint
    ).update(active_fingerprint=None)
    if lost:
        Event.objects.create(generation=holder, kind=Event.Kind.CLAIM_LOST, actor=f"user:{holder.user_id}")
    return None


def may_answer(holder: Generation, reuse: Reuse, now: datetime) -> bool:
    """Whether the holder of the claim answers the same request: live, or completed lately where that may be reused."""
    if holder.status in LIVE:
        return True
    completed_at = holder.completed_at if holder.status == Status.COMPLETED else None
    return reuse == "completed" and completed_at is not None and completed_at >= _oldest(now)


def _oldest(now: datetime) -> datetime:
    """What completed before this answers nothing any more."""
    return now - timedelta(days=limits().reuse_days)


def _replay(user_id: int, idempotency: Idempotency) -> Accepted | None:
    row = (
        IdempotencyKey.objects.filter(user_id=user_id, key=idempotency.key, expires_at__gt=database_now())
        .select_related("generation")
        .first()
    )
    return _answer_again(row, idempotency) if row else None


def _answer_again(row: IdempotencyKey, idempotency: Idempotency) -> Accepted:
    if row.body_sha256 != idempotency.body_sha256:
        raise KeyReused
    return Accepted(row.generation, reused=row.reused, replayed=True)


class _KeyTaken(Exception):
    """Somebody committed the same Idempotency-Key first; everything of ours is rolled back."""


def _remember(idempotency: Idempotency, generation: Generation, *, reused: bool, now: datetime) -> None:
    """Bind the key to the answer, or find that somebody did so meanwhile."""
    IdempotencyKey.objects.filter(user_id=generation.user_id, key=idempotency.key, expires_at__lte=now).delete()
    IdempotencyKey.objects.bulk_create(
        [
            IdempotencyKey(
                user_id=generation.user_id,
                key=idempotency.key,
                body_sha256=idempotency.body_sha256,
                generation=generation,
                reused=reused,
                expires_at=now + timedelta(hours=limits().idempotency_hours),
            )
        ],
        ignore_conflicts=True,
    )
    if not IdempotencyKey.objects.filter(
        user_id=generation.user_id, key=idempotency.key, generation=generation, body_sha256=idempotency.body_sha256
    ).exists():
        raise _KeyTaken


def _pinned_account(user_id: int, request: Request) -> Account | None:
    if request.account_id is None:
        return None
    account = Account.objects.of_provider(request.provider_id).serving(user_id).filter(pk=request.account_id).first()
    if account is None:
        raise NotFound(
            "unknown_account", "There is no such account of this provider that you may use.", field="account"
        )
    return account


def _parent(user_id: int, parent_id: UUID | None) -> Generation | None:
    if parent_id is None:
        return None
    parent = Generation.objects.of_user(user_id).filter(pk=parent_id).first()
    if parent is None:
        raise NotFound("unknown_parent", "There is no such generation of yours.", field="parent")
    return parent


__all__ = ["Accepted", "Idempotency", "InputRef", "Prepared", "Request", "accept", "prepare", "store"]
