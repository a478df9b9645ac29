"""A user's caps at the door: refused above them, never below, and never twice counted."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import F

from accounts.models import LedgerEntry, UserCap
from generations.intake import caps
from generations.intake.errors import CapReached, Conflict
from generations.intake.quote import quote
from generations.intake.request import Accepted, Idempotency, Request
from generations.intake.retry import retry
from generations.lifecycle import Status
from generations.models import Event, Generation, IdempotencyKey
from tests.factories import GenerationFactory, PriceFactory, UserCapFactory, UserFactory, WalletFactory
from tests.generations.intake.conftest import Ask
from tests.generations.intake.test_request import finish
from tests.together import together

pytestmark = pytest.mark.django_db

CAPS = ["max_queued", "max_per_day"]


def cap(user: User, **caps: int | None) -> UserCap:
    made: UserCap = UserCapFactory.create(user=user, **caps)
    return made


@pytest.mark.parametrize("name", CAPS)
def test_accepts_as_many_as_the_cap_and_refuses_the_next(name: str, ask: Ask, user: User) -> None:
    cap(user, **{name: 3})
    for number in range(3):
        ask(prompt=f"number {number}")

    with pytest.raises(CapReached) as refused:
        ask(prompt="one more")

    assert refused.value.code == "user_cap_reached"
    told = {"cap": name, "limit": 3, "used": 3}
    assert {key: refused.value.extra[key] for key in told} == told
    assert Generation.objects.count() == 3


def test_says_how_many_wait_and_what_to_do(ask: Ask, user: User) -> None:
    cap(user, max_queued=1)
    ask()

    with pytest.raises(CapReached, match=r"1 of your generations wait already, and no more than 1 may\.") as refused:
        ask(prompt="another")

    assert (refused.value.retry_after, refused.value.extra["resets_at"]) == (None, None)


def test_says_when_the_next_day_begins(ask: Ask, user: User) -> None:
    cap(user, max_per_day=1)
    created_at = ask().generation.created_at

    with pytest.raises(CapReached, match=r"no more than 1 a day may be\. .* in .*00:00 UTC") as refused:
        ask(prompt="another")

    midnight = created_at.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    assert refused.value.extra["resets_at"] == midnight
    assert refused.value.retry_after == pytest.approx((midnight - created_at).total_seconds(), abs=60)


def test_refuses_everything_under_a_cap_of_nothing(ask: Ask, user: User) -> None:
    cap(user, max_per_day=0)

    with pytest.raises(CapReached):
        ask()


def test_writes_nothing_of_what_it_refuses(ask: Ask, user: User) -> None:
    cap(user, max_per_day=0)
    PriceFactory.create(credits=10)
    WalletFactory.create(user=user, available=100)

    with pytest.raises(CapReached):
        ask(idempotency=Idempotency("key", "aa"))

    rows = Generation.objects.count() + Event.objects.count() + IdempotencyKey.objects.count()
    assert rows + LedgerEntry.objects.exclude(kind="grant").count() == 0


def test_takes_nobodys_claim_away_for_what_it_refuses(ask: Ask, user: User) -> None:
    old = finish(ask().generation, days_ago=40)
    cap(user, max_per_day=0)

    with pytest.raises(CapReached):
        ask()

    old.refresh_from_db()
    assert old.active_fingerprint == old.fingerprint


@pytest.mark.parametrize("name", CAPS)
def test_neither_counts_nor_refuses_what_is_answered_with_what_is_there(name: str, ask: Ask, user: User) -> None:
    cap(user, **{name: 2})
    first = ask()

    assert ask().reused
    ask(prompt="another")  # the reused one was not counted
    assert ask().generation == first.generation


def test_neither_counts_nor_refuses_a_replay(ask: Ask, user: User) -> None:
    cap(user, max_per_day=2)
    key = Idempotency("key", "aa")
    first = ask(idempotency=key, reuse="none")

    assert ask(idempotency=key, reuse="none").replayed
    ask(prompt="another")
    assert ask(idempotency=key, reuse="none").generation == first.generation


def test_counts_only_what_waits_as_queued(ask: Ask, user: User) -> None:
    cap(user, max_queued=1)
    GenerationFactory.create(user=user, status=Status.PROCESSING)
    finish(ask().generation, Status.FAILED)

    ask(prompt="another")
    with pytest.raises(CapReached):
        ask(prompt="a third")


def test_counts_what_is_scheduled_as_queued(ask: Ask, user: User) -> None:
    cap(user, max_queued=1)
    at = GenerationFactory.create(user=UserFactory.create()).queue_until
    ask(scheduled_at=at)

    with pytest.raises(CapReached):
        ask(prompt="another")


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.CANCELLED])
def test_counts_what_was_accepted_today_however_it_ended(status: Status, ask: Ask, user: User) -> None:
    cap(user, max_per_day=1)
    finish(ask().generation, status)

    with pytest.raises(CapReached):
        ask(prompt="another")


def test_begins_anew_with_the_day(ask: Ask, user: User) -> None:
    cap(user, max_per_day=1)
    ask()
    Generation.objects.update(created_at=F("created_at") - timedelta(days=1))

    ask(prompt="another")


def test_counts_nothing_of_others(ask: Ask, user: User) -> None:
    cap(user, max_queued=1, max_per_day=1)
    other = UserFactory.create()
    cap(other, max_queued=1, max_per_day=1)

    ask(by=other)
    ask()


def test_caps_nobody_without_numbers(ask: Ask, user: User) -> None:
    cap(user, max_in_flight=0)
    for number in range(3):
        ask(prompt=f"number {number}")


def test_holds_for_a_retry_too(ask: Ask, user: User) -> None:
    cap(user, max_per_day=1)
    failed = finish(ask().generation, Status.FAILED)

    with pytest.raises(CapReached):
        retry(failed.pk, actor=f"user:{user.pk}")
    assert not failed.events.filter(kind=Event.Kind.RETRIED).exists()

    UserCap.objects.update(max_per_day=2)
    assert retry(failed.pk, actor=f"user:{user.pk}").generation.retry_of == failed


def test_asks_one_question_more_of_who_has_none(user: User, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        assert caps.lock(user.pk) is None


def test_quotes_that_a_cap_would_refuse_it(ask: Ask, user: User) -> None:
    request = Request("modelslab", "text_to_image", {"prompt": "a lighthouse"})
    cap(user, max_queued=1, max_in_flight=0)
    assert quote(user.pk, request).cap_reached is None

    ask()
    assert quote(user.pk, request).cap_reached is None, "it would be answered with what is there"
    told = quote(user.pk, Request("modelslab", "text_to_image", {"prompt": "another"})).cap_reached
    assert told is not None
    assert "no more than 1 may" in told


@pytest.mark.usefixtures("transactional_db")
class TestTogether:
    """Twenty at the same moment."""

    @pytest.mark.parametrize("name", CAPS)
    @pytest.mark.parametrize("most", [0, 1, 7])
    def test_accepts_exactly_as_many_as_the_cap(self, name: str, most: int, ask: Ask, user: User) -> None:
        cap(user, **{name: most})

        results = together([partial(ask, prompt=f"number {number}") for number in range(20)])

        assert Counter(type(one) for one in results) == {
            kind: number for kind, number in ((Accepted, most), (CapReached, 20 - most)) if number
        }
        assert Generation.objects.count() == most

    def test_counts_one_for_twenty_of_the_same(self, ask: Ask, user: User) -> None:
        cap(user, max_per_day=1)

        results = together([ask] * 20)

        assert {one.generation.pk for one in results if isinstance(one, Accepted)} == {Generation.objects.get().pk}
        assert all(isinstance(one, Accepted) for one in results)

    def test_retries_and_requests_wait_for_each_other_without_a_deadlock(self, ask: Ask, user: User) -> None:
        failed = [finish(ask(prompt=f"number {number}").generation, Status.FAILED) for number in range(8)]
        cap(user, max_queued=5)

        results = together(
            [
                call
                for number, one in enumerate(failed)
                for call in (
                    partial(retry, one.pk, actor="user:1"),
                    partial(ask, prompt=f"number {number}"),
                )
            ]
        )

        kinds = Counter(type(one) for one in results)
        assert kinds[Accepted] >= 5
        assert set(kinds) <= {Accepted, CapReached, Conflict}
        assert Generation.objects.filter(status=Status.PENDING).count() == 5
