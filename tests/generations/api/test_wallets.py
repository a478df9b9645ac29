"""What operators do with credits by API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from rest_framework.test import APIClient

from accounts import credits
from accounts.models import LedgerEntry, Wallet
from generations.models import Event
from tests.factories import (
    GenerationFactory,
    UserCapFactory,
    UserFactory,
    WalletFactory,
    completed_generation,
    paid_generation,
)
from tests.generations.api.conftest import ClientOf
from tests.generations.api.helpers import GENERATIONS, assert_problem

pytestmark = pytest.mark.django_db
WALLETS = "/api/v1/wallets"


@pytest.fixture
def operator(client_of: ClientOf) -> APIClient:
    """Somebody who may do all."""
    return client_of(UserFactory.create(username="boss", is_staff=True, is_superuser=True))


@pytest.fixture
def staff(client_of: ClientOf) -> Callable[..., APIClient]:
    """``staff("view_wallet")``: a member of staff who may only that."""

    def make(*codenames: str, is_staff: bool = True) -> APIClient:
        user = UserFactory.create(is_staff=is_staff)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        return client_of(user)

    return make


@pytest.fixture
def ann(db: None) -> User:
    """A user with 100 credits."""
    user: User = WalletFactory.create(user=UserFactory.create(username="ann@studio.example"), available=100).user
    return user


def ledger_of(user: User) -> str:
    return f"{WALLETS}/{user.username}/ledger"


def book(client: APIClient, user: User, amount: Any, key: str | None = "key 1", reason: Any = "invoice 7") -> Any:
    headers: dict[str, Any] = {} if key is None else {"HTTP_IDEMPOTENCY_KEY": key}
    return client.post(ledger_of(user), {"amount": amount, "reason": reason}, format="json", **headers)


def refund(client: APIClient, pk: Any, key: str | None = None, **body: Any) -> Any:
    headers: dict[str, Any] = {} if key is None else {"HTTP_IDEMPOTENCY_KEY": key}
    return client.post(f"{GENERATIONS}/{pk}/refund", {"reason": "ugly", **body}, format="json", **headers)


def available(user: User) -> int:
    return Wallet.objects.get(user=user).available


class TestLooking:
    """Any user's."""

    def test_shows_a_wallet_with_its_caps(self, operator: APIClient, ann: User) -> None:
        UserCapFactory.create(user=ann, max_queued=5)
        GenerationFactory.create(user=ann)

        assert operator.get(f"{WALLETS}/{ann.username}").json() == {
            "user": "ann@studio.example",
            "available": 100,
            "held": 0,
            "caps": [{"cap": "max_queued", "limit": 5, "used": 1, "resets_at": None}],
        }

    def test_shows_zeros_of_who_has_none(self, operator: APIClient) -> None:
        poor = UserFactory.create()

        told = operator.get(f"{WALLETS}/{poor.username}").json()

        assert (told["available"], told["held"]) == (0, 0)
        assert operator.get(ledger_of(poor)).json()["results"] == []

    def test_lists_all_wallets_page_by_page(self, operator: APIClient) -> None:
        made = [WalletFactory.create(available=number + 1) for number in range(5)]

        seen: list[dict[str, Any]] = []
        url: str | None = f"{WALLETS}?limit=2"
        while url:
            page = operator.get(url).json()
            assert len(page["results"]) <= 2
            seen += page["results"]
            url = page["next"]

        assert [(row["user"], row["available"]) for row in seen] == [
            (wallet.user.username, wallet.available) for wallet in reversed(made)
        ]
        assert_problem(operator.get(f"{WALLETS}?cursor=AAAA"), 400, "invalid_parameter")

    def test_shows_a_ledger_with_who_did_it(self, operator: APIClient, ann: User) -> None:
        credits.grant(ann.pk, 20, reason="for a friend", actor="admin:9")

        page = operator.get(f"{ledger_of(ann)}?limit=1").json()

        [row] = page["results"]
        assert (row["user"], row["kind"], row["available_change"], row["reason"], row["actor"]) == (
            "ann@studio.example",
            "grant",
            20,
            "for a friend",
            "admin:9",
        )
        assert operator.get(page["next"]).json()["results"][0]["available_change"] == 100

    @pytest.mark.parametrize("name", ["nobody", "%00", "' OR 1=1 --", "a" * 300])
    @pytest.mark.parametrize("path", ["", "/ledger"])
    def test_finds_nobody(self, name: str, path: str, operator: APIClient) -> None:
        assert_problem(operator.get(f"{WALLETS}/{name}{path}"), 404, "not_found")

    def test_tells_users_of_their_own_ledger_nothing_about_our_machines(self, api: APIClient, user: User) -> None:
        WalletFactory.create(user=user)

        [row] = api.get("/api/v1/credits/ledger").json()["results"]

        assert "actor" not in row


class TestBooking:
    """Grants and adjustments."""

    def test_grants_with_reason_and_actor(self, operator: APIClient, ann: User) -> None:
        reply = book(operator, ann, 50)

        assert reply.status_code == 201
        told = reply.json()
        assert (told["kind"], told["available_change"], told["reason"]) == ("grant", 50, "invoice 7")
        assert told["actor"] == f"user:{User.objects.get(username='boss').pk}"
        assert available(ann) == 150

    def test_takes_some_and_never_below_zero(self, operator: APIClient, ann: User) -> None:
        assert book(operator, ann, -30).json()["kind"] == "adjustment"

        told = assert_problem(book(operator, ann, -71, key="key 2"), 409, "would_overdraw")

        assert (told["balance"], told["required"]) == (70, 71)
        assert available(ann) == 70

    def test_moves_credits_once_for_a_repeated_call(self, operator: APIClient, ann: User) -> None:
        first, again = book(operator, ann, 50), book(operator, ann, 50)

        assert (first.status_code, again.status_code) == (201, 201)
        assert again.json() == first.json()
        assert again.headers["Idempotent-Replayed"] == "true"
        assert "Idempotent-Replayed" not in first.headers
        assert available(ann) == 150

    def test_refuses_the_key_for_another_amount_or_reason(self, operator: APIClient, ann: User) -> None:
        book(operator, ann, 50)

        assert_problem(book(operator, ann, 51), 422, "idempotency_key_reused")
        assert_problem(book(operator, ann, 50, reason="invoice 8"), 422, "idempotency_key_reused")
        assert available(ann) == 150

    def test_needs_a_key(self, operator: APIClient, ann: User) -> None:
        assert_problem(book(operator, ann, 50, key=None), 400, "idempotency_key_needed")
        assert_problem(book(operator, ann, 50, key="k" * 256), 400, "invalid_idempotency_key")
        assert available(ann) == 100

    @pytest.mark.parametrize("amount", [0, True, "5", 1.5, None, 10**13, -(10**13)])
    def test_refuses_an_amount_that_is_none(self, amount: Any, operator: APIClient, ann: User) -> None:
        assert_problem(book(operator, ann, amount), 400, "invalid_request")
        assert available(ann) == 100

    @pytest.mark.parametrize("reason", ["", "   ", None, 7, "r" * 201])
    def test_wants_a_reason(self, reason: Any, operator: APIClient, ann: User) -> None:
        assert_problem(book(operator, ann, 5, reason=reason), 400, "invalid_request")
        assert available(ann) == 100

    def test_refuses_what_it_does_not_know(self, operator: APIClient, ann: User) -> None:
        reply = operator.post(
            ledger_of(ann), {"amount": 1, "reason": "r", "kind": "capture"}, format="json", HTTP_IDEMPOTENCY_KEY="k"
        )
        assert_problem(reply, 400, "invalid_request")


class TestRefund:
    """Of any user's Generation."""

    def test_gives_back_what_it_has_cost(self, operator: APIClient, client_of: ClientOf) -> None:
        made = paid_generation(price=30)

        reply = refund(operator, made.pk)

        assert reply.status_code == 201
        told = reply.json()
        assert (told["kind"], told["available_change"], told["generation"]) == ("refund", 30, str(made.pk))
        assert told["user"] == made.user.username
        assert available(made.user) == 100
        mine = client_of(made.user)
        assert mine.get(f"{GENERATIONS}/{made.pk}").json()["refunded"] == 30
        assert mine.get(GENERATIONS).json()["results"][0]["refunded"] == 30
        lines = mine.get(f"{GENERATIONS}/{made.pk}/timeline").json()["lines"]
        assert {"refunded", "credits_refund"} <= {line["kind"] for line in lines}

    def test_gives_back_some_of_it(self, operator: APIClient) -> None:
        made = paid_generation(price=30)

        assert refund(operator, made.pk, amount=10).json()["available_change"] == 10
        assert available(made.user) == 80

    def test_happens_once(self, operator: APIClient) -> None:
        made = paid_generation(price=30)
        refund(operator, made.pk)

        told = assert_problem(refund(operator, made.pk), 409, "already_refunded")

        assert told["generation"] == str(made.pk)
        assert available(made.user) == 100

    def test_is_answered_alike_for_a_repeated_call_with_its_key(self, operator: APIClient) -> None:
        made = paid_generation(price=30)
        first, again = refund(operator, made.pk, key="one"), refund(operator, made.pk, key="one")

        assert (again.status_code, again.json()) == (201, first.json())
        assert again.headers["Idempotent-Replayed"] == "true"
        assert available(made.user) == 100
        assert Event.objects.filter(kind=Event.Kind.REFUNDED).count() == 1

    @pytest.mark.parametrize("amount", [0, -1, 31, True, "5", 10**15])
    def test_refuses_an_amount_that_makes_no_sense(self, amount: Any, operator: APIClient) -> None:
        made = paid_generation(price=30)

        assert_problem(refund(operator, made.pk, amount=amount), 400, "invalid_request")
        assert available(made.user) == 70

    def test_refuses_what_was_never_spent(self, operator: APIClient) -> None:
        free, failed = completed_generation(), GenerationFactory.create(status="failed", price=10)

        for made in (free, failed):
            assert_problem(refund(operator, made.pk), 409, "not_refundable")
        assert_problem(refund(operator, "01a207cd-0168-7661-8dc1-15d46e9a95ba"), 404, "not_found")
        assert_problem(refund(operator, free.pk, reason=""), 400, "invalid_request")


class TestWhoMay:
    """Members of staff with the permission."""

    @pytest.mark.parametrize("is_staff", [False, True], ids=["user", "staff without the permission"])
    def test_lets_nobody_else_look_or_move(self, is_staff: bool, staff: Callable[..., APIClient], ann: User) -> None:
        client = staff(*([] if is_staff else ["view_wallet", "change_wallet", "view_ledgerentry"]), is_staff=is_staff)
        made = paid_generation(price=30)

        for path in (WALLETS, f"{WALLETS}/{ann.username}", f"{WALLETS}/nobody", ledger_of(ann)):
            assert_problem(client.get(path), 403, "permission_denied")
        assert_problem(book(client, ann, 5), 403, "permission_denied")
        assert_problem(refund(client, made.pk), 403, "permission_denied")
        assert (available(ann), available(made.user)) == (100, 70)

    def test_does_not_let_a_user_refund_his_own(self, client_of: ClientOf) -> None:
        made = paid_generation(price=30)

        assert_problem(refund(client_of(made.user), made.pk), 403, "permission_denied")
        assert not LedgerEntry.objects.filter(kind="refund").exists()

    def test_lets_those_look_who_may_only_look(self, staff: Callable[..., APIClient], ann: User) -> None:
        client = staff("view_wallet", "view_ledgerentry")

        assert client.get(WALLETS).status_code == 200
        assert client.get(ledger_of(ann)).status_code == 200
        assert_problem(book(client, ann, 5), 403, "permission_denied")

    def test_lets_those_move_who_may_change_wallets(self, staff: Callable[..., APIClient], ann: User) -> None:
        assert book(staff("change_wallet"), ann, 5).status_code == 201
        assert refund(staff("change_wallet"), paid_generation(price=30).pk).status_code == 201
