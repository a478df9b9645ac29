"""Balances day by day in the console: it"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree as ET

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.models import Account, BalanceReading
from tests.factories import AccountFactory

LIST = reverse("admin:accounts_account_changelist")
READINGS = reverse("admin:accounts_balancereading_changelist")


def page_of(client: Client, account: Account) -> str:
    return client.get(reverse("admin:accounts_account_change", args=[account.pk])).content.decode()


def reading(account: Account, days_ago: int, balance: float, **fields: Any) -> None:
    at = timezone.now() - timedelta(days=days_ago)
    given = {name: Decimal(str(value)) for name, value in fields.items()}
    BalanceReading.objects.create(
        account=account,
        day=at.date(),
        balance=Decimal(str(balance)),
        settled_at=at,
        tolerated=given.pop("tolerated", 0),
        **given,
    )


def test_shows_an_accounts_days_as_a_table_and_a_picture(console: Client) -> None:
    account = AccountFactory.create()
    reading(account, 2, 1000)
    reading(account, 1, 955, expected=955, drift=0, spent=45)
    reading(account, 0, 800, expected=910, drift=-110, spent=45)
    page = page_of(console, account)
    assert "Balance day by day" in page
    assert "As expected." in page
    assert "Less than its attempts explain: an incident was opened." in page
    assert "−110" in page
    drawn = re.findall(r'<svg class="dr-chart".*?</svg>', page, re.DOTALL)
    picture = ET.fromstring(drawn[0])
    assert picture.get("aria-label", "").endswith("between 800 and 1,000")
    expected, actual = (line.get("points", "").split() for line in picture.findall("polyline"))
    assert (len(expected), len(actual)) == (2, 3)
    assert actual[0].endswith(",8.0"), "the highest is on top"
    assert actual[-1].endswith(",112.0"), "the lowest at the bottom"
    [dot] = picture.findall("circle")
    assert f"{dot.get('cx')},{dot.get('cy')}" == actual[-1], "on the day that is too low"


def test_shows_no_picture_of_one_day(console: Client) -> None:
    account = AccountFactory.create()
    reading(account, 0, 1000)
    page = page_of(console, account)
    assert "The first reading; there is nothing to compare it with." in page
    assert "<svg class" not in page


def test_draws_days_that_do_not_differ(console: Client) -> None:
    account = AccountFactory.create()
    for days_ago in (1, 0):
        reading(account, days_ago, 1000, expected=1000, drift=0)
    assert '<svg class="dr-chart"' in page_of(console, account)


def test_shows_the_last_thirty_days(console: Client) -> None:
    account = AccountFactory.create()
    for days_ago in range(35):
        reading(account, days_ago, 1000 + days_ago, expected=1000, drift=0)
    page = page_of(console, account)
    assert "1,029" in page
    assert "1,030" not in page


def test_says_when_nothing_was_read_yet(console: Client) -> None:
    assert "there is no reading yet" in page_of(console, AccountFactory.create())


def test_lists_the_last_drift_of_each_account_in_a_constant_number_of_queries(console: Client) -> None:
    first = AccountFactory.create(balance=Decimal(800), balance_checked_at=timezone.now())
    reading(first, 1, 900, expected=900, drift=5)
    reading(first, 0, 800, expected=910, drift=-110)
    console.get(LIST)
    with CaptureQueriesContext(connection) as few:
        page = console.get(LIST).content.decode()
    assert "−110" in page
    assert "+5" not in page
    reading(AccountFactory.create(), 0, 10, expected=3, drift=7)
    with CaptureQueriesContext(connection) as many:
        assert "+7" in console.get(LIST).content.decode()
    assert len(many) == len(few)


def test_lists_all_readings(console: Client) -> None:
    account = AccountFactory.create(label="main")
    reading(account, 0, 800, expected=910, drift=-110)
    page = console.get(READINGS).content.decode()
    assert "pixverse/main" in page
    assert "−110" in page
    assert console.get(READINGS, {"account__id__exact": str(account.pk)}).status_code == 200
