"""A Generation may end while its attempt lives on."""

from __future__ import annotations

import pytest

from generations.execution import expiry
from generations.lifecycle import State, Status
from generations.models import Submission
from tests.factories import SubmissionFactory
from tests.generations.execution.studio import Studio

pytestmark = pytest.mark.django_db


def ended(attempt: Submission) -> tuple[str, str, bool]:
    attempt.refresh_from_db()
    attempt.generation.refresh_from_db()
    return attempt.generation.status, attempt.generation.error_code, attempt.abandoned_at is not None


@pytest.mark.parametrize(
    ("state", "code"),
    [(State.ACCEPTED, "deadline_exceeded"), (State.SENDING, "deadline_exceeded"), (State.UNKNOWN, "outcome_unknown")],
)
def test_fails_it_and_abandons_the_attempt(state: State, code: str) -> None:
    one = SubmissionFactory.create(state=state)
    assert expiry.expire([one], actor="test") == {one.generation_id}
    assert ended(one) == (Status.FAILED, code, True)
    assert one.state == state
    assert Studio.events(one.generation) == ["failed", "abandoned"]


def test_cancels_it_and_abandons_the_attempt() -> None:
    one = SubmissionFactory.create()
    assert expiry.cancel([one], actor="test") == {one.generation_id}
    assert ended(one) == (Status.CANCELLED, "", True)


def test_leaves_one_alone_whose_result_is_being_fetched() -> None:
    one = SubmissionFactory.create(state=State.COLLECTING)
    assert expiry.expire([one], actor="test") == expiry.cancel([one], actor="test") == set()
    assert ended(one) == (Status.PROCESSING, "", False)


def test_leaves_one_alone_that_has_ended() -> None:
    one = SubmissionFactory.create(state=State.SUCCEEDED)
    assert expiry.expire([one], actor="test") == set()
    assert ended(one) == (Status.COMPLETED, "", False)


def test_does_nothing_with_nothing() -> None:
    assert expiry.expire([], actor="test") == set()
