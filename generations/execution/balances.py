"""The daily comparison: does an account's balance fall by what its attempts cost?

1. Read: once a day (UTC) each account's balance is asked for, outside of any transaction, and kept as a reading.
   Looked for every hour, so that a beat that was down or a provider that was silent delays it and skips no day.
2. Settle: what was expected follows from the reading before and from the attempts that were sent since then. While
   some of these are under way their costs may not be known yet and the numbers may still move; when all have ended
   the numbers are final, and a balance that lies too low is an Incident, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Count, Exists, Max, OuterRef, Q, Sum, Value
from django.db.models.functions import Now

from accounts.models import Account, BalanceReading
from generations.conf import limits
from generations.execution.accounts import refresh_balances
from generations.lifecycle import State
from generations.models import Incident, Submission
from generations.models.clock import database_now
from providers import registry

MOST_ACCOUNTS = 1000
LATELY = timedelta(days=2)
CENT = Decimal("0.0001")
"""Balances and costs have four digits behind the point."""
UNDER_WAY = (State.SENDING, State.UNKNOWN, State.ACCEPTED)
"""What these cost may still become known."""

log = structlog.get_logger(__name__)


def compare() -> None:
    """Read what was not read today, then settle what may be. Twice at once does no harm."""
    read()
    settle()


def read() -> int:
    """Keep today's balance of each account that has none yet. Gives how many were read."""
    kept = 0
    for account, test in refresh_balances(_unread()):
        if test.balance is not None:
            reading = BalanceReading(account=account, day=database_now().date(), balance=test.balance.quantize(CENT))
            BalanceReading.objects.bulk_create([reading], ignore_conflicts=True)  # somebody else may have been sooner
            kept += 1
    return kept


def settle() -> int:
    """Work out what was to be expected of the readings that are not final. Gives how many are final now."""
    final = 0
    for pk in BalanceReading.objects.filter(settled_at=None).order_by("read_at").values_list("pk", flat=True):
        try:
            final += _settle(pk)
        except Exception:
            log.exception("reading_not_settled", reading=pk)  # one account's keeps no other's from it
    return final


def _unread() -> list[Account]:
    """Accounts in use that have no reading of this day. (Whose credentials are refused is looked at elsewhere.)"""
    able = [provider.slug for provider in registry.all() if provider.has_balance]
    today = BalanceReading.objects.filter(account=OuterRef("pk"), day=database_now().date())
    in_use = Q(enabled=True) | Q(last_used_at__gt=Now() - Value(LATELY))
    return list(
        Account.objects.filter(in_use, ~Exists(today), provider_id__in=able, out_of_rotation_at=None)[:MOST_ACCOUNTS]
    )


@dataclass(frozen=True, slots=True)
class Costs:
    """What the attempts of a span of time have cost, as far as it is known."""

    attempts: int
    spent: Decimal
    failed: Decimal
    unpriced: int
    dearest: Decimal | None
    under_way: int

    def tolerated(self) -> Decimal | None:
        """How far below what was expected a balance may lie. None: no attempt says what it cost, so nobody can tell.

        A small share of what was spent (a job that was charged on one side of a reading and written down on the
        other), and for each attempt that does not say its cost as much as the dearest one.
        """
        if self.unpriced and self.dearest is None:
            return None
        share = self.spent * Decimal(str(limits().drift_tolerance))
        return (share + self.unpriced * (self.dearest or 0)).quantize(CENT)


def costs_between(account: Account, before: BalanceReading, reading: BalanceReading) -> Costs:
    """Of the attempts that were sent between two readings: those that may have cost something."""
    may_cost = Q(accepted_at__isnull=False) | Q(state__in=UNDER_WAY) | Q(cost_at_risk=True) | Q(cost__isnull=False)
    attempts = Submission.objects.filter(may_cost, account=account, sent_at__gt=before.read_at)
    attempts = attempts.filter(sent_at__lte=reading.read_at).exclude(resolution=Submission.Resolution.NOT_BILLED)
    found: dict[str, Any] = attempts.aggregate(
        attempts=Count("pk"),
        spent=Sum("cost", default=Decimal(0)),
        failed=Sum("cost", filter=Q(state=State.FAILED), default=Decimal(0)),
        unpriced=Count("pk", filter=Q(cost=None)),
        dearest=Max("cost"),
        under_way=Count("pk", filter=Q(state__in=UNDER_WAY)),
    )
    return Costs(**found)


def decimal_text(value: Decimal) -> str:
    """Without meaningless zeros: ``12``, ``0.25``, ``1200``."""
    return f"{value.normalize():f}"


@transaction.atomic
def _settle(pk: int) -> bool:
    """One reading; whether it is final now."""
    reading = (
        BalanceReading.objects.select_for_update(skip_locked=True, of=("self",))
        .select_related("account")
        .filter(pk=pk, settled_at=None)
        .first()
    )
    if reading is None:
        return False  # somebody else has it in hand
    before = BalanceReading.objects.filter(account=reading.account, day__lt=reading.day).order_by("-day").first()
    if before is None:
        return bool(BalanceReading.objects.filter(pk=pk).update(settled_at=Now()))
    costs = costs_between(reading.account, before, reading)
    reading.expected = before.balance - costs.spent
    reading.drift = reading.balance - reading.expected
    reading.tolerated = costs.tolerated()
    reading.spent, reading.failed = costs.spent, costs.failed
    reading.attempts, reading.unpriced = costs.attempts, costs.unpriced
    reading.save(update_fields=["expected", "drift", "tolerated", "spent", "failed", "attempts", "unpriced"])
    if costs.under_way:
        return False
    BalanceReading.objects.filter(pk=pk).update(settled_at=Now())
    if reading.is_too_low:
        Incident.objects.create(
            kind=Incident.Kind.DRIFT, account=reading.account, detail=_missing(reading.account, before, reading, costs)
        )
        log.warning("balance_drift", account=str(reading.account_id), day=str(reading.day), drift=str(reading.drift))
    return True


def _missing(account: Account, before: BalanceReading, reading: BalanceReading, costs: Costs) -> str:
    """What a person reads of a balance that is too low."""
    missing = -(reading.drift or Decimal(0))
    attempts = "1 attempt" if costs.attempts == 1 else f"{costs.attempts:,} attempts"
    text = (
        f"{account} had {decimal_text(before.balance)} {account.balance_unit} on {before.day}, and "
        f"{decimal_text(reading.balance)} on {reading.day}. The {attempts} between cost {decimal_text(costs.spent)}: "
        f"{decimal_text(missing)} are missing. "
    )
    if costs.unpriced:
        text += f"{costs.unpriced:,} of them did not say what they cost, which does not explain so much. "
    return (
        f"{text}Look at the provider's own usage list for what Darkroom did not ask for, or what was billed twice. "
        "Other programs with the same key, and credits that expire, look the same."
    )
