"""The beat schedule: declared in code, synced to the tables, edited by operators."""

from __future__ import annotations

import pytest
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from config import celery
from config.checks import scheduled_tasks_exist

pytestmark = pytest.mark.django_db


def every(name: str) -> int:
    return int(PeriodicTask.objects.get(name=name).interval.every)


def test_is_in_the_tables_after_migrate_and_each_message_expires_after_its_interval() -> None:
    rows = {row.name: row for row in PeriodicTask.objects.select_related("interval")}
    assert set(rows) == set(celery.BEAT)
    for name, (task, seconds) in celery.BEAT.items():
        assert (rows[name].task, rows[name].interval.every) == (task, seconds)
        assert rows[name].expire_seconds == seconds


def test_takes_an_interval_that_was_changed_in_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(celery.BEAT, "tick", ("generations.tasks.tick", 7))
    celery.sync_beat_schedule()
    assert every("tick") == 7
    assert PeriodicTask.objects.get(name="tick").expire_seconds == 7


def test_keeps_an_interval_that_an_operator_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    minute = IntervalSchedule.objects.create(every=60, period=IntervalSchedule.SECONDS)
    PeriodicTask.objects.filter(name="tick").update(interval=minute)
    monkeypatch.setitem(celery.BEAT, "tick", ("generations.tasks.tick", 7))
    celery.sync_beat_schedule()
    celery.sync_beat_schedule()
    assert every("tick") == 60
    assert PeriodicTask.objects.get(name="tick").expire_seconds == 60


def test_removes_what_is_no_longer_declared_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    own = PeriodicTask.objects.create(name="own", task="own.task", interval=IntervalSchedule.objects.first())
    monkeypatch.delitem(celery.BEAT, "cleanup")
    celery.sync_beat_schedule()
    assert not PeriodicTask.objects.filter(name="cleanup").exists()
    assert PeriodicTask.objects.filter(pk=own.pk).exists()


def test_names_a_scheduled_task_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scheduled_tasks_exist() == []
    monkeypatch.setitem(celery.BEAT, "tick", ("generations.tasks.tock", 5))
    assert [problem.id for problem in scheduled_tasks_exist()] == ["darkroom.E001"]
