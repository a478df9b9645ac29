"""One bad poll never fails a live job, and a job that has ended is seen to have ended."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import pytest
from django.utils import timezone

from generations.execution import poll as polling
from generations.execution.poll import Answer, _claim, _write, poll
from generations.lifecycle import State, Status
from generations.models import Generation, Submission
from providers.base import Output, PollResult
from providers.errors import (
    AuthFailed,
    InsufficientCredits,
    JobFailed,
    NotDelivered,
    OutcomeUnknown,
    PermissionDenied,
    ProviderError,
)
from tests.factories import AccountFactory, GenerationFactory, SubmissionFactory
from tests.generations.execution.studio import PURSE, Studio, stale

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("hints")]

PAST = timezone.now() - timedelta(hours=2)
DONE = PollResult("succeeded", (Output("https://a.example/1.mp4", "video"),))
RUNNING, MISSING, EMPTY = PollResult("running"), PollResult("missing"), PollResult("succeeded")


def accepted(**fields: Any) -> Submission:
    return SubmissionFactory.create(state=State.ACCEPTED, next_poll_at=PAST, **fields)


def answer(submission: Submission, outcome: PollResult | Exception) -> Submission:
    """This Submission is polled and the provider says this."""
    Submission.objects.filter(pk=submission.pk).update(next_poll_at=PAST)
    token = uuid4()
    [row] = [one for one in _claim(token) if one.pk == submission.pk]
    _write(token, [Answer(row, outcome)])
    submission.refresh_from_db()
    submission.generation.refresh_from_db()
    return submission


def wait(submission: Submission) -> float:
    """Seconds until its next poll."""
    assert submission.next_poll_at is not None
    return (submission.next_poll_at - timezone.now()).total_seconds()


# --- against the sandbox ---------------------------------------------------------------------------


def test_frees_the_slot_as_soon_as_the_provider_is_done(studio: Studio) -> None:
    studio.account(limit=1)
    _, attempt = studio.start()
    studio.ask()
    assert studio.dispatch() == 0
    studio.poll_to_the_end(attempt)
    assert attempt.state == State.COLLECTING
    assert attempt.collect_by is not None
    assert studio.dispatch() == 1


@pytest.mark.parametrize(
    "fault",
    [
        "poll_500_once",
        "poll_503_once",
        "poll_429_once",
        "poll_malformed_once",
        "poll_404_once",
        "poll_drop_once",
        "poll_unknown_status",
    ],
)
def test_lives_through_a_bad_answer(studio: Studio, fault: str) -> None:
    studio.account()
    generation, attempt = studio.start(fault)
    studio.poll_to_the_end(attempt)
    assert fault in {firing["fault"] for firing in studio.sandbox.firings() if firing["key"]}
    assert attempt.state == State.COLLECTING
    assert studio.look(generation).status == Status.PROCESSING
    assert studio.money(generation) == ["hold"]


def test_makes_another_attempt_when_the_job_failed_until_the_budget_is_used_up(studio: Studio) -> None:
    studio.account()
    generation = studio.finish(studio.ask("job_failed"))
    assert (generation.status, generation.error_code) == (Status.FAILED, "provider_failed")
    assert studio.states(generation) == [State.FAILED] * 4
    assert studio.wallet == (PURSE, 0)


def test_completes_when_a_later_attempt_succeeds(studio: Studio) -> None:
    studio.account()
    generation = studio.finish(studio.ask("job_failed*1"))
    assert (generation.status, generation.error_retries) == (Status.COMPLETED, 1)
    assert studio.money(generation) == ["capture", "hold"]


@pytest.mark.parametrize("fault", ["moderated_output", "moderated_output:failed", "late_moderation"])
def test_makes_one_more_attempt_when_the_result_was_moderated(studio: Studio, fault: str) -> None:
    studio.account()
    generation = studio.finish(studio.ask(fault))
    assert (generation.status, generation.error_code) == (Status.FAILED, "content_moderated")
    assert studio.states(generation) == [State.FAILED] * 2
    assert studio.wallet == (PURSE, 0)


def test_asks_a_lost_job_three_times_over_a_minute(studio: Studio) -> None:
    studio.account()
    generation, attempt = studio.start("lost_job")
    for _ in range(5):
        studio.poll()
    attempt.refresh_from_db()
    assert (attempt.state, attempt.misses) == (State.ACCEPTED, 5)
    studio.past(attempt, "first_missed_at")
    studio.poll()
    attempt.refresh_from_db()
    assert (attempt.state, attempt.error_code, attempt.cost_at_risk) == (State.FAILED, "provider_lost", True)
    assert (studio.look(generation).status, generation.error_code) == (Status.FAILED, "provider_lost")
    assert studio.incidents(attempt) == ["cost_at_risk"]
    assert studio.money(generation) == ["hold", "release"]


def test_gives_up_what_is_done_without_a_result(studio: Studio) -> None:
    studio.account()
    generation, attempt = studio.start("no_url")
    studio.poll_until(lambda: studio.attempt(generation).empties >= 5)
    studio.past(attempt, "first_empty_at")
    studio.poll()
    attempt.refresh_from_db()
    assert (attempt.state, attempt.error_code, attempt.cost_at_risk) == (State.FAILED, "no_output", True)
    assert (studio.look(generation).status, generation.error_code) == (Status.FAILED, "no_output")


def test_judges_credentials_that_cannot_be_read_by_themselves(studio: Studio) -> None:
    broken, fine = studio.account(limit=1), studio.account(limit=1)
    studio.ask()
    studio.ask()
    studio.dispatch()
    type(broken).objects.filter(pk=broken.pk).update(credentials_encrypted=b"not ours")
    one, other = broken.submissions.get(), fine.submissions.get()
    studio.poll_to_the_end(other)
    one.refresh_from_db()
    assert (one.state, other.state) == (State.ACCEPTED, State.COLLECTING)
    assert one.poll_errors > 0


# --- answers, one by one -----------------------------------------------------------------------------


def test_forgets_misses_when_the_job_is_there_again() -> None:
    one = accepted()
    answer(one, MISSING)
    assert one.misses == 1
    answer(one, RUNNING)
    assert (one.misses, one.first_missed_at) == (0, None)


def test_waits_longer_after_each_error_and_at_most_so_long() -> None:
    one = accepted()
    waits = [wait(answer(one, OutcomeUnknown())) for _ in range(6)]
    assert 4 < waits[0] < 6
    assert 9 < waits[1] < 11
    assert waits[-1] <= 30
    assert answer(one, RUNNING).poll_errors == 0


def test_waits_as_long_as_a_busy_provider_asks() -> None:
    assert 590 < wait(answer(accepted(), OutcomeUnknown(retry_after=600))) < 601


@pytest.mark.parametrize("error", [AuthFailed(), PermissionDenied(), InsufficientCredits()], ids=lambda one: one.code)
def test_fails_no_job_when_the_account_is_refused(error: ProviderError) -> None:
    one = answer(accepted(), error)
    assert (one.state, one.generation.status, one.poll_errors) == (State.ACCEPTED, Status.PROCESSING, 1)
    assert wait(one) > 0


def test_shows_progress_and_what_the_provider_says() -> None:
    one = answer(accepted(), PollResult("running", progress=42, raw_status="x" * 500))
    assert (one.progress, len(one.raw_status)) == (42, 120)
    assert answer(one, DONE).state == State.COLLECTING


@pytest.mark.parametrize("outcome", [DONE, RUNNING, PollResult("failed", error=JobFailed())], ids=lambda one: one.state)
def test_touches_nothing_with_a_stale_poll_token(outcome: PollResult) -> None:
    one = accepted()
    token = uuid4()
    [row] = _claim(token)
    stale(one)
    one.refresh_from_db()
    before = (one.next_poll_at, one.state)
    _write(token, [Answer(row, outcome)])
    one.refresh_from_db()
    assert (one.next_poll_at, one.state) == before
    one.generation.refresh_from_db()
    assert one.generation.status == Status.PROCESSING


def test_does_not_end_a_generation_that_has_gone_back_to_the_queue_meanwhile() -> None:
    """A slow poller's last look comes back after another poller has seen the job fail."""
    one = accepted(generation=GenerationFactory.create(status=Status.PROCESSING, deadline_at=PAST))
    token = uuid4()
    [row] = _claim(token)
    answer(one, PollResult("failed", error=JobFailed()))
    assert one.generation.status == Status.PENDING
    _write(token, [Answer(row, RUNNING)])
    one.generation.refresh_from_db()
    assert one.generation.status == Status.PENDING


def test_gives_a_row_to_one_poller_only() -> None:
    accepted()
    assert [len(_claim(uuid4())) for _ in range(2)] == [1, 0]


def test_polls_no_more_of_one_account_at_once_than_allowed(limits: Any) -> None:
    limits(polls_per_account=2)
    account = AccountFactory.create(limit=9)
    for _ in range(5):
        accepted(account=account)
    other = accepted()
    taken = _claim(uuid4())
    assert len(taken) == 3
    assert other.pk in {one.pk for one in taken}


def test_stays_for_what_becomes_due_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    one = accepted()
    Submission.objects.filter(pk=one.pk).update(next_poll_at=timezone.now() + timedelta(milliseconds=60))
    monkeypatch.setattr(polling, "_question", Mock(return_value=lambda: RUNNING))
    assert poll() == 0
    assert poll(linger=1) == 1


# --- the deadline ------------------------------------------------------------------------------------


def past_deadline(limit_at: datetime | None = None, **fields: Any) -> Submission:
    return accepted(generation=GenerationFactory.create(status=Status.PROCESSING, deadline_at=PAST), **fields)


def test_keeps_a_result_that_the_last_look_finds() -> None:
    one = answer(past_deadline(), DONE)
    assert (one.state, one.abandoned_at, one.generation.status) == (State.COLLECTING, None, Status.PROCESSING)


def test_fails_the_generation_and_lets_the_attempt_live_on() -> None:
    one = answer(past_deadline(), RUNNING)
    assert (one.generation.status, one.generation.error_code) == (Status.FAILED, "deadline_exceeded")
    assert (one.state, one.abandoned_at is not None) == (State.ACCEPTED, True)
    assert one.generation.active_fingerprint is not None, "the attempt may still be billed"
    assert one.account.submissions.holding_slot().count() == 1
    assert Studio.events(one.generation) == ["failed", "abandoned"]


def test_goes_on_polling_an_abandoned_one_and_frees_its_slot_when_the_job_ends() -> None:
    one = answer(past_deadline(), RUNNING)
    answer(one, PollResult("failed", error=JobFailed()))
    assert (one.state, one.generation.status) == (State.FAILED, Status.FAILED)
    assert one.generation.active_fingerprint is None
    assert one.account.submissions.holding_slot().count() == 0


def test_gives_an_abandoned_one_up_at_its_limit() -> None:
    one = answer(past_deadline(), RUNNING)
    answer(one, RUNNING)
    assert one.state == State.ACCEPTED
    Submission.objects.filter(pk=one.pk).update(limit_at=PAST)
    answer(one, RUNNING)
    assert (one.state, one.cost_at_risk) == (State.FAILED, True)
    assert one.generation.active_fingerprint is None
    assert Generation.objects.get(pk=one.generation_id).error_code == "deadline_exceeded"


def test_tries_a_last_look_that_gets_no_answer_three_times() -> None:
    one = past_deadline()
    for look in (1, 2):
        answer(one, NotDelivered())
        assert (one.generation.status, one.last_looks) == (Status.PROCESSING, look)
        assert 25 < wait(one) < 31
    answer(one, NotDelivered())
    assert one.generation.status == Status.FAILED
    assert one.state == State.ACCEPTED


def test_looks_right_at_the_deadline() -> None:
    deadline = timezone.now() + timedelta(seconds=3)
    generation = GenerationFactory.create(status=Status.PROCESSING, deadline_at=deadline)
    one = answer(accepted(generation=generation), PollResult("running", poll_after=30))
    assert one.next_poll_at == deadline
    assert one.generation.status == Status.PROCESSING


def test_ends_a_cancelled_one_as_cancelled_when_its_job_fails() -> None:
    one = accepted(generation=GenerationFactory.create(status=Status.PROCESSING, cancel_requested_at=PAST))
    answer(one, PollResult("failed", error=JobFailed()))
    assert (one.generation.status, one.state) == (Status.CANCELLED, State.FAILED)
