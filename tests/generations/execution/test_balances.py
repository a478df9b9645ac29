"""The daily comparison: an account's balance falls by what its attempts cost, or a person is told."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from accounts.models import Account, BalanceReading
from generations.execution import balances, dispatch
from generations.intake.request import Request, accept
from generations.lifecycle import State, Status
from generations.models import Generation, Incident, Submission
from generations.reports.balances import newest, tone, words
from providers.sandbox.client import key_label
from tests.factories import AccountFactory, SubmissionFactory
from tests.generations.execution.studio import Studio, at_once

pytestmark = pytest.mark.django_db
together = pytest.mark.django_db(transaction=True)


def read_before(account: Account, balance: float, days: int = 1) -> BalanceReading:
    """What was read some days ago, and is final."""
    at = timezone.now() - timedelta(days=days)
    reading: BalanceReading = BalanceReading.objects.create(
        account=account, day=at.date(), balance=Decimal(str(balance)), read_at=at, settled_at=at
    )
    return reading


def read_now(account: Account, balance: float) -> BalanceReading:
    """Today's reading, settled as far as it may be."""
    reading = BalanceReading.objects.create(account=account, day=timezone.now().date(), balance=Decimal(str(balance)))
    balances.settle()
    return BalanceReading.objects.get(pk=reading.pk)


def attempt(account: Account, cost: float | None, state: State = State.SUCCEEDED, **fields: Any) -> Submission:
    made: Submission = SubmissionFactory.create(
        account=account,
        state=state,
        cost=None if cost is None else Decimal(str(cost)),
        **{"sent_at": timezone.now() - timedelta(hours=3), **fields},
    )
    return made


class TestReading:
    """Once a day."""

    def test_keeps_each_accounts_balance_of_the_day(self, studio: Studio) -> None:
        account = studio.account(key="sandbox")
        studio.sandbox.set_key("modelslab", account.credentials["api_key"], balance=43.6)

        assert balances.read() == 1

        reading = BalanceReading.objects.get()
        assert (reading.account, reading.day, reading.balance) == (account, timezone.now().date(), Decimal("43.6"))
        account.refresh_from_db()
        assert account.balance == Decimal("43.6"), "what was asked for is known everywhere"

    def test_asks_once_a_day_however_often_it_is_called(self, studio: Studio) -> None:
        account = studio.account()
        for _ in range(3):
            balances.compare()

        label = key_label("modelslab", account.credentials["api_key"])
        assert len(studio.sandbox.record(kind="balance", key=label)) == 1
        assert BalanceReading.objects.count() == 1

    def test_tries_again_when_the_provider_did_not_answer(self, studio: Studio) -> None:
        silent = studio.account(base_url="http://127.0.0.1:9")
        answers = studio.account()

        balances.compare()
        assert [row.account for row in BalanceReading.objects.all()] == [answers]

        Account.objects.filter(pk=silent.pk).update(base_url=answers.base_url)
        balances.compare()
        assert BalanceReading.objects.filter(account=silent).exists()

    def test_reads_what_is_off_only_while_it_was_used_lately(self, studio: Studio) -> None:
        now = timezone.now()
        studio.account(enabled=False)
        used = studio.account(enabled=False, last_used_at=now - timedelta(hours=5))
        studio.account(out_of_rotation_at=now)

        balances.read()

        assert [row.account for row in BalanceReading.objects.all()] == [used]

    @together
    def test_keeps_one_for_two_beats_at_once(self, studio: Studio) -> None:
        account = studio.account()
        read_before(account, 10**9)  # a drift that is an incident

        results = at_once(*[balances.compare] * 4)

        assert results == [None] * 4
        balances.settle()
        assert BalanceReading.objects.filter(day=timezone.now().date()).count() == 1
        assert Incident.objects.filter(kind=Incident.Kind.DRIFT).count() == 1


class TestExpected:
    """The reading before, less what attempts cost since."""

    def test_compares_the_first_with_nothing(self) -> None:
        reading = read_now(AccountFactory.create(), 100)

        assert (reading.expected, reading.drift, reading.settled_at is not None) == (None, None, True)
        assert words(reading) == "The first reading; there is nothing to compare it with."

    def test_takes_off_what_attempts_cost(self) -> None:
        account = AccountFactory.create()
        read_before(account, 1000)
        for _ in range(3):
            attempt(account, 45)

        reading = read_now(account, 865)

        assert (reading.expected, reading.drift, reading.spent) == (Decimal(865), Decimal(0), Decimal(135))
        assert (reading.attempts, reading.unpriced) == (3, 0)
        assert words(reading) == "As expected."
        assert not Incident.objects.exists()

    def test_counts_only_what_was_sent_between_the_two_on_this_account(self) -> None:
        account = AccountFactory.create()
        read_before(account, 1000)
        attempt(account, 45, sent_at=timezone.now() - timedelta(days=1, minutes=1))
        attempt(account, 45, sent_at=timezone.now() + timedelta(minutes=1))
        attempt(AccountFactory.create(), 45)

        assert read_now(account, 1000).drift == 0

    def test_looks_back_over_days_without_a_reading(self) -> None:
        account = AccountFactory.create()
        read_before(account, 1000, days=4)
        attempt(account, 45, sent_at=timezone.now() - timedelta(days=3))

        assert read_now(account, 955).drift == 0

    def test_counts_nothing_that_was_surely_not_billed(self) -> None:
        account = AccountFactory.create()
        read_before(account, 100)
        attempt(account, None, State.FAILED)  # refused
        attempt(
            account, None, State.FAILED, cost_at_risk=True, resolution=Submission.Resolution.NOT_BILLED
        )  # and a person has said so

        assert read_now(account, 100).attempts == 0

    def test_waits_until_its_attempts_have_ended(self) -> None:
        account = AccountFactory.create()
        read_before(account, 1000)
        running = attempt(account, None, State.ACCEPTED)

        reading = read_now(account, 955)
        assert (reading.settled_at, reading.unpriced) == (None, 1)
        assert words(reading).endswith("so this may still change.")

        Submission.objects.filter(pk=running.pk).update(state=State.SUCCEEDED, cost=45, ended_at=timezone.now())
        balances.settle()
        reading.refresh_from_db()
        assert (reading.drift, reading.unpriced, reading.settled_at is not None) == (Decimal(0), 0, True)

    def test_changes_nothing_that_is_final(self) -> None:
        account = AccountFactory.create()
        read_before(account, 1000)
        reading = read_now(account, 1000)
        attempt(account, 45)

        balances.settle()

        reading.refresh_from_db()
        assert reading.drift == 0


class TestDrift:
    """What does not add up."""

    def test_tells_a_person_once_what_is_missing(self) -> None:
        account = AccountFactory.create(label="main")
        read_before(account, 1000)
        attempt(account, 45)

        reading = read_now(account, 800)
        balances.settle()

        incident = Incident.objects.get()
        assert (incident.kind, incident.account) == (Incident.Kind.DRIFT, account)
        assert "pixverse/main had 1000 credits on" in incident.detail
        assert "The 1 attempt between cost 45: 155 are missing." in incident.detail
        assert "usage list" in incident.detail
        assert (reading.drift, tone(reading)) == (Decimal(-155), "bad")
        assert "an incident was opened" in words(reading)

    def test_finds_what_was_billed_twice(self) -> None:
        account = AccountFactory.create()
        read_before(account, 1000)
        for _ in range(10):
            attempt(account, 45)

        read_now(account, 1000 - 11 * 45)

        assert Incident.objects.filter(kind=Incident.Kind.DRIFT).count() == 1

    def test_finds_what_went_though_nothing_was_sent(self) -> None:
        account = AccountFactory.create()
        read_before(account, 1000)

        assert read_now(account, 999).is_too_low
        assert Incident.objects.filter(kind=Incident.Kind.DRIFT).exists()

    def test_tolerates_a_small_share(self, limits: Any) -> None:
        account = AccountFactory.create()
        read_before(account, 10_000)
        for _ in range(100):
            attempt(account, 45)

        reading = read_now(account, 10_000 - 4500 - 90)

        assert (reading.drift, reading.tolerated) == (Decimal(-90), Decimal(90))
        assert (tone(reading), words(reading)) == ("good", "A little less than expected, within what is tolerated.")
        assert not Incident.objects.exists()

    def test_takes_a_top_up_for_what_it_is(self) -> None:
        account = AccountFactory.create()
        read_before(account, 100)
        attempt(account, 45)

        reading = read_now(account, 1055)

        assert (reading.drift, tone(reading)) == (Decimal(1000), "busy")
        assert words(reading) == "More than expected: it was topped up, by about 1000 or more."
        assert not Incident.objects.exists()

    def test_knows_that_failed_attempts_are_often_given_back(self) -> None:
        account = AccountFactory.create()
        read_before(account, 1000)
        attempt(account, 45)
        attempt(account, 45, State.FAILED, accepted_at=timezone.now())

        reading = read_now(account, 955)

        assert (reading.drift, reading.failed) == (Decimal(45), Decimal(45))
        assert words(reading) == "More than expected: the provider gave back what failed attempts had cost."

    def test_allows_for_what_did_not_say_its_cost_and_no_more(self) -> None:
        account, other = AccountFactory.create(), AccountFactory.create()
        for one in (account, other):
            read_before(one, 1000)
            attempt(one, 45)
            attempt(one, None, State.FAILED, cost_at_risk=True)

        assert not read_now(account, 910).is_too_low
        assert read_now(other, 700).is_too_low
        [incident] = Incident.objects.filter(kind=Incident.Kind.DRIFT)
        assert incident.account == other
        assert "1 of them did not say what they cost, which does not explain so much" in incident.detail

    def test_judges_nothing_where_no_attempt_says_what_it_cost(self) -> None:
        account = AccountFactory.create(provider_id="modelslab")
        read_before(account, 40)
        for _ in range(3):
            attempt(account, None)

        reading = read_now(account, 39.5)

        assert (reading.drift, reading.tolerated, reading.unpriced) == (Decimal("-0.5"), None, 3)
        assert words(reading) == "3 attempts did not say what they cost, so nobody can tell whether it is right."
        assert not Incident.objects.exists()

    def test_gives_the_newest_of_each_account_in_one_query(self, django_assert_num_queries: Any) -> None:
        account, other = AccountFactory.create(), AccountFactory.create()
        for days in (3, 2, 1):
            read_before(account, 100 * days, days=days)
        BalanceReading.objects.update(drift=0)
        read_before(other, 5)
        with django_assert_num_queries(1):
            found = newest()
        assert {pk: row.balance for pk, row in found.items()} == {account.pk: 100}


class TestWholeWay:
    """With a provider that tells its costs."""

    def test_agrees_with_the_provider_and_sees_when_it_takes_more(self, studio: Studio) -> None:
        account = studio.account("pixverse")
        key = account.credentials["api_key"]
        studio.sandbox.set_key("pixverse", key, balance=1000)
        read_before(account, 1000)
        request = Request("pixverse", "text_to_video", {"prompt": f"waves {uuid4().hex}"})
        generation = accept(studio.user.pk, request, actor="test").generation
        assert dispatch.dispatch("pixverse") == 1
        studio.poll_to_the_end(studio.attempt(generation))
        studio.collect()
        assert Generation.objects.get(pk=generation.pk).status == Status.COMPLETED

        balances.compare()

        reading = BalanceReading.objects.get(day=timezone.now().date())
        assert reading.spent > 0
        assert (reading.drift, reading.attempts, reading.unpriced) == (Decimal(0), 1, 0)
        assert not Incident.objects.filter(kind=Incident.Kind.DRIFT).exists()

        # Somebody else uses the same key.
        BalanceReading.objects.filter(pk=reading.pk).delete()
        studio.sandbox.set_key("pixverse", key, balance=float(reading.balance) - 100)
        balances.compare()
        assert BalanceReading.objects.get(day=timezone.now().date()).drift == -100
        assert Incident.objects.filter(kind=Incident.Kind.DRIFT, account=account).count() == 1


def test_one_bad_reading_keeps_no_other_from_being_settled() -> None:
    huge, fine = AccountFactory.create(), AccountFactory.create(provider_id="closed")
    for account, balance in ((huge, 9_999_999_999), (fine, 1000)):
        read_before(account, balance)
        BalanceReading.objects.create(account=account, day=timezone.now().date(), balance=-balance)

    balances.settle()

    settled = BalanceReading.objects.filter(day=timezone.now().date(), settled_at__isnull=False)
    assert [row.account for row in settled] == [fine]
