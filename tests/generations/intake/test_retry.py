"""Retrying what ended without a result, and waking what waits."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from accounts.models import LedgerEntry, Price, Wallet
from generations.execution import settle
from generations.execution.settle import Ending
from generations.intake.errors import Conflict, Invalid, PaymentRequired
from generations.intake.inputs import InputRef
from generations.intake.retry import retry, wake
from generations.lifecycle import BILLABLE, State, Status
from generations.models import Event, Generation, Submission
from generations.reports.sentences import event_text
from tests.factories import (
    AccountFactory,
    AssetFactory,
    GenerationFactory,
    PriceFactory,
    SubmissionFactory,
    WalletFactory,
)
from tests.generations.intake.conftest import Ask

pytestmark = pytest.mark.django_db


def ended(generation: Generation, status: Status = Status.FAILED) -> Generation:
    settle.end([Ending(generation.pk, status, code="provider_failed")], actor="worker")
    generation.refresh_from_db()
    return generation


@pytest.fixture
def failed(ask: Ask) -> Generation:
    """One that failed."""
    return ended(ask(metadata={"scene": 1}, context=["c"], priority=8).generation)


def abandoned(generation: Generation, state: State) -> Submission:
    """An attempt whose Generation ended without it."""
    Generation.objects.filter(pk=generation.pk).update(status=Status.PROCESSING)
    submission = SubmissionFactory.create(generation=generation, state=state, account__provider_id="modelslab")
    Submission.objects.filter(pk=submission.pk).update(abandoned_at=timezone.now())
    return submission


def code_of(call: Any) -> tuple[str, str | None]:
    with pytest.raises(Conflict) as refused:
        call()
    return refused.value.code, refused.value.extra.get("generation")


class TestANewOne:
    """What a retry is."""

    @pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
    def test_is_made_of_one_without_a_result(self, ask: Ask, status: Status) -> None:
        original = ended(ask().generation, status)

        accepted = retry(original.pk, actor="admin:1")

        made = accepted.generation
        assert (accepted.reused, made.status, made.retry_of) == (False, Status.PENDING, original)
        assert made.active_fingerprint == original.fingerprint
        original.refresh_from_db()
        assert (original.status, original.active_fingerprint) == (status, None)

    def test_asks_for_the_same(self, failed: Generation) -> None:
        made = retry(failed.pk, actor="test").generation

        for name in (
            "user",
            "provider_id",
            "operation_type",
            "params",
            "raw_params",
            "metadata",
            "context",
            "priority",
        ):
            assert getattr(made, name) == getattr(failed, name), name
        assert made.fingerprint == failed.fingerprint

    def test_is_told_on_both_sides(self, failed: Generation) -> None:
        made = retry(failed.pk, actor="admin:1").generation

        told = Event.objects.get(generation=failed, kind="retried")
        assert (told.actor, told.data) == ("admin:1", {"generation": str(made.pk)})
        assert list(failed.retries.all()) == [made]

    def test_starts_its_counters_and_its_time_anew(self, ask: Ask) -> None:
        original = ask(scheduled_at=timezone.now() + timedelta(hours=1)).generation
        Generation.objects.filter(pk=original.pk).update(error_retries=3, busy_bounces=7, not_sent=2)
        ended(original)

        made = retry(original.pk, actor="test").generation

        assert (made.error_retries, made.busy_bounces, made.not_sent) == (0, 0, 0)
        assert (made.not_before, made.deadline_at) == (None, None)
        assert made.queue_until == made.created_at + timedelta(days=7)

    def test_keeps_inputs_pin_and_parent(self, ask: Ask, user: User) -> None:
        asset = AssetFactory.create(role="input", user=user)
        account = AccountFactory.create(provider_id="modelslab")
        parent = ask(prompt="the parent").generation
        original = ended(
            ask(
                operation_type="image_to_image",
                inputs=(InputRef("image", asset.pk),),
                account_id=account.pk,
                parent_id=parent.pk,
            ).generation
        )

        made = retry(original.pk, actor="test").generation

        assert list(made.inputs.values_list("role", "index", "asset")) == [("image", 0, asset.pk)]
        assert (made.account, made.parent) == (account, parent)

    def test_costs_today_s_price(self, ask: Ask, user: User) -> None:
        PriceFactory.create(credits=10)
        WalletFactory.create(user=user, available=100)
        original = ended(ask().generation)
        Price.objects.update(credits=25)

        made = retry(original.pk, actor="test").generation

        wallet = Wallet.objects.get(user=user)
        assert (made.price, wallet.available, wallet.held) == (25, 75, 25)
        assert LedgerEntry.objects.get(reference=made.pk).kind == "hold"

    def test_leaves_no_trace_where_it_cannot_be_paid(self, failed: Generation) -> None:
        PriceFactory.create(credits=10)

        with pytest.raises(PaymentRequired):
            retry(failed.pk, actor="test")

        assert Generation.objects.count() == 1
        assert not Event.objects.filter(kind="retried").exists()

    def test_is_refused_when_the_provider_no_longer_takes_it(self, failed: Generation) -> None:
        Generation.objects.filter(pk=failed.pk).update(params={**failed.params, "width": 3})

        with pytest.raises(Invalid) as refused:
            retry(failed.pk, actor="test")

        assert refused.value.code == "invalid_params"

    def test_can_be_retried_itself(self, failed: Generation) -> None:
        second = ended(retry(failed.pk, actor="test").generation)

        assert retry(second.pk, actor="test").generation.retry_of == second


class TestRefusals:
    """When there is none."""

    @pytest.mark.parametrize("insist", [False, True])
    @pytest.mark.parametrize("status", [Status.PENDING, Status.PROCESSING, Status.COMPLETED])
    def test_is_for_what_ended_without_a_result(self, status: Status, insist: bool) -> None:
        generation = GenerationFactory.create(status=status)

        assert code_of(lambda: retry(generation.pk, actor="test", insist=insist)) == (
            "not_retryable",
            str(generation.pk),
        )

    @pytest.mark.parametrize("insist", [False, True])
    def test_is_not_made_beside_a_live_retry(self, failed: Generation, insist: bool) -> None:
        made = retry(failed.pk, actor="test").generation

        assert code_of(lambda: retry(failed.pk, actor="test", insist=insist)) == ("live_twin", str(made.pk))
        assert Generation.objects.count() == 2

    @pytest.mark.parametrize("insist", [False, True])
    def test_is_not_made_beside_the_same_request(self, failed: Generation, ask: Ask, insist: bool) -> None:
        again = ask(context=["c"]).generation
        assert again.fingerprint == failed.fingerprint

        assert code_of(lambda: retry(failed.pk, actor="test", insist=insist)) == ("live_twin", str(again.pk))
        assert not Event.objects.filter(kind="retried").exists()

    def test_may_be_made_beside_another_user_s_request(self, failed: Generation, ask: Ask) -> None:
        ask(by=WalletFactory.create().user, context=["c"])

        assert not retry(failed.pk, actor="test").reused

    @pytest.mark.parametrize("state", sorted(BILLABLE))
    def test_waits_until_it_is_known_whether_it_was_billed(self, ask: Ask, state: State) -> None:
        original = ask().generation
        attempt = abandoned(original, state)
        ended(original)
        assert original.active_fingerprint

        assert code_of(lambda: retry(original.pk, actor="test")) == ("possibly_billed", str(original.pk))

        Submission.objects.filter(pk=attempt.pk).update(state=State.FAILED, ended_at=timezone.now())
        settle.give_up_claims([original.pk])
        assert retry(original.pk, actor="test").generation.active_fingerprint == original.fingerprint

    def test_waits_although_the_first_one_has_no_claim(self, ask: Ask) -> None:
        original = ask(reuse="none").generation
        abandoned(original, State.UNKNOWN)
        ended(original)
        assert original.active_fingerprint is None

        assert code_of(lambda: retry(original.pk, actor="test")) == ("possibly_billed", str(original.pk))

    @pytest.mark.parametrize("state", sorted(BILLABLE))
    def test_is_made_for_one_who_insists(self, ask: Ask, state: State) -> None:
        original = ask().generation
        abandoned(original, state)
        ended(original)

        made = retry(original.pk, actor="test", insist=True).generation

        assert (made.retry_of, made.active_fingerprint) == (original, None)  # the first one keeps the claim
        assert code_of(lambda: retry(original.pk, actor="test", insist=True)) == ("live_twin", str(made.pk))

    def test_is_refused_while_another_of_the_same_may_be_billed(self, failed: Generation, ask: Ask) -> None:
        other = ask(context=["c"]).generation
        abandoned(other, State.UNKNOWN)
        ended(other)

        assert code_of(lambda: retry(failed.pk, actor="test")) == ("possibly_billed", str(other.pk))
        assert not retry(failed.pk, actor="test", insist=True).reused


class TestChangedParams:
    """Edit and retry: another request."""

    def test_make_another_request_that_is_a_retry_all_the_same(self, failed: Generation) -> None:
        given = {"prompt": "a lighthouse by day", "samples": 2}

        made = retry(failed.pk, actor="user:1", params=given).generation

        assert (made.retry_of, made.raw_params) == (failed, given)
        assert made.params == {**failed.params, "prompt": "a lighthouse by day", "samples": 2}
        assert made.fingerprint != failed.fingerprint
        assert made.active_fingerprint == made.fingerprint
        assert (made.context, made.metadata, made.priority) == (failed.context, failed.metadata, failed.priority)

    def test_have_the_fingerprint_of_the_same_request_made_anew(self, failed: Generation, ask: Ask) -> None:
        made = retry(failed.pk, actor="user:1", params={"prompt": "by day"}).generation

        answer = ask(prompt="by day", context=["c"])

        assert (answer.reused, answer.generation) == (True, made)

    def test_are_named_in_the_story(self, failed: Generation) -> None:
        made = retry(failed.pk, actor="user:1", params={"prompt": "by day", "seed": 7}).generation

        told = Event.objects.get(generation=failed, kind="retried")
        assert told.data == {"generation": str(made.pk), "changed": ["prompt", "seed"]}
        assert event_text(told) == f"It was retried with another prompt and seed as {made.pk}."

    def test_make_the_same_request_where_nothing_is_changed(self, failed: Generation) -> None:
        made = retry(failed.pk, actor="user:1", params=dict(failed.params)).generation

        assert made.fingerprint == failed.fingerprint
        assert "changed" not in Event.objects.get(generation=failed, kind="retried").data

    def test_keep_the_inputs_and_count_them_in(self, ask: Ask, user: User) -> None:
        inputs = (InputRef("image", AssetFactory.create(role="input", user=user).pk),)
        original = ended(ask(operation_type="image_to_image", inputs=inputs).generation)

        made = retry(original.pk, actor="user:1", params={"prompt": "by day"}).generation

        assert made.inputs.count() == 1
        assert ask(operation_type="image_to_image", inputs=inputs, prompt="by day").generation == made

    def test_cost_what_they_cost_today(self, ask: Ask, user: User) -> None:
        PriceFactory.create(credits=10)
        WalletFactory.create(user=user, available=100)
        original = ended(ask().generation)

        made = retry(original.pk, actor="user:1", params={"prompt": "by day", "samples": 3}).generation

        assert (made.price, Wallet.objects.get(user=user).held) == (30, 30)

    @pytest.mark.parametrize(
        ("params", "field"),
        [
            ({}, "params.prompt"),
            ({"prompt": "x", "width": 3}, "params.width"),
            ({"prompt": "x", "aspect_ratio": "1:1", "width": 512}, "params.aspect_ratio"),  # a rule over several params
            ({"prompt": "x", "nonsense": 1}, "params.nonsense"),
        ],
    )
    def test_are_refused_in_words_where_they_are_wrong(
        self, failed: Generation, params: dict[str, Any], field: str
    ) -> None:
        with pytest.raises(Invalid) as refused:
            retry(failed.pk, actor="user:1", params=params)

        assert (refused.value.code, refused.value.field) == ("invalid_params", field)
        assert "Value error" not in refused.value.detail
        assert Generation.objects.count() == 1

    def test_are_not_made_beside_the_same_request_that_is_live(self, failed: Generation, ask: Ask) -> None:
        twin = ask(prompt="by day", context=["c"]).generation

        refused = code_of(lambda: retry(failed.pk, actor="user:1", params={"prompt": "by day"}))

        assert refused == ("live_twin", str(twin.pk))

    def test_are_not_paid_for_again_where_they_were_answered(self, failed: Generation, ask: Ask) -> None:
        answer = ended(ask(prompt="by day", context=["c"]).generation, Status.COMPLETED)

        refused = code_of(lambda: retry(failed.pk, actor="user:1", params={"prompt": "by day"}))

        assert refused == ("already_answered", str(answer.pk))
        answer.refresh_from_db()
        assert answer.active_fingerprint == answer.fingerprint
        made = retry(failed.pk, actor="user:1", params={"prompt": "by day"}, insist=True).generation
        assert (made.retry_of, made.active_fingerprint) == (failed, None)

    def test_do_not_make_it_safe_while_an_attempt_may_be_billed(self, ask: Ask) -> None:
        original = ask().generation
        abandoned(original, State.UNKNOWN)
        ended(original)

        refused = code_of(lambda: retry(original.pk, actor="user:1", params={"prompt": "by day"}))

        assert refused == ("possibly_billed", str(original.pk))
        retry(original.pk, actor="user:1", params={"prompt": "by day"}, insist=True)
        assert original.retries.count() == 1


class TestWake:
    """An operator says "now"."""

    def test_makes_a_waiting_one_due(self, ask: Ask) -> None:
        generation = ask(scheduled_at=timezone.now() + timedelta(days=1)).generation

        woken = wake(generation.pk, actor="admin:1")

        assert (woken.status, woken.not_before) == (Status.PENDING, None)
        assert Event.objects.get(kind="woken").actor == "admin:1"

    @pytest.mark.parametrize("status", sorted(set(Status) - {Status.PENDING}))
    def test_leaves_alone_what_does_not_wait(self, status: Status) -> None:
        generation = GenerationFactory.create(status=status)

        assert code_of(lambda: wake(generation.pk, actor="test")) == ("not_waiting", str(generation.pk))
        assert not Event.objects.exists()
