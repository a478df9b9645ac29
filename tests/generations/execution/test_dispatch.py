"""Dispatch sends each attempt once, and does what each answer asks for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.db import OperationalError
from django.utils import timezone

from accounts.models import Account
from generations.execution import accounts, orders
from generations.execution.dispatch import Dispatcher, dispatch
from generations.lifecycle import State, Status
from generations.models import Generation, Submission
from tests.factories import AccountFactory, GenerationFactory, GenerationInputFactory
from tests.generations.execution.studio import PRICE, PURSE, Studio

pytestmark = pytest.mark.django_db

OUTCOME_UNKNOWN = ["accept_then_drop", "500_after", "malformed", "malformed:truncated", "malformed:empty", "no_id"]


def test_sends_it_and_keeps_the_providers_job_id(studio: Studio) -> None:
    account = studio.account()
    generation, attempt = studio.start()
    assert (generation.status, attempt.state) == (Status.PROCESSING, State.ACCEPTED)
    [work] = studio.sandbox.works(request_id=str(attempt.pk))
    assert attempt.provider_job_id == str(work["remote_id"])
    assert generation.deadline_at is not None
    assert attempt.limit_at is not None
    assert attempt.limit_at >= generation.deadline_at
    assert attempt.lease_until is None
    assert account.credentials["api_key"] not in f"{attempt.request}{attempt.response}"


def test_leads_to_a_stored_result_and_spends_the_credits_once(studio: Studio) -> None:
    studio.account()
    generation = studio.finish(studio.ask())
    assert generation.status == Status.COMPLETED
    assert studio.money(generation) == ["capture", "hold"]
    assert studio.wallet == (PURSE - PRICE, 0)
    [asset] = studio.assets(generation)
    assert default_storage.size(asset.key) == asset.size > 0


def test_takes_a_result_that_comes_with_the_answer(studio: Studio) -> None:
    studio.account()
    generation, attempt = studio.start("instant")
    assert attempt.state == State.COLLECTING
    assert len(attempt.outputs) == 1
    studio.collect()
    assert studio.look(generation).status == Status.COMPLETED


def test_does_nothing_without_work(studio: Studio) -> None:
    studio.account()
    assert studio.dispatch() == 0


def test_sends_many_each_once(studio: Studio) -> None:
    studio.account(limit=30)
    made = [studio.ask() for _ in range(40)]
    assert studio.dispatch() == 30
    assert Submission.objects.filter(state=State.ACCEPTED).count() == 30
    assert [len(studio.submits(one)) for one in made] == [1] * 30 + [0] * 10


# --- refusals ------------------------------------------------------------------------------------


def test_cools_a_busy_account_down_and_uses_up_no_attempt(studio: Studio) -> None:
    account = studio.account()
    generation, attempt = studio.start("429:30")
    assert (generation.status, attempt.state, attempt.error_code) == (Status.PENDING, State.FAILED, "provider_busy")
    assert (generation.error_retries, generation.busy_bounces) == (0, 1)
    account.refresh_from_db()
    assert account.cooldown_until is not None
    assert account.cooldown_until > timezone.now() + timedelta(seconds=25)
    assert studio.money(generation) == ["hold"]
    assert studio.dispatch() == 0, "the account cools down"


@pytest.mark.parametrize(
    ("fault", "status"),
    [("429:30", Status.PENDING), ("503_before:1", Status.FAILED)],
    ids=["busy", "refused"],
)
def test_counts_no_wait_among_the_attempts(
    studio: Studio, limits: Callable[..., None], fault: str, status: Status
) -> None:
    limits(max_submissions=1)
    studio.account()
    generation, attempt = studio.start(fault)
    assert generation.status == status
    assert generation.error_code == ("attempts_exhausted" if status == Status.FAILED else "")
    assert attempt.state == State.FAILED


def test_goes_to_another_account_while_one_is_busy(studio: Studio) -> None:
    studio.account(priority=1)
    studio.account()
    studio.ask("429:30")
    studio.dispatch()
    assert Submission.objects.values("account").distinct().count() == 2


@pytest.mark.parametrize("retry_after", ["-1", "1000000000", "nonsense"])
def test_survives_a_foolish_retry_after(studio: Studio, retry_after: str) -> None:
    account = studio.account()
    studio.start(f"429:{retry_after}")
    account.refresh_from_db()
    assert account.cooldown_until is not None
    assert account.cooldown_until < timezone.now() + timedelta(seconds=905)


def test_tries_again_later_after_a_surely_refused_one_until_the_budget_is_used_up(studio: Studio) -> None:
    studio.account()
    generation, attempt = studio.start("503_before:1")
    assert (generation.status, attempt.error_code) == (Status.PENDING, "provider_unavailable")
    assert generation.not_before is not None
    assert generation.not_before > timezone.now() + timedelta(seconds=1)
    assert studio.dispatch() == 0, "it backs off"
    studio.finish(generation)
    assert (generation.status, generation.error_code) == (Status.FAILED, "provider_unavailable")
    assert studio.states(generation) == [State.FAILED] * 4, "one try and three more"
    assert studio.money(generation) == ["hold", "release"]
    assert len(set(studio.submits(generation))) == len(studio.submits(generation)) == 4


def test_completes_when_a_later_try_is_accepted(studio: Studio) -> None:
    studio.account()
    generation = studio.finish(studio.ask("503_before:0*2"))
    assert generation.status == Status.COMPLETED
    assert generation.error_retries == 2
    assert studio.states(generation) == [State.FAILED, State.FAILED, State.SUCCEEDED]


@pytest.mark.parametrize(
    ("fault", "code"), [("moderated_input", "content_moderated"), ("invalid_params", "invalid_params")]
)
def test_fails_what_the_provider_will_never_take(studio: Studio, fault: str, code: str) -> None:
    studio.account()
    generation, attempt = studio.start(fault)
    assert (generation.status, generation.error_code) == (Status.FAILED, code)
    assert generation.active_fingerprint is None
    assert not attempt.cost_at_risk
    assert studio.money(generation) == ["hold", "release"]
    assert studio.wallet == (PURSE, 0)


@pytest.mark.parametrize(
    ("fault", "code"),
    [("no_credits", "provider_credits"), ("auth_failed", "provider_auth"), ("forbidden", "provider_permission")],
)
def test_takes_another_account_when_one_refuses(studio: Studio, fault: str, code: str) -> None:
    first, second = studio.account(priority=1), studio.account()
    generation = studio.ask(f"{fault}*1")
    studio.dispatch()
    tried = list(generation.submissions.order_by("number").values_list("account", "error_code"))
    # The second account has a key of its own, which the sandbox counts apart: it refuses there too.
    assert tried == [(first.pk, code), (second.pk, code)]
    assert (studio.look(generation).status, generation.error_code) == (Status.FAILED, "no_account")
    assert studio.money(generation) == ["hold", "release"]
    assert generation.error_retries == 0


def test_completes_at_the_account_that_has_credits(studio: Studio) -> None:
    broke = studio.account(key="sandbox-broke", priority=1)
    rich = studio.account()
    generation = studio.ask()
    # The broke one answers with "no credits" on its own accord.
    studio.dispatch()
    assert list(generation.submissions.order_by("number").values_list("account", flat=True)) == [broke.pk, rich.pk]
    accounts.refresh_due()
    broke.refresh_from_db()
    assert broke.exhausted_at is not None
    assert studio.finish(generation).status == Status.COMPLETED


def test_takes_an_account_out_of_rotation_once_its_credentials_are_refused(studio: Studio) -> None:
    wrong = studio.account(key="nobody", priority=1)
    studio.account()
    generation = studio.ask()
    studio.dispatch()
    accounts.refresh_due()
    wrong.refresh_from_db()
    assert wrong.out_of_rotation_at is not None
    assert wrong.incidents.get().kind == "account_refused"
    assert studio.finish(generation).status == Status.COMPLETED


def test_tries_again_when_nobody_answers_at_the_address(studio: Studio) -> None:
    studio.account(base_url="http://127.0.0.1:9/modelslab/api")
    generation, attempt = studio.start()
    assert (generation.status, attempt.error_code) == (Status.PENDING, "not_delivered")
    assert (generation.error_retries, attempt.cost_at_risk) == (1, False)


# --- unknown -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", OUTCOME_UNKNOWN)
def test_never_sends_again_what_may_have_arrived(studio: Studio, fault: str) -> None:
    studio.account()
    generation, attempt = studio.start(fault)
    assert (generation.status, attempt.state) == (Status.PROCESSING, State.UNKNOWN)
    assert studio.events(generation)[-1] == "outcome_unknown"
    studio.due()
    for _ in range(3):
        studio.dispatch()
        studio.poll()
    assert studio.submits(generation) == [str(attempt.pk)]
    assert studio.money(generation) == ["hold"]


def test_holds_the_slot_of_an_unknown_one(studio: Studio) -> None:
    studio.account(limit=1)
    studio.start("accept_then_drop")
    second = studio.ask()
    assert studio.dispatch() == 0
    assert studio.look(second).status == Status.PENDING


def test_does_not_take_an_id_that_belongs_to_another_attempt(studio: Studio) -> None:
    studio.account()
    _, first = studio.start()
    _, second = studio.start("same_id")
    first.refresh_from_db()
    assert (first.state, second.state) == (State.ACCEPTED, State.UNKNOWN)
    assert studio.incidents(second) == ["duplicate_charge"]


# --- poisoned rows ---------------------------------------------------------------------------------


def test_fails_alone_what_no_longer_validates(studio: Studio) -> None:
    studio.account(limit=10)
    before, poisoned, after = studio.ask(), studio.ask(), studio.ask()
    Generation.objects.filter(pk=poisoned.pk).update(params={"prompt": "", "width": "wide"})
    studio.dispatch()
    assert (studio.look(poisoned).status, poisoned.error_code) == (Status.FAILED, "unsupported")
    assert studio.money(poisoned) == ["hold", "release"]
    assert studio.attempt(before).state == studio.attempt(after).state == State.ACCEPTED


def test_goes_round_an_account_whose_credentials_cannot_be_read(studio: Studio) -> None:
    broken = studio.account(priority=1, limit=10)
    studio.account(limit=10)
    Account.objects.filter(pk=broken.pk).update(credentials_encrypted=b"not ours")
    made = [studio.ask() for _ in range(3)]
    studio.dispatch()
    studio.dispatch()  # the tick's: the first one has ended
    assert [studio.attempt(one).state for one in made] == [State.ACCEPTED] * 3
    assert [studio.states(one) for one in made] == [[State.FAILED, State.ACCEPTED]] * 3
    accounts.refresh_due()
    broken.refresh_from_db()
    assert broken.out_of_rotation_at is not None


def test_goes_round_an_account_without_a_key(studio: Studio) -> None:
    empty = AccountFactory.create(
        provider_id="modelslab", base_url="http://127.0.0.1:9/x", priority=1, limit=10, credentials={"api_key": ""}
    )
    studio.account(limit=10)
    made = [studio.ask() for _ in range(3)]
    studio.dispatch()
    studio.dispatch()  # the tick's: the first one has ended
    assert [studio.states(one) for one in made] == [[State.FAILED, State.ACCEPTED]] * 3
    assert {one.submissions.first().account_id for one in made} == {empty.pk}  # type: ignore[union-attr]


def test_fails_alone_one_that_the_adapter_refuses_before_anything_is_sent(studio: Studio) -> None:
    studio.account(limit=10)
    pixverse_like = GenerationFactory.create(
        user=studio.user, provider_id="modelslab", operation_type="image_to_image", params={"prompt": "no picture"}
    )
    fine = studio.ask()
    studio.dispatch()
    assert (studio.look(pixverse_like).status, pixverse_like.error_code) == (Status.FAILED, "invalid_params")
    assert studio.attempt(fine).state == State.ACCEPTED


def test_tries_again_when_the_bytes_of_an_input_cannot_be_read(studio: Studio) -> None:
    studio.account(limit=10)
    generation = GenerationFactory.create(
        user=studio.user, provider_id="modelslab", operation_type="image_to_image", params={"prompt": "with a picture"}
    )
    given = GenerationInputFactory.create(generation=generation)
    default_storage.delete(given.asset.key)
    fine = studio.ask()
    studio.dispatch()
    attempt = studio.attempt(generation)
    assert (attempt.state, attempt.sent_at) == (State.FAILED, None)
    assert studio.submits(generation) == []
    assert studio.attempt(fine).state == State.ACCEPTED


def test_never_calls_unknown_what_was_not_sent(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage may fail with an error of its own; without a limit it would hold its slot for ever."""
    studio.account(limit=10)
    generation = GenerationFactory.create(
        user=studio.user, provider_id="modelslab", operation_type="image_to_image", params={"prompt": "with a picture"}
    )
    GenerationInputFactory.create(generation=generation)

    class Broken(Exception):
        pass

    real = orders.conversation

    def conversation(*args: object) -> object:
        made = real(*args)  # type: ignore[arg-type]
        monkeypatch.setattr(type(made), "prepare", lambda _: (_ for _ in ()).throw(Broken()))
        return made

    monkeypatch.setattr(orders, "conversation", conversation)
    studio.dispatch()
    assert studio.states(generation)[-1] == State.FAILED
    assert not Submission.objects.open().exists()


def test_uploads_an_input_before_it_sends(studio: Studio) -> None:
    studio.account()
    generation = GenerationFactory.create(
        user=studio.user,
        provider_id="modelslab",
        operation_type="image_to_image",
        params={"prompt": "with a picture", "width": 264, "height": 264},
    )
    GenerationInputFactory.create(generation=generation)
    studio.dispatch()
    attempt = studio.attempt(generation)
    assert attempt.state == State.ACCEPTED
    kinds = [call["kind"] for call in studio.sandbox.record(request_id=str(attempt.pk))]
    assert kinds == ["upload", "submit"]


# --- ownership ---------------------------------------------------------------------------------------


def test_does_not_send_what_was_taken_away_meanwhile(studio: Studio) -> None:
    studio.account()
    generation = studio.ask()
    one = Dispatcher("modelslab")
    one._claim()
    Submission.objects.filter(generation=generation).update(lease_until=timezone.now() - timedelta(hours=1))
    one.run()
    assert studio.submits(generation) == []
    assert studio.attempt(generation).state == State.RESERVED, "recovery's to move on"


def test_records_what_is_under_way_when_the_database_goes_away(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    studio.account(limit=2)
    generation = studio.ask()
    one = Dispatcher("modelslab")
    send = one._send

    def send_then_break() -> None:
        send()
        raise OperationalError("the connection was lost")

    monkeypatch.setattr(one, "_send", send_then_break)
    with pytest.raises(OperationalError):
        one.run()
    assert studio.attempt(generation).state == State.ACCEPTED


def test_is_one_call_for_a_provider(studio: Studio) -> None:
    assert dispatch("pixverse") == 0
