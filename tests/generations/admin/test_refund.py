"""Refunds in the console: it"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import LedgerEntry, Wallet
from generations.models import Event, Generation
from tests.factories import GenerationFactory, completed_generation, paid_generation

LEDGER = reverse("admin:accounts_ledgerentry_changelist")


def page_of(generation: Generation, name: str = "refund") -> str:
    return reverse(f"admin:generations_generation_{name}", args=[generation.pk])


def give_back(client: Client, generation: Generation, **fields: Any) -> Any:
    """Press the button."""
    return client.post(page_of(generation), {"amount": "30", "reason": "it is ugly", **fields}, follow=True)


def available(generation: Generation) -> int:
    return Wallet.objects.get(user=generation.user_id).available


def test_says_what_will_happen_and_asks_why(console: Client) -> None:
    made = paid_generation(price=30)
    page = console.get(page_of(made))
    assert page.context["form"]["amount"].value() == 30
    text = page.content.decode()
    assert "<strong>30 credits</strong>; 70 are available now" in text
    assert "data-once" in text
    assert available(made) == 70, "looking changes nothing"


def test_gives_back_what_it_has_cost(console: Client, admin: User) -> None:
    made = paid_generation(price=30)
    page = give_back(console, made)
    assert "30 credits were given back." in page.content.decode()
    entry = LedgerEntry.objects.get(kind=LedgerEntry.Kind.REFUND)
    assert (entry.available_change, entry.reason, entry.actor) == (30, "it is ugly", f"admin:{admin.pk}")
    assert made.events.get(kind=Event.Kind.REFUNDED).actor == f"admin:{admin.pk}"
    shown = console.get(page_of(made, "change")).content.decode()
    assert "An operator gave back what it had cost (it is ugly)." in shown
    assert "30 of its 30 credits were given back" in shown


def test_refunds_once_for_two_clicks(console: Client) -> None:
    made = paid_generation(price=30)
    give_back(console, made, amount="10")
    again = give_back(console, made, amount="10").content.decode()
    assert "10 credits were given back for it already" in again
    assert available(made) == 80
    assert LedgerEntry.objects.filter(kind=LedgerEntry.Kind.REFUND).count() == 1
    page = console.get(page_of(made)).content.decode()
    assert "It was refunded." in page
    assert "data-once" not in page


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"amount": "31"}, "Give back 1 to 30"),
        ({"amount": "0"}, "Give back 1 to 30"),
        ({"amount": "x"}, "whole number"),
        ({"reason": " "}, "required"),
    ],
)
def test_says_what_is_wrong_with_the_form(wrong: dict[str, str], words: str, console: Client) -> None:
    made = paid_generation(price=30)
    assert words in give_back(console, made, **wrong).content.decode()
    assert available(made) == 70


@pytest.mark.parametrize("made", [completed_generation, lambda: GenerationFactory.create(status="failed", price=5)])
def test_offers_nothing_where_nothing_was_spent(made: Callable[[], Generation], console: Client) -> None:
    generation = made()
    assert "../refund/" not in console.get(page_of(generation, "change")).content.decode()
    page = console.get(page_of(generation)).content.decode()
    assert "Nothing can be given back." in page
    assert "data-once" not in page
    give_back(console, generation)
    assert not LedgerEntry.objects.filter(kind=LedgerEntry.Kind.REFUND).exists()


def test_offers_it_on_the_page_once_and_to_who_may_change_wallets(
    console: Client, staff: Callable[..., Client]
) -> None:
    made = paid_generation(price=30)
    assert "../refund/" in console.get(page_of(made, "change")).content.decode()
    retrier = staff("view_generation", "change_generation")
    assert "../refund/" not in retrier.get(page_of(made, "change")).content.decode()
    assert retrier.post(page_of(made), {"amount": "30", "reason": "r"}).status_code == 403
    treasurer = staff("view_generation", "change_wallet")
    assert "../refund/" in treasurer.get(page_of(made, "change")).content.decode()
    assert treasurer.post(page_of(made), {"amount": "30", "reason": "r"}).status_code == 302
    assert available(made) == 100
    assert "../refund/" not in console.get(page_of(made, "change")).content.decode()


def test_leads_there_from_the_ledger(console: Client, staff: Callable[..., Client]) -> None:
    made = paid_generation(price=30)
    console.get(LEDGER)
    with CaptureQueriesContext(connection) as few:
        page = console.get(LEDGER).content.decode()
    assert f"{made.pk}/refund/" in page
    other = paid_generation(price=7)
    give_back(console, made)
    with CaptureQueriesContext(connection) as many:
        page = console.get(LEDGER).content.decode()
    assert len(many) == len(few)
    assert f"{made.pk}/refund/" not in page
    assert f"{other.pk}/refund/" in page
    assert "it is ugly" in page
    assert "/refund/" not in staff("view_ledgerentry").get(LEDGER).content.decode()


def test_wants_the_csrf_token(admin: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin)
    made = paid_generation(price=30)
    assert client.post(page_of(made), {"amount": "30", "reason": "r"}).status_code == 403
    assert available(made) == 70
