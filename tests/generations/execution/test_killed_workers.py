"""A worker is killed between two steps (kill -9, in a process of its own): every leased state recovers."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from django.db.models import F
from django.utils import timezone

from generations import storage
from generations.execution import cleanup, recover
from generations.lifecycle import State, Status
from generations.models import Asset, Generation, Submission
from generations.reports import audit
from tests.generations.execution.studio import PRICE, PURSE, Studio
from tests.generations.execution.workers import KILLED, Workers

FASTER = {"image_poll_interval": 0.02}


def leases_end() -> None:
    """The time in which a dead worker still owned what it had taken is over."""
    Submission.objects.update(
        lease_until=F("lease_until") - timedelta(hours=1), next_poll_at=F("next_poll_at") - timedelta(hours=1)
    )


def files(studio_media: Path) -> list[Path]:
    return [path for path in studio_media.rglob("*") if path.is_file()]


def completes(studio: Studio, workers: Workers, generation: Generation) -> None:
    """By other workers; once, for what it costs, and with nothing left behind."""
    for _ in range(50):
        assert workers.run("tick", "dispatch", "poll", "collect", limits=FASTER) == 0
        Submission.objects.filter(state=State.ACCEPTED).update(next_poll_at=timezone.now() - timedelta(hours=1))
        if not studio.look(generation).is_live:
            break
    assert generation.status == Status.COMPLETED
    assert (studio.money(generation), studio.wallet) == (["capture", "hold"], (PURSE - PRICE, 0))
    assert len(studio.assets(generation)) == 1
    assert audit.run(files=True) == []


def test_sends_again_what_its_dispatcher_had_only_reserved(studio: Studio, workers: Workers) -> None:
    studio.account(limit=1)
    generation = studio.ask()
    assert workers.run("dispatch", die="claimed") == KILLED
    attempt = studio.attempt(generation)
    assert (attempt.state, studio.submits(generation)) == (State.RESERVED, [])
    assert workers.run("tick", "dispatch") == 0
    assert studio.states(generation) == [State.RESERVED], "its lease still runs, and it holds the slot"
    leases_end()
    assert workers.run("tick") == 0
    studio.look(generation)
    assert (generation.status, generation.not_sent, generation.error_retries) == (Status.PENDING, 1, 0)
    assert generation.retry_count == 0, "no attempt was used up"
    completes(studio, workers, generation)
    assert studio.states(generation) == [State.FAILED, State.SUCCEEDED]
    assert studio.submits(generation) == [str(studio.attempt(generation).pk)]


@pytest.mark.parametrize(
    ("place", "arrived"),
    [("sending", 0), ("answered", 1)],
    ids=["before_a_byte_has_left", "after_the_provider_said_yes"],
)
def test_never_sends_again_what_its_dispatcher_was_sending(
    studio: Studio, workers: Workers, place: str, arrived: int
) -> None:
    studio.account(limit=1)
    generation = studio.ask()
    assert workers.run("dispatch", die=place) == KILLED
    attempt = studio.attempt(generation)
    assert (attempt.state, len(studio.submits(generation))) == (State.SENDING, arrived)
    leases_end()
    assert workers.run("tick", "dispatch", "poll") == 0
    attempt.refresh_from_db()
    assert (attempt.state, attempt.error_code) == (State.UNKNOWN, "outcome_unknown")
    for _ in range(3):
        assert workers.run("tick", "dispatch", "poll", "collect") == 0
    assert (studio.states(generation), len(studio.submits(generation))) == ([State.UNKNOWN], arrived)
    studio.past(attempt, "limit_at", "next_poll_at")
    assert workers.run("tick", "dispatch") == 0
    attempt.refresh_from_db()
    assert (attempt.state, attempt.cost_at_risk) == (State.FAILED, True)
    assert (studio.look(generation).error_code, studio.money(generation)) == ("outcome_unknown", ["hold", "release"])
    assert (studio.wallet, len(studio.submits(generation))) == ((PURSE, 0), arrived)
    assert audit.run() == []


@pytest.mark.parametrize("place", ["polling", "polled"])
def test_polls_again_what_its_poller_had_in_hand(studio: Studio, workers: Workers, place: str) -> None:
    studio.account()
    generation, attempt = studio.start()
    leases_end()
    assert workers.run("poll", die=place) == KILLED
    attempt.refresh_from_db()
    assert attempt.next_poll_at is not None
    assert attempt.next_poll_at > timezone.now() + timedelta(seconds=30), "nobody else asks while it might live"
    assert (attempt.state, attempt.unwritten_claims) == (State.ACCEPTED, 1)
    leases_end()
    completes(studio, workers, generation)


@pytest.mark.parametrize(("place", "stored"), [("collecting", False), ("stored", True)])
def test_collects_again_what_its_collector_had_in_hand(
    studio: Studio, workers: Workers, tmp_path: Path, place: str, stored: bool
) -> None:
    """Also when the bytes were stored and the row not yet written: never the other way round."""
    studio.account()
    generation, attempt = studio.start()
    studio.poll_to_the_end(attempt)
    assert workers.run("collect", die=place) == KILLED
    assert (len(files(tmp_path / "media")) > 0, Asset.objects.exists()) == (stored, False)
    assert workers.run("collect") == 0
    assert studio.look(generation).status == Status.PROCESSING, "the dead one's lease still runs"
    leases_end()
    completes(studio, workers, generation)
    assert len(files(tmp_path / "media")) == 2, "the picture and its thumbnail, once each"
    assert studio.events(generation).count("recovered") == 1


def test_removes_bytes_that_were_stored_and_never_written_down_after_a_day(
    studio: Studio, workers: Workers, tmp_path: Path
) -> None:
    studio.account()
    _, attempt = studio.start()
    studio.poll_to_the_end(attempt)
    assert workers.run("collect", die="stored") == KILLED
    left = files(tmp_path / "media")
    studio.past(attempt, "collect_by")
    leases_end()
    with storage.open_key(str(left[0].relative_to(tmp_path / "media"))) as file:
        assert file.read(1)
    assert cleanup.run(dry_run=False).files.orphans == 0, "too young: its row may still come"
    for path in left:
        os.utime(path, (1e9, 1e9))
    assert cleanup.run(dry_run=False).files.orphans == len(left) == 2
    assert files(tmp_path / "media") == []


def test_recovers_each_once_when_the_recovering_worker_is_killed_too(studio: Studio, workers: Workers) -> None:
    studio.account(limit=3)
    made = [studio.ask() for _ in range(3)]
    assert workers.run("dispatch", die="claimed") == KILLED
    leases_end()
    assert workers.run("tick", die="recovering") == KILLED
    assert {one.state for one in Submission.objects.all()} == {State.RESERVED}, "all or nothing"
    assert recover.recover()["not_sent"] == 3
    assert {studio.look(one).not_sent for one in made} == {1}
    assert audit.run() == []


def test_works_with_a_clock_that_is_wrong(studio: Studio, workers: Workers) -> None:
    """Leases, deadlines and polls go by the database's clock: a worker that is two days ahead takes nothing from
    anybody, and one that is two days behind finds what is due."""
    days = 2 * 86400
    studio.account(limit=4)
    held = studio.ask()
    assert workers.run("dispatch", die="claimed") == KILLED
    running, attempt = studio.start("never_finishes")
    for clock in (days, -days):
        assert workers.run("tick", "dispatch", "poll", "collect", clock=clock) == 0
    assert studio.states(held) == [State.RESERVED], "its lease still runs"
    attempt.refresh_from_db()
    assert (attempt.state, studio.look(running).status) == (State.ACCEPTED, Status.PROCESSING), "nor is it overdue"
    leases_end()
    for clock in (days, -days):
        one = studio.ask()
        for _ in range(50):
            assert workers.run("tick", "dispatch", "poll", "collect", clock=clock, limits=FASTER) == 0
            Submission.objects.filter(state=State.ACCEPTED).update(next_poll_at=timezone.now() - timedelta(hours=1))
            if not studio.look(one).is_live:
                break
        assert one.status == Status.COMPLETED
        [asset] = studio.assets(one)
        assert abs((asset.created_at - timezone.now()).total_seconds()) < 3600
        newest = studio.attempt(one)
        for at in (newest.sent_at, newest.accepted_at, newest.finished_at, newest.ended_at):
            assert at is not None
            assert abs((at - timezone.now()).total_seconds()) < 3600
    assert studio.look(held).status == Status.COMPLETED
    assert audit.run(files=True) == []
