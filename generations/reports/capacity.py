"""How Accounts stand towards new work: free slots, and why an Account can't take any now.

The rules are those of ``AccountQuerySet.usable`` and of the claim, told one by one; a test holds both together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import (
    Case,
    CharField,
    Count,
    Exists,
    F,
    Func,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    TextChoices,
    Value,
    When,
)
from django.db.models.functions import Cast, Coalesce, JSONObject, Now

from accounts.models import Account
from generations.execution.caps import Tomorrow, used_today
from generations.models import AccountExclusion, Generation, HeldBack, Submission


class Condition(TextChoices):
    """What keeps an Account from new work; checked in this order, the first that holds is told."""

    DISABLED = "disabled", "switched off"
    REFUSED = "refused", "the provider refuses its credentials"
    LOW_BALANCE = "low_balance", "its balance is below its floor"
    EXHAUSTED = "exhausted", "no balance left at the provider"
    DAILY_CAP = "daily_cap", "its cap for today is reached"
    COOLING_DOWN = "cooling_down", "cooling down"
    USABLE = "usable", "usable"


COMING_BACK = frozenset({Condition.COOLING_DOWN, Condition.EXHAUSTED, Condition.DAILY_CAP})
"""An Account in one of these is tried again by itself, where it says until when."""


@dataclass(frozen=True, slots=True)
class Standing:
    """An Account as the claim sees it now (by the database's clock). ``until``: when it comes back by itself."""

    id: UUID
    provider_id: str
    label: str
    owner_id: int | None
    limit: int
    held: int
    condition: Condition
    until: datetime | None
    balance: Decimal | None
    balance_floor: Decimal
    daily_cap: int | None
    used_today: int | None
    """Of the daily cap; None without one."""
    last_used_at: datetime | None
    held_back: bool
    """Nothing is sent anywhere at present, because results cannot be kept up with (see ``HeldBack``)."""
    refused: Mapping[UUID, str] = field(default_factory=dict)
    """Which of the Generations in question it has refused, with the code."""

    @property
    def usable(self) -> bool:
        """Whether it may be given work at all, were a slot free."""
        return self.condition == Condition.USABLE

    @property
    def probing(self) -> bool:
        """Exhausted, and due for another try: it is given one at a time."""
        return self.usable and self.until is not None

    @property
    def comes_back(self) -> bool:
        """Whether it is given work again by itself, at ``until``."""
        return self.condition in COMING_BACK and self.until is not None

    @property
    def left_today(self) -> int | None:
        """What is left of its daily cap; None without one."""
        return None if self.daily_cap is None else max(0, self.daily_cap - (self.used_today or 0))

    @property
    def free(self) -> int:
        """Slots that a claim would find now."""
        if not self.usable:
            return 0
        if self.probing:
            return 0 if self.held else 1
        free = max(0, self.limit - self.held)
        return free if self.left_today is None else min(free, self.left_today)

    def belongs_to(self, generation: Generation) -> bool:
        """Whether it may serve this Generation by provider, owner and pin (it may have refused it)."""
        return (
            self.provider_id == generation.provider_id
            and self.owner_id in {None, generation.user_id}
            and generation.account_id in {None, self.id}
        )

    def serves(self, generation: Generation) -> bool:
        """Whether it may be offered this Generation, now or later."""
        return self.belongs_to(generation) and generation.pk not in self.refused

    def why_not(self, generation: Generation | None = None) -> str | None:
        """A sentence for people why it can't take work (of this Generation) now; None: it can."""
        if generation is not None and generation.pk in self.refused:
            return f"it refused this one ({self.refused[generation.pk]}) and is not asked again"
        if self.condition == Condition.LOW_BALANCE:
            return f"its balance of {self.balance:f} is below its floor of {self.balance_floor:f}"
        if self.condition == Condition.DAILY_CAP:
            return f"its cap of {self.daily_cap:,} for today (UTC) is reached"
        if not self.usable:
            return str(self.condition.label)
        if self.free:
            return None
        if self.probing:
            return "one attempt tests whether it has balance again"
        if self.held > self.limit:
            return f"{self.held} are in use, and the limit is {self.limit} now"
        return f"all {self.limit} slots are in use" if self.limit > 1 else "its only slot is in use"


def standings(
    *, providers: Collection[str] | None = None, users: Collection[int] = (), generations: Iterable[Generation] = ()
) -> list[Standing]:
    """How Accounts stand, in one query. Ordered by provider, then as they are preferred.

    Args:
        providers: only theirs; None for all.
        users: shared Accounts and those of these users; empty for everyone's.
        generations: whose refusals are read too.
    """
    ids = [generation.pk for generation in generations]
    rows = Account.objects.all() if providers is None else Account.objects.filter(provider_id__in=providers)
    if users:
        rows = rows.filter(Q(owner=None) | Q(owner_id__in=users))
    found = _annotated(rows, ids).order_by("provider_id", F("owner").asc(nulls_last=True), "-priority", "label")
    return [_standing(row) for row in found.values(*FIELDS)]


FIELDS = (
    *("id", "provider_id", "label", "owner_id", "limit", "held", "condition", "until"),
    *("balance", "balance_floor", "daily_cap", "used_today", "tomorrow", "last_used_at", "held_back", "refusals"),
)


def _annotated(rows: QuerySet[Account], generation_ids: list[UUID]) -> QuerySet[Account]:
    held = Submission.objects.holding_slot().filter(account=OuterRef("pk")).order_by().values("account")
    refusals = AccountExclusion.objects.filter(account=OuterRef("pk"), generation__in=generation_ids)
    return rows.annotate(
        held=Coalesce(Subquery(held.annotate(number=Count("*")).values("number")), 0),
        held_back=Exists(HeldBack.objects.active()),
        refusals=ArraySubquery(
            refusals.values(json=JSONObject(generation=Cast("generation_id", CharField()), code="code"))
        ),
        used_today=used_today(),
        tomorrow=Tomorrow(),
        condition=Case(
            When(enabled=False, then=Value(Condition.DISABLED.value)),
            When(out_of_rotation_at__isnull=False, then=Value(Condition.REFUSED.value)),
            # It may be noted as exhausted too, but only a top-up brings it back.
            When(balance__lt=F("balance_floor"), then=Value(Condition.LOW_BALANCE.value)),
            When(
                Q(exhausted_at__isnull=False) & (Q(probe_at=None) | Q(probe_at__gt=Now())),
                then=Value(Condition.EXHAUSTED.value),
            ),
            When(cooldown_until__gt=Now(), then=Value(Condition.COOLING_DOWN.value)),
            default=Value(Condition.USABLE.value),
        ),
        # Of an exhausted one, when it is tried again (also when that has come: then it is a probe).
        until=Case(
            When(balance__lt=F("balance_floor"), then=None),
            When(exhausted_at__isnull=False, then=_latest(F("probe_at"), _if_future("cooldown_until"))),
            When(cooldown_until__gt=Now(), then=F("cooldown_until")),
        ),
    )


def _if_future(name: str) -> Case:
    return Case(When(**{f"{name}__gt": Now()}, then=F(name)))


def _latest(*expressions: Any) -> Func:
    return Func(*expressions, function="GREATEST")


def _standing(row: dict[str, Any]) -> Standing:
    refusals, tomorrow = row.pop("refusals"), row.pop("tomorrow")
    condition, until = Condition(row.pop("condition")), row.pop("until")
    # Here and not in SQL, where each mention of what was used would count it anew.
    used_up = row["used_today"] is not None and row["used_today"] >= row["daily_cap"]
    if used_up and condition in {Condition.USABLE, Condition.COOLING_DOWN}:
        condition, until = Condition.DAILY_CAP, max(until or tomorrow, tomorrow)
    return Standing(
        **row,
        condition=condition,
        until=until,
        refused={UUID(refusal["generation"]): refusal["code"] for refusal in refusals or ()},
    )
