"""Why Generations wait."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from accounts.models import Account, UserCap
from generations.lifecycle import State, Status
from generations.models import AccountExclusion, Generation, Switch
from generations.reports.capacity import Condition, Standing, standings
from generations.reports.waiting import wait_reasons
from tests.factories import AccountFactory, GenerationFactory, SubmissionFactory, UserCapFactory, UserFactory

pytestmark = pytest.mark.django_db

LATER = timedelta(minutes=5)


def reason(generation: Generation) -> str | None:
    return wait_reasons([generation])[generation.pk]


def fill(account: Account) -> None:
    for _ in range(account.limit):
        SubmissionFactory.create(account=account, state=State.ACCEPTED)


def test_names_no_reason_where_a_slot_is_free() -> None:
    AccountFactory.create()
    assert reason(GenerationFactory.create()) is None


@pytest.mark.parametrize("status", [Status.PROCESSING, Status.COMPLETED, Status.FAILED, Status.CANCELLED])
def test_names_no_reason_for_what_does_not_wait(status: Status) -> None:
    assert reason(GenerationFactory.create(status=status)) is None


def test_says_scheduled_until_the_time_comes() -> None:
    at = timezone.now() + LATER
    assert reason(GenerationFactory.create(scheduled_at=at, not_before=at)) == "scheduled"


def test_says_backing_off_after_an_error_even_of_one_that_was_scheduled() -> None:
    now = timezone.now()
    scheduled = GenerationFactory.create(scheduled_at=now - LATER, not_before=now + LATER)
    assert reason(scheduled) == "backing_off"
    assert reason(GenerationFactory.create(not_before=now + LATER)) == "backing_off"


def test_says_no_capacity_when_all_slots_are_held() -> None:
    fill(AccountFactory.create(limit=2))
    assert reason(GenerationFactory.create()) == "no_capacity"


def test_says_no_capacity_when_the_limit_was_lowered_below_what_is_in_flight() -> None:
    account = AccountFactory.create(limit=3)
    fill(account)
    Account.objects.update(limit=1)
    assert reason(GenerationFactory.create()) == "no_capacity"


def test_counts_a_collecting_attempt_as_a_free_slot() -> None:
    account = AccountFactory.create(limit=1)
    SubmissionFactory.create(account=account, state=State.COLLECTING)
    assert reason(GenerationFactory.create()) is None


def test_says_cooling_down_when_every_account_is() -> None:
    AccountFactory.create(cooldown_until=timezone.now() + LATER)
    AccountFactory.create(exhausted_at=timezone.now(), probe_at=timezone.now() + LATER)
    assert reason(GenerationFactory.create()) == "cooling_down"


def test_prefers_no_capacity_to_cooling_down_when_one_account_is_merely_full() -> None:
    AccountFactory.create(cooldown_until=timezone.now() + LATER)
    fill(AccountFactory.create(limit=1))
    assert reason(GenerationFactory.create()) == "no_capacity"


@pytest.mark.parametrize(
    "unusable",
    [
        {"enabled": False},
        {"out_of_rotation_at": timezone.now()},
        {"balance": Decimal(1), "balance_floor": Decimal(5)},
        {"exhausted_at": timezone.now(), "probe_at": None},
        {"provider_id": "modelslab"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_says_no_account_when_none_comes_back_by_itself(unusable: dict[str, Any]) -> None:
    AccountFactory.create(**unusable)
    assert reason(GenerationFactory.create()) == "no_account"


def test_says_no_account_when_the_only_one_is_somebody_elses() -> None:
    AccountFactory.create(owner=UserFactory.create())
    assert reason(GenerationFactory.create()) == "no_account"


def test_says_no_account_when_every_account_refused_it() -> None:
    account = AccountFactory.create()
    refused, other = GenerationFactory.create(), GenerationFactory.create()
    AccountExclusion.objects.create(generation=refused, account=account, code="provider_auth")
    assert wait_reasons([refused, other]) == {refused.pk: "no_account", other.pk: None}


def test_looks_only_at_the_pinned_account() -> None:
    pinned = AccountFactory.create(cooldown_until=timezone.now() + LATER)
    AccountFactory.create()
    assert reason(GenerationFactory.create(account=pinned)) == "cooling_down"


def test_gives_an_exhausted_account_that_is_due_for_another_try_one_at_a_time() -> None:
    account = AccountFactory.create(exhausted_at=timezone.now(), probe_at=timezone.now() - LATER, limit=3)
    waiting = GenerationFactory.create()
    assert reason(waiting) is None
    SubmissionFactory.create(account=account, state=State.ACCEPTED)
    assert reason(waiting) == "no_capacity"


@pytest.mark.parametrize("key", ["dispatch", "dispatch:provider:pixverse", "dispatch:operation:text_to_video"])
def test_says_paused_whatever_else_keeps_it(key: str) -> None:
    Switch.objects.create(key=key, reason="too dear", actor="admin:1")
    assert reason(GenerationFactory.create()) == "paused"
    AccountFactory.create()
    assert reason(GenerationFactory.create()) == "paused"


def test_says_paused_of_nothing_that_waits_for_a_time_or_is_something_else() -> None:
    AccountFactory.create(provider_id="modelslab")
    for key in ("intake", "dispatch:provider:pixverse", "dispatch:operation:fusion"):
        Switch.objects.create(key=key, reason="too dear", actor="admin:1")
    assert reason(GenerationFactory.create(not_before=timezone.now() + LATER)) == "backing_off"
    assert reason(GenerationFactory.create(provider_id="modelslab")) is None
    assert reason(GenerationFactory.create(provider_id="modelslab", operation_type="fusion")) == "paused"


def capped(in_flight: int) -> User:
    """A user who has as many in flight as he may."""
    user: User = UserCapFactory.create(max_in_flight=in_flight).user
    for _ in range(in_flight):
        GenerationFactory.create(user=user, status=Status.PROCESSING)
    return user


def test_says_user_cap_when_its_user_has_as_many_in_flight_as_he_may() -> None:
    AccountFactory.create(limit=9)
    user = capped(2)
    waits, others = GenerationFactory.create(user=user), GenerationFactory.create()
    assert wait_reasons([waits, others]) == {waits.pk: "user_cap", others.pk: None}
    UserCap.objects.update(max_in_flight=3)
    assert reason(waits) is None


def test_says_user_cap_though_nothing_is_free_either() -> None:
    fill(AccountFactory.create(limit=1))
    assert reason(GenerationFactory.create(user=capped(1))) == "user_cap"


def test_says_no_account_where_the_cap_is_not_what_is_missing() -> None:
    AccountFactory.create(enabled=False)
    assert reason(GenerationFactory.create(user=capped(1))) == "no_account"


def test_says_daily_cap_until_midnight() -> None:
    account = AccountFactory.create(daily_cap=1)
    SubmissionFactory.create(account=account, state=State.SUCCEEDED)
    assert reason(GenerationFactory.create()) == "daily_cap"
    Account.objects.update(daily_cap=2)
    assert reason(GenerationFactory.create()) is None


def test_says_no_capacity_where_the_day_has_room_and_the_slots_have_none() -> None:
    account = AccountFactory.create(daily_cap=9, limit=1)
    fill(account)
    assert reason(GenerationFactory.create()) == "no_capacity"


def test_says_cooling_down_where_one_comes_back_before_midnight() -> None:
    SubmissionFactory.create(account=AccountFactory.create(daily_cap=1), state=State.SUCCEEDED)
    AccountFactory.create(cooldown_until=timezone.now() + LATER)
    assert reason(GenerationFactory.create()) == "cooling_down"


def test_offers_no_more_slots_than_the_day_has_left() -> None:
    account = AccountFactory.create(limit=5, daily_cap=3)
    SubmissionFactory.create(account=account, state=State.SUCCEEDED)
    SubmissionFactory.create(account=account, state=State.RESERVED)
    [standing] = standings()
    assert (standing.used_today, standing.left_today, standing.free) == (2, 1, 1)


def test_comes_back_from_a_daily_cap_when_its_cooldown_is_over_too() -> None:
    tomorrow = timezone.now() + timedelta(days=2)
    account = AccountFactory.create(daily_cap=1, cooldown_until=tomorrow)
    SubmissionFactory.create(account=account, state=State.SUCCEEDED)
    [standing] = standings()
    assert (standing.condition, standing.until, standing.comes_back) == (Condition.DAILY_CAP, tomorrow, True)


def test_says_below_its_floor_rather_than_exhausted_and_that_nothing_brings_it_back() -> None:
    AccountFactory.create(
        balance=Decimal(5), balance_floor=Decimal(9), exhausted_at=timezone.now(), probe_at=timezone.now() + LATER
    )
    [standing] = standings()
    assert (standing.condition, standing.until, standing.comes_back) == (Condition.LOW_BALANCE, None, False)
    assert reason(GenerationFactory.create()) == "no_account"


def test_answers_a_page_in_four_queries(django_assert_num_queries: Any) -> None:
    for _ in range(3):
        fill(AccountFactory.create(limit=2))
    AccountFactory.create(provider_id="modelslab", cooldown_until=timezone.now() + LATER)
    page = [GenerationFactory.create(provider_id=slug) for slug in ("pixverse", "modelslab") for _ in range(10)]
    AccountExclusion.objects.create(generation=page[0], account=Account.objects.all()[0], code="provider_auth")
    with django_assert_num_queries(3):  # the accounts, the caps, the pauses
        reasons = wait_reasons(page)
    UserCapFactory.create(user=page[0].user, max_in_flight=5)
    with django_assert_num_queries(4):  # and what those with caps have in flight
        wait_reasons(page)
    assert sorted(set(map(str, reasons.values()))) == ["cooling_down", "no_capacity"]
    with django_assert_num_queries(0):
        assert wait_reasons([]) == {}


def test_agrees_with_the_claim_on_which_accounts_are_usable() -> None:
    now = timezone.now()
    times = [None, now - LATER, now + LATER]
    for enabled in (True, False):
        for cooldown in times:
            for exhausted, probe in [(None, None), *((now, probe) for probe in times)]:
                for balance in (None, Decimal(0), Decimal(9)):
                    for refused in (None, now):
                        AccountFactory.create(
                            enabled=enabled,
                            cooldown_until=cooldown,
                            exhausted_at=exhausted,
                            probe_at=probe,
                            balance=balance,
                            balance_floor=5,
                            out_of_rotation_at=refused,
                        )
    usable = set(Account.objects.usable().values_list("pk", flat=True))
    assert usable
    assert {standing.id for standing in standings() if standing.usable} == usable


def test_tells_people_why_an_account_cannot_take_it() -> None:
    generation = GenerationFactory.create()
    expected: dict[str, tuple[dict[str, Any], str | None]] = {
        "off": ({"enabled": False}, "switched off"),
        "low": ({"balance": Decimal(1), "balance_floor": Decimal(5)}, "its balance of 1.0000 is below"),
        "cool": ({"cooldown_until": timezone.now() + LATER}, "cooling down"),
        "fine": ({}, None),
    }
    for label, (fields, _) in expected.items():
        AccountFactory.create(label=label, **fields)
    full = AccountFactory.create(label="full", limit=1)
    fill(full)
    refused = AccountFactory.create(label="refused")
    AccountExclusion.objects.create(generation=generation, account=refused, code="provider_credits")
    by_label: dict[str, Standing] = {one.label: one for one in standings(generations=[generation])}
    for label, (_, words) in expected.items():
        said = by_label[label].why_not(generation)
        assert said is None if words is None else words in str(said)
    assert by_label["full"].why_not(generation) == "its only slot is in use"
    assert "provider_credits" in str(by_label["refused"].why_not(generation))
    assert by_label["refused"].why_not() is None
    assert by_label["off"].condition == Condition.DISABLED
