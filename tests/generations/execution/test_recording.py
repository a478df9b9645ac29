"""What came of a submit is written down by its owner only, once, and never lost."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from generations.execution.recording import record
from generations.lifecycle import State, Status
from generations.models import CodeOverride, Submission
from generations.reports.sentences import event_text
from providers.base import Output, SubmitResult
from providers.errors import InvalidParams, JobFailed, OutcomeUnknown, Refused
from tests.factories import SubmissionFactory
from tests.generations.execution.studio import Studio

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("hints")]


def sending(**fields: Any) -> Submission:
    return SubmissionFactory.create(state=State.SENDING, **fields)


def now(submission: Submission) -> Submission:
    submission.refresh_from_db()
    return submission


def test_stores_the_job_id() -> None:
    one = sending()
    record(one.token, [(one, SubmitResult("4711", {"a": 1}), None)])
    assert (now(one).state, one.provider_job_id, one.job_handle, one.lease_until) == (
        State.ACCEPTED, "4711", {"a": 1}, None,
    )  # fmt: skip
    assert one.accepted_at is not None
    assert one.next_poll_at is not None


def test_tells_the_collector_of_a_result_that_came_at_once(hints: list[str]) -> None:
    one = sending()
    record(one.token, [(one, SubmitResult("4711", outputs=(Output("https://a.example/1.mp4", "video"),)), None)])
    assert now(one).state == State.COLLECTING
    assert one.collect_by is not None
    assert "collect" in hints


def test_writes_a_mixed_wave_together() -> None:
    token = uuid4()
    accepted, finished, refused, unknown = (sending(token=token) for _ in range(4))
    record(
        token,
        [
            (accepted, SubmitResult("1"), None),
            (finished, SubmitResult("2", outputs=(Output("https://a.example/1.mp4", "video"),)), None),
            (refused, Refused("not today"), None),
            (unknown, OutcomeUnknown("silence"), None),
        ],
    )
    states = [now(one).state for one in (accepted, finished, refused, unknown)]
    assert states == [State.ACCEPTED, State.COLLECTING, State.FAILED, State.UNKNOWN]
    assert now(unknown).error_message == "silence"


def test_takes_an_error_that_nobody_foresaw_for_an_unknown_outcome() -> None:
    one = sending()
    record(one.token, [(one, RuntimeError("what?"), None)])
    assert now(one).state == State.UNKNOWN


def test_fails_and_does_not_doubt_what_was_never_sent() -> None:
    one = SubmissionFactory.create(state=State.RESERVED)
    record(one.token, [(one, Refused("the upload failed"), None)], sent=False)
    assert (now(one).state, one.generation.status) == (State.FAILED, Status.PENDING)


@pytest.mark.parametrize("outcome", [Refused(), OutcomeUnknown(), JobFailed()], ids=lambda one: type(one).__name__)
def test_touches_nothing_of_another_owner(outcome: Exception) -> None:
    one = sending()
    record(uuid4(), [(one, outcome, None)])
    assert now(one).state == State.SENDING
    assert one.generation.events.count() == 0


def test_takes_a_late_job_id_while_the_outcome_is_unknown() -> None:
    one = SubmissionFactory.create(state=State.UNKNOWN)
    record(uuid4(), [(one, SubmitResult("4711"), None)])
    assert (now(one).state, one.provider_job_id) == (State.ACCEPTED, "4711")
    assert Studio.incidents(one) == []


def test_tells_people_of_a_second_job_id() -> None:
    one = SubmissionFactory.create(state=State.ACCEPTED, provider_job_id="first")
    record(uuid4(), [(one, SubmitResult("second"), None)])
    assert (now(one).state, one.provider_job_id) == (State.ACCEPTED, "first")
    assert Studio.incidents(one) == ["duplicate_charge"]


def test_tells_people_of_a_job_id_that_comes_after_the_end() -> None:
    one = SubmissionFactory.create(state=State.FAILED)
    record(uuid4(), [(one, SubmitResult("late"), None)])
    assert (now(one).state, one.provider_job_id) == (State.FAILED, None)
    assert Studio.incidents(one) == ["duplicate_charge"]


def test_says_nothing_when_the_same_job_id_comes_twice() -> None:
    one = sending()
    for _ in range(2):
        record(one.token, [(one, SubmitResult("4711"), None)])
    assert now(one).state == State.ACCEPTED
    assert Studio.incidents(one) == []


def test_keeps_the_id_that_comes_when_the_lease_is_over_and_nobody_has_recovered_it() -> None:
    """Between the end of its lease and the next tick nobody else has it: the id must not be lost."""
    one = sending()
    Studio.past(one, "lease_until")
    record(one.token, [(one, SubmitResult("4711"), None)])
    assert (now(one).state, one.provider_job_id) == (State.ACCEPTED, "4711")
    assert Studio.incidents(one) == []


def test_writes_the_others_when_one_has_the_job_id_of_another_attempt() -> None:
    known = SubmissionFactory.create(state=State.ACCEPTED, provider_job_id="4711")
    token = uuid4()
    twin = sending(account=known.account, token=token)
    other = sending(account=known.account, token=token)
    record(token, [(twin, SubmitResult("4711"), None), (other, SubmitResult("4712"), None)])
    assert (now(twin).state, now(other).state) == (State.UNKNOWN, State.ACCEPTED)
    assert Studio.incidents(twin) == ["duplicate_charge"]


def test_polls_first_when_the_provider_says_within_bounds() -> None:
    soon, late = sending(), sending()
    record(soon.token, [(soon, SubmitResult("1", poll_after=-5), None)])
    record(late.token, [(late, SubmitResult("2", poll_after=1e9), None)])
    for one, most in ((soon, 6), (late, 31)):
        assert now(one).next_poll_at is not None
        assert one.accepted_at is not None
        assert (one.next_poll_at - one.accepted_at).total_seconds() < most  # type: ignore[operator]


class TestAnOperatorsRule:
    """``CodeOverride``: read whenever an attempt fails."""

    def test_ends_at_once_what_would_be_tried_again(self) -> None:
        CodeOverride.objects.create(code="provider_unavailable", retryable=False, reason="down for the day", actor="a")
        one = sending()
        record(one.token, [(one, Refused("not today"), None)])
        assert (now(one).state, one.generation.status) == (State.FAILED, Status.FAILED)
        told = one.generation.events.get(kind="failed")
        assert "as an operator's rule for this code says" in event_text(told)

    def test_tries_again_what_would_fail(self) -> None:
        CodeOverride.objects.create(code="invalid_params", retryable=True, reason="their checks flicker", actor="a")
        one = sending()
        record(one.token, [(one, InvalidParams("no such model"), None)])
        assert (now(one).state, one.generation.status) == (State.FAILED, Status.PENDING)
        assert one.generation.error_retries == 1
        assert "as an operator's rule for this code says" in event_text(one.generation.events.get(kind="retrying"))

    def test_holds_for_its_own_code_only_and_no_longer_than_it_stands(self) -> None:
        rule = CodeOverride.objects.create(code="invalid_params", retryable=True, reason="r", actor="a")
        other, later = sending(), sending()
        record(other.token, [(other, Refused(), None)])
        rule.delete()
        record(later.token, [(later, InvalidParams(), None)])
        assert [now(one).generation.status for one in (other, later)] == [Status.PENDING, Status.FAILED]
        assert "operator" not in event_text(other.generation.events.get(kind="retrying"))
