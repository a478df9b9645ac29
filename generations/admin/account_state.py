"""How an Account stands, in words and with its slots, in a constant number of queries for any number of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Count, QuerySet
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.admin.words import NOTHING, ago, amount, span
from accounts.models import Account
from generations.admin.history import IS_OPEN
from generations.execution import caps
from generations.models import Submission


@dataclass(frozen=True, slots=True)
class Standing:
    """``word`` with its ``tone`` for a label, ``detail`` a sentence for people."""

    word: str
    tone: str
    detail: str


def standing(account: Account, now: datetime, used_today: int | None = None) -> Standing:
    """Whether the account is given work now, and if not, why and until when. ``used_today``: of its daily cap."""
    if not account.enabled:
        return Standing("off", "plain", "Switched off: it gets no new work; what is in flight goes on being followed.")
    if account.out_of_rotation_at:
        return Standing(
            "refused by provider",
            "bad",
            f"The provider has refused its credentials for {span(now - account.out_of_rotation_at)}. "
            "Correct them, test the connection, then put it back into rotation.",
        )
    if account.balance is not None and account.balance < account.balance_floor:
        return Standing(
            "below its floor",
            "warn",
            f"It has {amount(account.balance)} left and is kept at {amount(account.balance_floor)} or more. "
            "It gets new work when it is topped up or the floor is lowered.",
        )
    if account.exhausted_at:
        if account.probe_at and account.probe_at <= now:
            return Standing("being tried again", "warn", "It was exhausted; one attempt at a time tests whether it is.")
        probe = f" It is tried again in {span(account.probe_at - now)}." if account.probe_at else ""
        return Standing(
            f"exhausted for {span(now - account.exhausted_at)}",
            "bad",
            f"The provider says that nothing is left.{probe} Top it up there, then refresh the balance.",
        )
    if account.daily_cap is not None and used_today is not None and used_today >= account.daily_cap:
        return Standing(
            "today's cap reached",
            "warn",
            f"{used_today:,} attempts of {account.daily_cap:,} a day are used. It goes on at midnight UTC, in "
            f"{span(caps.day_of(now)[1] - now)}.",
        )
    if account.cooldown_until and account.cooldown_until > now:
        return Standing(
            f"cooling down, {span(account.cooldown_until - now)} left",
            "warn",
            f"The provider asked for a pause until {account.cooldown_until:%H:%M:%S} UTC.",
        )
    return Standing("ready", "good", "It gets new work as soon as there is some.")


def slots_in_use(accounts: Iterable[Account]) -> dict[UUID, int]:
    """How many slots each of the accounts holds: its open Submissions. One query, from a partial index."""
    rows = (
        Submission.objects.holding_slot()
        .filter(account__in=[account.pk for account in accounts])
        .order_by()
        .values_list("account")
        .annotate(Count("pk"))
    )
    return dict(rows)


def used_today(accounts: Iterable[Account]) -> dict[UUID, int]:
    """How much each of these accounts has used of its daily cap; those without one are left out. One query."""
    capped = Account.objects.filter(pk__in=[account.pk for account in accounts], daily_cap__isnull=False)
    return dict(capped.annotate(used_today=caps.used_today()).values_list("pk", "used_today"))


def in_flight(account: Account, most: int = 50) -> QuerySet[Submission]:
    """The account's open attempts, oldest first."""
    return (
        Submission.objects.filter(IS_OPEN, account=account)
        .select_related("generation")
        .only(
            "number",
            "slot",
            "state",
            "sent_at",
            "created_at",
            "provider_job_id",
            "progress",
            "abandoned_at",
            "account_id",
            "generation__operation_type",
            "generation__params",
        )
        .order_by("created_at")[:most]
    )


def balance_words(account: Account) -> str:
    """``1,250 credits``, or a dash where nothing is known."""
    return NOTHING if account.balance is None else f"{amount(account.balance)} {account.balance_unit}".strip()


def balance_age(account: Account) -> SafeString | str:
    """How old the balance is."""
    if account.balance_checked_at is None:
        return "never checked"
    return format_html("checked {}", ago(account.balance_checked_at))
