"""Watching the audit: what changes is told, and nothing else."""

from __future__ import annotations

import pytest

from generations.lifecycle import Status
from generations.models import Event, Generation, Heartbeat
from generations.reports.watch import Change, Watch
from tests.factories import GenerationFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def services_up() -> None:
    Heartbeat.beat("tick", "test")


def breaks() -> Generation:
    """One that ended without its event."""
    return GenerationFactory.create(status=Status.CANCELLED)


def mend(generation: Generation) -> None:
    Event.objects.create(generation=generation, kind=Event.Kind.CANCELLED, actor="test")


def seen(changes: list[Change]) -> list[tuple[str, str, int, int]]:
    return [(change.finding.id, change.word, change.before, change.finding.count) for change in changes]


def test_tells_nothing_while_all_is_well() -> None:
    watch = Watch()
    assert [watch.look(), watch.look()] == [[], []]
    assert (watch.rounds, watch.broken, watch.ever_broken) == (2, 0, False)
    assert watch.checks > 20


def test_tells_when_something_breaks_and_when_it_holds_again_each_once() -> None:
    watch = Watch()
    watch.look()
    first = breaks()
    assert seen(watch.look()) == [("I12", "BROKEN", 0, 1)]
    assert watch.look() == []
    second = breaks()
    assert seen(watch.look()) == [("I12", "BROKEN", 1, 2)]
    mend(first)
    mend(second)
    assert seen(watch.look()) == [("I12", "holds", 2, 0)]
    assert (watch.broken, watch.ever_broken) == (0, True)


def test_tells_at_once_what_is_broken_from_the_beginning() -> None:
    breaks()
    assert seen(Watch().look()) == [("I12", "BROKEN", 0, 1)]


def test_tells_that_another_row_is_broken_though_they_are_as_many() -> None:
    watch = Watch()
    first = breaks()
    watch.look()
    mend(first)
    other = breaks()
    [change] = watch.look()
    assert [offender.id for offender in change.finding.offenders] == [str(other.pk)]


def test_tells_what_cannot_be_checked_any_more() -> None:
    watch = Watch()
    watch.look()
    Heartbeat.objects.all().delete()
    words = {change.word for change in watch.look()}
    assert words == {"skipped"}
    assert not watch.ever_broken
