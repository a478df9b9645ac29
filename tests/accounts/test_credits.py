"""Credits: held once, then captured or released once, and never below zero."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Sum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts import credits
from accounts.credits import Movement, NotEnoughCredits
from accounts.models import LedgerEntry, Wallet
from tests.factories import PriceFactory, UserFactory, WalletFactory
from tests.together import together

pytestmark = pytest.mark.django_db
Kind = LedgerEntry.Kind


@pytest.fixture
def user() -> User:
    """Somebody with 100 credits."""
    user: User = WalletFactory.create(available=100).user
    return user


def of(user: User) -> tuple[int, int]:
    """(available, held)"""
    wallet = Wallet.objects.get(user=user)
    return wallet.available, wallet.held


def adds_up(user: User) -> bool:
    """Whether the wallet is the sum of its ledger."""
    sums = LedgerEntry.objects.filter(wallet_id=user.pk).aggregate(
        available=Sum("available_change", default=0), held=Sum("held_change", default=0)
    )
    return (sums["available"], sums["held"]) == of(user)


def kinds(reference: UUID) -> list[str]:
    return list(LedgerEntry.objects.filter(reference=reference).order_by("id").values_list("kind", flat=True))


def hold(user: User, amount: int, reference: UUID | None = None) -> Movement:
    movement = Movement(user.pk, reference or uuid4(), amount)
    with transaction.atomic():
        credits.hold([movement], actor="test")
    return movement


class TestPrices:
    """What an operation costs."""

    def test_is_free_without_a_price(self) -> None:
        assert credits.price_of("modelslab", "text_to_image", "flux", 1) is None

    def test_is_per_output(self) -> None:
        PriceFactory.create(credits=10)

        assert credits.price_of("modelslab", "text_to_image", "flux", 4) == 40

    def test_takes_the_most_specific(self) -> None:
        PriceFactory.create(credits=10)
        PriceFactory.create(credits=25, model="flux")

        assert credits.price_of("modelslab", "text_to_image", "flux", 1) == 25
        assert credits.price_of("modelslab", "text_to_image", "sdxl", 1) == 10
        assert credits.price_of("modelslab", "text_to_image", "", 1) == 10

    def test_takes_no_other_operation_s_or_provider_s(self) -> None:
        PriceFactory.create(credits=10)

        assert credits.price_of("modelslab", "text_to_video", "flux", 1) is None
        assert credits.price_of("pixverse", "text_to_image", "flux", 1) is None

    def test_makes_one_model_free(self) -> None:
        PriceFactory.create(credits=10)
        PriceFactory.create(credits=0, model="flux")

        assert credits.price_of("modelslab", "text_to_image", "flux", 3) is None


class TestGrants:
    """What an administrator gives and takes."""

    def test_makes_a_wallet(self) -> None:
        user = UserFactory.create()

        entry = credits.grant(user.pk, 30, reason="welcome", actor="admin:1")

        assert of(user) == (30, 0)
        assert (entry.kind, entry.available_change, entry.reason, entry.actor) == (Kind.GRANT, 30, "welcome", "admin:1")
        assert adds_up(user)

    def test_takes_at_most_what_is_available(self, user: User) -> None:
        hold(user, 40)

        with pytest.raises(NotEnoughCredits) as refused:
            credits.grant(user.pk, -61, reason="error", actor="admin:1", kind=Kind.ADJUSTMENT)
        assert (refused.value.balance, refused.value.required) == (60, 61)
        assert of(user) == (60, 40)

        credits.grant(user.pk, -60, reason="error", actor="admin:1", kind=Kind.ADJUSTMENT)
        assert of(user) == (0, 40)
        assert adds_up(user)

    def test_leaves_no_wallet_where_nothing_could_be_taken(self) -> None:
        user = UserFactory.create()

        with pytest.raises(NotEnoughCredits):
            credits.grant(user.pk, -1, reason="error", actor="admin:1", kind=Kind.ADJUSTMENT)

        assert not Wallet.objects.filter(user=user).exists()


class TestOnce:
    """What a key protects from being done twice."""

    def test_moves_credits_once_for_one_key(self, user: User) -> None:
        first, moved = credits.grant_once(user.pk, 30, reason="invoice 7", actor="admin:1", key="7")
        again, moved_again = credits.grant_once(user.pk, 30, reason="invoice 7", actor="admin:2", key="7")

        assert (moved, moved_again) == (True, False)
        assert again == first
        assert (first.kind, first.actor, first.key) == (Kind.GRANT, "admin:1", "7")
        assert of(user) == (130, 0)

    def test_takes_some_as_an_adjustment(self, user: User) -> None:
        entry, _ = credits.grant_once(user.pk, -30, reason="an error", actor="admin:1", key="8")

        assert (entry.kind, of(user)) == (Kind.ADJUSTMENT, (70, 0))

    @pytest.mark.parametrize(("amount", "reason"), [(31, "invoice 7"), (-30, "invoice 7"), (30, "invoice 8")])
    def test_refuses_the_key_for_anything_else(self, amount: int, reason: str, user: User) -> None:
        credits.grant_once(user.pk, 30, reason="invoice 7", actor="admin:1", key="7")

        with pytest.raises(credits.KeyTaken):
            credits.grant_once(user.pk, amount, reason=reason, actor="admin:1", key="7")

        assert of(user) == (130, 0)

    def test_keeps_users_keys_apart(self, user: User) -> None:
        other = UserFactory.create()
        for one in (user, other):
            credits.grant_once(one.pk, 1, reason="", actor="admin:1", key="7")

        assert (of(user), of(other)) == ((101, 0), (1, 0))

    def test_remembers_no_key_of_what_was_refused(self, user: User) -> None:
        with pytest.raises(NotEnoughCredits):
            credits.grant_once(user.pk, -101, reason="", actor="admin:1", key="7")

        credits.grant_once(user.pk, -1, reason="", actor="admin:1", key="7")
        assert of(user) == (99, 0)


class TestRefunds:
    """What was spent, given back."""

    def spent(self, user: User, amount: int) -> Movement:
        movement = hold(user, amount)
        credits.capture([movement], actor="test")
        return movement

    def test_makes_credits_available_again(self, user: User) -> None:
        movement = self.spent(user, 30)
        with transaction.atomic():
            entry = credits.refund(movement, reason="it is ugly", actor="admin:1")

        assert (entry.kind, entry.available_change, entry.held_change) == (Kind.REFUND, 30, 0)
        assert (entry.reason, entry.actor, entry.reference) == ("it is ugly", "admin:1", movement.reference)
        assert of(user) == (100, 0)
        assert adds_up(user)

    def test_is_done_once(self, user: User) -> None:
        movement = self.spent(user, 30)
        with transaction.atomic():
            credits.refund(movement, reason="", actor="admin:1")
        with pytest.raises(IntegrityError, match="ledger_once_per_reference"), transaction.atomic():
            credits.refund(movement, reason="", actor="admin:1")

        assert of(user) == (100, 0)

    def test_refuses_a_key_that_has_moved_something_else(self, user: User) -> None:
        movement = self.spent(user, 30)
        credits.grant_once(user.pk, 30, reason="", actor="admin:1", key="7")

        with pytest.raises(credits.KeyTaken), transaction.atomic():
            credits.refund(movement, reason="", actor="admin:1", key="7")


class TestMoves:
    """Hold, capture, release."""

    def test_sets_aside(self, user: User) -> None:
        movement = hold(user, 30)

        assert of(user) == (70, 30)
        entry = LedgerEntry.objects.get(reference=movement.reference)
        assert (entry.kind, entry.available_change, entry.held_change, entry.actor) == (Kind.HOLD, -30, 30, "test")

    def test_spends_what_was_held(self, user: User) -> None:
        movement = hold(user, 30)
        credits.capture([movement], actor="test")

        assert of(user) == (70, 0)
        assert kinds(movement.reference) == [Kind.HOLD, Kind.CAPTURE]
        assert adds_up(user)

    def test_gives_back_what_was_held(self, user: User) -> None:
        movement = hold(user, 30)
        credits.release([movement], actor="test")

        assert of(user) == (100, 0)
        assert kinds(movement.reference) == [Kind.HOLD, Kind.RELEASE]
        assert adds_up(user)

    def test_holds_to_the_last_credit(self, user: User) -> None:
        hold(user, 100)

        assert of(user) == (0, 100)

    def test_refuses_more_than_there_is(self, user: User) -> None:
        with pytest.raises(NotEnoughCredits, match="101 credits are needed and 100 are available") as refused:
            hold(user, 101)

        assert (refused.value.balance, refused.value.required) == (100, 101)
        assert of(user) == (100, 0)
        assert LedgerEntry.objects.filter(kind=Kind.HOLD).count() == 0

    def test_refuses_somebody_without_a_wallet(self) -> None:
        with pytest.raises(NotEnoughCredits) as refused:
            hold(UserFactory.create(), 1)

        assert refused.value.balance == 0

    def test_holds_all_or_none(self, user: User) -> None:
        poor = WalletFactory.create(available=5).user
        movements = [Movement(user.pk, uuid4(), 50), Movement(user.pk, uuid4(), 50), Movement(poor.pk, uuid4(), 6)]

        with pytest.raises(NotEnoughCredits), transaction.atomic():
            credits.hold(movements, actor="test")

        assert (of(user), of(poor)) == ((100, 0), (5, 0))
        assert adds_up(user)

    def test_counts_all_of_one_user_together(self, user: User) -> None:
        with pytest.raises(NotEnoughCredits) as refused, transaction.atomic():
            credits.hold([Movement(user.pk, uuid4(), 51), Movement(user.pk, uuid4(), 50)], actor="test")

        assert refused.value.required == 101

    def test_settles_those_of_several_users_together(self, user: User) -> None:
        other = WalletFactory.create(available=10).user
        movements = [hold(user, 30), hold(other, 10), hold(user, 20)]

        credits.capture(movements, actor="test")

        assert (of(user), of(other)) == ((50, 0), (0, 0))
        assert adds_up(user)
        assert adds_up(other)

    @pytest.mark.parametrize("move", [credits.capture, credits.release])
    def test_refuses_to_settle_twice(self, user: User, move: Callable[..., None]) -> None:
        hold(user, 30)  # so that the wallet itself could not tell
        movement = hold(user, 30)
        move([movement], actor="test")
        before = of(user)

        with pytest.raises(IntegrityError, match="ledger_once_per_reference"), transaction.atomic():
            move([movement], actor="test")

        assert of(user) == before
        assert adds_up(user)

    def test_refuses_to_hold_twice(self, user: User) -> None:
        movement = hold(user, 10)

        with pytest.raises(IntegrityError, match="ledger_once_per_reference"):
            hold(user, 10, movement.reference)

        assert of(user) == (90, 10)

    def test_refuses_to_settle_more_than_is_held(self, user: User) -> None:
        with pytest.raises(IntegrityError, match="wallet_never_negative"), transaction.atomic():
            credits.capture([Movement(user.pk, uuid4(), 1)], actor="test")

        assert of(user) == (100, 0)

    def test_does_nothing_for_nobody(self) -> None:
        credits.hold([], actor="test")
        credits.capture([], actor="test")
        credits.release([], actor="test")

        assert LedgerEntry.objects.count() == 0


def take(user: User, amount: int) -> LedgerEntry:
    return credits.grant(user.pk, -amount, reason="", actor="test", kind=Kind.ADJUSTMENT)


Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["grant", "take", "hold", "capture", "release"]), st.integers(0, 60)), max_size=25
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_adds_up_whatever_happens(db: None, steps: list[Step]) -> None:
    user = UserFactory.create()
    credits.grant(user.pk, 50, reason="", actor="test")
    available, holding = 50, list[Movement]()
    for step, amount in steps:
        match step:
            case "grant":
                credits.grant(user.pk, amount, reason="", actor="test")
                available += amount
            case "take" | "hold" if amount > available:
                with pytest.raises(NotEnoughCredits):
                    hold(user, amount) if step == "hold" else take(user, amount)
            case "take":
                take(user, amount)
                available -= amount
            case "hold":
                holding.append(hold(user, amount))
                available -= amount
            case "capture" if holding:
                credits.capture([holding.pop(amount % len(holding))], actor="test")
            case "release" if holding:
                movement = holding.pop(amount % len(holding))
                credits.release([movement], actor="test")
                available += movement.amount
        assert of(user) == (available, sum(movement.amount for movement in holding))
    assert adds_up(user)


@pytest.mark.usefixtures("transactional_db")
class TestTogether:
    """Several at the same moment."""

    def test_never_holds_more_than_there_is(self) -> None:
        user = WalletFactory.create(available=100).user

        results = together([partial(hold, user, 15)] * 20)

        assert sum(isinstance(result, Movement) for result in results) == 6
        assert sum(isinstance(result, NotEnoughCredits) for result in results) == 14
        assert of(user) == (10, 90)
        assert adds_up(user)

    def test_grants_once_for_one_key(self) -> None:
        user = UserFactory.create()

        results = together([partial(credits.grant_once, user.pk, 7, reason="", actor="test", key="the one")] * 16)

        assert not [result for result in results if isinstance(result, Exception)]
        assert [result[1] for result in results if not isinstance(result, Exception)].count(True) == 1
        assert of(user) == (7, 0)
        assert adds_up(user)

    @pytest.mark.parametrize("moves", [[credits.capture] * 8, [credits.release] * 8], ids=["capture", "release"])
    def test_settles_once(self, moves: list[Callable[..., None]]) -> None:
        user = WalletFactory.create(available=100).user
        for _ in range(8):
            hold(user, 10)  # what a second settling would eat into
        movement = hold(user, 10)

        def settle(move: Callable[..., None]) -> None:
            with transaction.atomic():
                move([movement], actor="test")

        results = together([partial(settle, move) for move in moves])

        assert [result for result in results if not isinstance(result, IntegrityError)] == [None]
        assert len(kinds(movement.reference)) == 2
        assert adds_up(user)

    def test_takes_wallets_in_one_order(self) -> None:
        one, other = (WalletFactory.create(available=1000).user for _ in range(2))

        def both(first: User, second: User) -> None:
            with transaction.atomic():
                credits.hold([Movement(first.pk, uuid4(), 1), Movement(second.pk, uuid4(), 1)], actor="test")

        results = together([partial(both, one, other), partial(both, other, one)] * 15, threads=6)

        assert results == [None] * 30  # and nobody was caught in a deadlock
        assert (of(one), of(other)) == ((970, 30), (970, 30))
