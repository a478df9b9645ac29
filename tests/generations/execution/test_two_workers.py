"""Two workers, each a process of its own, on the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from generations.lifecycle import State, Status
from generations.models import Event, Generation, Submission
from generations.reports import audit
from providers.sandbox.state import key_label
from tests.generations.execution.studio import PRICE, PURSE, Studio
from tests.generations.execution.workers import KILLED, Workers

MANY = 24
FASTER: dict[str, float] = {
    "image_poll_interval": 0.1, "max_poll_interval": 0.3, "backoff_base": 0.1, "backoff_cap": 0.3, "lease": 2,
}  # fmt: skip
"""Who dies is noticed after two seconds."""


@pytest.fixture(scope="module")
def second_parent(worker_parent: Workers) -> Iterator[Workers]:
    """Another parent: two of its workers run at the same time."""
    parent = Workers()
    yield parent
    parent.close()


def ask_for_many(studio: Studio) -> list[Generation]:
    """One user's, of which some fail and are tried again."""
    faults = ("", "", "job_failed*1", "", "500_before*1", "poll_500_once", "expired_url_once", "")
    return [studio.ask(faults[number % len(faults)]) for number in range(MANY)]


def all_is_well(studio: Studio, made: list[Generation], accounts: list[Any]) -> None:
    assert {studio.look(one).status for one in made} == {Status.COMPLETED}
    assert studio.wallet == (PURSE - MANY * PRICE, 0)
    assert {tuple(studio.money(one)) for one in made} == {("capture", "hold")}
    submits = [one for row in made for one in studio.submits(row)]
    assert len(submits) == len(set(submits)) == Submission.objects.exclude(error_code="not_sent").count()
    assert Event.objects.filter(kind="completed").count() == MANY
    assert not Submission.objects.open().exists()
    keys = studio.sandbox.summary()["keys"]
    for account in accounts:
        assert keys[key_label("modelslab", account.credentials["api_key"])]["most_in_flight"] <= account.limit
    assert audit.run(files=True) == []


def test_two_workers_on_one_users_work(studio: Studio, workers: Workers, second_parent: Workers) -> None:
    """Both dispatch, poll, collect and recover at once; each piece of work is done once."""
    accounts = [studio.account(limit=3), studio.account(limit=2)]
    made = ask_for_many(studio)
    both = (workers, second_parent)
    for one in both:
        one.start("everything", limits=FASTER)
    ends = [one.ended() for one in both]
    assert [end.code for end in ends] == [0, 0]
    all_is_well(studio, made, accounts)
    busy = set(Event.objects.filter(kind="completed").values_list("actor", flat=True))
    assert busy <= {end.actor for end in ends}
    assert len({one.process.split(" ")[0] for one in Submission.objects.all()}) == 2, "both have dispatched"


def test_goes_on_with_what_the_other_one_has_left(studio: Studio, workers: Workers, second_parent: Workers) -> None:
    """One of two dies with a result in its hands, stored and not yet written down; the other takes it over."""
    accounts = [studio.account(limit=4)]
    made = ask_for_many(studio)
    workers.start("everything", die="stored", limits=FASTER)
    second_parent.start("everything", limits=FASTER)
    assert [workers.ended().code, second_parent.ended().code] == [KILLED, 0]
    all_is_well(studio, made, accounts)
    taken_over = Event.objects.filter(kind="recovered")
    assert taken_over.exists()
    assert Submission.objects.exclude(unwritten_claims=0).filter(state=State.SUCCEEDED).count() == 0
