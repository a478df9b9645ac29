"""What the database itself refuses, whatever code asks for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Model, ProtectedError
from django.utils import timezone

from accounts.models import Account, BalanceReading, LedgerEntry, Wallet
from generations.lifecycle import BILLABLE, ENDED, HOLDS_SLOT, LIVE, OPEN, TERMINAL, State, Status
from generations.models import (
    AccountExclusion,
    Asset,
    CallbackNonce,
    ChapterMember,
    CodeOverride,
    Event,
    Export,
    Generation,
    GenerationInput,
    IdempotencyKey,
    Incident,
    LibraryFavourite,
    Submission,
)
from tests.factories import (
    AccountFactory,
    AssetFactory,
    BatchFactory,
    BatchItemFactory,
    ChapterFactory,
    ExportFactory,
    GenerationFactory,
    GenerationInputFactory,
    LibraryItemFactory,
    PriceFactory,
    PromptFactory,
    PromptVersionFactory,
    SceneFactory,
    SubmissionFactory,
    UserFactory,
    WalletFactory,
    WebhookDeliveryFactory,
    WebhookEndpointFactory,
    WebhookSecretFactory,
)

pytestmark = pytest.mark.django_db
Do = Callable[[], object]
TESTED: set[str] = set()


def case(name: str) -> Callable[[Do], Any]:
    """Name the constraint that a case is about."""
    TESTED.add(name)
    return lambda do: pytest.param(name, do, id=f"{name}-{do.__name__}")


def refused(name: str, do: Do) -> None:
    with pytest.raises(IntegrityError, match=rf'"?{name}"?'), transaction.atomic():
        do()


def change(row: Model, **fields: Any) -> None:
    type(row)._default_manager.filter(pk=row.pk).update(**fields)


def entry(wallet: Wallet, kind: str, reference: UUID | None) -> LedgerEntry:
    return LedgerEntry.objects.create(wallet=wallet, kind=kind, reference=reference)


def key(user: User, text: str) -> IdempotencyKey:
    return IdempotencyKey.objects.create(
        user=user,
        key=text,
        body_sha256="",
        generation=GenerationFactory.create(user=user),
        reused=False,
        expires_at=timezone.now() + timedelta(days=1),
    )


@case("account_label")
def a_label_twice() -> None:
    AccountFactory.create(label="main")
    AccountFactory.create(label="main")


@case("account_credentials")
def a_login_twice() -> None:
    AccountFactory.create(credentials={"key": "1"})
    AccountFactory.create(credentials={"key": "1"})


@case("account_limit_positive")
def a_limit_of_none() -> None:
    AccountFactory.create(limit=0)


@case("wallet_never_negative")
def less_than_nothing() -> None:
    change(WalletFactory.create(available=1), available=-1)


@case("wallet_never_negative")
def less_than_nothing_held() -> None:
    change(WalletFactory.create(available=1), held=-1)


@case("ledger_once_per_reference")
def captured_twice() -> None:
    wallet, reference = WalletFactory.create(), uuid4()
    entry(wallet, "capture", reference)
    entry(WalletFactory.create(), "capture", reference)


@case("ledger_once_per_key")
def booked_twice_by_one_key() -> None:
    wallet = WalletFactory.create()
    for _ in range(2):
        LedgerEntry.objects.create(wallet=wallet, kind="grant", available_change=1, key="invoice 7")


@case("ledger_reference_where_needed")
def a_hold_for_nothing() -> None:
    entry(WalletFactory.create(), "hold", None)


@case("price_of_operation")
def two_prices() -> None:
    PriceFactory.create(model="flux")
    PriceFactory.create(model="flux")


@case("generation_active_fingerprint")
def two_answers_to_one_request() -> None:
    first = GenerationFactory.create()
    GenerationFactory.create(user=first.user, raw_params=first.raw_params)


@case("generation_priority_range")
def a_priority_above_nine() -> None:
    GenerationFactory.create(priority=10)


@case("generation_ended_at_its_end")
def live_with_an_end() -> None:
    GenerationFactory.create(completed_at=timezone.now())


@case("generation_ended_at_its_end")
def ended_without_an_end() -> None:
    GenerationFactory.create(status=Status.FAILED, completed_at=None)


@case("event_one_end")
def ended_twice() -> None:
    generation = GenerationFactory.create(status=Status.FAILED, with_events=True)
    Event.objects.create(generation=generation, kind="completed", actor="test")


@case("idempotency_key")
def a_key_for_two_answers() -> None:
    user = UserFactory.create()
    key(user, "k")
    key(user, "k")


@case("idempotency_key_of_one")
def a_key_for_nothing() -> None:
    change(key(UserFactory.create(), "k"), generation=None)


@case("batch_item_variation_key")
def an_item_twice() -> None:
    batch = BatchFactory.create()
    for _ in range(2):
        BatchItemFactory.create(batch=batch, variation_key="pose-1-v0")


@case("batch_item_variation_key_given")
def an_item_that_nobody_can_name() -> None:
    BatchItemFactory.create(variation_key="")


@case("library_item_picture_or_prompt")
def an_item_of_nothing() -> None:
    LibraryItemFactory.create(prompt="")


@case("library_favourite_once")
def a_favourite_twice() -> None:
    item, user = LibraryItemFactory.create(), UserFactory.create()
    for _ in range(2):
        LibraryFavourite.objects.create(user=user, item=item)


@case("prompt_name_once")
def two_prompts_of_a_name() -> None:
    first = PromptFactory.create()
    PromptFactory.create(user=first.user, name=first.name)


@case("prompt_version_number")
def two_first_versions() -> None:
    first = PromptVersionFactory.create()
    PromptVersionFactory.create(prompt=first.prompt)


@case("prompt_version_text")
def a_text_twice() -> None:
    first = PromptVersionFactory.create()
    PromptVersionFactory.create(prompt=first.prompt, number=2, text=first.text)


@case("chapter_member_once")
def a_member_twice() -> None:
    chapter, user = ChapterFactory.create(), UserFactory.create()
    for _ in range(2):
        ChapterMember.objects.create(chapter=chapter, user=user)


@case("scene_number")
def two_first_scenes() -> None:
    first = SceneFactory.create()
    SceneFactory.create(chapter=first.chapter, number=first.number)


@case("export_once")
def an_export_twice() -> None:
    first = ExportFactory.create()
    ExportFactory.create(asset=first.asset, format=first.format)


@case("export_due_or_ended")
def an_export_that_is_done_and_due() -> None:
    change(ExportFactory.create(), state=Export.State.DONE)


@case("incident_once")
def an_incident_twice() -> None:
    submission = SubmissionFactory.create()
    for _ in range(2):
        Incident.objects.create(kind="late_result", submission=submission)


@case("submission_number")
def two_first_attempts() -> None:
    first = SubmissionFactory.create(state=State.FAILED)
    SubmissionFactory.create(state=State.FAILED, generation=first.generation, number=first.number)


@case("submission_one_open")
def two_open_attempts() -> None:
    first = SubmissionFactory.create(state=State.COLLECTING)
    SubmissionFactory.create(state=State.RESERVED, generation=first.generation)


@case("submission_slot")
def a_slot_for_two() -> None:
    first = SubmissionFactory.create(state=State.UNKNOWN)
    SubmissionFactory.create(state=State.RESERVED, account=first.account, slot=first.slot)


@case("submission_provider_job")
def a_job_for_two() -> None:
    first = SubmissionFactory.create(state=State.SUCCEEDED)
    SubmissionFactory.create(account=first.account, provider_job_id=first.provider_job_id)


@case("submission_slot_range")
def a_slot_above_the_limit() -> None:
    SubmissionFactory.create(slot=4, limit_seen=3)


@case("submission_slot_range")
def a_slot_below_the_first() -> None:
    SubmissionFactory.create(slot=0)


@case("submission_accepted_has_job")
def accepted_without_a_job() -> None:
    SubmissionFactory.create(state=State.ACCEPTED, provider_job_id=None)


@case("submission_ended_at_its_end")
def open_with_an_end() -> None:
    SubmissionFactory.create(state=State.SENDING, ended_at=timezone.now())


@case("submission_ended_at_its_end")
def over_without_an_end() -> None:
    SubmissionFactory.create(state=State.FAILED, ended_at=None)


@case("exclusion_once")
def excluded_twice() -> None:
    generation, account = GenerationFactory.create(), AccountFactory.create()
    for code in ("provider_auth", "provider_credits"):
        AccountExclusion.objects.create(generation=generation, account=account, code=code)


@case("asset_output_once")
def a_result_stored_twice() -> None:
    AssetFactory.create(submission=AssetFactory.create().submission)


@case("asset_output_of_submission")
def an_output_of_nothing() -> None:
    AssetFactory.create(submission=None, user=UserFactory.create())


@case("asset_output_of_submission")
def an_input_of_an_attempt() -> None:
    change(AssetFactory.create(), role="input")


@case("asset_not_empty")
def an_empty_file() -> None:
    AssetFactory.create(role="input", size=0)


@case("input_index")
def two_first_inputs() -> None:
    GenerationInputFactory.create(generation=GenerationInputFactory.create(index=0).generation, index=0)


@case("callback_nonce_once")
def a_callback_twice() -> None:
    account = AccountFactory.create()
    for _ in range(2):
        CallbackNonce.objects.create(account=account, nonce="n", expires_at=timezone.now())


@case("balance_reading_of_day")
def two_readings_of_a_day() -> None:
    account = AccountFactory.create()
    for _ in range(2):
        BalanceReading.objects.create(account=account, day=date(2026, 1, 2), balance=1)


@case("code_override_never_unknown")
def a_rule_for_what_may_have_been_billed() -> None:
    CodeOverride.objects.create(code="outcome_unknown", retryable=True, reason="r", actor="a")


@case("generation_dismissed_has_failed")
def nothing_to_be_done_about_a_success() -> None:
    change(GenerationFactory.create(status=Status.COMPLETED), dismissed_at=timezone.now())


@case("webhook_secret_of_requests_once")
def two_secrets_for_the_requests_of_a_user() -> None:
    user = UserFactory.create()
    for _ in range(2):
        WebhookSecretFactory.create(user=user, for_requests=True)


@case("webhook_endpoint_url_once")
def an_endpoint_twice() -> None:
    user = UserFactory.create()
    for _ in range(2):
        WebhookEndpointFactory.create(user=user, url="https://hooks.example.com/")


@case("webhook_endpoint_of_request_once")
def a_webhook_url_twice() -> None:
    generation = GenerationFactory.create()
    for _ in range(2):
        WebhookEndpointFactory.create(user=generation.user, generation=generation, url="https://hooks.example.com/")


@case("webhook_delivery_once")
def an_end_told_twice() -> None:
    told = WebhookDeliveryFactory.create(state="delivered")
    WebhookDeliveryFactory.create(endpoint=told.endpoint, generation=told.generation)


@case("webhook_delivery_due_or_ended")
def a_delivery_that_is_due_at_no_time() -> None:
    WebhookDeliveryFactory.create(next_try_at=None)


@case("webhook_delivery_due_or_ended")
def a_delivery_that_has_ended_and_is_due() -> None:
    change(WebhookDeliveryFactory.create(state="failed"), next_try_at=timezone.now())


@case("webhook_attempt_number")
def two_first_tries() -> None:
    delivery = WebhookDeliveryFactory.create()
    for _ in range(2):
        delivery.attempts.create(number=1, url=delivery.endpoint.url)


CASES = [value for value in globals().values() if isinstance(value, type(pytest.param()))]


@pytest.mark.parametrize(("name", "do"), CASES)
def test_refuses(name: str, do: Do) -> None:
    refused(name, do)


@pytest.mark.parametrize("app", ["accounts", "generations"])
def test_has_a_case_for_every_constraint(app: str) -> None:
    named = {
        constraint.name for model in apps.get_app_config(app).get_models() for constraint in model._meta.constraints
    }

    assert named - TESTED == set()


class TestAllows:
    """What the same constraints must not be in the way of."""

    def test_the_same_request_again_when_the_claim_was_given_up(self) -> None:
        first = GenerationFactory.create(status=Status.FAILED)
        forced = GenerationFactory.create(user=first.user, raw_params=first.raw_params, active_fingerprint=None)
        second = GenerationFactory.create(user=first.user, raw_params=first.raw_params)

        assert first.fingerprint == forced.fingerprint == second.active_fingerprint

    def test_the_same_request_of_two_users(self) -> None:
        first = GenerationFactory.create()

        assert GenerationFactory.create(raw_params=first.raw_params).active_fingerprint == first.active_fingerprint

    def test_a_second_attempt_beside_an_abandoned_one(self) -> None:
        first = SubmissionFactory.create(state=State.UNKNOWN, generation=GenerationFactory.create(status="processing"))
        change(first, abandoned_at=timezone.now())

        SubmissionFactory.create(state=State.SENDING, generation=first.generation, account=first.account)

    @pytest.mark.parametrize("state", sorted(set(State) - HOLDS_SLOT))
    def test_the_slot_of_one_that_gave_it_back(self, state: State) -> None:
        first = SubmissionFactory.create(state=state)

        SubmissionFactory.create(state=State.RESERVED, account=first.account, slot=first.slot)

    def test_a_slot_above_a_limit_that_was_lowered(self) -> None:
        held = SubmissionFactory.create(slot=3)
        change(held.account, limit=1)

        change(held, state=State.COLLECTING)

    def test_any_number_of_grants(self) -> None:
        wallet = WalletFactory.create()

        for kind in ("grant", "grant", "adjustment"):
            entry(wallet, kind, None)

    def test_a_hold_a_capture_and_a_refund_of_one_generation(self) -> None:
        wallet, reference = WalletFactory.create(), uuid4()

        for kind in ("hold", "capture", "refund"):
            entry(wallet, kind, reference)

    def test_one_job_number_at_two_accounts(self) -> None:
        first = SubmissionFactory.create()

        SubmissionFactory.create(provider_job_id=first.provider_job_id)

    def test_many_without_a_job_number(self) -> None:
        account = AccountFactory.create()

        for _ in range(2):
            SubmissionFactory.create(state=State.SENDING, account=account)

    def test_one_key_of_two_users(self) -> None:
        assert key(UserFactory.create(), "k").pk != key(UserFactory.create(), "k").pk

    def test_many_events_that_are_no_end(self) -> None:
        generation = GenerationFactory.create(with_events=True)

        for _ in range(2):
            Event.objects.create(generation=generation, kind="retrying", actor="test")

    def test_a_url_again_after_it_was_removed_and_of_another_user_and_as_a_webhook_url(self) -> None:
        url = "https://hooks.example.com/"
        removed = WebhookEndpointFactory.create(url=url, removed_at=timezone.now(), secret=None)
        generation = GenerationFactory.create(user=removed.user)
        WebhookEndpointFactory.create(url=url, user=removed.user)
        WebhookEndpointFactory.create(url=url)
        WebhookEndpointFactory.create(url=url, user=removed.user, generation=generation)

    def test_many_tests_of_one_endpoint(self) -> None:
        endpoint = WebhookEndpointFactory.create()
        for _ in range(2):
            WebhookDeliveryFactory.create(endpoint=endpoint, generation=None, event="webhook.test")

    def test_many_incidents_of_no_attempt(self) -> None:
        for _ in range(2):
            Incident.objects.create(kind="account_refused", account=AccountFactory.create())


@pytest.mark.parametrize("state", sorted(OPEN))
def test_lets_one_attempt_be_open_at_a_time(state: State) -> None:
    first = SubmissionFactory.create(state=state)

    refused("submission_one_open", lambda: SubmissionFactory.create(state=State.RESERVED, generation=first.generation))


@pytest.mark.parametrize("state", sorted(HOLDS_SLOT))
def test_gives_a_slot_to_one_at_a_time(state: State) -> None:
    first = SubmissionFactory.create(state=state)

    refused(
        "submission_slot",
        lambda: SubmissionFactory.create(state=State.RESERVED, account=first.account, slot=first.slot),
    )


class TestTerminalIsTerminal:
    """The trigger."""

    @pytest.mark.parametrize("before", sorted(ENDED))
    @pytest.mark.parametrize("after", sorted(Status))
    def test_keeps_the_end_of_a_generation(self, before: Status, after: Status) -> None:
        generation = GenerationFactory.create(status=before)
        fields: dict[str, Any] = {"status": after} | ({"completed_at": None} if after in LIVE else {})
        if after == before:
            change(generation, **fields)  # the same again is no change
            return

        refused("terminal is terminal", lambda: change(generation, **fields))

        generation.refresh_from_db()
        assert generation.status == before

    @pytest.mark.parametrize("before", sorted(TERMINAL))
    @pytest.mark.parametrize("after", sorted(State))
    def test_keeps_the_end_of_a_submission(self, before: State, after: State) -> None:
        submission = SubmissionFactory.create(state=before)
        fields: dict[str, Any] = {"state": after, "provider_job_id": str(uuid4())}
        fields |= {"ended_at": None} if after in OPEN else {}
        if after == before:
            change(submission, **fields)
            return

        refused("terminal is terminal", lambda: change(submission, **fields))

        submission.refresh_from_db()
        assert submission.state == before

    def test_is_named_for_those_who_translate_it(self) -> None:
        generation = GenerationFactory.create(status=Status.FAILED)

        with pytest.raises(IntegrityError) as raised, transaction.atomic():
            change(generation, status=Status.COMPLETED)

        assert getattr(raised.value.__cause__, "diag").constraint_name == "terminal_is_terminal"  # noqa: B009

    def test_lets_everything_else_of_an_ended_one_change(self) -> None:
        generation = GenerationFactory.create(status=Status.COMPLETED)

        change(generation, active_fingerprint=None, metadata={"a": 1})

        generation.refresh_from_db()
        assert (generation.active_fingerprint, generation.metadata) == (None, {"a": 1})

    def test_lets_live_ones_go_on(self) -> None:
        generation = GenerationFactory.create()

        change(generation, status=Status.PROCESSING)
        change(generation, status=Status.PENDING)
        change(generation, status=Status.CANCELLED, completed_at=timezone.now())

        generation.refresh_from_db()
        assert generation.status == Status.CANCELLED


class TestSets:
    """Filters say what the named sets say."""

    def test_finds_open_billable_and_slot_holding_ones(self) -> None:
        by_state = {state: SubmissionFactory.create(state=state) for state in State}

        def states(rows: Any) -> set[str]:
            return {row.state for row in rows}

        assert len(by_state) == Submission.objects.count()
        assert states(Submission.objects.open()) == OPEN
        assert states(Submission.objects.billable()) == BILLABLE
        assert states(Submission.objects.holding_slot()) == HOLDS_SLOT
        assert {one.state for one in by_state.values() if one.is_open} == OPEN

    def test_finds_live_ones(self) -> None:
        for status in Status:
            GenerationFactory.create(status=status)

        assert {row.status for row in Generation.objects.live()} == LIVE
        assert {row.status for row in Generation.objects.all() if row.is_live} == LIVE

    def test_lets_the_owner_write_while_the_lease_runs(self) -> None:
        submission = SubmissionFactory.create(state=State.SENDING)

        def owned(state: State = State.SENDING, token: Any = None) -> bool:
            return Submission.objects.owned(state, token or submission.token).exists()

        assert owned()
        assert not owned(State.RESERVED)
        assert not owned(token=uuid4())
        change(submission, lease_until=timezone.now() - timedelta(seconds=1))
        assert not owned()


def test_keeps_rows_that_others_refer_to() -> None:
    used = GenerationInputFactory.create()
    submission = SubmissionFactory.create()
    for row in (used.asset, used.generation.user, submission.account):
        with pytest.raises(ProtectedError):
            row.delete()

    used.generation.delete()
    assert not GenerationInput.objects.exists()
    assert Asset.objects.filter(pk=used.asset_id).exists()
    assert Account.objects.filter(pk=submission.account_id).exists()
