"""Estimates from our own history."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from generations.lifecycle import State, Status
from generations.models import Generation
from generations.reports import eta
from generations.reports.eta import eta_of, eta_seconds
from tests.factories import AccountFactory, GenerationFactory, SubmissionFactory, UserCapFactory, UserFactory

pytestmark = pytest.mark.django_db

VIDEO = ("pixverse", "text_to_video")


def took(seconds: float, *, model: str = "", **fields: Any) -> Generation:
    now = timezone.now()
    params = {"prompt": "x", "model": model} if model else {"prompt": "x"}
    return GenerationFactory.create(
        **{
            "status": Status.COMPLETED,
            "params": params,
            "started_at": now - timedelta(seconds=seconds),
            "completed_at": now,
            "active_fingerprint": None,
            **fields,
        }
    )


def fill(account: Any) -> None:
    for _ in range(account.limit):
        SubmissionFactory.create(account=account, state=State.ACCEPTED)


def test_knows_nothing_without_history() -> None:
    AccountFactory.create()
    assert eta_seconds(*VIDEO, "") is None


def test_knows_nothing_without_an_account() -> None:
    took(30)
    assert eta_seconds(*VIDEO, "") is None
    AccountFactory.create(enabled=False)
    assert eta_seconds(*VIDEO, "") is None


def test_is_the_median_when_a_slot_is_free() -> None:
    AccountFactory.create(limit=3)
    for seconds in (10, 30, 500):
        took(seconds)
    assert eta_seconds(*VIDEO, "") == pytest.approx(30, abs=1)


def test_counts_only_completed_ones_of_the_same_provider_operation_and_model() -> None:
    AccountFactory.create()
    took(30, model="v5")
    took(90, model="v6")
    took(300, provider_id="modelslab")
    took(300, operation_type="image_to_video")
    took(300, status=Status.FAILED)
    assert eta_seconds(*VIDEO, "v5") == pytest.approx(30, abs=1)
    assert eta_seconds(*VIDEO, "v6") == pytest.approx(90, abs=1)
    assert eta_seconds(*VIDEO, "") is None


def test_knows_a_model_by_either_name() -> None:
    AccountFactory.create(provider_id="modelslab")
    took(20, provider_id="modelslab", operation_type="text_to_image", params={"model_id": "flux"})
    assert eta_seconds("modelslab", "text_to_image", "flux") == pytest.approx(20, abs=1)


def test_adds_the_queue_ahead_by_the_slots_that_serve_it() -> None:
    account = AccountFactory.create(limit=2)
    took(30)
    fill(account)
    assert eta_seconds(*VIDEO, "") == pytest.approx(30 + 30 / 2, abs=1)
    for _ in range(3):
        GenerationFactory.create()
    assert eta_seconds(*VIDEO, "") == pytest.approx(30 + 4 * 30 / 2, abs=1)


def test_lets_only_what_goes_first_count_as_ahead() -> None:
    fill(AccountFactory.create(limit=1))
    took(30)
    GenerationFactory.create(priority=2)
    GenerationFactory.create(not_before=timezone.now() + timedelta(hours=1))
    GenerationFactory.create(provider_id="modelslab")
    assert eta_seconds(*VIDEO, "", priority=5) == pytest.approx(30 + 30, abs=1)
    assert eta_seconds(*VIDEO, "", priority=1) == pytest.approx(30 + 60, abs=1)


def test_waits_for_an_account_that_comes_back() -> None:
    AccountFactory.create(cooldown_until=timezone.now() + timedelta(seconds=100))
    took(30)
    # None is free now, so it is the first in the queue of three slots.
    assert eta_seconds(*VIDEO, "") == pytest.approx(100 + 30 + 30 / 3, abs=1)


def test_counts_a_users_own_accounts_for_that_user() -> None:
    owner = UserFactory.create()
    AccountFactory.create(owner=owner)
    took(30)
    assert eta_seconds(*VIDEO, "") is None
    assert eta_seconds(*VIDEO, "", user_id=owner.pk) == pytest.approx(30, abs=1)


def test_looks_only_at_what_ended_lately(monkeypatch: pytest.MonkeyPatch) -> None:
    AccountFactory.create()
    monkeypatch.setattr(eta, "WINDOW", 2)
    took(
        500, completed_at=timezone.now() - timedelta(days=1), started_at=timezone.now() - timedelta(days=1, seconds=500)
    )
    took(10)
    took(10)
    assert eta_seconds(*VIDEO, "") == pytest.approx(10, abs=1)


def test_costs_the_same_number_of_queries_whatever_there_is(django_assert_num_queries: Any) -> None:
    for _ in range(3):
        AccountFactory.create()
        took(30)
        GenerationFactory.create()
    with django_assert_num_queries(4):
        eta_seconds(*VIDEO, "")


class TestOfAGeneration:
    """``eta_of``: one that is there already."""

    def test_is_none_when_it_has_ended(self) -> None:
        AccountFactory.create()
        assert eta_of(took(30)) is None

    def test_counts_what_stands_before_it_in_the_queue(self) -> None:
        fill(AccountFactory.create(limit=1))
        took(30)
        first, second = GenerationFactory.create(), GenerationFactory.create()
        assert eta_of(first) == pytest.approx(60, abs=1)
        assert eta_of(second) == pytest.approx(90, abs=1)

    def test_counts_the_users_own_under_a_cap_of_his(self) -> None:
        AccountFactory.create(limit=50)
        took(30)
        user = UserCapFactory.create(max_in_flight=2).user
        GenerationFactory.create(user=user, status=Status.PROCESSING, started_at=timezone.now())
        first, second, third = (GenerationFactory.create(user=user) for _ in range(3))
        assert eta_of(first) == pytest.approx(30, abs=1)
        assert eta_of(second) == pytest.approx(30 + 30 / 2, abs=1)
        assert eta_of(third) == pytest.approx(30 + 2 * 30 / 2, abs=1)
        assert eta_of(GenerationFactory.create()) == pytest.approx(30, abs=1), "nobody else waits for it"

    def test_is_none_for_who_may_have_nothing_in_flight(self) -> None:
        AccountFactory.create()
        took(30)
        assert eta_of(GenerationFactory.create(user=UserCapFactory.create(max_in_flight=0).user)) is None

    def test_adds_the_rest_of_a_pause(self) -> None:
        AccountFactory.create()
        took(30)
        waiting = GenerationFactory.create(not_before=timezone.now() + timedelta(seconds=40))
        assert eta_of(waiting) == pytest.approx(70, abs=1)

    def test_shrinks_while_it_runs(self) -> None:
        for seconds in (10, 30, 50):
            took(seconds)
        running = GenerationFactory.create(status=Status.PROCESSING, started_at=timezone.now() - timedelta(seconds=20))
        # Those that took longer than 20 s took 40 s in the median.
        assert eta_of(running) == pytest.approx(20, abs=1)

    def test_is_none_when_it_runs_longer_than_any_before(self) -> None:
        took(10)
        running = GenerationFactory.create(status=Status.PROCESSING, started_at=timezone.now() - timedelta(seconds=20))
        assert eta_of(running) is None
