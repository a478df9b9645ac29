"""Nothing new is asked for while what was made cannot be fetched and stored."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from generations import storage
from generations.execution import pressure, recover
from generations.execution.waves import Wave
from generations.lifecycle import State, Status
from generations.models import HeldBack, Incident, Submission
from generations.reports import audit
from generations.reports.explain import explain
from generations.reports.waiting import wait_reasons
from tests.disks import SmallDisk, down, small_disk
from tests.factories import AccountFactory, GenerationFactory, SubmissionFactory
from tests.generations.execution.studio import PRICE, PURSE, Studio, at_once

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("hints")]


@pytest.fixture(autouse=True)
def _own_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure, "_looking", Wave())


@pytest.fixture
def roomy(settings: Any, tmp_path: Path, limits: Any) -> Any:
    """A storage with as much room as ``roomy(bytes)`` says: the floor is put around what the disk has."""
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {**settings.STORAGES["default"], "OPTIONS": {"location": str(tmp_path / "media")}},
    }

    def least(missing: int) -> None:
        limits(disk_floor=max(0, int(storage.room() or 0) + missing), collect_backlog=2)

    least(-(2**30))
    return least


@pytest.fixture
def disk(settings: Any, tmp_path: Path, limits: Any) -> Iterator[SmallDisk]:
    """The storage on a small disk of its own, half of which must be free."""
    with small_disk(tmp_path / "disk") as made:
        location = {"OPTIONS": {"location": str(made.folder)}}
        settings.STORAGES = {**settings.STORAGES, "default": {**settings.STORAGES["default"], **location}}
        limits(disk_floor=2 * 1024**2)
        yield made


def held() -> list[str]:
    return sorted(HeldBack.objects.active().values_list("reason", flat=True))


def told() -> list[str]:
    return list(Incident.objects.filter(kind="held_back").values_list("detail", flat=True))


def waiting_results(count: int) -> None:
    """So many results wait, and no more."""
    account = AccountFactory.create(limit=9)
    for _ in range(count):
        SubmissionFactory.create(state=State.COLLECTING, account=account)


def fetched(count: int) -> None:
    """So many of them wait no more."""
    some = list(Submission.objects.filter(state=State.COLLECTING).values_list("pk", flat=True)[:count])
    Submission.objects.filter(pk__in=some).update(state=State.SUCCEEDED, ended_at=timezone.now())


# --- too many results ------------------------------------------------------------------------------


def test_holds_back_while_collecting_is_behind_and_goes_on_at_half(roomy: Any) -> None:
    waiting_results(2)
    pressure.look()
    assert held() == []
    waiting_results(1)
    pressure.look()
    assert held() == ["backlog"]
    fetched(1)
    pressure.look()
    assert held() == ["backlog"], "it does not flicker around the mark"
    fetched(1)
    pressure.look()
    assert held() == []


def test_sends_nothing_meanwhile_and_uses_up_no_attempt(studio: Studio, roomy: Any) -> None:
    studio.account(limit=3)
    HeldBack.objects.create(reason="backlog", since=timezone.now(), detail="more than 2 results wait.")
    one = studio.ask()
    assert studio.dispatch() == 0
    assert studio.look(one).status == Status.PENDING
    assert (studio.states(one), studio.submits(one), studio.money(one)) == ([], [], ["hold"])
    HeldBack.objects.update(ended_at=timezone.now())
    assert studio.dispatch() == 1


def test_lets_what_runs_go_on(studio: Studio, roomy: Any) -> None:
    studio.account()
    one, _ = studio.start()
    HeldBack.objects.create(reason="backlog", since=timezone.now(), detail="more than 2 results wait.")
    studio.poll_to_the_end(studio.attempt(one))
    studio.collect()
    assert studio.look(one).status == Status.COMPLETED


def test_is_looked_at_by_every_tick_and_wakes_the_dispatchers_when_it_is_over(roomy: Any, hints: list[str]) -> None:
    waiting_results(3)
    recover.tick()
    assert held() == ["backlog"]
    fetched(3)
    GenerationFactory.create()
    hints.clear()
    recover.tick()
    assert (held(), "dispatch:pixverse" in hints) == ([], True)


def test_tells_people_once_and_again_only_when_it_begins_again(roomy: Any) -> None:
    waiting_results(3)
    for _ in range(4):
        pressure.look()
    [words] = told()
    assert words.startswith("Too many results wait to be fetched: more than 2 results wait to be fetched.")
    fetched(3)
    pressure.look()
    waiting_results(3)
    pressure.look()
    assert len(told()) == 2


@pytest.mark.django_db(transaction=True)
def test_tells_people_once_when_several_ticks_meet(roomy: Any) -> None:
    waiting_results(3)
    finding = pressure.Finding(pressure.Reason.BACKLOG, holds=True, detail="more than 2.")
    assert at_once(*[lambda: pressure._begin(finding)] * 6) == [None] * 6
    assert (held(), len(told())) == (["backlog"], 1)


def test_costs_a_claim_no_query_and_counts_no_further_than_its_mark(roomy: Any, django_assert_num_queries: Any) -> None:
    waiting_results(5)
    with django_assert_num_queries(1):
        assert pressure._backlog(set()).holds
    plan = Submission.objects.filter(state=State.COLLECTING).values("pk")[:3].explain()
    assert "Limit" in plan


# --- the disk --------------------------------------------------------------------------------------


def test_holds_back_while_the_disk_is_low_and_goes_on_with_a_quarter_more(roomy: Any, limits: Any) -> None:
    roomy(+(2**30))
    pressure.look()
    assert held() == ["disk_low"]
    assert "MiB are free" in told()[0]
    roomy(0)
    pressure.look()
    assert held() == ["disk_low"], "it does not flicker around the mark"
    limits(disk_floor=int((storage.room() or 0) / 2))
    pressure.look()
    assert held() == []


def test_says_nothing_of_an_object_store(monkeypatch: pytest.MonkeyPatch, roomy: Any) -> None:
    HeldBack.objects.create(reason="disk_low", since=timezone.now(), detail="from when there was a disk")
    monkeypatch.setattr(storage, "room", lambda: None)  # it does not tell
    pressure.look()
    assert held() == []


def test_leaves_nothing_behind_by_looking(roomy: Any, tmp_path: Path) -> None:
    pressure.look()
    assert list((tmp_path / "media").rglob("*")) == []


def test_holds_back_while_the_storage_is_down(roomy: Any, tmp_path: Path) -> None:
    with down(tmp_path / "media"):
        pressure.look()
        pressure.look()
        assert held() == ["storage_down"]
        assert len(told()) == 1
    pressure.look()
    assert held() == []


def test_counts_a_storage_that_hangs_as_down_and_looks_at_it_once(roomy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network disk whose server is gone keeps whoever touches it: one thread, and not each tick."""
    answer, looks = threading.Event(), []

    def hang() -> int:
        looks.append(1)
        answer.wait(30)
        return 2**40

    monkeypatch.setattr(pressure, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(storage, "room", hang)
    for _ in range(3):
        pressure.look()
    assert (held(), len(looks), len(told())) == (["storage_down"], 1, 1)
    answer.set()
    monkeypatch.setattr(pressure, "ANSWER_SECONDS", 30)
    pressure.look()
    assert held() == []


def test_keeps_a_full_disk_apart_from_one_that_is_down(disk: SmallDisk) -> None:
    disk.fill()
    pressure.look()
    assert held() == ["disk_low"]
    assert told()[0].startswith("The disk for results is almost full: 0 MiB are free, and 2 MiB must be.")


def test_completes_by_itself_when_a_full_disk_has_room_again(studio: Studio, disk: SmallDisk, limits: Any) -> None:
    """Real ENOSPC: nothing half-written stays, no try is counted, one incident is made, and nothing new is sent."""
    studio.account(limit=10)
    made = [studio.ask() for _ in range(3)]
    studio.dispatch()
    for one in made:
        studio.poll_to_the_end(studio.attempt(one))
    disk.fill()
    for _ in range(6):
        studio.collect()
        pressure.look()
    assert disk.files() == []
    attempts = [studio.attempt(one) for one in made]
    assert [(one.state, one.error_code, one.collect_tries) for one in attempts] == [
        (State.COLLECTING, "storage_failed", 0)
    ] * 3
    assert "No space left on device" in attempts[0].error_message
    assert Incident.objects.filter(kind="storage").count() == 1
    later = studio.ask()
    assert studio.dispatch() == 0
    assert wait_reasons([later])[later.pk] == "held_back"

    disk.make_room()
    pressure.look()
    assert studio.collect() == 3
    assert [studio.look(one).status for one in made] == [Status.COMPLETED] * 3
    assert studio.finish(later).status == Status.COMPLETED
    assert studio.wallet == (PURSE - 4 * PRICE, 0)
    assert held() == []
    assert audit.run(files=True) == []


def test_completes_by_itself_when_a_storage_that_was_down_is_back(studio: Studio, tmp_path: Path) -> None:
    studio.account()
    one, attempt = studio.start()
    studio.poll_to_the_end(attempt)
    with down(tmp_path / "media"):
        for _ in range(6):
            studio.collect()
    attempt.refresh_from_db()
    assert (attempt.state, attempt.error_code, attempt.collect_tries) == (State.COLLECTING, "storage_failed", 0)
    studio.collect()
    assert studio.look(one).status == Status.COMPLETED
    assert audit.run(files=True) == []


def test_fails_at_the_end_of_its_time_when_the_disk_stays_full(studio: Studio, disk: SmallDisk) -> None:
    studio.account()
    one, attempt = studio.start()
    studio.poll_to_the_end(attempt)
    disk.fill()
    studio.past(attempt, "collect_by")
    studio.collect()
    attempt.refresh_from_db()
    assert (studio.look(one).status, one.error_code) == (Status.FAILED, "storage_failed")
    assert (attempt.cost_at_risk, studio.money(one), disk.files()) == (True, ["hold", "release"], [])


def test_tells_people_of_a_full_disk_again_once_they_have_seen_it(studio: Studio, tmp_path: Path) -> None:
    studio.account(limit=2)
    made = [studio.ask() for _ in range(2)]
    studio.dispatch()
    for one in made:
        studio.poll_to_the_end(studio.attempt(one))
    with down(tmp_path / "media"):
        studio.collect()
        assert Incident.objects.filter(kind="storage").count() == 1
        Incident.objects.update(seen_at=timezone.now())
        for _ in range(2):
            studio.collect()
    assert Incident.objects.filter(kind="storage").count() <= 2


# --- what people see -------------------------------------------------------------------------------


def test_says_held_back_only_where_a_slot_is_free() -> None:
    HeldBack.objects.create(reason="disk_low", since=timezone.now(), detail="3 MiB are free.")
    account = AccountFactory.create(limit=1)
    one = GenerationFactory.create()
    assert wait_reasons([one])[one.pk] == "held_back"
    SubmissionFactory.create(account=account)
    assert wait_reasons([one])[one.pk] == "no_capacity"
    HeldBack.objects.update(ended_at=timezone.now())
    Submission.objects.update(state=State.FAILED, ended_at=timezone.now())
    assert wait_reasons([one])[one.pk] is None


def test_says_so_for_a_page_without_a_query_of_its_own(django_assert_num_queries: Any) -> None:
    AccountFactory.create()
    page = [GenerationFactory.create() for _ in range(5)]
    with CaptureQueriesContext(connection) as before:
        assert set(wait_reasons(page).values()) == {None}
    HeldBack.objects.create(reason="disk_low", since=timezone.now(), detail="3 MiB are free.")
    with django_assert_num_queries(len(before)):
        assert set(wait_reasons(page).values()) == {"held_back"}


def test_explains_what_it_waits_for() -> None:
    HeldBack.objects.create(reason="disk_low", since=timezone.now(), detail="3 MiB are free.")
    AccountFactory.create()
    told = explain(GenerationFactory.create())
    assert "nothing new is sent until finished results can be kept up with" in told["summary"]
    assert told["waiting"]["held_back"][0]["detail"] == "3 MiB are free."
    assert "It starts when this is over: the disk for results is almost full (3 MiB are free)" in [
        step["text"] for step in told["next"]
    ]
