"""Dead letters by API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from accounts.models import Account
from generations.intake import replay as replaying
from generations.lifecycle import State, Status
from generations.models import Event, Generation
from tests.factories import (
    AccountFactory,
    GenerationFactory,
    PriceFactory,
    SubmissionFactory,
    UserFactory,
    WalletFactory,
)
from tests.generations.api.conftest import ClientOf
from tests.generations.api.helpers import assert_problem

GROUPS = "/api/v1/dead-letters"
LETTERS = f"{GROUPS}/generations"
REPLAY = f"{GROUPS}/replay"
DISMISS = f"{GROUPS}/dismiss"
RESTORE = f"{GROUPS}/restore"


@pytest.fixture
def operator(db: None, client_of: ClientOf) -> APIClient:
    return client_of(UserFactory.create(is_staff=True, is_superuser=True))


@pytest.fixture
def account(db: None) -> Account:
    """One that may serve everybody."""
    return AccountFactory.create(label="main")


def failed(**fields: Any) -> Generation:
    return GenerationFactory.create(status=Status.FAILED, **fields)


def tried(account: Account, **fields: Any) -> Generation:
    """One that failed at this account."""
    letter = failed(**fields)
    SubmissionFactory.create(generation=letter, account=account, state=State.FAILED)
    return letter


def possibly_billed() -> Generation:
    letter = failed()
    SubmissionFactory.create(generation=letter, state=State.UNKNOWN, abandoned_at=timezone.now())
    return letter


def posted(client: APIClient, path: str, **body: Any) -> Any:
    reply = client.post(path, body, format="json")
    assert reply.status_code in {200, 202}, reply.content
    return reply.json()


class TestLooking:
    """Groups and members."""

    def test_groups_them(self, operator: APIClient, account: Account) -> None:
        letters = [tried(account, price=10, error_message=f"no. {number}") for number in range(2)]
        hour = datetime.now(UTC).replace(minute=30) - timedelta(hours=2)
        Generation.objects.filter(pk=letters[0].pk).update(completed_at=hour)

        told = operator.get(GROUPS).json()

        assert (told["number"], told["capped"]) == (2, False)
        [group] = told["results"]
        assert (group["code"], group["provider_id"], group["account"], group["account_label"]) == (
            "provider_failed",
            "pixverse",
            str(account.pk),
            "main",
        )
        assert (group["number"], group["users"], group["price"], group["message"]) == (2, 2, 20, "no. 1")
        assert group["newest"] == str(letters[1].pk)
        assert [hour["number"] for hour in group["hours"]] == [1, 1]

    def test_lists_them(self, operator: APIClient, account: Account) -> None:
        letter = tried(account)
        never = failed(error_code="queue_timeout")

        told = operator.get(LETTERS).json()

        assert [row["id"] for row in told["results"]] == [str(never.pk), str(letter.pk)]
        row = told["results"][1]
        assert (row["user"], row["code"], row["attempts"], row["account"]) == (
            letter.user.get_username(),
            "provider_failed",
            1,
            str(account.pk),
        )
        assert (told["results"][0]["attempts"], told["results"][0]["account"]) == (0, None)

    def test_is_read_page_by_page(self, operator: APIClient) -> None:
        rows = [failed() for _ in range(3)]

        first = operator.get(LETTERS, {"limit": "2"}).json()
        second = operator.get(first["next"]).json()

        assert [row["id"] for row in first["results"] + second["results"]] == [str(row.pk) for row in rows[::-1]]
        assert second["next"] is None

    def test_filters(self, operator: APIClient, account: Account) -> None:
        wanted = tried(account, error_code="no_output", user=UserFactory.create(username="mina"))
        failed(provider_id="modelslab")

        for query in (
            {"code": "no_output,other"},
            {"provider_id": "pixverse"},
            {"account": str(account.pk)},
            {"user": "mina"},
        ):
            assert [row["id"] for row in operator.get(LETTERS, query).json()["results"]] == [str(wanted.pk)], query
            assert operator.get(GROUPS, query).json()["number"] == 1
        assert operator.get(GROUPS, {"account": "none"}).json()["number"] == 1
        assert operator.get(GROUPS, {"until": "2026-01-01"}).json()["number"] == 0

    def test_costs_the_same_for_many(
        self, operator: APIClient, account: Account, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        for number in range(8):
            tried(account, error_code=f"code_{number}")
        with django_assert_max_num_queries(4):
            assert len(operator.get(GROUPS).json()["results"]) == 8
        with django_assert_max_num_queries(5):
            assert len(operator.get(LETTERS).json()["results"]) == 8


class TestReplaying:
    """First as a dry run."""

    def test_says_what_would_be_done_unless_it_is_told_to_do_it(self, operator: APIClient, account: Account) -> None:
        PriceFactory.create(provider_id="pixverse", operation_type="text_to_video", credits=10)
        poor = WalletFactory.create(available=15, user__username="mina").user
        failed(user=poor), failed(user=poor), possibly_billed()

        told = posted(operator, REPLAY, rate_per_minute=30)

        assert (told["dry_run"], told["number"], told["replayable"], told["price"]) == (True, 3, 1, 10)
        assert told["refused"] == {"possibly_billed": 1, "insufficient_credits": 1}
        assert set(told["why"]) == set(told["refused"])
        assert told["users"] == [{"user": "mina", "number": 2, "price": 20, "available": 15, "short": 5}]
        assert Generation.objects.count() == 3

    def test_replays_at_the_rate(self, operator: APIClient, account: Account) -> None:
        rows = [failed() for _ in range(3)]
        possibly_billed()
        plan = posted(operator, REPLAY, rate_per_minute=30)

        told = posted(operator, REPLAY, rate_per_minute=30, dry_run=False, until=plan["until"])

        assert (told["seen"], told["replayed"], told["next_cursor"]) == (4, 3, None)
        assert told["refused"] == {"possibly_billed": 1}
        times = [row.retries.get().scheduled_at for row in rows]
        assert times[2] - times[0] == timedelta(seconds=4)  # type: ignore[operator]
        assert Event.objects.filter(kind="retried").values_list("actor", flat=True)[0].startswith("user:")

    def test_goes_on_with_the_cursor(
        self, operator: APIClient, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(replaying, "SLICE_SECONDS", 0)
        rows = [failed() for _ in range(3)]
        body: dict[str, Any] = {"rate_per_minute": 60, "dry_run": False}

        told = posted(operator, REPLAY, **body)
        later = failed()
        cursors = [told["next_cursor"]]
        while told["next_cursor"]:
            told = posted(operator, REPLAY, **body, cursor=told["next_cursor"])
            cursors.append(told["next_cursor"])

        assert (told["replayed"], told["seen"]) == (3, 3)
        assert [row.retries.count() for row in rows] == [1] * 3
        assert not later.retries.exists()
        again = posted(operator, REPLAY, **body, cursor=cursors[0])
        assert again["replayed"] == 1, "what it had said before stays said, and nothing is replayed twice"
        assert [row.retries.count() for row in rows] == [1] * 3
        other = operator.post(REPLAY, {**body, "rate_per_minute": 61, "cursor": cursors[0]}, format="json")
        assert_problem(other, 400, "invalid_parameter")

    def test_insists_only_for_those_that_are_named(self, operator: APIClient, account: Account) -> None:
        letter, other = possibly_billed(), possibly_billed()

        refused = operator.post(REPLAY, {"dry_run": False, "insist": True}, format="json")
        assert_problem(refused, 400, "insist_names_none")
        told = posted(operator, REPLAY, dry_run=False, insist=True, ids=[str(letter.pk)])

        assert told["replayed"] == 1
        assert (letter.retries.count(), other.retries.count()) == (1, 0)

    def test_takes_named_ones_of_any_age_and_of_no_other_kind(self, operator: APIClient, account: Account) -> None:
        old, alive = failed(), GenerationFactory.create()
        Generation.objects.filter(pk=old.pk).update(completed_at=timezone.now() - timedelta(days=300))

        told = posted(operator, REPLAY, dry_run=False, ids=[str(old.pk), str(alive.pk)])

        assert (told["seen"], told["replayed"]) == (1, 1)


class TestDismissing:
    """And taking it back."""

    def test_is_noted_with_who_and_why(self, operator: APIClient) -> None:
        letter, alive = failed(), GenerationFactory.create()

        told = posted(operator, DISMISS, ids=[str(letter.pk), str(alive.pk)], reason="known")

        assert told == {"number": 1}
        event = letter.events.get()
        assert (event.kind, event.data) == ("dismissed", {"message": "known"})
        assert operator.get(LETTERS).json()["results"] == []
        [row] = operator.get(LETTERS, {"dismissed": "true"}).json()["results"]
        assert row["dismissed_at"]
        assert posted(operator, RESTORE, ids=[str(letter.pk)]) == {"number": 1}
        assert posted(operator, RESTORE, ids=[str(letter.pk)]) == {"number": 0}
        assert operator.get(GROUPS).json()["number"] == 1


@pytest.mark.parametrize(
    "query",
    [
        {"since": "yesterday"},
        {"since": "2026-01-01", "until": "2026-06-01"},
        {"since": "0001-01-01T00:00:00Z"},
        {"code": "NO!"},
        {"code": "\x00"},
        {"code": ""},
        {"provider_id": "no such"},
        {"account": "main"},
        {"account": ""},
        {"user": "nobody"},
        {"user": "\x00"},
        {"hours": "3"},
    ],
    ids=str,
)
def test_refuses_a_query_that_makes_no_sense(operator: APIClient, query: dict[str, str]) -> None:
    for path in (GROUPS, LETTERS):
        reply = operator.get(path, query)
        assert reply.status_code == 400, reply.content
        assert reply.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("query", [{"until": "9999-12-31T23:59:59Z"}, {"since": "2999-01-01"}], ids=str)
def test_finds_nothing_in_a_time_to_come(operator: APIClient, query: dict[str, str]) -> None:
    assert operator.get(GROUPS, query).json()["results"] == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (REPLAY, {"rate_per_minute": 0}),
        (REPLAY, {"rate_per_minute": 6001}),
        (REPLAY, {"rate_per_minute": "30"}),
        (REPLAY, {"rate_per_minute": True}),
        (REPLAY, {"dry_run": "no"}),
        (REPLAY, {"since": "2026-01-01"}),
        (REPLAY, {"since": "0001-01-01T00:00:00+14:00"}),
        (REPLAY, {"since": "2026-01-01T00:00:00Z", "until": "2026-06-01T00:00:00Z"}),
        (REPLAY, {"since": 5}),
        (REPLAY, {"account": "main"}),
        (REPLAY, {"user": "nobody"}),
        (REPLAY, {"ids": ["x"]}),
        (REPLAY, {"ids": ["01a207cd-0168-7661-8dc1-15d46e9a95ba"] * 501}),
        (REPLAY, {"codes": "provider_failed"}),
        (REPLAY, {"cursor": "forged", "dry_run": False}),
        (REPLAY, {"code": "provider_failed"}),
        (DISMISS, {}),
        (DISMISS, {"ids": [], "reason": "r"}),
        (DISMISS, {"ids": ["01a207cd-0168-7661-8dc1-15d46e9a95ba"], "reason": ""}),
        (DISMISS, {"ids": ["01a207cd-0168-7661-8dc1-15d46e9a95ba"], "reason": "  "}),
        (DISMISS, {"ids": ["01a207cd-0168-7661-8dc1-15d46e9a95ba"], "reason": "x" * 301}),
        (RESTORE, {"ids": "x"}),
    ],
    ids=str,
)
def test_refuses_a_body_that_makes_no_sense(
    operator: APIClient, account: Account, path: str, body: dict[str, Any]
) -> None:
    letter = failed()

    reply = operator.post(path, body, format="json")

    assert reply.status_code == 400, reply.content
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert Generation.objects.get() == letter


def test_is_for_operators(user: User, api: APIClient, client_of: ClientOf, account: Account) -> None:
    letter = failed(user=user)
    staff = UserFactory.create(is_staff=True)
    may_look = UserFactory.create(is_staff=True)
    may_look.user_permissions.add(Permission.objects.get(codename="view_deadletter"))
    no_staff = UserFactory.create()
    no_staff.user_permissions.set(Permission.objects.filter(codename__in=["view_deadletter", "change_generation"]))

    for client in (api, client_of(staff), client_of(no_staff)):
        for path in (GROUPS, LETTERS):
            assert_problem(client.get(path), 403, "permission_denied")
    looker = client_of(may_look)
    assert looker.get(GROUPS).json()["number"] == 1
    for client in (api, client_of(staff), client_of(no_staff), looker):
        for path in (REPLAY, DISMISS, RESTORE):
            body = {"ids": [str(letter.pk)], "reason": "r"}
            assert_problem(client.post(path, body, format="json"), 403, "permission_denied")
    letter.refresh_from_db()
    assert letter.dismissed_at is None
    assert Generation.objects.count() == 1
