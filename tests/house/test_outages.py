"""What everybody sees while a server or beat is away, hangs or forgets, and that all goes on when it is back."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
import redis
import requests
from celery import Celery
from django.test import Client

from config.celery import QUEUES
from generations.models import Event, Generation, Heartbeat, IdempotencyKey
from generations.reports import audit
from tests.factories import PASSWORD, UserFactory
from tests.house.world import House, Person, picture

AT_ONCE_SECONDS = 3.0
"""A second, and what a machine that is busy adds."""
RESUMES_SECONDS = 40
LIVING = (*(f"worker-{queue}" for queue in QUEUES), "beat", "web")


@pytest.fixture(autouse=True)
def _account(house: House) -> None:
    house.account("modelslab", limit=3)


@contextmanager
def everybody_lives(house: House) -> Iterator[None]:
    """No process of ours ends in here: they live through it, and need nobody who starts them again."""
    before = {name: house.pid(name) for name in LIVING}
    yield
    assert {name: house.pid(name) for name in LIVING} == before


def ask_at_once(person: Person, words: str) -> str:
    """Accepted, and soon."""
    started = time.monotonic()
    generation_id = person.ask(picture(words))
    assert time.monotonic() - started < AT_ONCE_SECONDS
    return generation_id


def flush(house: House) -> None:
    with redis.Redis.from_url(house.valkey.url) as client:
        client.flushall()


def ready(house: House) -> tuple[int, dict[str, Any]]:
    """What ``/readyz`` says: its status, and each check."""
    with requests.Session() as session:
        session.trust_env = False
        reply = session.get(f"{house.addresses.web_url}/readyz", timeout=30)
    return reply.status_code, {check["name"]: check for check in reply.json()["checks"]}


# --- the broker ------------------------------------------------------------------------------------


@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", ["down", "hung"])
def test_accepts_at_once_while_the_broker_is_away_and_sends_soon_after_its_return(house: House, how: str) -> None:
    person = house.person()
    person.ask(picture("before"))
    house.wait_for_the_end()
    gone: Callable[[str], Any] = house.away if how == "down" else house.stopped
    with everybody_lives(house):
        with gone("valkey"):
            made = [ask_at_once(person, f"meanwhile {number}") for number in range(3)]
            time.sleep(12)  # longer than the workers wait for a word of it
            made.append(ask_at_once(person, "still meanwhile"))
            status, checks = ready(house)
            assert (status, checks["broker"]["ok"]) == (503, False)
            assert len(house.sandbox.record(kind="submit")) == 1, "accepted, and nothing more"
        back = time.monotonic()
        house.until(lambda: len(house.sandbox.record(kind="submit")) == 5, "all are sent", RESUMES_SECONDS)
        assert time.monotonic() - back < RESUMES_SECONDS
        house.wait_for_the_end()
    assert set(Generation.objects.filter(pk__in=made).values_list("status", flat=True)) == {"completed"}
    house.wait(lambda: ready(house)[0] == 200, "readiness")
    assert audit.run(files=True) == []


def test_goes_on_while_the_broker_forgets_everything_again_and_again(house: House) -> None:
    person = house.person()
    house.sandbox.set_speed(0.3)
    with everybody_lives(house):
        for number in range(6):
            ask_at_once(person, f"number {number}")
            flush(house)
        house.wait_for_the_end(RESUMES_SECONDS)
    assert set(Generation.objects.values_list("status", flat=True)) == {"completed"}
    assert len(house.sandbox.record(kind="submit")) == 6


# --- the database ----------------------------------------------------------------------------------


@pytest.mark.timeout(240)
def test_accepts_nothing_while_the_database_is_stopped_and_needs_no_restart_when_it_is_back(house: House) -> None:
    person = house.person()
    operator = UserFactory.create(is_staff=True, is_superuser=True, password=PASSWORD)
    browser = Client()
    assert browser.login(username=operator.username, password=PASSWORD)
    cookies = {"sessionid": browser.cookies["sessionid"].value}
    under_way = person.ask(picture("under way"))
    with everybody_lives(house):
        with house.away("postgres"):
            for _ in range(3):
                reply = person.post(picture("meanwhile"))
                assert (reply.status_code, reply.json()["code"]) == (503, "database_unavailable")
                assert int(reply.headers["Retry-After"]) > 0
            for path in ("/", "/admin/", "/admin/generations/generation/"):
                with requests.Session() as session:
                    session.trust_env = False
                    page = session.get(house.addresses.web_url + path, cookies=cookies, timeout=30)
                assert (page.status_code, "Nothing is lost" in page.text) == (503, True), path
                assert "Traceback" not in page.text
            status, checks = ready(house)
            assert (status, checks["database"]["ok"], checks["broker"]["ok"]) == (503, False, True)
            time.sleep(6)  # beat and every worker meet it more than once
        assert not IdempotencyKey.objects.exists()
        assert list(Generation.objects.values_list("pk", flat=True)) == [Generation.objects.get(pk=under_way).pk]
        assert person.post(picture("meanwhile")).status_code == 202
        house.wait_for_the_end()
    assert Generation.objects.filter(status="completed").count() == 2
    house.wait(lambda: ready(house)[0] == 200, "readiness")
    assert audit.run(files=True) == []


# --- beat ------------------------------------------------------------------------------------------


def test_turns_readiness_red_while_beat_is_dead_and_says_so_in_the_console(house: House) -> None:
    operator = UserFactory.create(is_staff=True, is_superuser=True)
    console = Client()
    console.force_login(operator)
    house.wait(lambda: ready(house)[0] == 200, "readiness")
    with house.away("beat"):
        house.wait(lambda: not ready(house)[1]["beat"]["ok"], "that it is missed", 30)
        status, checks = ready(house)
        assert status == 503
        assert re.search(r"was seen \d+ s ago", checks["beat"]["detail"])
        assert "manage.py up" in checks["beat"]["what_to_do"]
        house.wait(lambda: "Work stands still" in console.get("/admin/").content.decode(), "the banner", 30)
        # What hints do needs no beat.
        house.person().ask(picture("without beat"))
        house.until(lambda: len(house.sandbox.record(kind="submit")) == 1, "that it is sent all the same")
    house.wait(lambda: ready(house)[0] == 200, "readiness again")
    house.wait_for_the_end()
    assert Generation.objects.get().status == "completed"


def test_does_everything_once_with_two_beats(house: House) -> None:
    [program] = [one for one in house.programs() if one.name == "beat"]
    person = house.person()
    house.sandbox.set_speed(0.2)
    with (house.folder / "second-beat.txt").open("wb") as log:
        second = subprocess.Popen(program.argv, env=program.env, cwd=program.cwd, stdout=log, stderr=log)
        try:
            for number in range(12):
                person.ask(picture(f"number {number}"))
            house.wait_for_the_end()
            assert second.poll() is None
        finally:
            second.kill()
            second.wait()
    assert set(Generation.objects.values_list("status", flat=True)) == {"completed"}
    assert len(house.sandbox.record(kind="submit")) == 12
    assert Event.objects.filter(kind="completed").count() == 12
    assert audit.run(files=True) == []


# --- a rolling deploy ------------------------------------------------------------------------------


def test_lives_with_messages_of_an_older_and_of_a_newer_version(house: House) -> None:
    """Doubled hints, arguments that are not known yet, a task that is not there yet or no more: nothing stops."""
    name = f"canary {uuid4()}"
    with everybody_lives(house):
        with Celery(broker=house.valkey.url, set_as_current=False) as sender, sender.connection() as broker:

            def send(task: str, queue: str, **kwargs: Any) -> None:
                sender.send_task(f"generations.tasks.{task}", kwargs=kwargs, queue=queue, connection=broker)

            for _ in range(3):
                send("dispatch", "dispatch", provider_id="modelslab", operation_type="text_to_image", shard=3)
                send("poll", "poll", account_id=str(uuid4()))
                send("collect", "collect", at_most=5)
                send("tick", "maintenance", since="yesterday")
                send("dispatch", "dispatch", provider_id="a-provider-of-tomorrow")
                send("dispatch", "dispatch")  # of an older version, which named no provider
                send("a_task_of_tomorrow", "maintenance", something=1)
            send("canary", "maintenance", name=name, colour="yellow")
        house.wait(lambda: Heartbeat.objects.filter(name=name).exists(), "the last one")
        house.person().ask(picture("as usual"))
        house.wait_for_the_end()
    assert Generation.objects.get().status == "completed"
    assert len(house.sandbox.record(kind="submit")) == 1
