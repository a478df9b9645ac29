"""Moving credits: each function is called inside the caller's transaction, beside the status it belongs to.

Held once, then captured or released once: the ledger's unique (reference, kind) is the proof.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.db.models import F

from accounts.models import LedgerEntry, Price, Wallet

Kind = LedgerEntry.Kind


class NotEnoughCredits(Exception):
    """The wallet holds less than the request costs."""

    def __init__(self, *, balance: int, required: int) -> None:
        self.balance = balance
        self.required = required
        super().__init__(f"{required} credits are needed and {balance} are available.")


class KeyTaken(Exception):
    """The same key stands for another movement of this user's credits."""


@dataclass(frozen=True, slots=True)
class Movement:
    """``amount`` credits of a user, for the Generation ``reference``."""

    user_id: int
    reference: UUID
    amount: int


class PriceList:
    """Prices that were read once, for many requests."""

    def __init__(self, rows: Iterable[Price]) -> None:
        self._credits = {(row.provider_id, row.operation_type, row.model): row.credits for row in rows}

    @classmethod
    def today(cls) -> PriceList:
        """All that hold now."""
        return cls(Price.objects.all())

    def of(self, provider_id: str, operation_type: str, model: str, outputs: int) -> int | None:
        """Credits for ``outputs`` outputs of an operation; None where no Price says that it costs anything.

        The Price of the model itself wins, so that one of 0 makes a single model free.
        """
        for name in (model, ""):
            credits = self._credits.get((provider_id, operation_type, name))
            if credits is not None:
                return credits * outputs or None
        return None


def price_of(provider_id: str, operation_type: str, model: str, outputs: int) -> int | None:
    """What ``PriceList.of`` says today, for one request."""
    rows = Price.objects.filter(provider_id=provider_id, operation_type=operation_type, model__in=["", model])
    return PriceList(rows).of(provider_id, operation_type, model, outputs)


def hold(movements: Iterable[Movement], *, actor: str) -> None:
    """Set credits aside, all or none.

    Raises:
        NotEnoughCredits: the caller's transaction must be rolled back.
    """
    for user_id, group in _by_user(movements):
        required = sum(movement.amount for movement in group)
        held = Wallet.objects.filter(user_id=user_id, available__gte=required).update(
            available=F("available") - required, held=F("held") + required
        )
        if not held:
            balance = Wallet.objects.filter(user_id=user_id).values_list("available", flat=True).first() or 0
            raise NotEnoughCredits(balance=balance, required=required)
        _write(group, Kind.HOLD, available=-1, held=+1, actor=actor)


def capture(movements: Iterable[Movement], *, actor: str) -> None:
    """Spend what was held."""
    _settle(movements, Kind.CAPTURE, available=0, held=-1, actor=actor)


def release(movements: Iterable[Movement], *, actor: str) -> None:
    """Give back what was held."""
    _settle(movements, Kind.RELEASE, available=+1, held=-1, actor=actor)


def refund(movement: Movement, *, reason: str, actor: str, key: str = "") -> LedgerEntry:
    """Give back what was spent; the caller has seen the capture, and the ledger allows one refund of a reference.

    Raises:
        KeyTaken: ``key`` stands for another movement of this user's credits.
    """
    wallet = Wallet.objects.select_for_update().get(user_id=movement.user_id)
    if key and wallet.entries.filter(key=key).exists():
        raise KeyTaken
    Wallet.objects.filter(user_id=movement.user_id).update(available=F("available") + movement.amount)
    return LedgerEntry.objects.create(
        wallet=wallet,
        kind=Kind.REFUND,
        available_change=movement.amount,
        reference=movement.reference,
        reason=reason,
        actor=actor,
        key=key,
    )


@transaction.atomic
def grant_once(user_id: int, amount: int, *, reason: str, actor: str, key: str) -> tuple[LedgerEntry, bool]:
    """Grant credits (or take some: an adjustment), unless a call with the same ``key`` has done it already.

    Returns:
        The entry, and whether credits moved now.

    Raises:
        KeyTaken: ``key`` stands for another movement of this user's credits.
        NotEnoughCredits: an adjustment would take more than is available.
    """
    Wallet.objects.get_or_create(user_id=user_id)
    # Who comes second waits here, and then sees what the first has written.
    wallet = Wallet.objects.select_for_update().get(user_id=user_id)
    before = wallet.entries.filter(key=key).first()
    if before is None:
        kind = Kind.GRANT if amount > 0 else Kind.ADJUSTMENT
        return grant(user_id, amount, reason=reason, actor=actor, kind=kind, key=key), True
    if (before.available_change, before.reason) != (amount, reason) or before.reference is not None:
        raise KeyTaken
    return before, False


@transaction.atomic
def grant(
    user_id: int, amount: int, *, reason: str, actor: str, kind: LedgerEntry.Kind = Kind.GRANT, key: str = ""
) -> LedgerEntry:
    """Add credits to a user's wallet (or take some, as an adjustment with a negative amount).

    Raises:
        NotEnoughCredits: an adjustment would take more than is available.
    """
    Wallet.objects.get_or_create(user_id=user_id)
    changed = Wallet.objects.filter(user_id=user_id, available__gte=-amount).update(available=F("available") + amount)
    if not changed:
        raise NotEnoughCredits(balance=Wallet.objects.get(user_id=user_id).available, required=-amount)
    return LedgerEntry.objects.create(
        wallet_id=user_id, kind=kind, available_change=amount, reason=reason, actor=actor, key=key
    )


def _settle(movements: Iterable[Movement], kind: LedgerEntry.Kind, *, available: int, held: int, actor: str) -> None:
    for user_id, group in _by_user(movements):
        total = sum(movement.amount for movement in group)
        Wallet.objects.filter(user_id=user_id).update(
            available=F("available") + available * total, held=F("held") + held * total
        )
        _write(group, kind, available=available, held=held, actor=actor)


def _by_user(movements: Iterable[Movement]) -> list[tuple[int, list[Movement]]]:
    """Grouped by user, in the order of their ids: wallets are always locked in the same order."""
    groups: dict[int, list[Movement]] = defaultdict(list)
    for movement in movements:
        groups[movement.user_id].append(movement)
    return sorted(groups.items())


def _write(group: list[Movement], kind: LedgerEntry.Kind, *, available: int, held: int, actor: str) -> None:
    LedgerEntry.objects.bulk_create(
        LedgerEntry(
            wallet_id=movement.user_id,
            kind=kind,
            available_change=available * movement.amount,
            held_change=held * movement.amount,
            reference=movement.reference,
            actor=actor,
        )
        for movement in group
    )
