"""The database connections of the processes: few are made, and broken ones are given up."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from uuid import uuid4

import psutil
import psycopg
import pytest
from celery import Celery
from celery.signals import task_prerun
from django.contrib.auth.models import User
from django.db import OperationalError, connection

from generations.models import Heartbeat
from tests.house.world import House, Person

TASKS = 900
REQUESTS = 1000
PER_THOUSAND = 5
CHILD_MEGABYTES = 130


def test_makes_few_database_connections_for_many_tasks_and_stays_small(house: House) -> None:
    before = house.connections_made
    run_canaries(house, TASKS)
    assert (house.connections_made - before) * 1000 / TASKS <= PER_THOUSAND
    assert largest_child(house, "worker-maintenance") <= CHILD_MEGABYTES


def test_makes_few_database_connections_for_many_requests(house: House) -> None:
    person = house.person()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(look, [[person] * 10] * 8))  # every thread of the web process has its connection now
        before = house.connections_made
        list(pool.map(look, [[person] * 25] * (REQUESTS // 25)))
    assert (house.connections_made - before) * 1000 / REQUESTS <= PER_THOUSAND


def test_gives_up_a_connection_that_the_server_has_left_before_the_next_task(house: House) -> None:
    assert User.objects.count() == 0
    with connection.cursor() as cursor, psycopg.connect(house.postgres.url, autocommit=True) as another:
        pid = cursor.execute("SELECT pg_backend_pid()").fetchone()[0]
        another.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    for _ in range(2):  # it does not mend by itself
        with pytest.raises(OperationalError):
            User.objects.count()
    task_prerun.send(sender=None)
    assert User.objects.count() == 0


def largest_child(house: House, name: str) -> float:
    """The memory (RSS, MiB) of a worker's largest child; after so many tasks one is replaced now and then."""
    found: list[float] = []

    def measure() -> bool:
        with suppress(psutil.NoSuchProcess):
            found.extend(child.memory_info().rss / 2**20 for child in psutil.Process(house.pid(name)).children())
        return bool(found)

    house.wait(measure, f"a child of {name}")
    return max(found)


def look(people: Sequence[Person]) -> None:
    """One request of each, which asks the database."""
    for person in people:
        assert person.call("GET", "/api/v1/generations").status_code == 200


def run_canaries(house: House, count: int) -> None:
    """Send so many small tasks through the real queue and wait until the last one has run."""
    last = f"canary {uuid4()}"
    with Celery(broker=house.valkey.url, set_as_current=False) as sender, sender.connection() as broker:
        for name in ["canary"] * (count - 1) + [last]:
            sender.send_task("generations.tasks.canary", kwargs={"name": name}, queue="maintenance", connection=broker)
    house.wait(lambda: Heartbeat.objects.filter(name=last).exists(), "the last canary")
