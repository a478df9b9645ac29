"""Who may see what: tokens, and owners."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.utils import timezone
from knox.models import AuthToken
from pytest_django import DjangoAssertNumQueries
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from generations.api.throttling import Bucket, parse_rate
from generations.models import Generation
from tests.factories import AssetFactory, GenerationFactory, UserFactory, WalletFactory
from tests.generations.api.helpers import GENERATIONS, assert_problem

PRIVATE = [
    ("get", GENERATIONS),
    ("post", GENERATIONS),
    ("post", f"{GENERATIONS}/quote"),
    ("get", f"{GENERATIONS}/01a207cd-0168-7661-8dc1-15d46e9a95ba"),
    ("post", f"{GENERATIONS}/01a207cd-0168-7661-8dc1-15d46e9a95ba/cancel"),
    ("post", f"{GENERATIONS}/01a207cd-0168-7661-8dc1-15d46e9a95ba/retry"),
    ("get", f"{GENERATIONS}/01a207cd-0168-7661-8dc1-15d46e9a95ba/timeline"),
    ("get", "/api/v1/assets"),
    ("post", "/api/v1/assets"),
    ("get", "/api/v1/assets/01a207cd-0168-7661-8dc1-15d46e9a95ba"),
    ("get", "/api/v1/providers"),
    ("get", "/api/v1/library"),
    ("post", "/api/v1/library"),
    ("post", "/api/v1/library/upload"),
    ("patch", "/api/v1/library/1"),
    ("put", "/api/v1/library/1/favourite"),
    ("get", "/api/v1/library/1/download"),
    ("get", "/api/v1/prompts"),
    ("post", "/api/v1/prompts"),
    ("get", "/api/v1/prompts/compare"),
    ("get", "/api/v1/prompts/versions/01a207cd-0168-7661-8dc1-15d46e9a95ba/generations"),
    ("get", "/api/v1/credits"),
    ("get", "/api/v1/credits/ledger"),
    ("get", "/api/v1/balances"),
    ("get", "/api/v1/dead-letters"),
    ("get", "/api/v1/dead-letters/generations"),
    ("post", "/api/v1/dead-letters/replay"),
    ("post", "/api/v1/dead-letters/dismiss"),
    ("post", "/api/v1/dead-letters/restore"),
    ("get", "/api/v1/wallets"),
    ("get", "/api/v1/wallets/ann"),
    ("get", "/api/v1/wallets/ann/ledger"),
    ("post", "/api/v1/wallets/ann/ledger"),
    ("post", f"{GENERATIONS}/01a207cd-0168-7661-8dc1-15d46e9a95ba/refund"),
]
OF_ONE = ["", "/timeline", "/cancel", "/retry"]


def expired(user: User) -> str:
    return f"Bearer {AuthToken.objects.create(user, expiry=timedelta(seconds=-1))[1]}"


def revoked(user: User) -> str:
    instance, token = AuthToken.objects.create(user)
    instance.delete()
    return f"Bearer {token}"


def of_inactive(user: User) -> str:
    User.objects.filter(pk=user.pk).update(is_active=False)
    return f"Bearer {AuthToken.objects.create(user)[1]}"


WRONG: dict[str, Callable[[User], str]] = {
    "wrong": lambda _: f"Bearer {'0' * 64}",
    "empty": lambda _: "Bearer ",
    "two": lambda _: "Bearer one two",
    "no text": lambda _: "Bearer \xff\xfe\x00" + "a" * 60,
    "very long": lambda _: "Bearer " + "a" * 60_000,
    "SQL": lambda _: "Bearer ' OR 1=1 -- aaaaaaaaaaaaaaaaaaaa",
    "expired": expired,
    "revoked": revoked,
    "of somebody who is not active": of_inactive,
}


@pytest.mark.parametrize(("method", "path"), PRIVATE)
def test_asks_for_a_token(method: str, path: str, db: None) -> None:
    reply = getattr(APIClient(), method)(path)

    assert_problem(reply, 401, "not_authenticated")
    assert reply.headers["WWW-Authenticate"] == 'Bearer realm="darkroom"'


@pytest.mark.parametrize("name", WRONG)
def test_refuses_a_bad_token(name: str, user: User) -> None:
    reply = APIClient().get(GENERATIONS, HTTP_AUTHORIZATION=WRONG[name](user))

    assert_problem(reply, 401, "invalid_token")
    assert reply.headers["WWW-Authenticate"] == 'Bearer realm="darkroom"'


def test_takes_a_token_until_it_expires(user: User) -> None:
    _, token = AuthToken.objects.create(user, expiry=timedelta(minutes=1))
    client = APIClient()

    assert client.get(GENERATIONS, HTTP_AUTHORIZATION=f"bearer {token}").status_code == 200
    AuthToken.objects.update(expiry=timezone.now())
    assert client.get(GENERATIONS, HTTP_AUTHORIZATION=f"Bearer {token}").status_code == 401


def test_knows_a_token_in_one_query(api: APIClient, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(3):  # the token, the wallet, the caps
        api.get("/api/v1/credits")


@pytest.mark.parametrize("path", OF_ONE)
@pytest.mark.parametrize("status", ["pending", "failed", "completed"])
def test_hides_somebody_elses_generation(path: str, status: str, api: APIClient) -> None:
    row = GenerationFactory.create(status=status)
    method = "get" if path in {"", "/timeline"} else "post"

    assert_problem(getattr(api, method)(f"{GENERATIONS}/{row.pk}{path}"), 404, "not_found")

    row.refresh_from_db()
    assert row.status == status
    assert Generation.objects.count() == 1


def test_hides_somebody_elses_asset(api: APIClient) -> None:
    asset = AssetFactory.create(role="input")

    assert_problem(api.get(f"/api/v1/assets/{asset.pk}"), 404, "not_found")


def test_lists_only_ones_own(api: APIClient) -> None:
    AssetFactory.create()  # with a Generation
    WalletFactory.create(user=UserFactory.create(), available=50)

    assert api.get(GENERATIONS).json()["results"] == []
    assert api.get("/api/v1/assets").json()["results"] == []
    assert api.get("/api/v1/credits/ledger").json()["results"] == []
    assert api.get("/api/v1/credits").json() == {"available": 0, "held": 0, "caps": []}


def test_hides_even_from_an_admin_what_is_not_his(db: None, client_of: Any) -> None:
    row = GenerationFactory.create()

    admin = client_of(UserFactory.create(is_staff=True, is_superuser=True))

    assert admin.get(f"{GENERATIONS}/{row.pk}").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "1",
        "'",
        "%27%20OR%201=1",
        "..%2f..%2fetc",
        "00000000-0000-0000-0000-00000000000",
        "01a207cd-0168-7661-8dc1-15d46e9a95ba",
        "01A207CD-0168-7661-8DC1-15D46E9A95BA",
        "%00",
    ],
)
def test_knows_no_generation_by_a_strange_id(path: str, api: APIClient) -> None:
    assert_problem(api.get(f"{GENERATIONS}/{path}"), 404, "not_found")


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v2/generations", "/hooks/", "/api/v1/generations/"])
def test_answers_an_unknown_address_with_a_problem(path: str, api: APIClient) -> None:
    assert_problem(api.get(path), 404, "not_found")


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_refuses_other_methods(method: str, api: APIClient) -> None:
    reply = getattr(api, method)(GENERATIONS, {}, format="json")

    assert_problem(reply, 405, "method_not_allowed")
    assert set(reply.headers["Allow"].split(", ")) >= {"GET", "POST"}


def test_slows_a_flood_down(api: APIClient, settings: Settings, client_of: Any) -> None:
    settings.API_RATE = "3/minute"

    assert [api.get("/api/v1/credits").status_code for _ in range(3)] == [200, 200, 200]
    reply = api.get("/api/v1/credits")

    assert_problem(reply, 429, "throttled")
    assert 1 <= int(reply.headers["Retry-After"]) <= 20
    assert client_of(UserFactory.create()).get("/api/v1/credits").status_code == 200


def test_slows_guessing_down_without_holding_up_right_tokens(api: APIClient, settings: Settings) -> None:
    settings.API_FAILED_LOGIN_RATE = "2/minute"
    guess: dict[str, Any] = {"HTTP_AUTHORIZATION": f"Bearer {'0' * 64}"}

    assert [APIClient().get(GENERATIONS, **guess).status_code for _ in range(3)] == [401, 401, 429]
    assert api.get(GENERATIONS).status_code == 200


def test_refills_the_bucket_evenly() -> None:
    bucket = Bucket(*parse_rate("2/second"))

    assert [bucket.take("a", 0.0), bucket.take("a", 0.0)] == [0, 0]
    assert bucket.take("a", 0.0) == pytest.approx(0.5)
    assert bucket.take("a", 0.5) == 0
    assert bucket.take("a", 0.5) == pytest.approx(0.5)
    assert bucket.take("b", 0.5) == 0


@pytest.mark.parametrize("text", ["", "0", "0/minute"])
def test_lets_everything_through_without_a_rate(text: str) -> None:
    bucket = Bucket(*parse_rate(text))

    assert not any(bucket.take("a", 0.0) for _ in range(10_000))


def test_says_what_a_rate_looks_like() -> None:
    with pytest.raises(ValueError, match="6000/minute"):
        parse_rate("10 per fortnight")


@pytest.mark.parametrize("module", ["authentication._user_of", "views.generations.request.accept"])
def test_says_503_when_the_database_is_lost(module: str, api: APIClient, body: dict[str, Any]) -> None:
    lost = OperationalError("the connection is closed")
    with patch(f"generations.api.{module}", side_effect=lost):
        reply = api.post(GENERATIONS, body, format="json")

    assert_problem(reply, 503, "database_unavailable")
    assert reply.headers["Retry-After"] == "5"
    assert not Generation.objects.exists()


def test_says_500_with_a_request_id_and_no_more(
    api: APIClient, body: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with patch("generations.api.views.generations.request.accept", side_effect=RuntimeError("a secret inside")):
        reply = api.post(GENERATIONS, body, format="json")

    told = assert_problem(reply, 500, "internal_error")
    assert "secret" not in str(told)
    assert "a secret inside" in caplog.text
    assert told["request_id"] in caplog.text
