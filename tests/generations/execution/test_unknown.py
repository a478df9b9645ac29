"""What is learnt of an unknown outcome, and asking once more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from accounts.models import Account
from generations.execution import reconcile, recover, unknown
from generations.execution.recording import record
from generations.lifecycle import State, Status
from generations.models import Event, ProviderSetting, Submission, UnknownOutcome
from providers.base import SubmitResult
from providers.errors import InvalidParams, OutcomeUnknown, ProviderError, RateLimited, Refused
from tests.factories import AccountFactory, SubmissionFactory
from tests.generations.execution.studio import PRICE, PURSE, Studio

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("hints")]


def test_learns_the_job_of_an_unknown_one_from_a_callback() -> None:
    one = SubmissionFactory.create(state=State.UNKNOWN, error_code="outcome_unknown")
    assert unknown.heard_of(one, "4711")
    one.refresh_from_db()
    assert (one.state, one.provider_job_id, one.error_code) == (State.ACCEPTED, "4711", "")
    assert one.next_poll_at is not None
    assert one.next_poll_at <= timezone.now()
    assert not unknown.heard_of(one, "4712"), "it is known already"
    assert Studio.incidents(one) == ["duplicate_charge"]


@pytest.mark.parametrize("state", [State.RESERVED, State.ACCEPTED, State.COLLECTING, State.SUCCEEDED])
def test_changes_nothing_that_is_neither_unknown_nor_being_sent(state: State) -> None:
    one = SubmissionFactory.create(state=state)
    before = Submission.objects.filter(pk=one.pk).values().get()
    assert not unknown.heard_of(one, "4711")
    assert Submission.objects.filter(pk=one.pk).values().get() == before


def test_takes_no_job_of_another_attempt() -> None:
    one = SubmissionFactory.create(state=State.UNKNOWN)
    SubmissionFactory.create(account=one.account, provider_job_id="4711")
    assert not unknown.heard_of(one, "4711")
    assert not unknown.heard_of(one, "x" * 256)
    one.refresh_from_db()
    assert one.state == State.UNKNOWN


def test_completes_an_unknown_one_that_a_callback_tells_of(studio: Studio) -> None:
    studio.account()
    generation, attempt = studio.start("accept_then_drop")
    [work] = studio.sandbox.works(request_id=str(attempt.pk))
    assert unknown.heard_of(attempt, str(work["remote_id"]))
    studio.poll_to_the_end(attempt)
    studio.collect()
    assert studio.look(generation).status == Status.COMPLETED
    assert studio.submits(generation) == [str(attempt.pk)]
    assert studio.wallet == (PURSE - PRICE, 0)


# --- a callback that is quicker than the answer to the submit -----------------------------------------------


def test_knows_the_job_when_the_answer_is_lost_after_the_callback() -> None:
    one = SubmissionFactory.create(state=State.SENDING)
    assert unknown.heard_of(one, "4711")
    record(one.token, [(one, OutcomeUnknown(), None)])
    one.refresh_from_db()
    assert (one.state, one.provider_job_id) == (State.ACCEPTED, "4711")


def test_knows_the_job_when_the_sender_dies_after_the_callback() -> None:
    one = SubmissionFactory.create(state=State.SENDING)
    assert unknown.heard_of(one, "4711")
    Studio.past(one, "lease_until")
    recover.recover()
    one.refresh_from_db()
    assert (one.state, one.provider_job_id) == (State.ACCEPTED, "4711")


def test_takes_the_answer_that_comes_after_the_callback() -> None:
    one = SubmissionFactory.create(state=State.SENDING)
    assert unknown.heard_of(one, "4711")
    record(one.token, [(one, SubmitResult("4711"), None)])
    one.refresh_from_db()
    assert (one.state, one.provider_job_id, Studio.incidents(one)) == (State.ACCEPTED, "4711", [])


def test_tells_people_when_answer_and_callback_name_different_jobs() -> None:
    one = SubmissionFactory.create(state=State.SENDING)
    assert unknown.heard_of(one, "4711")
    record(one.token, [(one, SubmitResult("815"), None)])
    one.refresh_from_db()
    assert (one.provider_job_id, Studio.incidents(one)) == ("815", ["duplicate_charge"])


@pytest.mark.parametrize("error", [Refused("Busy."), InvalidParams("Bad."), RateLimited()], ids=lambda one: one.code)
def test_believes_the_callback_and_not_a_refusal_that_contradicts_it(error: ProviderError) -> None:
    one = SubmissionFactory.create(state=State.SENDING)
    assert unknown.heard_of(one, "4711")
    record(one.token, [(one, error, None)])
    one.refresh_from_db()
    one.generation.refresh_from_db()
    assert (one.state, one.provider_job_id, one.generation.status) == (State.ACCEPTED, "4711", Status.PROCESSING)


def test_takes_no_told_job_of_another_attempt() -> None:
    one = SubmissionFactory.create(state=State.SENDING)
    SubmissionFactory.create(account=one.account, provider_job_id="4711")
    assert unknown.heard_of(one, "4711")
    record(one.token, [(one, OutcomeUnknown(), None)])
    one.refresh_from_db()
    assert (one.state, one.told_job_id, Studio.incidents(one)) == (State.UNKNOWN, "", ["duplicate_charge"])


def test_puts_an_ended_one_into_the_inbox_when_it_was_taken_after_all() -> None:
    one = SubmissionFactory.create(state=State.FAILED, resolution="not_billed", error_code="not_billed")
    assert not UnknownOutcome.objects.exists()
    assert unknown.heard_of(one, "4711")
    assert UnknownOutcome.objects.get().told_job_id == "4711"
    assert Studio.incidents(one) == ["cost_at_risk"]
    assert not unknown.heard_of(one, "4711"), "it is known"


# --- our own outage ends nothing -----------------------------------------------------------------------------


def test_looks_for_it_before_time_ends_it(studio: Studio) -> None:
    studio.account("pixverse")
    one = studio.send_video("accept_then_drop")
    # The whole house was away: nobody noticed the death of the sender, and every time is over.
    Submission.objects.filter(pk=one.pk).update(state=State.SENDING, misses=0, next_poll_at=None)
    studio.past(one, "lease_until", "limit_at", "sent_at")
    studio.past(one.generation, "deadline_at")
    resubmit_once("pixverse")

    recover.recover()

    one.refresh_from_db()
    one.generation.refresh_from_db()
    assert (one.state, one.abandoned_at, one.generation.status) == (State.UNKNOWN, None, Status.PROCESSING)
    [work] = studio.sandbox.works(request_id=str(one.pk))
    Submission.objects.update(next_poll_at=None, sent_at=datetime.fromtimestamp(work["accepted_at"], UTC))
    reconcile.reconcile()
    one.refresh_from_db()
    assert one.state == State.ACCEPTED


def test_ends_it_when_the_provider_cannot_be_asked_for_so_many_looks(studio: Studio) -> None:
    account = studio.account("pixverse")
    one = studio.send_video("accept_then_drop")
    Account.objects.filter(pk=account.pk).update(base_url="http://127.0.0.1:9/pixverse")
    studio.past(one, "limit_at")
    for look in range(3):
        assert recover.recover()["unknown_at_limit"] == 0, look
        Submission.objects.update(next_poll_at=None)
        reconcile.reconcile()
    assert recover.recover()["unknown_at_limit"] == 1


def test_ends_it_although_the_next_look_is_due_before_the_tick_comes() -> None:
    one = SubmissionFactory.create(state=State.UNKNOWN, account__provider_id="pixverse")
    Studio.past(one, "limit_at", "next_poll_at")
    assert recover.recover()["unknown_at_limit"] == 0
    Submission.objects.update(next_poll_at=timezone.now() - timedelta(seconds=1))
    assert recover.recover()["unknown_at_limit"] == 1


def test_leaves_time_for_a_callback_where_nobody_can_be_asked() -> None:
    account = AccountFactory.create(provider_id="modelslab")
    one = SubmissionFactory.create(state=State.SENDING, account=account)
    Studio.past(one, "lease_until", "limit_at")
    assert recover.recover()["unknown_at_limit"] == 0
    Studio.past(one, "next_poll_at")
    assert recover.recover()["unknown_at_limit"] == 1


# --- asking once more --------------------------------------------------------------------------------------


def resubmit_once(provider_id: str) -> None:
    ProviderSetting.objects.create(provider_id=provider_id, on_unknown="resubmit_once")


def test_never_asks_again_by_itself(studio: Studio) -> None:
    studio.account()
    generation, attempt = studio.start("accept_then_drop")
    studio.past(attempt, "sent_at", "next_poll_at")
    resubmit_once("pixverse")
    assert recover.recover()["resubmit"] == 0
    assert studio.look(generation).status == Status.PROCESSING
    assert studio.submits(generation) == [str(attempt.pk)]


def test_asks_once_more_where_that_was_configured(studio: Studio) -> None:
    account = studio.account()
    generation, first = studio.start("accept_then_drop*1")
    resubmit_once("modelslab")
    assert recover.recover()["resubmit"] == 0, "there is time for a callback"
    studio.past(first, "sent_at", "next_poll_at")
    assert recover.recover()["resubmit"] == 1
    first.refresh_from_db()
    assert (first.state, first.abandoned_at is not None) == (State.UNKNOWN, True)
    assert (studio.look(generation).status, generation.resubmits, generation.deadline_at) == ("pending", 1, None)

    studio.finish(generation)

    second = studio.attempt(generation)
    assert studio.submits(generation) == [str(first.pk), str(second.pk)]
    assert (generation.status, studio.money(generation)) == (Status.COMPLETED, ["capture", "hold"])
    assert "resubmitted" in studio.events(generation)
    assert list(account.submissions.holding_slot()) == [first], "it may be running still"
    studio.past(first, "limit_at", "next_poll_at")
    recover.recover()
    first.refresh_from_db()
    assert (first.state, first.cost_at_risk) == (State.FAILED, True)
    assert studio.wallet == (PURSE - PRICE, 0)


def test_asks_only_once_more(studio: Studio) -> None:
    studio.account()
    generation, first = studio.start("accept_then_drop")
    resubmit_once("modelslab")
    studio.past(first, "sent_at", "next_poll_at")
    recover.recover()
    studio.dispatch()
    second = studio.attempt(generation)
    studio.past(second, "sent_at", "next_poll_at")
    assert recover.recover()["resubmit"] == 0
    second.refresh_from_db()
    assert (second.number, second.state, second.abandoned_at) == (2, State.UNKNOWN, None)


def test_asks_for_nothing_that_somebody_wants_cancelled() -> None:
    resubmit_once("pixverse")
    one = SubmissionFactory.create(state=State.UNKNOWN, generation__cancel_requested_at=timezone.now())
    Studio.past(one, "sent_at")
    assert recover.recover()["resubmit"] == 0


@pytest.mark.parametrize("fault", ["lost_job", "no_url"])
def test_asks_once_more_for_what_was_lost_where_that_was_configured(studio: Studio, fault: str) -> None:
    studio.account()
    resubmit_once("modelslab")
    generation, first = studio.start(f"{fault}*1")
    names = {"lost_job": ("first_missed_at", "misses"), "no_url": ("first_empty_at", "empties")}[fault]
    for _ in range(6):
        studio.poll()
        first.refresh_from_db()
        if first.state == State.FAILED:
            break
        if getattr(first, names[0]) is not None:
            studio.past(first, names[0])
    assert (first.state, first.cost_at_risk) == (State.FAILED, True)
    assert (studio.look(generation).status, generation.resubmits) == (Status.PENDING, 1)
    studio.finish(generation)
    assert generation.status == Status.COMPLETED
    assert Event.objects.filter(generation=generation, kind="retrying", data__budget="resubmits").count() == 1
