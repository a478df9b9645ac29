"""Caps in the claim: what a user may have in flight, and what an account is sent a day."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone

from accounts.models import Account, UserCap
from generations.execution import caps
from generations.execution.accounts import refresh_balance
from generations.execution.claim import claim
from generations.lifecycle import State, Status
from generations.models import Generation, Submission
from generations.reports.explain import explain
from generations.reports.waiting import wait_reasons
from tests.factories import AccountFactory, GenerationFactory, SubmissionFactory, UserCapFactory, UserFactory
from tests.generations.execution.studio import Studio, at_once

pytestmark = pytest.mark.django_db
together = pytest.mark.django_db(transaction=True)

ROUNDS = 20


def waiting(user: User, count: int = 1, **fields: Any) -> list[Generation]:
    """Due ones, in order."""
    return [GenerationFactory.create(user=user, **fields) for _ in range(count)]


def take(provider_id: str = "pixverse", at_most: int = 64) -> list[UUID]:
    """Claim; which Generations got a slot."""
    return [submission.generation_id for submission in claim(provider_id, uuid4(), at_most)]


def capped(in_flight: int | None) -> User:
    """A user who may have so many in flight."""
    user: User = UserCapFactory.create(max_in_flight=in_flight).user
    return user


def end(generation_id: UUID) -> None:
    """It ends, however."""
    now = timezone.now()
    Submission.objects.filter(generation=generation_id).update(state=State.FAILED, ended_at=now)
    Generation.objects.filter(pk=generation_id).update(status=Status.FAILED, completed_at=now)


def sent(account: Account, count: int, **fields: Any) -> list[Submission]:
    """Attempts that were sent on it, and are through."""
    return [SubmissionFactory.create(account=account, state=State.SUCCEEDED, **fields) for _ in range(count)]


def yesterday() -> Any:
    """A moment before this day began, by the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT date_trunc('day', now(), 'UTC') - interval '1 second'")
        return cursor.fetchone()[0]


class TestInFlight:
    """A user's."""

    def test_starts_no_more_than_the_cap(self) -> None:
        AccountFactory.create(limit=10)
        user = capped(2)
        made = waiting(user, 5)

        assert set(take()) == {one.pk for one in made[:2]}
        assert take() == []

    def test_starts_another_when_one_is_through(self) -> None:
        AccountFactory.create(limit=10)
        made = waiting(capped(1), 3)

        assert take() == [made[0].pk]
        end(made[0].pk)
        assert take() == [made[1].pk]

    def test_uses_up_no_attempt_of_what_waits(self) -> None:
        AccountFactory.create(limit=10)
        [one] = waiting(capped(0))

        assert take() == []
        one.refresh_from_db()
        assert (one.status, one.retry_count, one.busy_bounces, one.not_sent) == (Status.PENDING, 0, 0, 0)
        assert not one.submissions.exists()

    def test_counts_what_runs_at_other_providers(self) -> None:
        AccountFactory.create(limit=10)
        AccountFactory.create(provider_id="modelslab", limit=10)
        user = capped(3)
        waiting(user, 2, provider_id="modelslab")
        waiting(user, 5)

        assert len(take("modelslab")) == 2
        assert len(take()) == 1

    def test_counts_what_is_being_collected(self) -> None:
        account = AccountFactory.create(limit=10)
        user = capped(1)
        running = GenerationFactory.create(user=user, status=Status.PROCESSING)
        SubmissionFactory.create(account=account, generation=running, state=State.COLLECTING)
        waiting(user)

        assert take() == []

    @pytest.mark.parametrize("pinned", [False, True], ids=["unpinned", "pinned"])
    def test_never_hides_others(self, pinned: bool) -> None:
        """More users at their cap than there are slots, with more waiting and of higher priority, and one without."""
        account = AccountFactory.create(limit=2)
        for _ in range(5):
            waiting(capped(0), 3, priority=9, account=account if pinned else None)
        [one] = waiting(UserFactory.create(), 1, priority=0)

        assert take() == [one.pk]

    def test_fills_every_slot_though_each_may_have_only_one(self) -> None:
        AccountFactory.create(limit=6)
        users = [capped(1) for _ in range(8)]
        made = [waiting(user, 4) for user in users]

        taken = take()

        assert set(taken) == {queue[0].pk for queue in made[:6]}

    def test_gives_what_one_leaves_to_the_other(self) -> None:
        AccountFactory.create(limit=5)
        few, many = capped(1), UserFactory.create()
        waiting(few, 10, priority=9)
        waiting(many, 10)

        owners = Counter(Generation.objects.filter(pk__in=take()).values_list("user", flat=True))

        assert owners == {few.pk: 1, many.pk: 4}

    def test_stops_nothing_that_is_in_flight_when_the_cap_is_lowered(self) -> None:
        account = AccountFactory.create(limit=10)
        user = capped(4)
        waiting(user, 6)
        assert len(take()) == 4
        UserCap.objects.update(max_in_flight=2)

        assert take() == []
        assert account.submissions.holding_slot().count() == 4

    def test_caps_nobody_without_a_number(self) -> None:
        AccountFactory.create(limit=10)
        waiting(capped(None), 4)

        assert len(take()) == 4

    def test_asks_one_question_where_nobody_has_a_cap(self, django_assert_num_queries: Any) -> None:
        users = [UserFactory.create().pk, capped(None).pk]
        with django_assert_num_queries(1):
            assert caps.allowances(users) == {}

    @together
    def test_never_starts_too_many_at_two_providers_at_once(self) -> None:
        AccountFactory.create(limit=200)
        AccountFactory.create(provider_id="modelslab", limit=200)
        user = capped(3)
        for _ in range(ROUNDS):
            waiting(user, 3)
            waiting(user, 3, provider_id="modelslab")
            taken = at_once(*[lambda: take("pixverse"), lambda: take("modelslab")] * 2)
            assert not [one for one in taken if isinstance(one, Exception)]
            running = set(Generation.objects.filter(status=Status.PROCESSING).values_list("pk", flat=True))
            assert len(running) <= 3
            # Whoever was passed over is taken by the next look.
            take("pixverse"), take("modelslab")
            assert Generation.objects.filter(status=Status.PROCESSING).count() == 3
            for one in Generation.objects.filter(status=Status.PROCESSING).values_list("pk", flat=True):
                end(one)
            Generation.objects.filter(status=Status.PENDING).delete()

    @together
    def test_leaves_a_user_to_the_claim_that_has_him_in_hand(self) -> None:
        AccountFactory.create(limit=10)
        user, other = capped(5), UserFactory.create()
        waiting(user, 2, priority=9)
        [free] = waiting(other)
        with transaction.atomic():
            assert caps.allowances([user.pk]) == {user.pk: 5}
            [found] = at_once(take)
        assert found == [free.pk]
        assert len(take()) == 2


class TestDaily:
    """An account's."""

    def test_sends_no_more_a_day_than_the_cap(self) -> None:
        account = AccountFactory.create(limit=5, daily_cap=4)
        sent(account, 3)
        waiting(UserFactory.create(), 5)

        assert len(take()) == 1
        assert take() == [], "what is reserved is about to be sent"

    def test_gives_the_rest_to_another_account(self) -> None:
        full = AccountFactory.create(limit=5, daily_cap=2, priority=9)
        sent(full, 2)
        other = AccountFactory.create(limit=5)
        waiting(UserFactory.create(), 2)

        assert {submission.account_id for submission in claim("pixverse", uuid4(), 10)} == {other.pk}

    def test_begins_anew_with_the_day(self) -> None:
        account = AccountFactory.create(limit=5, daily_cap=2)
        sent(account, 2, sent_at=yesterday())
        waiting(UserFactory.create(), 3)

        assert len(take()) == 2

    def test_counts_what_failed_after_it_was_sent_and_nothing_that_never_was(self) -> None:
        account = AccountFactory.create(limit=5, daily_cap=2)
        SubmissionFactory.create(account=account, state=State.FAILED)
        SubmissionFactory.create(account=account, state=State.FAILED, sent_at=None)
        waiting(UserFactory.create(), 3)

        assert len(take()) == 1

    def test_sends_nothing_under_a_cap_of_nothing(self) -> None:
        AccountFactory.create(daily_cap=0)
        waiting(UserFactory.create())

        assert take() == []

    def test_takes_nothing_from_what_is_in_flight_when_the_cap_is_lowered(self) -> None:
        account = AccountFactory.create(limit=5)
        waiting(UserFactory.create(), 6)
        assert len(take()) == 5
        Account.objects.update(daily_cap=1, limit=9)

        assert take() == []
        assert account.submissions.holding_slot().count() == 5

    def test_says_until_when(self) -> None:
        account = AccountFactory.create(daily_cap=1)
        sent(account, 1)
        [one] = waiting(UserFactory.create())

        told = explain(one)["waiting"]

        assert (told["reason"], told["accounts"][0]["why_not"]) == (
            "daily_cap",
            "its cap of 1 for today (UTC) is reached",
        )
        midnight = yesterday() + timedelta(days=1, seconds=1)
        assert told["returns_at"] == midnight.isoformat().replace("+00:00", "Z")

    @together
    def test_never_sends_too_many_to_many_claimers_at_once(self) -> None:
        account = AccountFactory.create(limit=30, daily_cap=7)
        waiting(UserFactory.create(), 20)

        results = at_once(*[lambda: take(at_most=3)] * 8)

        assert not [one for one in results if isinstance(one, Exception)]
        assert account.submissions.count() == 7


class TestFloor:
    """An account's: what it must keep."""

    def test_gives_no_new_work_below_it_and_says_so(self, studio: Studio) -> None:
        account = studio.account(balance_floor=10)
        studio.sandbox.set_key("modelslab", account.credentials["api_key"], balance=5)
        refresh_balance(account)
        generation = studio.ask()

        assert studio.dispatch() == 0
        assert wait_reasons([generation])[generation.pk] == "no_account"
        [told] = explain(generation)["waiting"]["accounts"]
        assert told["why_not"] == "its balance of 5.0000 is below its floor of 10.0000"
        assert told["until"] is None, "only a top-up brings it back"

        studio.sandbox.set_key("modelslab", account.credentials["api_key"], balance=50)
        refresh_balance(account)
        assert studio.dispatch() == 1
