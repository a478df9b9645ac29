"""Prices, wallets, ledger and people in the console: it"""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from accounts.admin.credits import opened_now
from accounts.models import LedgerEntry, Price, Wallet
from tests.factories import PriceFactory, UserFactory, WalletFactory

GRANT = reverse("admin:accounts_wallet_grant")
PRICES = reverse("admin:accounts_price_changelist")


@pytest.fixture(autouse=True)
def _own_folder(settings: Settings, tmp_path: Path) -> None:
    settings.STATIC_ROOT = str(tmp_path)


@pytest.fixture
def boss(db: None) -> User:
    return UserFactory.create(is_staff=True, is_superuser=True)


@pytest.fixture
def console(boss: User) -> Client:
    client = Client()
    client.force_login(boss)
    return client


def form(user: User, amount: int, **fields: str) -> dict[str, str]:
    """The grant form as a person sends it."""
    return {
        "username": user.get_username(),
        "amount": str(amount),
        "reason": "invoice 7",
        "opened": opened_now(),
        **fields,
    }


def test_grants_credits_with_reason_and_actor(console: Client, boss: User) -> None:
    user = UserFactory.create()
    response = console.post(GRANT, form(user, 250), follow=True)
    assert "+250 credits" in response.content.decode()
    entry = LedgerEntry.objects.get(wallet=user.pk)
    assert (entry.kind, entry.available_change, entry.reason) == ("grant", 250, "invoice 7")
    assert entry.actor == f"admin:{boss.pk}"
    assert Wallet.objects.get(user=user).available == 250


def test_moves_credits_once_for_a_form_sent_twice(console: Client) -> None:
    user = UserFactory.create()
    sent = form(user, 250)
    console.post(GRANT, sent)
    assert "credits moved once" in console.post(GRANT, sent, follow=True).content.decode()
    assert Wallet.objects.get(user=user).available == 250
    # A new form with the same words is meant.
    console.post(GRANT, form(user, 250))
    assert Wallet.objects.get(user=user).available == 500


def test_takes_credits_as_an_adjustment_and_never_below_zero(console: Client) -> None:
    wallet = WalletFactory.create(available=100)
    assert console.post(GRANT, form(wallet.user, -40)).status_code == 302
    refused = console.post(GRANT, form(wallet.user, -100))
    assert "only 60 available" in refused.content.decode()
    wallet.refresh_from_db()
    assert wallet.available == 60
    assert wallet.entries.order_by("-pk")[0].kind == LedgerEntry.Kind.ADJUSTMENT


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": "0"},
        {"amount": "1e3"},
        {"amount": "9" * 30},
        {"reason": ""},
        {"username": "nobody"},
        {"opened": "x:y"},
    ],
)
def test_refuses_a_grant_that_makes_no_sense(console: Client, wrong: dict[str, str]) -> None:
    user = UserFactory.create()
    assert console.post(GRANT, {**form(user, 5), **wrong}).status_code == 200
    assert not LedgerEntry.objects.exists()


def test_lets_nobody_grant_without_the_permission(db: None) -> None:
    looker = UserFactory.create(is_staff=True)
    looker.user_permissions.set(Permission.objects.filter(codename="view_wallet"))
    client = Client()
    client.force_login(looker)
    assert client.get(reverse("admin:accounts_wallet_changelist")).status_code == 200
    assert client.post(GRANT, form(looker, 5)).status_code == 403
    assert not LedgerEntry.objects.exists()


def test_keeps_wallets_and_ledger_read_only(console: Client) -> None:
    wallet = WalletFactory.create()
    entry = wallet.entries.get()
    for name, pk in (("wallet", wallet.pk), ("ledgerentry", entry.pk)):
        assert console.get(reverse(f"admin:accounts_{name}_add")).status_code == 403
        assert console.post(reverse(f"admin:accounts_{name}_delete", args=[pk]), {"post": "yes"}).status_code == 403
        url = reverse(f"admin:accounts_{name}_change", args=[pk])
        assert console.get(url).status_code == 200
        assert console.post(url, {"available": "9999", "available_change": "9999"}).status_code == 403
    wallet.refresh_from_db()
    assert wallet.available == 100


def test_finds_ledger_entries_by_user_and_by_generation(console: Client) -> None:
    mine, _other = WalletFactory.create(), WalletFactory.create()
    url = reverse("admin:accounts_ledgerentry_changelist")
    found = console.get(url, {"wallet__user__pk__exact": mine.pk}).context["cl"].result_list
    assert [entry.wallet_id for entry in found] == [mine.pk]
    assert console.get(url, {"q": "no id"}).context["cl"].result_list == []


def test_edits_prices_for_what_providers_offer(console: Client) -> None:
    add = reverse("admin:accounts_price_add")
    fields = {"provider_id": "pixverse", "operation_type": "text_to_video", "model": "", "credits": "45"}
    assert console.post(add, fields).status_code == 302
    price = Price.objects.get()
    assert price.credits == 45
    refused = console.post(add, {**fields, "operation_type": "text_to_image"})
    assert "does not do this" in refused.content.decode()
    assert console.post(add, {**fields, "provider_id": "nonsense"}).status_code == 200
    twice = console.post(add, fields)
    assert twice.status_code == 200
    assert Price.objects.count() == 1
    change = reverse("admin:accounts_price_change", args=[price.pk])
    assert console.post(change, {**fields, "credits": "50"}).status_code == 302
    price.refresh_from_db()
    assert price.credits == 50
    assert "any other" in console.get(PRICES).content.decode()


def test_shows_a_price_of_a_provider_that_is_gone(console: Client) -> None:
    PriceFactory.create(provider_id="closed")
    assert "closed" in console.get(PRICES).content.decode()


def test_shows_an_api_token_once(console: Client, boss: User) -> None:
    response = console.post(reverse("admin:knox_authtoken_add"), {"user": boss.pk}, follow=True)
    assert "TOKEN" in response.content.decode()
    assert "TOKEN " not in console.get(reverse("admin:knox_authtoken_changelist")).content.decode()
