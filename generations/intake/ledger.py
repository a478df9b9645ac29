"""What operators do with users' credits: grant, adjust, refund. Each with a reason, by somebody, and once."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db import transaction

from accounts import credits
from accounts.credits import Kind, NotEnoughCredits
from accounts.models import LedgerEntry
from generations.execution import settle
from generations.intake.errors import Conflict, Invalid, KeyReused
from generations.lifecycle import Status
from generations.models import Event, Generation

OF_A_GENERATION = (Kind.HOLD, Kind.CAPTURE, Kind.RELEASE, Kind.REFUND)


@dataclass(frozen=True, slots=True)
class Booked:
    """The entry; ``replayed``: it was there already, by the same key."""

    entry: LedgerEntry
    replayed: bool = False


def book(user_id: int, amount: int, *, reason: str, actor: str, key: str) -> Booked:
    """Grant ``amount`` credits, or take some (below zero: an adjustment). The same ``key`` moves them once.

    Raises:
        KeyReused: the key stands for another movement of this user's credits.
        Conflict: ``would_overdraw``: it would take more than is available.
    """
    try:
        entry, moved = credits.grant_once(user_id, amount, reason=reason, actor=actor, key=key)
    except credits.KeyTaken as error:
        raise KeyReused from error
    except NotEnoughCredits as error:
        raise Conflict(
            "would_overdraw",
            f"Only {error.balance:,} credits are available, so {error.required:,} cannot be taken.",
            balance=error.balance,
            required=error.required,
        ) from error
    return Booked(entry, replayed=not moved)


def refund(generation_id: UUID, *, reason: str, actor: str, amount: int | None = None, key: str = "") -> Booked:
    """Give back the credits that a completed Generation has cost, or some of them: once, whoever asks how often.

    ``amount``: all of them where it is None. ``key``: the same call again is answered with the same entry.

    Raises:
        Generation.DoesNotExist: there is none.
        Invalid: ``amount`` is not 1 to what it has cost.
        Conflict: ``not_refundable`` (nothing was spent for it), ``already_refunded``.
        KeyReused: the key stands for another movement of this user's credits.
    """
    with transaction.atomic():
        generation = settle.lock([generation_id]).get(generation_id)
        if generation is None:
            raise Generation.DoesNotExist
        entries = movements(generation_id)
        spent = -entries[Kind.CAPTURE].held_change if Kind.CAPTURE in entries else 0
        wanted = spent if amount is None else amount
        before = entries.get(Kind.REFUND)
        if before is not None and key and (before.key, before.reason, before.available_change) == (key, reason, wanted):
            return Booked(before, replayed=True)
        _refuse(generation, spent, wanted, before)
        try:
            entry = credits.refund(
                credits.Movement(generation.user_id, generation_id, wanted), reason=reason, actor=actor, key=key
            )
        except credits.KeyTaken as error:
            raise KeyReused from error
        Event.objects.create(
            generation=generation,
            kind=Event.Kind.REFUNDED,
            actor=actor,
            data={"amount": wanted, "of": spent, "message": reason},
        )
    return Booked(entry)


def movements(generation_id: UUID) -> dict[LedgerEntry.Kind, LedgerEntry]:
    """What was done with a Generation's credits, by kind: at most one of each."""
    # The kinds make the unique index on (reference, kind) usable.
    entries = LedgerEntry.objects.filter(reference=generation_id, kind__in=OF_A_GENERATION)
    return {Kind(entry.kind): entry for entry in entries}


def not_refundable(generation: Generation) -> str | None:
    """Why nothing was spent for it that could be given back, for people; None: something was."""
    if not generation.price:
        return "It is free of credits."
    if generation.is_live:
        return "It has not ended yet, and its credits are only set aside. Cancel it to give them back."
    if generation.status != Status.COMPLETED:
        return f"It is {generation.status}; its credits were given back when it ended."
    return None


def _refuse(generation: Generation, spent: int, amount: int, before: LedgerEntry | None) -> None:
    if before is not None:
        raise Conflict.naming(
            "already_refunded",
            f"{before.available_change:,} credits were given back for it already. Adjust the wallet to move more.",
            generation.pk,
        )
    if not spent:
        obstacle = not_refundable(generation) or "Nothing was spent for it."
        raise Conflict.naming("not_refundable", obstacle, generation.pk)
    if not 1 <= amount <= spent:
        raise Invalid("invalid_request", f"It has cost {spent:,} credits. Give back 1 to {spent:,}.", field="amount")
