"""Accepting: one answer for one request, paid once, all or nothing."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from accounts.models import LedgerEntry, Price, Wallet
from generations import wakeups
from generations.execution import settle
from generations.execution.settle import Ending
from generations.intake.errors import Conflict, Invalid, KeyReused, NotFound, PaymentRequired, Refusal
from generations.intake.inputs import InputRef
from generations.intake.request import Accepted, Idempotency
from generations.intake.store import Reuse
from generations.lifecycle import State, Status
from generations.models import Event, Generation, GenerationInput, IdempotencyKey, Submission
from tests.factories import (
    AccountFactory,
    AssetFactory,
    GenerationFactory,
    PriceFactory,
    SubmissionFactory,
    UserFactory,
    WalletFactory,
)
from tests.generations.intake.conftest import Ask, Scale
from tests.together import together

pytestmark = pytest.mark.django_db
KEY = Idempotency("the key", "aa")


def finish(generation: Generation, status: Status = Status.COMPLETED, *, days_ago: float = 0) -> Generation:
    """As the workers end one."""
    with transaction.atomic():
        settle.lock([generation.pk])
        assert settle.end([Ending(generation.pk, status)], actor="worker")
    if days_ago:
        Generation.objects.filter(pk=generation.pk).update(completed_at=F("completed_at") - timedelta(days=days_ago))
    generation.refresh_from_db()
    return generation


def nothing_was_written() -> bool:
    rows = Generation.objects.count() + Event.objects.count() + IdempotencyKey.objects.count()
    return rows + LedgerEntry.objects.exclude(kind="grant").count() + GenerationInput.objects.count() == 0


def of(user: User) -> tuple[int, int]:
    wallet = Wallet.objects.get(user=user)
    return wallet.available, wallet.held


class TestANewOne:
    """What is written."""

    def test_is_pending_and_has_the_claim(self, ask: Ask, user: User) -> None:
        accepted = ask(metadata={"scene": 3}, context={"variant": 1}, priority=7)

        generation = Generation.objects.get()
        assert (accepted.generation, accepted.reused, accepted.replayed) == (generation, False, False)
        assert (generation.user, generation.status, generation.priority) == (user, Status.PENDING, 7)
        assert generation.active_fingerprint == generation.fingerprint
        assert generation.raw_params == {"prompt": "a lighthouse"}
        assert generation.params["model_id"] == "flux"
        assert (generation.metadata, generation.context) == ({"scene": 3}, {"variant": 1})
        assert generation.queue_until == generation.created_at + timedelta(days=7)
        assert (generation.not_before, generation.price, generation.completed_at) == (None, None, None)

    def test_says_who_asked(self, ask: Ask, user: User) -> None:
        ask()

        assert list(Event.objects.values_list("kind", "actor")) == [("accepted", f"user:{user.pk}")]

    def test_waits_from_its_time_on(self, ask: Ask) -> None:
        at = timezone.now() + timedelta(hours=3)
        generation = ask(scheduled_at=at).generation

        assert (generation.scheduled_at, generation.not_before) == (at, at)
        assert generation.queue_until == at + timedelta(days=7)

    def test_is_due_at_once_when_its_time_is_over(self, ask: Ask) -> None:
        at = timezone.now() - timedelta(hours=3)
        generation = ask(scheduled_at=at).generation

        assert (generation.scheduled_at, generation.not_before) == (at, None)
        assert generation.queue_until == generation.created_at + timedelta(days=7)

    def test_keeps_its_inputs_in_their_order(self, ask: Ask, user: User) -> None:
        assets = [AssetFactory.create(role="input", user=user) for _ in range(2)]
        inputs = (InputRef("first_frame", assets[1].pk), InputRef("last_frame", assets[0].pk))

        generation = ask(provider_id="pixverse", operation_type="video_transition", inputs=inputs).generation

        assert list(generation.inputs.order_by("index").values_list("role", "asset")) == [
            ("first_frame", assets[1].pk),
            ("last_frame", assets[0].pk),
        ]

    def test_may_be_pinned_and_have_a_parent(self, ask: Ask, user: User) -> None:
        parent = ask().generation
        account = AccountFactory.create(provider_id="modelslab", owner=user)

        child = ask(prompt="another", account_id=account.pk, parent_id=parent.pk).generation

        assert (child.account, child.parent) == (account, parent)

    @pytest.mark.parametrize(
        ("fields", "code", "field"),
        [
            ({"provider_id": "nobody"}, "unknown_provider", "provider_id"),
            ({"operation_type": "video_extend"}, "unknown_operation", "operation_type"),
            ({"params": {}}, "invalid_params", "params.prompt"),
            ({"params": {"prompt": "x", "width": 511}}, "invalid_params", "params.width"),
            ({"params": {"prompt": "x", "wdth": 512}}, "invalid_params", "params.wdth"),
            ({"params": {"prompt": "x", "seed": True}}, "invalid_params", "params.seed"),
            ({"account_id": uuid4()}, "unknown_account", "account"),
            ({"parent_id": uuid4()}, "unknown_parent", "parent"),
            ({"inputs": (InputRef("image", uuid4()),)}, "invalid_input", "inputs"),
        ],
    )
    def test_is_refused_with_a_code_and_the_field(
        self, ask: Ask, fields: dict[str, Any], code: str, field: str
    ) -> None:
        with pytest.raises(Refusal) as refused:
            ask(**fields, idempotency=KEY)

        assert (refused.value.code, refused.value.field) == (code, field)
        assert isinstance(
            refused.value, NotFound if code.startswith("unknown_a") or code == "unknown_parent" else Invalid
        )
        assert nothing_was_written()

    def test_knows_no_accounts_or_parents_of_others(self, ask: Ask) -> None:
        other = UserFactory.create()
        theirs = AccountFactory.create(provider_id="modelslab", owner=other)
        elsewhere = AccountFactory.create(provider_id="pixverse")
        parent = GenerationFactory.create(user=other)

        for fields in ({"account_id": theirs.pk}, {"account_id": elsewhere.pk}, {"parent_id": parent.pk}):
            with pytest.raises(NotFound):
                ask(**fields)


class TestTheSameAgain:
    """Which Generation answers, as ``reuse`` says."""

    @pytest.mark.parametrize("reuse", ["completed", "in_flight"])
    @pytest.mark.parametrize("status", [Status.PENDING, Status.PROCESSING])
    def test_is_answered_by_a_live_one(self, ask: Ask, reuse: Reuse, status: Status) -> None:
        first = ask().generation
        Generation.objects.filter(pk=first.pk).update(status=status)

        again = ask(reuse=reuse)

        assert (again.generation, again.reused) == (first, True)
        assert Event.objects.count() == 1

    def test_is_answered_by_a_completed_one(self, ask: Ask) -> None:
        first = finish(ask().generation, days_ago=29.9)

        assert ask() == Accepted(first, reused=True)

    def test_is_made_anew_when_the_completed_one_is_old(self, ask: Ask) -> None:
        first = finish(ask().generation, days_ago=30.1)

        again = ask()

        assert not again.reused
        first.refresh_from_db()
        assert (first.active_fingerprint, again.generation.active_fingerprint) == (None, first.fingerprint)
        assert Event.objects.filter(generation=first, kind="claim_lost").count() == 1
        assert ask().generation == again.generation

    def test_reckons_the_age_by_the_limit(self, ask: Ask, scale: Scale) -> None:
        first = finish(ask().generation, days_ago=0.01)
        scale(reuse_days=0.02)
        assert ask().generation == first

        scale(reuse_days=0.005)
        assert ask().generation != first

    def test_is_made_anew_for_one_who_wants_no_completed_one(self, ask: Ask) -> None:
        first = finish(ask().generation)

        again = ask(reuse="in_flight")

        assert not again.reused
        assert again.generation.active_fingerprint == first.fingerprint
        assert ask(reuse="completed").generation == again.generation

    @pytest.mark.parametrize("status", [None, Status.COMPLETED])
    def test_is_made_anew_for_one_who_insists(self, ask: Ask, status: Status | None) -> None:
        first = ask().generation
        if status:
            finish(first, status)

        forced = [ask(reuse="none") for _ in range(2)]

        assert [(one.reused, one.generation.active_fingerprint) for one in forced] == [(False, None)] * 2
        assert ask().generation == first  # which keeps the claim
        assert Generation.objects.count() == 3

    @pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
    def test_is_made_anew_after_one_without_a_result(self, ask: Ask, status: Status) -> None:
        first = finish(ask().generation, status)

        again = ask()

        assert (again.reused, first.active_fingerprint) == (False, None)
        assert again.generation != first

    @pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
    @pytest.mark.parametrize("reuse", ["completed", "in_flight"])
    @pytest.mark.parametrize("state", [State.SENDING, State.UNKNOWN, State.ACCEPTED, State.COLLECTING])
    def test_is_refused_while_an_attempt_may_be_billed(
        self, ask: Ask, status: Status, reuse: Reuse, state: State
    ) -> None:
        first = ask().generation
        Generation.objects.filter(pk=first.pk).update(status=Status.PROCESSING)
        attempt = SubmissionFactory.create(generation=first, state=state, account__provider_id="modelslab")
        Submission.objects.filter(pk=attempt.pk).update(abandoned_at=timezone.now())
        finish(first, status)

        with pytest.raises(Conflict) as refused:
            ask(reuse=reuse, idempotency=KEY)
        assert (refused.value.code, refused.value.extra) == ("possibly_billed", {"generation": str(first.pk)})
        assert not IdempotencyKey.objects.exists()
        assert Generation.objects.count() == 1

        assert not ask(reuse="none").reused

        Submission.objects.filter(pk=attempt.pk).update(state=State.FAILED, ended_at=timezone.now())
        settle.give_up_claims([first.pk])
        assert not ask(reuse=reuse).reused

    def test_is_another_s_own(self, ask: Ask) -> None:
        first = finish(ask().generation)

        other = ask(by=UserFactory.create())

        assert not other.reused
        assert other.generation.fingerprint == first.fingerprint

    @pytest.mark.parametrize(
        ("fields", "reused"),
        [
            ({"metadata": {"scene": 4}}, True),
            ({"priority": 9}, True),
            ({"params": {"prompt": "  a lighthouse ", "width": 512.0, "model_id": "flux"}}, True),
            ({"context": {"variant": 1.0, "b": []}}, False),
            ({"prompt": "a Lighthouse"}, False),
            ({"provider_id": "pixverse", "operation_type": "text_to_video"}, False),
        ],
    )
    def test_is_known_by_what_makes_the_result(self, ask: Ask, fields: dict[str, Any], reused: bool) -> None:
        ask()

        assert ask(**fields).reused is reused

    def test_differs_when_it_is_pinned(self, ask: Ask) -> None:
        ask()
        pinned = {"account_id": AccountFactory.create(provider_id="modelslab").pk}

        assert not ask(**pinned).reused
        assert ask(**pinned).reused

    def test_knows_inputs_by_their_bytes(self, ask: Ask, user: User) -> None:
        one, other = (AssetFactory.create(role="input", user=user) for _ in range(2))
        same = AssetFactory.create(role="input", user=user, sha256=one.sha256, key=one.key)

        def reused(asset: Any) -> bool:
            return ask(operation_type="image_to_image", inputs=(InputRef("image", asset.pk),)).reused

        assert [reused(one), reused(same), reused(other)] == [False, True, False]


class TestMoney:
    """Held with the row, or neither."""

    @pytest.fixture(autouse=True)
    def _price(self, db: None) -> None:
        PriceFactory.create(credits=10)

    def test_holds_what_it_costs(self, ask: Ask, user: User) -> None:
        WalletFactory.create(user=user, available=25)

        generation = ask(params={"prompt": "x", "samples": 2}).generation

        assert generation.price == 20
        assert of(user) == (5, 20)
        hold = LedgerEntry.objects.get(kind="hold")
        assert (hold.reference, hold.held_change, hold.actor) == (generation.pk, 20, f"user:{user.pk}")

    @pytest.mark.parametrize("reuse", ["completed", "none"])
    def test_leaves_no_trace_where_it_cannot_be_paid(self, ask: Ask, user: User, reuse: Reuse) -> None:
        WalletFactory.create(user=user, available=9)

        with pytest.raises(PaymentRequired) as refused:
            ask(reuse=reuse, idempotency=KEY)

        assert refused.value.extra == {"balance": 9, "required": 10, "operation_type": "text_to_image"}
        assert nothing_was_written()
        assert of(user) == (9, 0)

    def test_takes_no_claim_away_for_what_it_cannot_pay(self, ask: Ask, user: User) -> None:
        WalletFactory.create(user=user, available=10)
        first = finish(ask().generation)

        with pytest.raises(PaymentRequired):
            ask(reuse="in_flight")

        assert ask().generation == first  # which is an answer still, and costs nothing
        assert not Event.objects.filter(kind="claim_lost").exists()

    def test_refuses_somebody_without_a_wallet(self, ask: Ask) -> None:
        with pytest.raises(PaymentRequired) as refused:
            ask()

        assert refused.value.extra["balance"] == 0
        assert nothing_was_written()

    def test_holds_nothing_for_an_answer_that_is_there(self, ask: Ask, user: User) -> None:
        WalletFactory.create(user=user, available=10)
        finish(ask().generation)

        assert ask().reused
        assert of(user) == (0, 0)

    def test_freezes_the_price(self, ask: Ask, user: User) -> None:
        WalletFactory.create(user=user, available=100)
        first = ask().generation
        Price.objects.update(credits=50)

        assert finish(first).price == 10
        assert of(user) == (90, 0)
        assert ask(prompt="another").generation.price == 50

    def test_takes_a_price_of_nothing_for_free(self, ask: Ask) -> None:
        Price.objects.update(credits=0)

        assert ask().generation.price is None
        assert not LedgerEntry.objects.exists()


class TestIdempotency:
    """The same key, the same answer."""

    def test_answers_again(self, ask: Ask) -> None:
        first = ask(idempotency=KEY, reuse="none")

        again = ask(idempotency=KEY, reuse="none")

        assert (again.generation, again.reused, again.replayed) == (first.generation, False, True)
        assert Generation.objects.count() == 1

    def test_says_reused_again(self, ask: Ask) -> None:
        first = ask().generation
        ask(idempotency=KEY)

        assert ask(idempotency=KEY) == Accepted(first, reused=True, replayed=True)

    def test_answers_again_whatever_became_of_it(self, ask: Ask) -> None:
        first = finish(ask(idempotency=KEY).generation, Status.FAILED)

        assert ask(idempotency=KEY).generation == first

    def test_refuses_another_body(self, ask: Ask) -> None:
        ask(idempotency=KEY)

        with pytest.raises(KeyReused) as refused:
            ask(idempotency=Idempotency(KEY.key, "bb"), prompt="another")

        assert refused.value.code == "idempotency_key_reused"
        assert Generation.objects.count() == 1

    def test_belongs_to_one_user(self, ask: Ask) -> None:
        first = ask(idempotency=KEY)
        other = ask(by=UserFactory.create(), idempotency=Idempotency(KEY.key, "bb"))

        assert other.generation != first.generation
        assert not other.replayed

    def test_is_forgotten_after_a_day(self, ask: Ask) -> None:
        first = ask(idempotency=KEY, reuse="none").generation
        row = IdempotencyKey.objects.get()
        assert row.expires_at == first.created_at + timedelta(hours=24)
        IdempotencyKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

        again = ask(idempotency=Idempotency(KEY.key, "bb"), prompt="another")

        assert not again.replayed
        assert again.generation != first
        assert IdempotencyKey.objects.get().generation == again.generation

    def test_is_not_used_up_by_a_refusal(self, ask: Ask, user: User) -> None:
        PriceFactory.create(credits=10)
        with pytest.raises(PaymentRequired):
            ask(idempotency=KEY)
        WalletFactory.create(user=user, available=10)

        assert not ask(idempotency=KEY).replayed


@pytest.mark.usefixtures("transactional_db")
class TestTogether:
    """Real threads, let go at the same moment."""

    def test_makes_two_of_two_users(self, ask: Ask, user: User) -> None:
        other = UserFactory.create()

        results = together([partial(ask, by=user), partial(ask, by=other)] * 20, threads=20)

        assert {one.generation.user_id for one in results if isinstance(one, Accepted)} == {user.pk, other.pk}
        assert sorted(Generation.objects.values_list("user", flat=True)) == sorted([user.pk, other.pk])

    def test_binds_a_key_to_one_answer(self, ask: Ask) -> None:
        results = together([partial(ask, idempotency=KEY, reuse="none")] * 16)

        assert {one.generation for one in results if isinstance(one, Accepted)} == {Generation.objects.get()}
        assert [one for one in results if not isinstance(one, Accepted)] == []
        assert sum(not one.replayed for one in results if isinstance(one, Accepted)) == 1
        assert IdempotencyKey.objects.count() == 1

    @pytest.mark.parametrize("same_request", [True, False])
    def test_binds_a_key_to_one_body(self, ask: Ask, same_request: bool) -> None:
        calls = [
            partial(
                ask,
                idempotency=Idempotency(KEY.key, body),
                metadata={"body": body},
                prompt="a lighthouse" if same_request else body,
            )
            for body in ["aa", "bb"] * 6
        ]

        results = together(calls)

        answered = {body for body, one in zip(["aa", "bb"] * 6, results, strict=True) if isinstance(one, Accepted)}
        assert answered == {IdempotencyKey.objects.get().body_sha256}
        assert sum(isinstance(one, KeyReused) for one in results) == 6
        assert Generation.objects.count() == 1

    def test_uses_an_expired_key_once(self, ask: Ask) -> None:
        ask(idempotency=KEY, reuse="none")
        IdempotencyKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

        results = together([partial(ask, idempotency=KEY, reuse="none")] * 12)

        assert [one for one in results if not isinstance(one, Accepted)] == []
        assert Generation.objects.count() == 2
        assert IdempotencyKey.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_hints_only_at_what_is_committed(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def look(_provider_id: str) -> None:
        """What somebody else sees at the moment of the hint."""
        [found] = together([Generation.objects.count])
        assert isinstance(found, int)
        seen.append(found)

    monkeypatch.setattr(wakeups, "wake_dispatch", look)
    ask()
    assert seen == [1]
