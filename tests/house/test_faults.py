"""What is killed while work is under way: nothing is lost, nothing is asked for twice, nothing stays held."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from accounts import credits
from accounts.models import Wallet
from generations.lifecycle import HOLDS_SLOT
from generations.models import Event, Generation, Submission
from generations.reports import audit
from tests.factories import PriceFactory
from tests.house.world import House, picture

MANY = 60
PRICE = 10
RESUMES_SECONDS = 40
"""After the broker's return or loss of everything it knew."""


@pytest.mark.timeout(300)  # half a minute; several on a machine that is busy
def test_ends_everything_whatever_is_killed(house: House) -> None:
    labels = [house.account("modelslab", limit=3), house.account("modelslab", limit=2)]
    person = house.person()
    PriceFactory.create(credits=PRICE)
    credits.grant(person.user.pk, MANY * PRICE, reason="for a test", actor="test")
    house.sandbox.set_speed(0.8)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(person.ask, [picture(f"number {number}") for number in range(MANY - 3)]))
    # One that the sandbox has accepted, and whose reply is on its way when its sender dies. Nobody calls back.
    doomed = person.ask(picture("its sender dies [[fault:slow_submit:4]][[fault:lost_callback]]", priority=9))
    is_accepted(house, "its sender dies")
    house.kill("worker-dispatch")
    more_is_sent(house)
    house.kill_child("worker-dispatch")
    house.kill_child("worker-collect")
    house.kill("worker-poll")
    house.kill("beat")
    more_is_sent(house)
    house.kill("valkey")
    started = time.monotonic()
    person.ask(picture("while the broker is away"))
    assert time.monotonic() - started < 3
    more_is_sent(house)
    flush(house)
    more_is_sent(house)
    # One whose reply comes when the database is away, or has forgotten who asked.
    rescued = person.ask(picture("its database dies [[fault:slow_submit:1]]", priority=9))
    is_accepted(house, "its database dies")
    house.kill("postgres", signal.SIGQUIT)  # its immediate shutdown
    house.kill("worker-collect")
    more_is_sent(house)
    house.wait_for_the_end()

    ends = dict(Generation.objects.values_list("pk", "status"))
    assert len(ends) == MANY
    assert set(ends.values()) == {"completed", "failed"}
    lost = Generation.objects.filter(status="failed")
    assert doomed in {str(pk) for pk in lost.values_list("pk", flat=True)}
    assert Generation.objects.get(pk=rescued).status == "completed"
    assert set(lost.values_list("error_code", flat=True)) == {"outcome_unknown"}
    assert set(Event.objects.filter(kind="outcome_unknown").values_list("generation", flat=True)) >= {
        generation.pk for generation in lost
    }
    # Nobody knows what these cost, and nobody asked for them again.
    last_ones = Submission.objects.filter(generation__in=lost).exclude(error_code="not_sent")
    assert list(last_ones.values_list("state", "cost_at_risk")) == [("failed", True)] * len(lost)

    submits = house.sandbox.record(kind="submit")
    asked = [call["request_id"] for call in submits]
    assert len(asked) == len(set(asked)), "an attempt was submitted twice"
    assert set(asked) <= {str(pk) for pk in Submission.objects.values_list("pk", flat=True)}
    paid = Submission.objects.filter(pk__in=[work["request_id"] for work in house.sandbox.works()])
    assert paid.values("generation").distinct().count() == paid.count(), "a generation was paid for twice"
    keys = house.sandbox.summary()["keys"]
    assert [keys[label]["most_in_flight"] for label in labels] == [3, 2]

    assert not Submission.objects.filter(state__in=HOLDS_SLOT).exists()
    wallet = Wallet.objects.get()
    assert (wallet.available, wallet.held) == (len(lost) * PRICE, 0)
    house.wait(audit.services_are_up, "the tick")
    assert audit.run(files=True) == []


def is_accepted(house: House, words: str) -> None:
    """Wait until the sandbox has accepted the one whose prompt has these words (and not answered: it is slow)."""
    house.wait(lambda: any(words in work["prompt"] for work in house.sandbox.works()), f"acceptance: {words}", 20)


def more_is_sent(house: House) -> None:
    """The house goes on: a few more go out than had gone when this was called, soon enough."""
    before = len(house.sandbox.record(kind="submit"))
    house.wait(lambda: len(house.sandbox.record(kind="submit")) >= before + 3, "three more submits", RESUMES_SECONDS)


def flush(house: House) -> None:
    """Empty the broker altogether, once it is there again."""
    house.wait(house.valkey.ready, "the broker")
    with redis.Redis.from_url(house.valkey.url) as client:
        client.flushall()
