"""The daily comparison of balances, by API."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import Account, BalanceReading
from tests.factories import AccountFactory, UserFactory
from tests.generations.api.conftest import ClientOf
from tests.generations.api.helpers import assert_problem

pytestmark = pytest.mark.django_db
BALANCES = "/api/v1/balances"


@pytest.fixture
def operator(client_of: ClientOf) -> APIClient:
    return client_of(UserFactory.create(is_staff=True, is_superuser=True))


def reading(account: Account, days_ago: int = 0, **fields: object) -> BalanceReading:
    at = timezone.now() - timedelta(days=days_ago)
    given = {"balance": Decimal(800), "settled_at": at, **fields}
    made: BalanceReading = BalanceReading.objects.create(account=account, day=at.date(), **given)
    return made


def test_tells_what_was_expected_and_what_is_missing(operator: APIClient) -> None:
    account = AccountFactory.create(label="main")
    reading(
        account,
        expected=Decimal(955),
        drift=Decimal(-155),
        tolerated=Decimal("0.9"),
        spent=Decimal(45),
        attempts=1,
    )

    [told] = operator.get(BALANCES).json()["results"]

    assert told == {
        "account": str(account.pk),
        "provider_id": "pixverse",
        "label": "main",
        "unit": "credits",
        "day": str(timezone.now().date()),
        "balance": "800",
        "expected": "955",
        "drift": "-155",
        "tolerated": "0.9",
        "spent": "45",
        "failed": "0",
        "attempts": 1,
        "unpriced": 0,
        "final": True,
        "text": "Less than its attempts explain: an incident was opened.",
    }


def test_pages_newest_first_and_of_one_account(operator: APIClient) -> None:
    account, other = AccountFactory.create(), AccountFactory.create()
    for days_ago in (2, 1, 0):
        reading(account, days_ago, balance=Decimal(days_ago))
    reading(other)

    first = operator.get(f"{BALANCES}?account={account.pk}&limit=2").json()
    rest = operator.get(first["next"]).json()

    assert [row["balance"] for row in first["results"] + rest["results"]] == ["0", "1", "2"]
    assert rest["next"] is None
    assert len(operator.get(BALANCES).json()["results"]) == 4
    assert_problem(operator.get(f"{BALANCES}?account=x"), 400, "invalid_parameter")


def test_is_for_operators(api: APIClient, client_of: ClientOf) -> None:
    assert_problem(api.get(BALANCES), 403, "permission_denied")
    assert_problem(client_of(UserFactory.create(is_staff=True)).get(BALANCES), 403, "permission_denied")


def test_is_measured(client_of: ClientOf) -> None:
    reading(AccountFactory.create(label="main"), drift=Decimal("-1.5"))

    text = client_of(UserFactory.create(is_staff=True)).get("/metrics").content.decode()

    assert 'darkroom_account_balance_drift{account="main",provider="pixverse"} -1.5' in text
