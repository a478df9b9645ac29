"""An account's credentials and balance are looked at again when there is doubt, and only then believed."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Account
from generations.execution import accounts
from generations.execution.verdicts import AccountEffect, Verdict
from tests.factories import AccountFactory
from tests.generations.execution.studio import Studio

pytestmark = pytest.mark.django_db

LONG_AGO = timezone.now() - timedelta(days=1)


def now(account: Account) -> Account:
    account.refresh_from_db()
    return account


@pytest.mark.parametrize("provider_id", ["modelslab", "pixverse"])
def test_tells_that_the_connection_works(studio: Studio, provider_id: str) -> None:
    found = accounts.test_connection(studio.account(provider_id))
    assert found.ok
    assert found.balance is not None
    assert found.balance > 0


def test_tells_that_the_credentials_are_refused_without_changing_anything(studio: Studio) -> None:
    account = studio.account(key="nobody")
    found = accounts.test_connection(account)
    assert (found.ok, found.balance) == (False, None)
    assert account.credentials["api_key"] not in found.message
    assert now(account).out_of_rotation_at is None


def test_tells_that_nobody_answers() -> None:
    assert not accounts.test_connection(AccountFactory.create(base_url="http://127.0.0.1:9")).ok


def test_tells_that_the_credentials_cannot_be_read() -> None:
    account = AccountFactory.create()
    Account.objects.filter(pk=account.pk).update(credentials_encrypted=b"not ours")
    assert "decrypted" in accounts.test_connection(now(account)).message


def test_puts_an_account_back_that_has_credits_again(studio: Studio) -> None:
    account = studio.account(exhausted_at=LONG_AGO, probe_at=LONG_AGO, cooldown_until=timezone.now() + timedelta(1))
    assert accounts.refresh_balance(account).ok
    assert (now(account).exhausted_at, account.probe_at, account.cooldown_until) == (None, None, None)
    assert account.balance_checked_at is not None


@pytest.mark.parametrize(("balance", "floor", "exhausted"), [(0, 0, True), (5, 10, True), (10, 10, False)])
def test_judges_by_the_balance_and_its_floor(studio: Studio, balance: float, floor: int, exhausted: bool) -> None:
    account = studio.account(balance_floor=floor)
    studio.sandbox.set_key("modelslab", account.credentials["api_key"], balance=balance)
    accounts.refresh_balance(account)
    assert (now(account).exhausted_at is not None) == exhausted
    assert account.balance == Decimal(balance)
    assert (account.probe_at is not None) == exhausted


def test_takes_an_account_out_once_and_puts_it_back_when_it_is_accepted_again(studio: Studio) -> None:
    account = studio.account(key="nobody")
    for _ in range(2):
        accounts.refresh_balance(account)
    assert now(account).out_of_rotation_at is not None
    assert account.incidents.count() == 1
    studio.sandbox.set_key("modelslab", account.credentials["api_key"])
    accounts.refresh_balance(account)
    assert now(account).out_of_rotation_at is None


def test_concludes_nothing_from_silence() -> None:
    account = AccountFactory.create(base_url="http://127.0.0.1:9")
    assert not accounts.refresh_balance(account).ok
    assert (now(account).out_of_rotation_at, account.exhausted_at) == (None, None)
    assert account.probe_at is not None
    assert account.probe_at > timezone.now()


def test_cools_down_and_never_shortens_a_cooldown() -> None:
    account = AccountFactory.create()
    accounts.take_effect(account, Verdict(0, effect=AccountEffect.COOL_DOWN, cool_down=100))
    first = now(account).cooldown_until
    accounts.take_effect(account, Verdict(0, effect=AccountEffect.COOL_DOWN, cool_down=10))
    assert first is not None
    assert now(account).cooldown_until == first


@pytest.mark.parametrize("effect", [AccountEffect.CHECK_BALANCE, AccountEffect.CHECK_CREDENTIALS])
def test_gives_an_account_in_doubt_no_new_work_until_it_was_looked_at(studio: Studio, effect: AccountEffect) -> None:
    account = studio.account()
    accounts.take_effect(account, Verdict(0, effect=effect))
    assert not Account.objects.usable().exists()
    assert accounts.due_for_refresh() == [account.pk]
    accounts.refresh_due()
    assert Account.objects.usable().get() == account
    assert accounts.due_for_refresh() == []


def test_does_nothing_to_an_account_without_need() -> None:
    account = AccountFactory.create()
    accounts.take_effect(account, Verdict(delay=None))
    assert now(account).cooldown_until is None


@pytest.mark.parametrize(
    ("fields", "due"),
    [
        ({}, False),
        ({"last_used_at": "now"}, True),
        ({"last_used_at": "now", "balance_checked_at": "now"}, False),
        ({"last_used_at": "now", "balance_checked_at": LONG_AGO}, True),
        ({"last_used_at": LONG_AGO, "balance_checked_at": LONG_AGO}, False),
        ({"probe_at": LONG_AGO, "enabled": False}, False),
    ],
    ids=str,
)
def test_looks_at_those_in_use_whose_balance_is_old(fields: dict[str, Any], due: bool) -> None:
    times = {name: timezone.now() if value == "now" else value for name, value in fields.items()}
    account = AccountFactory.create(**times)
    assert (account.pk in accounts.due_for_refresh()) == due
