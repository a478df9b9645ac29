"""Work that ends whoever takes it: real processes die of it, nobody else suffers, and it is stopped."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db.models import F
from django.utils import timezone

from generations.execution import collect as collecting
from generations.execution import dispatch as dispatching
from generations.execution import poison, recover
from generations.execution import poll as polling
from generations.execution.claim import claim
from generations.execution.poll import _claim as claim_polls
from generations.execution.waves import Wave
from generations.lifecycle import State, Status
from generations.models import Generation, Submission
from generations.reports import audit
from tests.factories import AccountFactory, GenerationFactory, SubmissionFactory
from tests.generations.execution.studio import PRICE, PURSE, Studio
from tests.generations.execution.workers import KILLED, Workers

PAST = timezone.now() - timedelta(hours=2)
LIMIT = 5


def leases_end() -> None:
    """The time in which a dead worker still owned what it had taken is over."""
    Submission.objects.update(
        lease_until=F("lease_until") - timedelta(hours=1), next_poll_at=F("next_poll_at") - timedelta(hours=1)
    )


def claims(attempt: Submission) -> int:
    attempt.refresh_from_db()
    return attempt.unwritten_claims


# --- collecting ------------------------------------------------------------------------------------


def finished(studio: Studio, count: int) -> list[Generation]:
    """So many that the provider is done with."""
    studio.account(limit=10)
    made = [studio.ask() for _ in range(count)]
    studio.dispatch()
    for one in made:
        studio.poll_to_the_end(studio.attempt(one))
    return made


def test_stops_a_result_that_kills_its_collectors_and_keeps_those_beside_it(studio: Studio, workers: Workers) -> None:
    deadly, *others = finished(studio, 4)
    deaths = 0
    while studio.look(deadly).is_live:
        deaths += workers.run("collect", die="collecting", generation=deadly) == KILLED
        leases_end()
        recover.tick()
        assert deaths <= LIMIT
    assert deaths == LIMIT
    attempt = studio.attempt(deadly)
    assert (attempt.state, attempt.error_code, attempt.cost_at_risk) == (State.FAILED, "asset_unusable", True)
    assert "5 workers in a row died" in studio.look(deadly).error_message
    assert studio.incidents(attempt) == ["cost_at_risk", "poison"]
    assert studio.money(deadly) == ["hold", "release"]
    assert [studio.look(one).status for one in others] == [Status.COMPLETED] * 3
    assert studio.wallet == (PURSE - 3 * PRICE, 0)
    assert studio.events(deadly).count("recovered") == LIMIT - 1
    assert audit.run(files=True) == []


def test_takes_nothing_else_while_it_has_a_suspect(studio: Studio, workers: Workers) -> None:
    """The second death is the last that others share: from then on each suspect is alone, and they are innocent."""
    deadly, *others = finished(studio, 3)
    for _ in range(2):
        assert workers.run("collect", die="collecting", generation=deadly) == KILLED
        leases_end()
    assert {claims(studio.attempt(one)) for one in (deadly, *others)} == {2}
    taken = [[row.generation_id for row in collecting._next(uuid4(), Wave())] for _ in range(3)]
    assert sorted(map(len, taken)) == [1, 1, 1]
    assert {pk for [pk] in taken} == {one.pk for one in (deadly, *others)}


def test_collects_after_an_ordinary_kill_as_if_nothing_had_been(studio: Studio, workers: Workers) -> None:
    [one] = finished(studio, 1)
    assert workers.run("collect", die="stored") == KILLED
    assert (claims(studio.attempt(one)), studio.assets(one)) == (1, [])
    assert workers.run("collect") == 0
    assert studio.look(one).status == Status.PROCESSING, "the dead one's lease still runs"
    leases_end()
    assert workers.run("collect") == 0
    assert studio.look(one).status == Status.COMPLETED
    assert (claims(studio.attempt(one)), studio.incidents(studio.attempt(one))) == (0, [])
    assert studio.money(one) == ["capture", "hold"]
    assert audit.run(files=True) == []


@pytest.mark.django_db
def test_forgets_the_claims_when_something_is_written(studio: Studio) -> None:
    [one] = finished(studio, 1)
    attempt = studio.attempt(one)
    Submission.objects.filter(pk=attempt.pk).update(
        unwritten_claims=4, outputs=[{"url": "http://127.0.0.1:22/x.png", "kind": "image"}]
    )
    studio.collect()
    assert (claims(attempt), attempt.state, attempt.collect_tries) == (0, State.COLLECTING, 1)


@pytest.mark.django_db
def test_collects_no_more_what_waits_to_be_given_up(hints: list[str]) -> None:
    one = SubmissionFactory.create(state=State.COLLECTING)
    Submission.objects.filter(pk=one.pk).update(lease_until=PAST, unwritten_claims=LIMIT)
    assert collecting.collect() == 0
    recover.tick()
    one.refresh_from_db()
    assert one.state == State.FAILED
    assert "collect" not in hints


@pytest.mark.django_db
def test_stops_nobody_for_having_stood_beside_it_however_low_the_limit_is_set(limits: Any) -> None:
    limits(poison_claims=1)
    assert poison.most_claims() == 3


@pytest.mark.django_db
def test_begins_anew_after_a_while_with_those_that_must_be_alone(
    studio: Studio, hints: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(studio, 1)
    hints.clear()
    monkeypatch.setattr(collecting, "RUN_SECONDS", -1)
    assert collecting.collect() == 0
    assert hints == ["collect"]


# --- polling ---------------------------------------------------------------------------------------


def test_asks_seldom_about_a_job_that_kills_its_pollers_and_never_fails_it(studio: Studio, workers: Workers) -> None:
    studio.account(limit=10)
    deadly, other = studio.ask("never_finishes"), studio.ask("never_finishes")
    studio.dispatch()
    for _ in range(LIMIT):
        leases_end()
        assert workers.run("poll", die="polling", generation=deadly) == KILLED
    attempt = studio.attempt(deadly)
    assert (claims(attempt), attempt.state) == (LIMIT, State.ACCEPTED)
    assert studio.incidents(attempt) == []
    assert claims(studio.attempt(other)) == 0, "taken apart from it, it was asked about and written"
    leases_end()
    assert workers.run("poll", die="polling", generation=deadly) == KILLED
    attempt.refresh_from_db()
    assert attempt.next_poll_at is not None
    assert attempt.next_poll_at > timezone.now() + timedelta(minutes=9)
    assert studio.incidents(attempt) == ["poison"]
    assert (studio.look(deadly).status, attempt.state) == (Status.PROCESSING, State.ACCEPTED)


def test_is_an_ordinary_job_again_once_a_poll_has_lived_through_it(studio: Studio, workers: Workers) -> None:
    studio.account()
    deadly, attempt = studio.start()
    Submission.objects.filter(pk=attempt.pk).update(unwritten_claims=LIMIT, next_poll_at=PAST)
    assert workers.run("poll") == 0
    assert claims(attempt) == 0
    assert studio.finish(deadly).status == Status.COMPLETED
    assert studio.money(deadly) == ["capture", "hold"]


@pytest.mark.django_db
def test_ends_it_at_its_deadline_and_at_its_limit_although_nobody_can_ask() -> None:
    one = SubmissionFactory.create(generation=GenerationFactory.create(status=Status.PROCESSING, deadline_at=PAST))
    other = SubmissionFactory.create(generation=GenerationFactory.create(status=Status.PROCESSING, deadline_at=PAST))
    Submission.objects.filter(pk=one.pk).update(unwritten_claims=LIMIT)
    recover.recover()
    one.refresh_from_db()
    one.generation.refresh_from_db()
    other.generation.refresh_from_db()
    assert (one.generation.status, one.generation.error_code) == (Status.FAILED, "deadline_exceeded")
    assert (one.state, one.abandoned_at is not None) == (State.ACCEPTED, True)
    assert other.generation.status == Status.PROCESSING, "its poller takes a last look"
    Submission.objects.filter(pk__in=[one.pk, other.pk]).update(limit_at=PAST)
    assert recover.recover()["unpollable"] == 1
    one.refresh_from_db()
    assert (one.state, one.cost_at_risk, one.error_code) == (State.FAILED, True, "deadline_exceeded")
    assert one.account.submissions.holding_slot().count() == 0
    assert Studio.incidents(one) == ["cost_at_risk"]


@pytest.mark.django_db
def test_polls_a_suspect_alone_when_its_turn_has_come() -> None:
    early, suspect, late = (SubmissionFactory.create() for _ in range(3))
    for number, one in enumerate((early, suspect, late)):
        Submission.objects.filter(pk=one.pk).update(next_poll_at=PAST + timedelta(seconds=number))
    Submission.objects.filter(pk=suspect.pk).update(unwritten_claims=2)
    assert [row.pk for row in claim_polls(uuid4())] == [early.pk, late.pk]
    assert [row.pk for row in claim_polls(uuid4())] == [suspect.pk]


@pytest.mark.django_db
def test_keeps_the_distance_while_a_slow_answer_is_waited_for() -> None:
    one = SubmissionFactory.create()
    Submission.objects.filter(pk=one.pk).update(next_poll_at=PAST, unwritten_claims=LIMIT)
    token = uuid4()
    polling._extend(token, claim_polls(token))
    one.refresh_from_db()
    assert one.next_poll_at is not None
    assert one.next_poll_at > timezone.now() + timedelta(minutes=9)


# --- dispatching -----------------------------------------------------------------------------------


def test_stops_what_kills_its_dispatchers_and_sends_those_beside_it(studio: Studio, workers: Workers) -> None:
    studio.account(limit=10)
    deadly, *others = (studio.ask() for _ in range(4))
    deaths = 0
    while studio.look(deadly).is_live:
        deaths += workers.run("dispatch", die="claimed", generation=deadly) == KILLED
        leases_end()
        recover.tick()
        assert deaths <= LIMIT
    assert deaths == LIMIT
    assert studio.look(deadly).error_code == "not_sent"
    assert studio.incidents(studio.attempt(deadly)) == ["not_sent"]
    assert studio.submits(deadly) == []
    assert {studio.look(one).not_sent for one in others} <= {2}
    for one in others:
        assert studio.finish(one).status == Status.COMPLETED
        assert len(studio.submits(one)) == 1
    assert studio.wallet == (PURSE - 3 * PRICE, 0)
    assert audit.run(files=True) == []


@pytest.mark.django_db
def test_claims_a_suspect_only_when_asked_for_one() -> None:
    AccountFactory.create(limit=9)
    user = GenerationFactory.create(priority=1).user
    suspects = [GenerationFactory.create(user=user, priority=9, not_sent=2) for _ in range(2)]
    pinned = GenerationFactory.create(user=user, not_sent=3, account=AccountFactory.create(limit=2))
    assert len(claim("pixverse", uuid4(), 64)) == 1
    taken = [claim("pixverse", uuid4(), 1, suspects=True) for _ in range(4)]
    assert {row.generation_id for rows in taken for row in rows} == {one.pk for one in (*suspects, pinned)}
    assert claim("pixverse", uuid4(), 64) == []


@pytest.mark.django_db
def test_sends_suspects_first_and_one_by_one(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    studio.account(limit=10)
    made = [studio.ask() for _ in range(4)]
    Generation.objects.filter(pk__in=[made[1].pk, made[3].pk]).update(not_sent=2)
    waves: list[set[Any]] = []
    real = dispatching.send

    def send(submissions: list[Submission], token: Any) -> Any:
        waves.append({one.generation_id for one in submissions})
        assert Submission.objects.filter(state=State.RESERVED).count() == len(submissions)
        return real(submissions, token)

    monkeypatch.setattr(dispatching, "send", send)
    assert studio.dispatch() == 4
    assert waves == [{made[1].pk}, {made[3].pk}, {made[0].pk, made[2].pk}]


@pytest.mark.django_db
def test_lets_a_long_run_end_and_wakes_the_next(
    studio: Studio, hints: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    studio.account(limit=3)
    made = studio.ask()
    monkeypatch.setattr(dispatching, "RUN_SECONDS", -1)
    hints.clear()
    assert studio.dispatch() == 0
    assert (hints, studio.look(made).status) == (["dispatch:modelslab"], Status.PENDING)
