"""Celery's own processes: they end when they are asked to, and only then."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
from celery import Celery
from django_celery_beat.models import PeriodicTask, PeriodicTasks

from config.drill.house import alive
from generations.models import Heartbeat
from generations.models.clock import database_now
from tests.house.world import House

BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"


@contextmanager
def locked(house: House, table: str) -> Iterator[Callable[[int], None]]:
    """Nobody else gets this table meanwhile (who wants it waits, 3 s at most); gives a wait for so many who do."""
    with (
        psycopg.connect(house.postgres.url) as holding,
        psycopg.connect(house.postgres.url, autocommit=True) as looking,
    ):
        holding.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")

        def wait_for(count: int) -> None:
            blocked = [(count,)]
            house.wait(lambda: looking.execute(BLOCKED, [f"%{table}%"]).fetchall() == blocked, f"{count} at {table}")

        yield wait_for


def test_stops_beat_that_is_just_asking_the_database(house: House) -> None:
    pid = house.pid("beat")
    with locked(house, "django_celery_beat_periodictasks") as wait_for:
        wait_for(1)
        os.kill(pid, signal.SIGTERM)
    house.wait(lambda: not alive(pid), "the end of beat", 30)
    house.wait(lambda: house.pids().get("beat") not in (None, pid), "another beat")


@pytest.fixture
def quiet(house: House) -> Iterator[None]:
    """No periodic tasks meanwhile."""
    PeriodicTask.objects.update(enabled=False)
    PeriodicTasks.update_changed()
    silence = timedelta(seconds=3)
    house.wait(lambda: database_now() - Heartbeat.objects.get(name="tick").at > silence, "no tick any more")
    yield
    PeriodicTask.objects.update(enabled=True)
    PeriodicTasks.update_changed()


@pytest.mark.usefixtures("quiet")
def test_keeps_a_worker_that_has_a_message_at_hand_when_the_broker_dies(house: House) -> None:
    pid = house.pid("worker-maintenance")
    with locked(house, "generations_heartbeat") as wait_for:
        # Two for its children, and one that it has fetched; so it goes on asking the broker for one more.
        send_canaries(house, 3)
        wait_for(2)
        house.kill("valkey")
        house.wait(house.valkey.ready, "the broker")
    last = send_canaries(house, 1)
    house.wait(lambda: Heartbeat.objects.filter(name=last).exists(), "a canary sent afterwards")
    assert house.pid("worker-maintenance") == pid


def send_canaries(house: House, count: int) -> str:
    """Send so many small tasks through the real queue; the name of the last one."""
    name = ""
    with Celery(broker=house.valkey.url, set_as_current=False) as sender, sender.connection() as broker:
        for _ in range(count):
            name = f"canary {uuid4()}"
            sender.send_task("generations.tasks.canary", kwargs={"name": name}, queue="maintenance", connection=broker)
    return name
