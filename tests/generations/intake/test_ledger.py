"""What operators do with credits: once, with a reason, and only with what was spent."""

from __future__ import annotations

from collections import Counter
from functools import partial
from uuid import uuid4

import pytest

from accounts.models import LedgerEntry, Wallet
from generations.intake.errors import Conflict, Invalid, KeyReused
from generations.intake.ledger import Booked, book, refund
from generations.lifecycle import Status
from generations.models import Event, Generation
from generations.reports import audit
from generations.reports.explain import explain
from generations.reports.timeline import timeline
from tests.factories import GenerationFactory, UserFactory, WalletFactory, completed_generation, paid_generation
from tests.together import together

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("_own_files")]


def available(generation: Generation) -> int:
    return Wallet.objects.get(user=generation.user_id).available


class TestRefund:
    """Back to the user."""

    def test_gives_back_all_that_it_has_cost_with_reason_and_actor(self) -> None:
        made = paid_generation(price=30)
        entry = refund(made.pk, reason="it is ugly", actor="admin:7").entry

        assert (entry.kind, entry.available_change, entry.reason, entry.actor) == (
            "refund",
            30,
            "it is ugly",
            "admin:7",
        )
        assert available(made) == 100
        event = made.events.get(kind=Event.Kind.REFUNDED)
        assert (event.actor, event.data) == ("admin:7", {"amount": 30, "of": 30, "message": "it is ugly"})
        made.refresh_from_db()
        assert made.status == Status.COMPLETED, "the result stays"
        assert audit.run() == []

    def test_gives_back_some_of_it(self) -> None:
        made = paid_generation(price=40)
        refund(made.pk, reason="one of four is missing", amount=10, actor="admin:7")

        assert available(made) == 70
        assert audit.run() == []

    def test_is_told_in_the_timeline_and_explained(self) -> None:
        made = paid_generation(price=1500, available=2000)
        refund(made.pk, reason="it is ugly", amount=1200, actor="admin:7")

        texts = [line["text"] for line in timeline(made)]
        assert "An operator gave back what it had cost (it is ugly)." in texts
        assert "1,200 credits were refunded." in texts
        told = explain(made)
        assert "1,200 of its 1,500 credits were given back" in told["summary"]
        assert told["generation"]["refunded"] == 1200

    def test_is_done_once(self) -> None:
        made = paid_generation(price=30)
        refund(made.pk, reason="first", amount=10, actor="admin:7")

        with pytest.raises(Conflict, match="10 credits were given back for it already") as refused:
            refund(made.pk, reason="second", amount=10, actor="admin:8")

        assert (refused.value.code, refused.value.extra["generation"]) == ("already_refunded", str(made.pk))
        assert available(made) == 80

    @pytest.mark.parametrize("amount", [0, -1, 31])
    def test_refuses_more_than_it_has_cost_and_nothing(self, amount: int) -> None:
        made = paid_generation(price=30)

        with pytest.raises(Invalid, match="Give back 1 to 30"):
            refund(made.pk, reason="", amount=amount, actor="admin:7")

        assert available(made) == 70

    @pytest.mark.parametrize("status", [Status.PENDING, Status.PROCESSING, Status.FAILED, Status.CANCELLED])
    def test_refuses_what_was_never_spent(self, status: Status) -> None:
        made = GenerationFactory.create(status=status, price=10)

        with pytest.raises(Conflict) as refused:
            refund(made.pk, reason="", actor="admin:7")

        assert refused.value.code == "not_refundable"
        assert not LedgerEntry.objects.exists()

    def test_refuses_what_was_free(self) -> None:
        with pytest.raises(Conflict, match="free of credits"):
            refund(completed_generation().pk, reason="", actor="admin:7")

    def test_says_that_there_is_none(self) -> None:
        with pytest.raises(Generation.DoesNotExist):
            refund(uuid4(), reason="", actor="admin:7")

    def test_answers_the_same_key_with_the_same_entry(self) -> None:
        made = paid_generation(price=30)
        first = refund(made.pk, reason="ugly", actor="user:7", key="a key")
        again = refund(made.pk, reason="ugly", actor="user:7", key="a key")

        assert (again.entry, first.replayed, again.replayed) == (first.entry, False, True)
        assert available(made) == 100
        with pytest.raises(Conflict):
            refund(made.pk, reason="another", actor="user:7", key="a key")

    def test_refuses_a_key_that_has_moved_other_credits(self) -> None:
        made = paid_generation(price=30)
        book(made.user_id, 5, reason="a gift", actor="user:7", key="a key")

        with pytest.raises(KeyReused):
            refund(made.pk, reason="ugly", actor="user:7", key="a key")

        assert available(made) == 75
        assert not made.events.filter(kind=Event.Kind.REFUNDED).exists()

    @pytest.mark.usefixtures("transactional_db")
    @pytest.mark.parametrize("key", ["", "a key"], ids=["without a key", "with a key"])
    def test_happens_once_when_many_ask_at_once(self, key: str) -> None:
        made = paid_generation(price=30)

        results = together([partial(refund, made.pk, reason="ugly", actor="admin:7", key=key)] * 12)

        kinds = Counter(type(one) for one in results)
        assert kinds == ({Booked: 12} if key else {Booked: 1, Conflict: 11})
        assert sum(isinstance(one, Booked) and not one.replayed for one in results) == 1
        assert available(made) == 100
        assert LedgerEntry.objects.filter(kind="refund").count() == 1
        assert Event.objects.filter(kind="refunded").count() == 1
        assert audit.run() == []


class TestBook:
    """Grants, and adjustments that take some."""

    def test_says_how_much_could_be_taken(self) -> None:
        user = WalletFactory.create(available=20).user

        with pytest.raises(Conflict, match="Only 20 credits are available, so 21 cannot be taken") as refused:
            book(user.pk, -21, reason="an error", actor="user:7", key="a key")

        assert refused.value.code == "would_overdraw"
        assert (refused.value.extra["balance"], refused.value.extra["required"]) == (20, 21)

    def test_refuses_the_key_for_another_amount(self) -> None:
        user = UserFactory.create()
        book(user.pk, 5, reason="a gift", actor="user:7", key="a key")

        with pytest.raises(KeyReused):
            book(user.pk, 6, reason="a gift", actor="user:7", key="a key")
