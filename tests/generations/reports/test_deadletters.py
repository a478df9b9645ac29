"""Dead letters: what failed and has had no later answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from generations.lifecycle import State, Status
from generations.models import DeadLetter, Generation
from generations.reports import deadletters
from generations.reports.deadletters import Filters, Group, groups, letters, recent
from tests.factories import AccountFactory, GenerationFactory, SubmissionFactory, UserFactory

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
SINCE, UNTIL = NOON - timedelta(hours=12), NOON + timedelta(hours=12)


def of_the_day(**narrow: Any) -> Filters:
    """All that failed on the day of ``NOON``."""
    return Filters(since=SINCE, until=UNTIL, **narrow)


def failed(at: datetime = NOON, **fields: Any) -> Generation:
    """One that failed at this time."""
    made = GenerationFactory.create(status=Status.FAILED, **fields)
    Generation.objects.filter(pk=made.pk).update(created_at=at - timedelta(minutes=1), completed_at=at)
    return made


def attempt(of: Generation, account: Any) -> None:
    SubmissionFactory.create(generation=of, account=account, state=State.FAILED)


def same(of: Generation, **fields: Any) -> Generation:
    """The same request once more."""
    made = GenerationFactory.create(user=of.user, raw_params=of.raw_params, **fields)
    assert made.fingerprint == of.fingerprint
    return made


def asked(one: Generation, at: datetime) -> None:
    Generation.objects.filter(pk=one.pk).update(created_at=at)


class TestOne:
    """What is a dead letter."""

    def test_is_what_failed(self) -> None:
        letter = failed()
        for status in set(Status) - {Status.FAILED}:
            GenerationFactory.create(status=status)

        assert list(DeadLetter.objects.all()) == [letter]

    @pytest.mark.parametrize("status", list(Status))
    def test_is_none_that_was_retried_however_that_went(self, status: Status) -> None:
        letter = failed()
        retry = GenerationFactory.create(retry_of=letter, status=status)

        assert list(DeadLetter.objects.all()) == ([retry] if status == Status.FAILED else [])

    @pytest.mark.parametrize("status", [Status.PENDING, Status.PROCESSING, Status.COMPLETED])
    def test_is_none_whose_request_was_asked_for_again(self, status: Status) -> None:
        letter = failed()
        asked(same(letter, status=status), NOON)

        assert not DeadLetter.objects.exists()

    @pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
    def test_is_one_whose_request_was_asked_for_again_in_vain(self, status: Status) -> None:
        letter = failed()
        asked(same(letter, status=status), NOON)

        assert letter in DeadLetter.objects.all()

    def test_is_one_that_was_wanted_beside_an_earlier_answer(self) -> None:
        letter = failed()
        asked(same(letter, status=Status.COMPLETED), NOON - timedelta(days=3))

        assert list(DeadLetter.objects.all()) == [letter]

    def test_is_one_whatever_others_have_got_for_the_same(self) -> None:
        letter = failed()
        GenerationFactory.create(raw_params=letter.raw_params, status=Status.COMPLETED)

        assert list(DeadLetter.objects.all()) == [letter]

    def test_is_none_that_a_person_has_dismissed(self) -> None:
        Generation.objects.filter(pk=failed().pk).update(dismissed_at=timezone.now())

        assert not DeadLetter.objects.exists()


class TestFilters:
    """Which ones are meant."""

    def test_mean_all_that_failed_in_the_time(self) -> None:
        first, last = failed(SINCE), failed(UNTIL - timedelta(microseconds=1))
        failed(SINCE - timedelta(microseconds=1))
        failed(UNTIL)

        assert set(letters(of_the_day())) == {first, last}

    def test_narrow_down(self) -> None:
        account = AccountFactory.create(provider_id="modelslab")
        letter = failed(provider_id="modelslab", error_code="no_output")
        attempt(letter, account)
        other = failed()
        attempt(other, AccountFactory.create())

        for narrow in (
            {"codes": ("no_output", "x")},
            {"provider_id": "modelslab"},
            {"account": account.pk},
            {"user_id": letter.user_id},
            {"ids": (letter.pk,)},
        ):
            assert list(letters(of_the_day(**narrow))) == [letter], narrow

    def test_take_the_account_of_the_last_attempt(self) -> None:
        first, last = AccountFactory.create(), AccountFactory.create()
        letter, never = failed(), failed()
        attempt(letter, first)
        attempt(letter, last)

        assert list(letters(of_the_day(account=last.pk))) == [letter]
        assert not letters(of_the_day(account=first.pk)).exists()
        assert list(letters(of_the_day(account="none"))) == [never]


class TestGroups:
    """By code, provider and account, hour by hour."""

    def test_count_what_belongs_together(self) -> None:
        account, user = AccountFactory.create(label="main"), UserFactory.create()
        times = [NOON, NOON + timedelta(minutes=30), NOON + timedelta(hours=2, minutes=5)]
        made = [failed(at, user=user, price=10, error_message=f"no. {n}") for n, at in enumerate(times)]
        made.append(failed(NOON, error_message="another's"))
        for one in made:
            attempt(one, account)

        told = groups(of_the_day())

        assert (told.number, told.capped) == (4, False)
        assert told.groups == [
            Group(
                code="provider_failed",
                provider_id="pixverse",
                account=account.pk,
                account_label="main",
                number=4,
                users=2,
                first_at=NOON,
                last_at=times[2],
                price=30,
                newest=made[2].pk,
                message="no. 2",
                hours={NOON: 3, NOON + timedelta(hours=2): 1},
            )
        ]

    def test_keep_codes_providers_and_accounts_apart_the_newest_first(self) -> None:
        one, two = AccountFactory.create(), AccountFactory.create()
        for minutes, account, fields in (
            (0, one, {}),
            (1, two, {}),
            (2, one, {"error_code": "no_output"}),
            (3, None, {"provider_id": "modelslab"}),
            (4, None, {}),
        ):
            letter = failed(NOON + timedelta(minutes=minutes), **fields)
            if account:
                attempt(letter, account)

        told = groups(of_the_day()).groups

        assert [(group.code, group.provider_id, group.account) for group in told] == [
            ("provider_failed", "pixverse", None),
            ("provider_failed", "modelslab", None),
            ("no_output", "pixverse", one.pk),
            ("provider_failed", "pixverse", two.pk),
            ("provider_failed", "pixverse", one.pk),
        ]

    def test_are_none_where_nothing_died(self) -> None:
        assert groups(of_the_day()) == deadletters.Groups([], number=0, capped=False)

    def test_are_read_in_one_query(self) -> None:
        for _ in range(3):
            failed(error_code=f"code_{Generation.objects.count()}")

        with CaptureQueriesContext(connection) as caught:
            assert len(groups(of_the_day()).groups) == 3

        assert len(caught) == 1

    def test_say_when_they_are_of_the_newest_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(deadletters, "MOST", 3)
        for minutes in range(5):
            failed(NOON + timedelta(minutes=minutes))

        told = groups(of_the_day())

        assert (told.number, told.capped) == (3, True)
        assert told.groups[0].first_at == NOON + timedelta(minutes=2)

    def test_leave_out_the_oldest_where_there_are_too_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(deadletters, "MOST_GROUPS", 2)
        for minutes in range(3):
            failed(NOON + timedelta(minutes=minutes), error_code=f"code_{minutes}")

        told = groups(of_the_day())

        assert [group.code for group in told.groups] == ["code_2", "code_1"]
        assert told.number == 3


def test_finds_them_by_the_index_on_their_time() -> None:
    failed()
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    plan = letters(of_the_day()).order_by("-completed_at")[:50].explain()

    assert "generation_dead_letter" in plan


def test_counts_those_of_the_last_day_up_to_a_limit() -> None:
    now = timezone.now()
    for _ in range(3):
        failed(now - timedelta(hours=23))
    failed(now - timedelta(hours=25))

    assert (recent(), recent(2)) == (3, 2)
