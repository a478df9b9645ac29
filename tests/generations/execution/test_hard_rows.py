"""Rows of the fault matrix that no other file is about: what must hold at the poll, the deadline and the download."""

from __future__ import annotations

import re
import time
from typing import Any
from uuid import uuid4

import pytest
from django.db.models import F
from django.utils import timezone
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from accounts.models import Account
from generations.execution import accounts as account_care
from generations.execution import poll as polling
from generations.execution.poll import Answer
from generations.execution.results import FRESH_LINKS, collect_outputs
from generations.lifecycle import State, Status
from generations.models import Submission
from providers import registry
from providers.base import Call, CancelStory, JobHandle, Output, PollResult
from providers.errors import AssetGone
from providers.modelslab import ModelsLab
from providers.transport import Endpoint
from tests.factories import AccountFactory, GenerationFactory, SubmissionFactory, picture
from tests.generations.execution.studio import LONG_AGO, Studio
from tests.generations.execution.workers import KILLED, Workers

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("hints")]

DONE = PollResult("succeeded", (Output("https://a.example/1.mp4", "video"),))


# --- the poll --------------------------------------------------------------------------------------


@pytest.mark.parametrize("later", [PollResult("running"), PollResult("missing"), PollResult("succeeded")], ids=str)
def test_ignores_a_job_that_goes_backwards(later: PollResult) -> None:
    """A slow answer, or a provider's cache, says "running" (or less) of a job that was seen to be done."""
    one = SubmissionFactory.create(next_poll_at=timezone.now() - LONG_AGO)
    token = uuid4()
    [row] = polling._claim(token)
    polling._write(token, [Answer(row, DONE)])
    polling._write(token, [Answer(row, later)])
    one.refresh_from_db()
    one.generation.refresh_from_db()
    assert (one.state, one.outputs[0]["url"]) == (State.COLLECTING, "https://a.example/1.mp4")
    assert (one.misses, one.empties, one.generation.status) == (0, 0, Status.PROCESSING)
    assert polling.poll() == 0, "and nobody asks any more"


# --- the deadline ----------------------------------------------------------------------------------


class Stoppable(ModelsLab):
    """A provider that can be asked to stop a job, as none that is shipped can."""

    can_cancel = True

    def cancel(self, handle: JobHandle, credentials: Any) -> CancelStory:
        yield Call("POST", f"/stop/{handle.job_id}", json={"key": credentials["api_key"]})


@pytest.fixture
def stoppable(monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer) -> Account:
    """An account of it."""
    monkeypatch.setitem(registry._BY_SLUG, "modelslab", Stoppable())
    return AccountFactory.create(provider_id="modelslab", base_url=httpserver.url_for("/"))


def test_asks_the_provider_to_cancel_what_is_past_its_deadline_and_follows_it_on(
    stoppable: Account, httpserver: HTTPServer
) -> None:
    """The Generation has failed; the provider is asked to stop, and what it says after that still counts."""
    past = timezone.now() - LONG_AGO
    one = SubmissionFactory.create(
        account=stoppable,
        provider_job_id="4711",
        next_poll_at=past,
        generation=GenerationFactory.create(provider_id="modelslab", status=Status.PROCESSING, deadline_at=past),
    )
    asked: list[str] = []

    def answer(request: Request) -> Response:
        asked.append(request.path)
        return Response('{"status": "processing", "id": 4711, "eta": 5}', content_type="application/json")

    httpserver.expect_request(re.compile(".*")).respond_with_handler(answer)
    polling.poll()
    one.generation.refresh_from_db()
    assert (one.generation.status, one.generation.error_code) == (Status.FAILED, "deadline_exceeded")
    assert not [path for path in asked if "stop" in path], "the last look comes first"
    Submission.objects.update(next_poll_at=past)
    polling.poll()
    assert [path for path in asked if "stop" in path] == ["/stop/4711"]
    one.refresh_from_db()
    assert (one.state, one.abandoned_at is not None) == (State.ACCEPTED, True)
    assert one.account.submissions.holding_slot().count() == 1, "until the provider is terminal or its limit is over"


# --- the download ----------------------------------------------------------------------------------


def test_asks_three_times_for_a_fresh_link_of_one_that_is_gone(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/gone").respond_with_data(status=404)
    asked: list[int] = []

    def fresh() -> list[Output]:
        asked.append(1)
        return [Output(httpserver.url_for(f"/gone?{len(asked)}"), "image")]

    endpoint = Endpoint(httpserver.url_for("/"), allow_private=True)
    found = collect_outputs([Output(httpserver.url_for("/gone"), "image")], endpoint, fresh)
    assert (len(asked), found.stored, type(found.error)) == (FRESH_LINKS, (), AssetGone)
    assert FRESH_LINKS == 3


def test_takes_the_third_fresh_link(httpserver: HTTPServer, studio: Studio) -> None:
    httpserver.expect_request("/gone").respond_with_data(status=410)
    httpserver.expect_request("/here").respond_with_data(picture())
    links = [httpserver.url_for(path) for path in ("/gone?1", "/gone?2", "/here")]
    endpoint = Endpoint(httpserver.url_for("/"), allow_private=True)
    first = Output(httpserver.url_for("/gone"), "image")
    found = collect_outputs([first], endpoint, lambda: [Output(links.pop(0), "image")])
    assert (len(found.stored), found.error, links) == (1, None, [])


# --- balances --------------------------------------------------------------------------------------


def test_looks_again_at_an_account_whose_refresher_was_killed(studio: Studio, workers: Workers) -> None:
    """There is no lease to wait for: until what was found is written, the account stays due."""
    account = studio.account(last_used_at=timezone.now(), probe_at=timezone.now() - LONG_AGO)
    assert workers.run("refresh", die="refreshed") == KILLED
    account.refresh_from_db()
    assert account.balance_checked_at is None
    assert account_care.due_for_refresh() == [account.pk]
    assert workers.run("refresh") == 0
    account.refresh_from_db()
    assert (account.balance_checked_at is not None, account.probe_at) == (True, None)
    assert account_care.due_for_refresh() == []


# --- a late tick -----------------------------------------------------------------------------------


def test_does_nothing_twice_for_ticks_that_come_late_and_all_together(studio: Studio, workers: Workers) -> None:
    """Messages that waited while beat or the workers were away: five ticks, polls and collects in a row."""
    studio.account()
    generation, attempt = studio.start()
    [work] = studio.sandbox.works(request_id=str(attempt.pk))
    time.sleep(max(0, work["finish_at"] - time.time()))
    Submission.objects.update(next_poll_at=F("next_poll_at") - LONG_AGO)
    assert workers.run(*["tick", "tick", "poll", "poll", "collect", "collect", "dispatch"] * 3) == 0
    assert studio.look(generation).status == Status.COMPLETED
    assert (studio.states(generation), len(studio.submits(generation))) == ([State.SUCCEEDED], 1)
    assert (studio.money(generation), len(studio.assets(generation))) == (["capture", "hold"], 1)
