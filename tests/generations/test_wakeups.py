"""Hints: one at a time, and never a reason to fail."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from prometheus_client import REGISTRY
from pytest_django.fixtures import Settings

from generations import wakeups
from generations.intake.request import Request, accept
from generations.lifecycle import Status
from generations.models import Generation
from tests.factories import UserFactory

BOUND = 3.0
"""Seconds within which everybody is answered, whatever the broker does: one, and what a loaded machine adds."""
REQUEST = Request("pixverse", "text_to_video", {"prompt": "a lighthouse"})


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection and no silence of an earlier test."""
    monkeypatch.setattr(wakeups, "_local", threading.local())
    monkeypatch.setattr(wakeups, "_silent_until", 0.0)


@pytest.fixture(autouse=True)
def broker(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """The real broker, without messages or markers."""
    forget(monkeypatch)
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        names = [*client.scan_iter("darkroom:wake:*"), "dispatch", "poll", "collect", "maintenance"]
        client.delete(*names)
        yield client


def swallowed() -> float:
    return REGISTRY.get_sample_value("darkroom_wakeups_swallowed_total") or 0


def messages(broker: redis.Redis, queue: str) -> list[tuple[str, dict[str, Any]]]:
    """The (task, arguments) that wait in a queue, oldest first."""
    found = []
    raw: list[bytes] = broker.lrange(queue, 0, -1)  # type: ignore[assignment]
    for text in reversed(raw):
        message = json.loads(text)
        arguments = json.loads(base64.b64decode(message["body"]))[1]
        found.append((message["headers"]["task"], arguments))
    return found


@contextmanager
def took_at_most(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


@pytest.fixture
def closed_port() -> str:
    """Where nobody answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"redis://127.0.0.1:{taken.getsockname()[1]}/0"


@pytest.fixture
def hung() -> Iterator[str]:
    """Somebody who takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        kept: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    kept.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=5)
        for one in kept:
            one.close()


@pytest.fixture(params=["closed_port", "hung"])
def no_broker(request: pytest.FixtureRequest, settings: Settings) -> None:
    settings.REDIS_URL = request.getfixturevalue(request.param)


class TestWithABroker:
    """What is sent."""

    @pytest.mark.parametrize(
        ("wake", "queue", "message"),
        [
            (lambda: wakeups.wake_dispatch("pixverse"), "dispatch", (wakeups.DISPATCH, {"provider_id": "pixverse"})),
            (wakeups.wake_poll, "poll", (wakeups.POLL, {})),
            (wakeups.wake_collect, "collect", (wakeups.COLLECT, {})),
            (wakeups.wake_refresh, "maintenance", (wakeups.REFRESH, {})),
        ],
    )
    def test_sends_a_name_and_ids_only(
        self, broker: redis.Redis, wake: Callable[[], None], queue: str, message: tuple[str, dict[str, str]]
    ) -> None:
        wake()

        assert messages(broker, queue) == [message]
        assert set(message[1]) == wakeups.SENT[message[0]]

    def test_sends_one_for_a_thousand(self, broker: redis.Redis) -> None:
        for _ in range(1000):
            wakeups.wake_dispatch("pixverse")

        assert len(messages(broker, "dispatch")) == 1

    def test_sends_one_for_each_provider(self, broker: redis.Redis) -> None:
        for provider in ("pixverse", "modelslab", "pixverse"):
            wakeups.wake_dispatch(provider)

        assert [arguments["provider_id"] for _, arguments in messages(broker, "dispatch")] == ["pixverse", "modelslab"]

    def test_sends_again_once_somebody_looks(self, broker: redis.Redis) -> None:
        wakeups.wake_dispatch("pixverse")
        wakeups.awake(wakeups.DISPATCH, provider_id="modelslab")
        wakeups.wake_dispatch("pixverse")
        assert len(messages(broker, "dispatch")) == 1

        wakeups.awake(wakeups.DISPATCH, provider_id="pixverse")
        wakeups.wake_dispatch("pixverse")
        assert len(messages(broker, "dispatch")) == 2

    def test_does_not_wait_for_ever_for_a_hint_that_was_lost(self, broker: redis.Redis) -> None:
        wakeups.wake_poll()

        (marker,) = broker.scan_iter("darkroom:wake:*")
        assert 0 < broker.ttl(marker) <= wakeups.MARKER_SECONDS

    def test_counts_nothing_as_swallowed(self) -> None:
        before = swallowed()
        wakeups.wake_poll()
        wakeups.awake(wakeups.POLL)

        assert swallowed() == before

    def test_sends_from_many_threads_at_once(self, broker: redis.Redis) -> None:
        barrier = threading.Barrier(8)

        def wake() -> None:
            barrier.wait(timeout=10)
            wakeups.wake_dispatch("pixverse")

        threads = [threading.Thread(target=wake) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=20)

        assert len(messages(broker, "dispatch")) == 1

    def test_is_sent_when_an_accepted_request_is_committed(self, broker: redis.Redis, transactional_db: None) -> None:
        accept(UserFactory.create().pk, REQUEST, actor="test")

        assert messages(broker, "dispatch") == [(wakeups.DISPATCH, {"provider_id": "pixverse"})]


@pytest.mark.usefixtures("no_broker")
class TestWithoutABroker:
    """Nobody there, or somebody who never answers."""

    def test_swallows_and_counts(self) -> None:
        before = swallowed()

        with took_at_most(BOUND):
            wakeups.wake_dispatch("pixverse")

        assert swallowed() == before + 1

    def test_costs_next_to_nothing_for_a_while_after(self) -> None:
        before = swallowed()
        wakeups.wake_dispatch("pixverse")

        with took_at_most(0.2):
            for _ in range(100):
                wakeups.wake_dispatch("pixverse")
                wakeups.wake_poll()

        assert swallowed() == before + 201

    def test_swallows_that_a_task_could_not_say_that_it_looks(self) -> None:
        before = swallowed()

        with took_at_most(BOUND):
            wakeups.awake(wakeups.POLL)

        assert swallowed() == before + 1

    def test_accepts_all_the_same(self, transactional_db: None) -> None:
        before = swallowed()
        user = UserFactory.create()

        with took_at_most(BOUND):
            accepted = accept(user.pk, REQUEST, actor="test")

        assert Generation.objects.get().pk == accepted.generation.pk
        assert accepted.generation.status == Status.PENDING
        assert swallowed() == before + 1


@pytest.mark.parametrize("where", ["closed_port", "hung"])
def test_swallows_a_message_that_cannot_be_sent(
    request: pytest.FixtureRequest, broker: redis.Redis, settings: Settings, where: str
) -> None:
    wakeups._local.redis = broker  # the marker still could be set
    settings.REDIS_URL = request.getfixturevalue(where)
    before = swallowed()

    with took_at_most(BOUND):
        wakeups.wake_dispatch("pixverse")

    assert swallowed() == before + 1


def test_is_not_held_up_by_a_broker_that_stops_answering(broker: redis.Redis) -> None:
    wakeups.wake_dispatch("pixverse")  # connections are open from here on
    before = swallowed()
    broker.client_pause(20_000, all=False)
    try:
        with took_at_most(BOUND):
            wakeups.wake_dispatch("modelslab")
    finally:
        broker.client_unpause()

    assert swallowed() == before + 1


def test_sends_again_once_the_broker_is_back(
    broker: redis.Redis, closed_port: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = settings.REDIS_URL
    settings.REDIS_URL = closed_port
    wakeups.wake_dispatch("pixverse")
    settings.REDIS_URL = back
    monkeypatch.setattr(wakeups, "_local", threading.local())

    wakeups.wake_dispatch("pixverse")
    assert messages(broker, "dispatch") == []  # it is silent for a few seconds

    monkeypatch.setattr(wakeups, "_silent_until", time.monotonic() - 0.001)  # they are over
    wakeups.wake_dispatch("pixverse")
    assert len(messages(broker, "dispatch")) == 1
