"""A worker's database connection is dropped at every single statement, one after the other: each time all is well.

The backend is really terminated, in the middle of whatever transaction is open.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import tenacity
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from generations.execution import collect, dispatch, poll, recording, recover
from generations.execution.persist import apart, patiently
from generations.intake.cancel import cancel
from generations.intake.errors import Conflict
from generations.lifecycle import State, Status
from generations.models import Generation, Submission
from generations.models.away import AWAY
from generations.reports import audit
from tests.drops import dropped, terminate
from tests.factories import SubmissionFactory
from tests.generations.execution.studio import PRICE, PURSE, Studio
from tests.together import together
from tests.wire import url_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("hints")]

MOST = 80
"""Statements of any of these works; more of them would mean that the test does not end."""


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is back at once is not waited for."""
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)


def leases_end() -> None:
    """The time in which a dead worker still owned what it had taken is over."""
    Submission.objects.update(
        lease_until=F("lease_until") - timedelta(hours=1), next_poll_at=F("next_poll_at") - timedelta(hours=1)
    )


def ready_to_send(studio: Studio) -> Generation:
    return studio.ask()


def running(studio: Studio) -> Generation:
    """The provider is done, and nobody has asked yet."""
    generation, attempt = studio.start()
    [work] = studio.sandbox.works(request_id=str(attempt.pk))
    time.sleep(max(0, work["finish_at"] - time.time()))
    Submission.objects.update(next_poll_at=timezone.now() - timedelta(hours=1))
    return generation


def finished(studio: Studio) -> Generation:
    """Its result is to be fetched."""
    generation, attempt = studio.start()
    studio.poll_to_the_end(attempt)
    return generation


def left_behind(studio: Studio) -> Generation:
    """Its dispatcher has died before it sent it."""
    generation = studio.ask()
    one = dispatch.Dispatcher("modelslab")
    one._take(1)
    leases_end()
    return generation


WORKS: dict[str, tuple[Callable[[Studio], Generation], Callable[[], object]]] = {
    "dispatch": (ready_to_send, lambda: dispatch.dispatch("modelslab")),
    "poll": (running, poll.poll),
    "collect": (finished, collect.collect),
    "recover": (left_behind, recover.recover),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("acknowledgements", [False, True], ids=["statements", "answers_to_commits"])
@pytest.mark.parametrize("work", WORKS)
def test_database_connection_dropped_mid_update(studio: Studio, work: str, acknowledgements: bool) -> None:
    """The work goes on, by itself or by the next worker: one end, each attempt sent once, the money right.

    What was being sent when the connection was lost is at worst unknown, and then it is never sent again.
    """
    prepare, do = WORKS[work]
    studio.account()
    completed, at = 0, []
    for nth in range(1, MOST):
        generation = prepare(studio)
        with dropped(nth, acknowledgements=acknowledgements) as drop, suppress(*AWAY):
            do()
        connection.close_if_unusable_or_obsolete()
        if not drop.at:
            studio.finish(generation)
            break
        at.append(drop.at)
        leases_end()
        recover.recover()
        if studio.states(generation)[-1:] == [State.UNKNOWN]:
            assert len(studio.submits(generation)) <= 1
            studio.past(studio.attempt(generation), "limit_at", "next_poll_at")
            recover.recover()
            assert (studio.look(generation).error_code, studio.money(generation)) == (
                "outcome_unknown",
                ["hold", "release"],
            )
        else:
            assert studio.finish(generation).status == Status.COMPLETED, drop.at
            assert studio.money(generation) == ["capture", "hold"], drop.at
            completed += 1
        assert len(studio.submits(generation)) == len(set(studio.submits(generation)))
    else:
        raise AssertionError("the work does not end")
    assert len(at) >= (1 if acknowledgements else 6), "it was dropped at many places"
    assert any("UPDATE" in sql for sql in at) or acknowledgements
    assert completed > len(at) / 2
    assert studio.wallet == (PURSE - (completed + 1) * PRICE, 0)
    assert audit.run(files=True) == []


@pytest.mark.parametrize("sent", [False, True], ids=["waiting", "sent"])
def test_cancels_once_or_not_at_all_when_the_connection_is_dropped(studio: Studio, sent: bool) -> None:
    studio.account(limit=60)
    for nth in range(1, MOST):
        generation = studio.ask("never_finishes")
        if sent:
            studio.dispatch()
        with dropped(nth) as drop, suppress(*AWAY):
            cancel(generation.pk, actor="user:1")
        connection.close_if_unusable_or_obsolete()
        if not drop.at:
            break
        with suppress(Conflict):  # it was done, and only not told
            cancel(generation.pk, actor="user:1")
        studio.look(generation)
        if sent:
            assert studio.events(generation).count("cancel_requested") == 1, drop.at
            assert (generation.cancel_requested_at is not None, studio.money(generation)) == (True, ["hold"])
        else:
            assert generation.status == Status.CANCELLED, drop.at
            assert studio.money(generation) == ["hold", "release"]
    assert nth > 3
    assert audit.run() == []


def test_waits_for_a_database_that_is_away_for_a_while_and_then_writes(studio: Studio) -> None:
    """Several connections in a row are lost while a result is written down."""
    studio.account()
    generation = finished(studio)
    lost: list[str] = []

    def lose(execute: Any, sql: str, *others: Any) -> Any:
        if sql.startswith("UPDATE") and "succeeded" in sql and len(lost) < 3:
            lost.append(sql)
            terminate()
        return execute(sql, *others)

    with connection.execute_wrapper(lose):
        collect.collect()
    assert len(lost) == 3
    assert studio.look(generation).status == Status.COMPLETED
    assert audit.run(files=True) == []


def test_retries_the_victim_of_a_deadlock(studio: Studio) -> None:
    """A real one (40P01): two transactions that take two rows in turn; PostgreSQL ends one of them."""
    rows = [SubmissionFactory.create() for _ in range(2)]
    tries: list[int] = []
    both_have_one = threading.Barrier(2)

    def write(order: list[int]) -> Callable[[], None]:
        @patiently
        @transaction.atomic
        def both() -> None:
            tries.append(1)
            for number in order:
                Submission.objects.filter(pk=rows[number].pk).update(progress=F("poll_errors") + order[0])
                if number == order[0] and len(tries) <= 2:
                    both_have_one.wait(10)

        return both

    assert together([write([0, 1]), write([1, 0])]) == [None, None]
    assert len(tries) == 3


def test_retries_what_could_not_be_serialized() -> None:
    """40001, as a stricter isolation level gives it."""
    row = SubmissionFactory.create()
    tries: list[int] = []

    @patiently
    @transaction.atomic
    def write() -> None:
        tries.append(1)
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT progress FROM generations_submission")
            if len(tries) == 1:
                _elsewhere(f"UPDATE generations_submission SET progress = 1 WHERE id = '{row.pk}'")
            cursor.execute("UPDATE generations_submission SET progress = 2")

    write()
    row.refresh_from_db()
    assert (len(tries), row.progress) == (2, 2)


def test_throws_out_who_sits_still_in_a_transaction_and_lives_with_it(studio: Studio) -> None:
    """A worker that was stopped in the middle of a transaction: its locks are freed, and it does it again."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        assert cursor.fetchone() == ("15s",)
    row = SubmissionFactory.create()
    tries: list[int] = []

    @patiently
    @transaction.atomic
    def write() -> None:
        tries.append(1)
        Submission.objects.filter(pk=row.pk).update(progress=1)
        if len(tries) == 1:
            with connection.cursor() as cursor:
                cursor.execute("SET idle_in_transaction_session_timeout = '50ms'")
            time.sleep(0.5)
            _elsewhere(f"UPDATE generations_submission SET raw_status = 'free' WHERE id = '{row.pk}'")
        Submission.objects.filter(pk=row.pk).update(progress=2)

    assert apart(lambda _: write(), [1]) == []
    row.refresh_from_db()
    assert (len(tries), row.progress, row.raw_status) == (2, 2, "free")


def test_leaves_unknown_and_in_the_log_what_could_not_be_written_for_too_long(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The provider has said yes, and the database is away for longer than it is waited for."""
    studio.account()
    generation = studio.ask()

    def lose(execute: Any, sql: str, *others: Any) -> Any:
        if "provider_job_id" in sql and sql.startswith("UPDATE"):
            terminate()
        return execute(sql, *others)

    # tenacity's own attribute of what it decorates
    monkeypatch.setattr(recording._record.retry, "stop", tenacity.stop_after_delay(0.3))
    with connection.execute_wrapper(lose), pytest.raises(AWAY):
        studio.dispatch()
    connection.close_if_unusable_or_obsolete()
    [work] = studio.sandbox.works(request_id=str(studio.attempt(generation).pk))
    assert f"'provider_job_id': '{work['remote_id']}'" in caplog.text
    assert "outcome_not_recorded" in caplog.text
    leases_end()
    recover.recover()
    assert studio.attempt(generation).state == State.UNKNOWN
    assert studio.dispatch() == 0
    assert len(studio.submits(generation)) == 1


def _elsewhere(sql: str) -> None:
    """On a connection of its own, at once."""
    with psycopg.connect(url_of(), autocommit=True) as another:
        another.execute("SET lock_timeout = '5s'")
        another.execute(sql.encode())
