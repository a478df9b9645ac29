"""Generations are locked before Submissions, everywhere: two that want the same rows wait, and never in a circle."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import transaction

from generations.execution import recording, settle
from generations.execution.dispatch import send
from generations.lifecycle import State
from generations.models import Submission
from providers.base import SubmitResult
from providers.errors import Refused
from tests.factories import SubmissionFactory
from tests.together import together, until_somebody_waits

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("hints")]


def _against(mine: Submission, other: Callable[[], object]) -> list[object]:
    """Hold the Generation as a cancel does, let ``other`` run into it, then take the Submission as a cancel does."""
    started = threading.Event()

    def cancel() -> int:
        with transaction.atomic():
            settle.lock([mine.generation_id])
            started.set()
            until_somebody_waits()
            return Submission.objects.filter(pk=mine.pk).update(raw_status="taken")

    def run() -> object:
        started.wait(10)
        return other()

    return list(together([cancel, run]))


def test_does_not_deadlock_a_cancel_with_a_send() -> None:
    mine = SubmissionFactory.create(state=State.RESERVED)
    taken, sent = _against(mine, lambda: send([mine], mine.token))
    assert (taken, sent) == (1, {mine.pk})


def test_does_not_deadlock_a_cancel_with_what_a_wave_records() -> None:
    """The wave holds an accepted one and a refused one; the cancel holds the refused one's Generation."""
    accepted = SubmissionFactory.create(state=State.SENDING)
    refused = SubmissionFactory.create(state=State.SENDING, token=accepted.token)
    started = threading.Event()

    def cancel() -> int:
        with transaction.atomic():
            settle.lock([refused.generation_id])
            started.set()
            until_somebody_waits()
            return Submission.objects.filter(pk=accepted.pk).update(raw_status="taken")

    def record() -> None:
        started.wait(10)
        # Without the retry around it: a deadlock must not even happen.
        recording._record.__wrapped__(
            accepted.token, [(accepted, SubmitResult("1"), None), (refused, Refused("no"), None)], sent=True
        )

    assert together([cancel, record]) == [1, None]
    accepted.refresh_from_db()
    refused.refresh_from_db()
    assert (accepted.state, refused.state) == (State.ACCEPTED, State.FAILED)
