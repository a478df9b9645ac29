"""T1: the Generations, their claims, the hold and what belongs to them in one commit, for one request or a thousand.

The same request of the same user is answered with the same Generation, as the ``reuse`` policy says; the database's
unique index on (user, active_fingerprint) is what makes that true under any race.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Literal
from uuid import UUID

from django.db import transaction

from accounts import credits
from accounts.credits import Movement, NotEnoughCredits
from generations import wakeups
from generations.conf import limits, seconds
from generations.execution import settle
from generations.execution.batches import let_go
from generations.intake import caps, switches, webhooks
from generations.intake.errors import Conflict, PaymentRequired, Unavailable
from generations.intake.idempotency import Idempotency, remember
from generations.intake.inputs import ResolvedInput
from generations.lifecycle import LIVE, Status
from generations.models import Event, Generation, GenerationInput
from generations.models.clock import database_now

Reuse = Literal["completed", "in_flight", "none"]
ROUNDS = 3
NAMED = 3
"""So many of those in the way are named."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that was found to be valid: a Generation not yet saved, and its inputs."""

    generation: Generation
    inputs: tuple[ResolvedInput, ...]
    webhook_urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer: a Generation, whether it was there before (``reused``), whether this is a replay of an answer."""

    generation: Generation
    reused: bool
    replayed: bool = False


def store(prepared: Prepared, reuse: Reuse, *, idempotency: Idempotency | None = None, actor: str) -> Accepted:
    """Store one request, with the key that it came with.

    Raises:
        KeyTaken: somebody committed the same key first.
        Conflict, PaymentRequired, CapReached, Unavailable: as ``store_all``.
    """
    with transaction.atomic():
        (accepted,) = store_all([prepared], reuse, actor=actor)
        if idempotency is not None:
            now = database_now() if accepted.reused else accepted.generation.created_at
            remember(idempotency, accepted.generation, reused=accepted.reused, now=now)
    return accepted


def store_all(prepared: Sequence[Prepared], reuse: Reuse, *, actor: str) -> list[Accepted]:
    """Insert the Generations of one user unless their requests have answers already; three rounds at most.

    All or none of them, in a number of statements that does not depend on how many they are.

    Returns:
        An answer for each, in their order. Two that are the same request have the same answer.

    Raises:
        Conflict: ``possibly_billed``: an earlier attempt at the same request ended and may still be billed;
            ``being_cancelled``: its cancel was asked for, and it has not ended.
        PaymentRequired, CapReached: nothing was changed.
        Unavailable: intake is stopped, and not everything is answered by what is there.
    """
    if not prepared:
        return []
    answers: dict[UUID, Accepted] = {}
    # One commit for all rounds: who is refused in the last one has taken nobody's claim away in an earlier one.
    with transaction.atomic(savepoint=False):
        cap = caps.lock(prepared[0].generation.user_id)
        for _ in range(ROUNDS):
            left = [one for one in prepared if one.generation.pk not in answers]
            now, stopped = switches.look()
            if stopped:
                answers |= _only_answered(left, reuse, now, stopped)
            else:
                new = _insert([_dated(one.generation, reuse, now) for one in left])
                if new and cap is not None:
                    caps.check(cap, now, new=len(new))
                _complete_insert([one for one in left if one.generation.pk in new], actor)
                answers |= {pk: Accepted(generation, reused=False) for pk, generation in new.items()}
                answers |= _existing([one for one in left if one.generation.pk not in new], reuse, now)
            if len(answers) == len(prepared):
                return [answers[one.generation.pk] for one in prepared]
        raise Conflict("try_again", "The same request is being changed at this moment. Send it again.")


def may_answer(holder: Generation, reuse: Reuse, now: datetime) -> bool:
    """Whether the holder of the claim answers the same request: live and not being cancelled, or completed lately where
    that may be reused."""
    if holder.status in LIVE:
        return holder.cancel_requested_at is None
    completed_at = holder.completed_at if holder.status == Status.COMPLETED else None
    return reuse == "completed" and completed_at is not None and completed_at >= _oldest(now)


def holders(generations: Sequence[Generation]) -> dict[str, Generation]:
    """Who holds the claims to be the answers to these requests of one user, by fingerprint."""
    prints = {generation.fingerprint for generation in generations}
    rows = Generation.objects.filter(user_id=generations[0].user_id, active_fingerprint__in=prints) if prints else ()
    return {row.fingerprint: row for row in rows}


def _dated(generation: Generation, reuse: Reuse, now: datetime) -> Generation:
    generation.active_fingerprint = None if reuse == "none" else generation.fingerprint
    start = max(now, generation.scheduled_at) if generation.scheduled_at else now
    generation.created_at = now
    generation.queue_until = start + seconds(limits().queue_ttl)
    if generation.not_before is not None and generation.not_before <= now:
        generation.not_before = None
    return generation


def _insert(rows: Sequence[Generation]) -> dict[UUID, Generation]:
    """INSERT ... ON CONFLICT DO NOTHING. Those that were inserted: of the others, somebody else holds the claim."""
    Generation.objects.bulk_create(rows, ignore_conflicts=True)
    found = Generation.objects.filter(pk__in=[row.pk for row in rows]).values_list("pk", flat=True)
    inserted = set(found)
    return {row.pk: row for row in rows if row.pk in inserted}


def _complete_insert(new: Sequence[Prepared], actor: str) -> None:
    """The rest of T1, beside the inserted Generations."""
    if not new:
        return
    GenerationInput.objects.bulk_create(
        GenerationInput(generation=one.generation, asset=given.asset, role=given.role, index=index)
        for one in new
        for index, given in enumerate(one.inputs)
    )
    priced = [one.generation for one in new if one.generation.price is not None]
    try:
        credits.hold([Movement(row.user_id, row.pk, row.price or 0) for row in priced], actor=actor)
    except NotEnoughCredits as error:
        raise PaymentRequired(
            balance=error.balance, required=error.required, operation_type=priced[0].operation_type
        ) from error
    for one in new:
        webhooks.follow(one.generation, one.webhook_urls, is_new=True)
    Event.objects.bulk_create(Event(generation=one.generation, kind=Event.Kind.ACCEPTED, actor=actor) for one in new)
    for provider_id in sorted({one.generation.provider_id for one in new if one.generation.not_before is None}):
        transaction.on_commit(partial(wakeups.wake_dispatch, provider_id))


def _existing(left: Sequence[Prepared], reuse: Reuse, now: datetime) -> dict[UUID, Accepted]:
    """The holders of the claims, where they may answer these requests. Who is missing: nobody stands in the way now.

    Raises:
        Conflict: some ended without a result, but attempts of them may still be billed.
    """
    if not left:
        return {}
    found = _wanted(left, holders([one.generation for one in left]))
    answers = _answered(left, found, reuse, now)
    others = [row for row in found.values() if not may_answer(row, reuse, now)]
    if stopping := [row for row in others if row.status in LIVE]:
        raise Conflict.naming(
            "being_cancelled",
            "The same request is being cancelled at this moment. Ask again when that is over, or insist with "
            "reuse=none.",
            stopping[0].pk,
        )
    if unsure := [row for row in others if row.status != Status.COMPLETED]:
        raise _possibly_billed(unsure)
    too_old = Generation.objects.filter(status=Status.COMPLETED, active_fingerprint__isnull=False)
    if reuse == "completed":
        too_old = too_old.filter(completed_at__lt=_oldest(now))
    for row in others:
        if too_old.filter(pk=row.pk).update(active_fingerprint=None):
            Event.objects.create(generation=row, kind=Event.Kind.CLAIM_LOST, actor=f"user:{row.user_id}")
    return answers


def _answered(
    left: Sequence[Prepared], found: Mapping[str, Generation], reuse: Reuse, now: datetime
) -> dict[UUID, Accepted]:
    answers = {}
    for one in left:
        holder = found.get(one.generation.fingerprint)
        if holder is not None and may_answer(holder, reuse, now):
            webhooks.follow(holder, one.webhook_urls, is_new=False)
            answers[one.generation.pk] = Accepted(holder, reused=True)
    return answers


def _wanted(left: Sequence[Prepared], found: dict[str, Generation]) -> dict[str, Generation]:
    """The holders, of which those that a batch has made are kept from being cancelled with it over our heads."""
    shared = [row.pk for row in found.values() if row.status in LIVE and not row.standalone]
    if not shared:
        return found
    locked = settle.lock(shared)
    found = {print_: locked.get(row.pk, row) for print_, row in found.items()}
    # What a paused batch has kept waiting is let go: whoever asks now has paused nothing.
    let_go(Generation.objects.filter(pk__in=locked))
    alone = {one.generation.fingerprint for one in left if one.generation.standalone}
    rows = Generation.objects.filter(pk__in=[row.pk for print_, row in found.items() if print_ in alone])
    rows.filter(standalone=False).update(standalone=True)
    return {print_: row for print_, row in found.items() if row.active_fingerprint is not None}


def _only_answered(left: Sequence[Prepared], reuse: Reuse, now: datetime, stopped: Unavailable) -> dict[UUID, Accepted]:
    """Intake is stopped: what is there already answers all the same; nothing is made, and nobody's claim taken away."""
    if reuse == "none":
        raise stopped
    found = _wanted(left, holders([one.generation for one in left]))
    answers = _answered(left, found, reuse, now)
    if len(answers) < len(left):
        raise stopped
    return answers


def _possibly_billed(unsure: Sequence[Generation]) -> Conflict:
    first = unsure[0]
    if len(unsure) == 1:
        return Conflict.naming(
            "possibly_billed",
            f"The same request ended as {first.status}, and the provider may still be working on it (and bill it). "
            "Wait until that is known, or insist with reuse=none.",
            first.pk,
        )
    return Conflict(
        "possibly_billed",
        f"{len(unsure)} of these requests were made before and ended without a result, and the provider may still be "
        "working on them (and bill them). Wait until that is known, or insist with reuse=none.",
        generation=str(first.pk),
        generations=[str(row.pk) for row in unsure[:NAMED]],
    )


def _oldest(now: datetime) -> datetime:
    """What completed before this answers nothing any more."""
    return now - timedelta(days=limits().reuse_days)
