"""What errors mean for an Account, and how its credentials and balance are looked at again."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from uuid import UUID

import structlog
from django.db.models import F, Q, Value
from django.db.models.functions import Greatest, Now

from accounts.encryption import UndecryptableCredentials
from accounts.models import Account
from generations.conf import limits, seconds
from generations.execution.verdicts import AccountEffect, Verdict
from generations.execution.waves import Wave
from generations.models import Incident
from providers import registry
from providers.errors import AuthFailed, ProviderError
from providers.transport import Endpoint, converse

MOST_BALANCE = Decimal(10) ** 10 - 1
"""Account.balance has ten digits before the point; who has more has enough."""
CHECK_SECONDS = 60
"""While its credentials or balance are looked at, an account gets no new work for at most this long."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectionTest:
    """What a look at an account found; ``message`` is for people."""

    ok: bool
    message: str
    balance: Decimal | None = None


def endpoint(account: Account) -> Endpoint:
    """Where this account's calls go."""
    return Endpoint(base_url=account.base_url, allow_private=account.allow_private_base_url)


def take_effect(account: Account, verdict: Verdict) -> None:
    """Do to the Account what a verdict asks for, inside the caller's transaction."""
    row = Account.objects.filter(pk=account.pk)
    match verdict.effect:
        case AccountEffect.COOL_DOWN:
            row.update(cooldown_until=Greatest(F("cooldown_until"), Now() + Value(seconds(verdict.cool_down))))
        case AccountEffect.CHECK_CREDENTIALS | AccountEffect.CHECK_BALANCE:
            if registry.get(account.provider_id).has_balance:
                row.update(
                    cooldown_until=Greatest(F("cooldown_until"), Now() + Value(seconds(CHECK_SECONDS))), probe_at=Now()
                )
            elif verdict.effect == AccountEffect.CHECK_BALANCE:
                row.update(exhausted_at=Now(), probe_at=Now() + Value(seconds(limits().probe_after)))
            else:
                _refused(account, "The provider refused its credentials at a submit.")
        case AccountEffect.NONE:
            pass


def look_again(account: Account, error: ProviderError) -> None:
    """A call that bills nobody was refused for the account's sake: its next look is now, or a person is told."""
    if registry.get(account.provider_id).has_balance:
        Account.objects.filter(pk=account.pk).update(probe_at=Now())
    elif not Incident.objects.filter(kind=Incident.Kind.ACCOUNT_REFUSED, account=account, seen_at=None).exists():
        Incident.objects.create(kind=Incident.Kind.ACCOUNT_REFUSED, account=account, detail=error.detail)


def _refused(account: Account, detail: str) -> None:
    """Out of rotation; told once."""
    if Account.objects.filter(pk=account.pk, out_of_rotation_at=None).update(out_of_rotation_at=Now()):
        Incident.objects.create(kind=Incident.Kind.ACCOUNT_REFUSED, account=account, detail=detail)


def test_connection(account: Account) -> ConnectionTest:
    """Ask the provider for the balance: do the address and the credentials work? Changes nothing."""
    provider = registry.get(account.provider_id)
    if not provider.has_balance:
        return ConnectionTest(
            ok=True, message=f"{provider.title} has no call that tests credentials without costing anything."
        )
    try:
        balance = _ask_balance(account)
    except UndecryptableCredentials as error:
        return ConnectionTest(ok=False, message=str(error))
    except ProviderError as error:
        return ConnectionTest(ok=False, message=f"{provider.title} answered: {error.detail}")
    return ConnectionTest(
        ok=True, message=f"It works. Balance: {balance.normalize():f} {provider.balance_unit}.", balance=balance
    )


def refresh_balance(account: Account) -> ConnectionTest:
    """Ask for the balance and draw the conclusions: exhausted or not, in rotation or not.

    A refusal of the credentials takes the account out of rotation, with an Incident; they are tried again later. An
    answer that says nothing (the provider is down) changes nothing but the time of the next look.
    """
    try:
        return _conclude(account, _ask_balance(account))
    except (ProviderError, UndecryptableCredentials) as error:
        return _conclude(account, error)


def refresh_balances(accounts: Iterable[Account]) -> Iterator[tuple[Account, ConnectionTest]]:
    """The same for many, side by side: one provider that hangs holds up no other's."""
    wave: Wave[Account, Decimal] = Wave()
    for account in accounts:
        wave.start(account, partial(_ask_balance, account))
    while wave:
        for account, found in wave.arrived(timeout=limits().poll_timeout * 2):
            yield account, _conclude(account, found)


def _conclude(account: Account, found: Decimal | Exception) -> ConnectionTest:
    row = Account.objects.filter(pk=account.pk)
    if isinstance(found, AuthFailed | UndecryptableCredentials):
        row.update(probe_at=Now() + Value(seconds(limits().probe_after)))
        _refused(account, str(found))
        return ConnectionTest(ok=False, message=str(found))
    if isinstance(found, Exception):
        row.update(probe_at=Now() + Value(seconds(CHECK_SECONDS)))
        said = found.detail if isinstance(found, ProviderError) else type(found).__name__
        log.warning("balance_unknown", account=str(account.pk), provider=account.provider_id, error=said)
        return ConnectionTest(ok=False, message=said)
    balance = min(found, MOST_BALANCE)
    row.update(balance=balance, balance_checked_at=Now(), out_of_rotation_at=None)
    if balance > 0 and balance >= account.balance_floor:
        row.filter(probe_at__isnull=False).update(cooldown_until=None)
        row.update(exhausted_at=None, probe_at=None)
    else:
        row.update(exhausted_at=Now(), probe_at=Now() + Value(seconds(limits().probe_after)), cooldown_until=None)
    return ConnectionTest(ok=True, message="The balance was refreshed.", balance=balance)


def due_for_refresh() -> list[UUID]:
    """Accounts that must be looked at now, and those in use whose balance is old."""
    stale = Now() - Value(seconds(limits().balance_max_age))
    due = Q(probe_at__lte=Now()) | Q(last_used_at__gt=stale) & (
        Q(balance_checked_at=None) | Q(balance_checked_at__lte=stale)
    )
    able = [provider.slug for provider in registry.all() if provider.has_balance]
    return list(Account.objects.filter(due, enabled=True, provider_id__in=able).values_list("pk", flat=True)[:100])


def _ask_balance(account: Account) -> Decimal:
    provider = registry.get(account.provider_id)
    story = provider.balance(account.credentials, lambda: str(uuid.uuid4()))
    balance, _ = converse(story, endpoint(account), request_id=str(uuid.uuid4()), total_timeout=limits().poll_timeout)
    return balance


def refresh_due() -> None:
    """Look at all accounts that are due."""
    for account, test in refresh_balances(Account.objects.filter(pk__in=due_for_refresh())):
        log.debug("balance_refreshed", account=str(account.pk), ok=test.ok)
