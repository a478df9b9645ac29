"""What a request would cost and what would answer it; nothing is changed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import F
from django.utils import timezone

from accounts.models import LedgerEntry
from generations.execution import settle
from generations.execution.settle import Ending
from generations.intake.errors import Conflict, Invalid, NotFound
from generations.intake.quote import Quote, quote
from generations.intake.request import Request
from generations.lifecycle import State, Status
from generations.models import Event, Generation, Submission
from tests.factories import AccountFactory, PriceFactory, SubmissionFactory, UserFactory, WalletFactory
from tests.generations.intake.conftest import Ask

pytestmark = pytest.mark.django_db


def look(user: User, **fields: Any) -> Quote:
    given = {"provider_id": "modelslab", "operation_type": "text_to_image", "params": {"prompt": "a lighthouse"}}
    return quote(user.pk, Request(**{**given, **fields}))


def ended(generation: Generation, status: Status, *, days_ago: int = 0) -> Generation:
    settle.end([Ending(generation.pk, status)], actor="worker")
    Generation.objects.filter(pk=generation.pk).update(completed_at=F("completed_at") - timedelta(days=days_ago))
    return generation


def test_tells_the_price_of_all_outputs(user: User) -> None:
    PriceFactory.create(credits=10)
    PriceFactory.create(credits=25, model="sdxl")

    assert look(user).price == 10
    assert look(user, params={"prompt": "x", "samples": 3}).price == 30
    assert look(user, params={"prompt": "x", "model_id": "sdxl"}).price == 25


def test_tells_that_it_is_free(user: User) -> None:
    assert look(user).price is None


def test_changes_nothing_and_asks_for_no_credits(user: User) -> None:
    PriceFactory.create(credits=10)

    told = look(user)

    assert (told.price, told.reuses, told.conflict, told.eta_seconds) == (10, None, None, None)
    assert Generation.objects.count() + Event.objects.count() + LedgerEntry.objects.count() == 0


class TestReuse:
    """It says what accepting would do."""

    @pytest.mark.parametrize("reuse", ["completed", "in_flight"])
    def test_tells_of_a_live_one(self, ask: Ask, user: User, reuse: str) -> None:
        first = ask().generation

        assert look(user, reuse=reuse).reuses == first

    @pytest.mark.parametrize(
        ("days_ago", "reuse", "reused"), [(0, "completed", True), (31, "completed", False), (0, "in_flight", False)]
    )
    def test_tells_of_a_completed_one(self, ask: Ask, user: User, days_ago: int, reuse: Any, reused: bool) -> None:
        first = ended(ask().generation, Status.COMPLETED, days_ago=days_ago)

        told = look(user, reuse=reuse)

        assert (told.reuses, told.conflict) == (first if reused else None, None)
        first.refresh_from_db()
        assert first.active_fingerprint
        assert ask(reuse=reuse).reused is reused

    def test_costs_nothing_then(self, ask: Ask, user: User) -> None:
        WalletFactory.create(user=user, available=100)
        PriceFactory.create(credits=10)
        ask()

        assert look(user).price == 0
        assert look(user, reuse="none").price == 10

    def test_tells_what_would_refuse_it(self, ask: Ask, user: User) -> None:
        first = ask().generation
        Generation.objects.filter(pk=first.pk).update(status=Status.PROCESSING)
        attempt = SubmissionFactory.create(generation=first, state=State.UNKNOWN, account__provider_id="modelslab")
        Submission.objects.filter(pk=attempt.pk).update(abandoned_at=timezone.now())
        ended(first, Status.FAILED)

        told = look(user)

        assert (told.reuses, told.conflict) == (None, first)
        with pytest.raises(Conflict):
            ask()
        forced = look(user, reuse="none")
        assert (forced.reuses, forced.conflict) == (None, None)

    def test_tells_nobody_of_another_s(self, ask: Ask) -> None:
        ask()

        assert look(UserFactory.create()).reuses is None


class TestAccounts:
    """Which could serve it."""

    def test_tells_of_free_slots(self, user: User) -> None:
        account = AccountFactory.create(provider_id="modelslab", limit=3)
        SubmissionFactory.create(account=account)

        (told,) = look(user).accounts

        assert told == {
            "id": str(account.pk),
            "label": account.label,
            "limit": 3,
            "free_slots": 2,
            "usable": True,
            "why_not": None,
        }

    def test_says_why_not(self, user: User) -> None:
        AccountFactory.create(provider_id="modelslab", enabled=False)

        (told,) = look(user).accounts

        assert (told["usable"], told["free_slots"], told["why_not"]) == (False, 0, "switched off")

    def test_tells_of_shared_ones_and_the_user_s_own(self, user: User) -> None:
        shared = AccountFactory.create(provider_id="modelslab")
        own = AccountFactory.create(provider_id="modelslab", owner=user)
        AccountFactory.create(provider_id="modelslab", owner=UserFactory.create())
        AccountFactory.create(provider_id="pixverse")

        assert [told["id"] for told in look(user).accounts] == [str(own.pk), str(shared.pk)]

    def test_tells_of_the_pinned_one_only(self, user: User) -> None:
        pinned, _ = (AccountFactory.create(provider_id="modelslab") for _ in range(2))

        assert [told["id"] for told in look(user, account_id=pinned.pk).accounts] == [str(pinned.pk)]


def test_refuses_what_accepting_would_refuse(user: User) -> None:
    with pytest.raises(Invalid):
        look(user, params={})
    with pytest.raises(NotFound):
        look(user, account_id=AccountFactory.create(provider_id="pixverse").pk)
