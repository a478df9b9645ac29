"""What must be exactly so when one thing dies; that all of it may go wrong at once is the drill's
(``tests/config/drill``)."""

from __future__ import annotations

import signal
import time

import pytest
import redis

from generations.models import Event, Generation, Submission
from tests.house.world import House, picture

BROKER_AWAY_SECONDS = 10  # one, on a machine that has nothing else to do
RESUMES_SECONDS = 40
"""After the broker's return or loss of everything it knew."""


@pytest.fixture
def account(house: House) -> str:
    """One that takes three at once."""
    return house.account("modelslab", limit=3)


@pytest.mark.usefixtures("account")
def test_never_sends_again_what_its_sender_had_sent_when_it_was_killed(house: House) -> None:
    doomed = house.person().ask(picture("its sender dies [[fault:slow_submit:4]][[fault:lost_callback]]"))
    is_accepted(house, "its sender dies")
    house.kill("worker-dispatch")
    house.wait_for_the_end()
    ended = Generation.objects.get(pk=doomed)
    assert (ended.status, ended.error_code) == ("failed", "outcome_unknown")
    assert list(Submission.objects.values_list("state", "cost_at_risk")) == [("failed", True)]
    assert Event.objects.filter(generation=ended, kind="outcome_unknown").count() == 1
    assert len(house.sandbox.record(kind="submit")) == 1


@pytest.mark.usefixtures("account")
def test_keeps_a_reply_that_comes_when_its_database_is_away(house: House) -> None:
    rescued = house.person().ask(picture("its database dies [[fault:slow_submit:1]]"))
    is_accepted(house, "its database dies")
    house.kill("postgres", signal.SIGQUIT)  # its immediate shutdown
    house.wait_for_the_end()
    assert Generation.objects.get(pk=rescued).status == "completed"
    assert len(house.sandbox.record(kind="submit")) == 1


@pytest.mark.usefixtures("account")
def test_accepts_while_the_broker_is_away_and_goes_on_when_it_is_back(house: House) -> None:
    person = house.person()
    house.kill("valkey")
    started = time.monotonic()
    person.ask(picture("while the broker is away"))
    assert time.monotonic() - started < BROKER_AWAY_SECONDS
    is_accepted(house, "while the broker is away", RESUMES_SECONDS)


@pytest.mark.usefixtures("account")
def test_goes_on_when_the_broker_has_lost_everything(house: House) -> None:
    person = house.person()
    house.wait(house.valkey.ready, "the broker")
    with redis.Redis.from_url(house.valkey.url) as client:
        client.flushall()
    person.ask(picture("after the flush"))
    is_accepted(house, "after the flush", RESUMES_SECONDS)


def is_accepted(house: House, words: str, seconds: float = 20) -> None:
    """Wait until the sandbox has accepted the one whose prompt has these words (and not answered, where it is slow)."""
    house.wait(lambda: any(words in work["prompt"] for work in house.sandbox.works()), f"acceptance: {words}", seconds)
