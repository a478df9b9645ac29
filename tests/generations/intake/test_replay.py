"""Replaying many dead letters: looked at first, each once, no faster than is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Account, Price, UserCap, Wallet
from generations.intake import replay as replaying
from generations.intake.cancel import cancel
from generations.intake.errors import Conflict, Invalid
from generations.intake.replay import Plan, Progress, one_by_one, plan, replay
from generations.intake.retry import retry
from generations.lifecycle import State, Status
from generations.models import DeadLetter, Event, Generation, Switch
from generations.reports.deadletters import Filters
from tests.factories import (
    AccountFactory,
    GenerationFactory,
    PriceFactory,
    SubmissionFactory,
    UserFactory,
    WalletFactory,
)
from tests.together import together

pytestmark = pytest.mark.django_db


@pytest.fixture
def account(db: None) -> Account:
    """One that may serve everybody."""
    return AccountFactory.create()


def failed(**fields: Any) -> Generation:
    return GenerationFactory.create(status=Status.FAILED, **fields)


def everything(**narrow: Any) -> Filters:
    """All that failed until now."""
    now = timezone.now()
    return Filters(since=now - timedelta(days=1), until=now + timedelta(seconds=1), **narrow)


def replayed(filters: Filters, per_minute: int | None = None) -> Progress:
    """All of it, slice by slice."""
    progress = Progress(total=0)
    while replay(filters, per_minute, progress, actor="admin:1"):
        pass
    return progress


def replayed_insisting() -> None:
    list(one_by_one(everything(), None, actor="a", most=10, insist=True))


def starts() -> list[datetime]:
    """When the retries are planned, in the order in which they were made."""
    rows = Generation.objects.filter(retry_of__isnull=False).order_by("pk")
    return [at for at in rows.values_list("scheduled_at", flat=True) if at is not None]


def seconds_between(times: list[datetime]) -> list[float]:
    return [(later - earlier).total_seconds() for earlier, later in pairwise(times)]


def possibly_billed(**fields: Any) -> Generation:
    """It failed, and an attempt of it is still open."""
    generation = failed(**fields)
    SubmissionFactory.create(generation=generation, state=State.UNKNOWN, abandoned_at=timezone.now())
    return generation


class TestAReplay:
    """What it does."""

    def test_makes_a_new_generation_of_each_letter_and_of_nothing_else(self, account: Account) -> None:
        one, two = failed(), failed()
        GenerationFactory.create(status=Status.COMPLETED)
        failed(error_code="no_output")

        progress = replayed(everything(codes=("provider_failed",)))

        assert (progress.seen, progress.done, progress.refused) == (2, 2, {})
        made = Generation.objects.filter(retry_of__isnull=False).order_by("pk")
        assert [row.retry_of for row in made] == [one, two]
        assert {event.actor for event in Event.objects.filter(kind="retried")} == {"admin:1"}
        assert DeadLetter.objects.count() == 1

    def test_starts_them_at_once_without_a_rate(self, account: Account) -> None:
        failed(), failed()

        replayed(everything())

        assert (
            list(Generation.objects.filter(retry_of__isnull=False).values_list("not_before", "scheduled_at"))
            == [(None, None)] * 2
        )

    def test_never_replays_what_may_still_be_billed(self, account: Account) -> None:
        letter = possibly_billed()

        progress = replayed(everything())

        assert (progress.done, progress.refused) == (0, {"possibly_billed": 1})
        assert not letter.retries.exists()

    def test_is_insisted_on_for_letters_that_are_named(self, account: Account) -> None:
        letter, other = possibly_billed(), possibly_billed()
        named = everything(ids=(letter.pk,))

        for foretell in (plan(named, None), plan(named, None, insist=True)):
            assert foretell.refused == ({} if foretell.replayable else {"possibly_billed": 1})
        [told] = one_by_one(named, None, actor="a", most=10, insist=True)

        assert told.retry == letter.retries.get()
        assert not other.retries.exists()
        for call in (lambda: plan(everything(), None, insist=True), replayed_insisting):
            with pytest.raises(Invalid) as refused:
                call()
            assert refused.value.code == "insist_names_none"
        assert not other.retries.exists()

    def test_goes_on_after_a_refusal(self, account: Account) -> None:
        PriceFactory.create(provider_id="pixverse", operation_type="text_to_video", credits=30)
        poor = WalletFactory.create(available=5).user
        failed(user=poor)
        rich = failed(user=WalletFactory.create(available=100).user)

        progress = replayed(everything())

        assert (progress.done, progress.refused) == (1, {"insufficient_credits": 1})
        assert progress.why["insufficient_credits"].startswith("This costs 30 credits and you have 5.")
        assert rich.retries.get().price == 30
        assert Wallet.objects.get(user=poor).available == 5

    def test_stops_at_its_limit(self, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(replaying, "MOST", 3)
        for _ in range(5):
            failed()

        progress = replayed(everything())

        assert (progress.seen, progress.done, DeadLetter.objects.count()) == (3, 3, 2)

    def test_is_done_in_slices_that_go_on_where_the_last_one_stopped(
        self, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(replaying, "SLICE_SECONDS", 0)
        monkeypatch.setattr(replaying, "PAGE", 2)
        rows = [failed() for _ in range(4)]
        possibly_billed()
        progress = Progress(total=5)

        more = [replay(everything(), 60, progress, actor="a") for _ in range(6)]

        assert more == [True] * 5 + [False]
        assert (progress.seen, progress.done, progress.percent) == (5, 4, 100)
        assert [row.retries.count() for row in rows] == [1] * 4
        assert seconds_between(starts()) == [1.0] * 3

    def test_does_what_is_left_when_it_is_done_again(self, account: Account) -> None:
        for _ in range(3):
            failed()
        filters = everything()

        assert [replayed(filters).done for _ in range(2)] == [3, 0]

    def test_leaves_alone_what_failed_after_it_began(self, account: Account) -> None:
        letter = failed()
        now = timezone.now()
        Generation.objects.filter(pk=letter.pk).update(completed_at=now + timedelta(seconds=5))

        assert replayed(Filters(since=now - timedelta(days=1), until=now)).seen == 0


class TestTheRate:
    """How fast they start: planned in the database, nobody sleeps."""

    def test_spreads_them_evenly(self, account: Account) -> None:
        for _ in range(4):
            failed()
        before = timezone.now()

        replayed(everything(), 30)

        assert seconds_between(starts()) == [2.0, 2.0, 2.0]
        assert abs((starts()[0] - before).total_seconds()) < 60
        made = list(Generation.objects.filter(retry_of__isnull=False).order_by("pk"))
        assert made[0].not_before is None  # due at once
        assert [row.not_before for row in made[1:]] == starts()[1:]
        assert all(row.queue_until == row.scheduled_at + timedelta(days=7) for row in made[1:] if row.scheduled_at)

    def test_holds_over_replays_one_after_the_other(self, account: Account) -> None:
        for code in ("a", "b"):
            for _ in range(2):
                failed(error_code=code)

        replayed(everything(codes=("a",)), 60)
        replayed(everything(codes=("b",)), 60)

        assert seconds_between(starts()) == [1.0] * 3

    def test_holds_after_the_first_ones_have_started_and_ended(self, account: Account) -> None:
        failed(error_code="a"), failed(error_code="b")
        replayed(everything(codes=("a",)), 1)
        Generation.objects.filter(retry_of__isnull=False).update(status=Status.COMPLETED, completed_at=timezone.now())

        replayed(everything(codes=("b",)), 1)

        assert seconds_between(starts()) == [60.0]

    def test_is_of_each_provider(self, account: Account) -> None:
        AccountFactory.create(provider_id="modelslab")
        failed(), failed(), failed(provider_id="modelslab", operation_type="text_to_image")

        replayed(everything(), 1)

        made = Generation.objects.filter(retry_of__isnull=False)
        assert made.get(provider_id="modelslab").not_before is None
        assert made.filter(provider_id="pixverse", not_before__isnull=False).count() == 1

    def test_forgets_what_was_cancelled(self, account: Account) -> None:
        failed(error_code="a"), failed(error_code="a"), failed(error_code="b")
        replayed(everything(codes=("a",)), 1)
        for row in Generation.objects.filter(retry_of__isnull=False):
            cancel(row.pk, actor="a")

        replayed(everything(codes=("b",)), 1)

        assert Generation.objects.get(status=Status.PENDING).not_before is None

    def test_is_kept_by_no_refused_one(self, account: Account) -> None:
        possibly_billed()
        failed(), failed()

        replayed(everything(), 6)

        assert seconds_between(starts()) == [10.0]


class TestAPlan:
    """The dry run."""

    def mixed(self) -> dict[str, Generation]:
        """Letters, each with another thing in its way."""
        AccountFactory.create()
        PriceFactory.create(provider_id="pixverse", operation_type="text_to_video", credits=10)
        rich = WalletFactory.create(available=100).user
        poor = WalletFactory.create(available=15).user
        capped = WalletFactory.create(available=100).user
        UserCap.objects.create(user=capped, max_queued=1)
        free_of_all = failed(user=rich)
        twice = failed(user=rich, raw_params=free_of_all.raw_params)
        live = failed(user=rich)
        Generation.objects.filter(pk=live.pk).update(created_at=timezone.now() + timedelta(minutes=1))
        GenerationFactory.create(user=rich, raw_params=live.raw_params)  # asked for before, and under way still
        return {
            "": free_of_all,
            "live_twin": twice,
            "live_twin ": live,
            "possibly_billed": possibly_billed(user=rich),
            "invalid_params": failed(user=rich, raw_params={"prompt": "x", "quality": "9000p"}),
            "no_account": failed(user=rich, provider_id="modelslab", operation_type="text_to_image"),
            " ": failed(user=poor),
            "insufficient_credits": failed(user=poor),
            "  ": failed(user=capped),
            "user_cap_reached": failed(user=capped),
        }

    def test_foretells_what_the_replay_then_does(self) -> None:
        letters = self.mixed()
        expected = Counter(code.strip() for code in letters)
        passed = expected.pop("")

        told = plan(everything(), None)
        done = replayed(everything())

        assert told.refused == done.refused == dict(expected)
        assert (told.number, told.replayable) == (done.seen, done.done) == (len(letters), passed)
        assert set(told.why) == set(expected)
        assert all(told.why.values())

    def test_foretells_that_nothing_is_accepted_while_intake_is_stopped(self, account: Account) -> None:
        Switch.objects.create(key="intake", reason="moving house", actor="admin:1")
        failed(), possibly_billed()

        told = plan(everything(), None)

        assert told.refused == {"intake_stopped": 1, "possibly_billed": 1}
        assert "moving house" in told.why["intake_stopped"]
        assert replayed(everything()).refused == told.refused

    def test_changes_nothing(self) -> None:
        self.mixed()

        def state() -> list[Any]:
            return [
                list(Generation.objects.order_by("pk").values()),
                list(Wallet.objects.order_by("pk").values()),
                Event.objects.count(),
            ]

        before = state()
        plan(everything(), 30)

        assert state() == before

    def test_adds_up_todays_prices_for_each_user(self, account: Account) -> None:
        PriceFactory.create(provider_id="pixverse", operation_type="text_to_video", credits=10)
        PriceFactory.create(provider_id="pixverse", operation_type="text_to_video", model="v6", credits=40)
        rich, poor = WalletFactory.create(available=100).user, WalletFactory.create(available=25).user
        failed(user=rich, price=3)
        failed(user=rich, raw_params={"prompt": "x", "model": "v6"})
        for _ in range(4):
            failed(user=poor)

        told = plan(everything(), None)

        assert (told.replayable, told.price) == (4, 50 + 20)
        assert [(share.username, share.number, share.price, share.available, share.short) for share in told.users] == [
            (poor.username, 4, 40, 25, 15),
            (rich.username, 2, 50, 100, 0),
        ]
        assert told.refused == {"insufficient_credits": 2}

    def test_counts_a_user_without_a_wallet_as_one_without_credits(self, account: Account) -> None:
        PriceFactory.create(provider_id="pixverse", operation_type="text_to_video", credits=10)
        failed(user=UserFactory.create())

        told = plan(everything(), None)

        assert (told.refused, told.users[0].short) == ({"insufficient_credits": 1}, 10)

    def test_says_how_long_it_takes(self, account: Account) -> None:
        for _ in range(4):
            failed()

        assert plan(everything(), 30).seconds == 6.0
        assert plan(everything(), None).seconds == 0.0

    def test_begins_after_what_is_planned_already(self, account: Account) -> None:
        for code, number in (("a", 3), ("b", 2)):
            for _ in range(number):
                failed(error_code=code)
        replayed(everything(codes=("a",)), 1)
        planned = starts()

        told = plan(everything(codes=("b",)), 1)
        replayed(everything(codes=("b",)), 1)

        assert told.starts_at == planned[-1] + timedelta(minutes=1) == starts()[3]
        assert told.ends_at == starts()[4]

    def test_has_no_times_where_nothing_would_be_replayed(self) -> None:
        failed()

        told = plan(everything(), 30)

        assert (told.replayable, told.starts_at, told.ends_at, told.seconds) == (0, None, None, 0.0)
        assert told.refused == {"no_account": 1}

    def test_takes_an_account_that_comes_back_by_itself_for_one_that_may_serve(self, account: Account) -> None:
        Account.objects.update(cooldown_until=timezone.now() + timedelta(minutes=5))
        failed()

        assert plan(everything(), None).replayable == 1

    def test_says_when_there_are_more_than_one_replay_takes(
        self, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(replaying, "MOST", 2)
        failed(), failed()
        assert not plan(everything(), None).more
        failed()

        told = plan(everything(), None)

        assert (told.number, told.more) == (2, True)

    def test_costs_the_same_number_of_queries_for_many_as_for_few(self, account: Account) -> None:
        def cost() -> tuple[int, Plan]:
            with CaptureQueriesContext(connection) as caught:
                told = plan(everything(), 30)
            return len(caught), told

        failed(), possibly_billed()
        few, _ = cost()
        for _ in range(10):
            failed(), possibly_billed()
        many, told = cost()

        assert told.number == 22
        assert few == many


class TestOnce:
    """Whatever happens at the same time."""

    def test_is_no_second_retry_of_what_was_retried_and_has_failed_again(self, account: Account) -> None:
        letter = failed()
        first = retry(letter.pk, actor="a").generation
        Generation.objects.filter(pk=first.pk).update(
            status=Status.FAILED, completed_at=timezone.now(), active_fingerprint=None
        )

        with pytest.raises(Conflict) as refused:
            retry(letter.pk, actor="b", only_dead=True)

        assert refused.value.code == "not_dead"

    @pytest.mark.usefixtures("transactional_db")
    def test_replays_each_once_when_two_people_replay_the_same(self) -> None:
        AccountFactory.create()
        PriceFactory.create(provider_id="pixverse", operation_type="text_to_video", credits=1)
        user = WalletFactory.create(available=100).user
        rows = [failed(user=user) for _ in range(12)]
        filters = everything()

        results = together([partial(replayed, filters, 60)] * 3)

        assert all(isinstance(one, Progress) for one in results), results
        assert sum(one.done for one in results if isinstance(one, Progress)) == 12
        assert [row.retries.count() for row in rows] == [1] * 12
        # The rate is of all of them together.
        assert min(seconds_between(sorted(starts()))) >= 1.0
        wallet = Wallet.objects.get(user=user)
        assert (wallet.available, wallet.held) == (88, 12)

    @pytest.mark.usefixtures("transactional_db")
    def test_retries_one_once_while_its_owner_retries_it_too(self) -> None:
        AccountFactory.create()
        letter = failed()
        filters = everything()

        calls: list[Callable[[], object]] = [partial(replayed, filters), partial(retry, letter.pk, actor="user:1")]
        together(calls)

        assert letter.retries.count() == 1


def test_uses_the_price_of_the_day_of_the_replay(account: Account) -> None:
    PriceFactory.create(provider_id="pixverse", operation_type="text_to_video", credits=10)
    failed(user=WalletFactory.create(available=100).user, price=10)
    Price.objects.update(credits=25)

    assert plan(everything(), None).price == 25
    replayed(everything())
    assert Generation.objects.get(retry_of__isnull=False).price == 25
