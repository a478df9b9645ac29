"""The provider's own list: what surely belongs together is taken, all else is evidence."""

from __future__ import annotations

import json
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response as HTTPResponse

from generations.execution import reconcile, recover
from generations.execution.reconcile import Look, Sent, match_jobs
from generations.lifecycle import State, Status
from generations.models import Event, Submission
from providers import registry
from providers.base import Call, RecentJob, Reply, SubmitResult
from providers.modelslab import ModelsLab
from providers.sandbox.state import key_label
from tests.factories import AccountFactory, SubmissionFactory
from tests.generations.execution.studio import PURSE, Studio

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SKEW, PATIENCE = timedelta(seconds=60), timedelta(seconds=80)
A, B = UUID(int=1), UUID(int=2)


def sent(id: UUID = A, *, prompt: str = "a fox", after: float = 0, open: bool = False) -> Sent:  # noqa: A002
    return Sent(id, prompt, AT + timedelta(seconds=after), open)


def job(job_id: str | None = "1", *, prompt: str | None = "a fox", after: float = 1) -> RecentJob:
    return RecentJob(AT + timedelta(seconds=after), job_id, prompt)


@pytest.mark.parametrize(
    ("attempts", "jobs", "sure"),
    [
        ([sent()], [job()], {A: "1"}),
        ([sent(prompt="a  fox\n")], [job(prompt=" a fox")], {A: "1"}),
        ([sent()], [], {}),
        ([sent()], [job(prompt="a hen")], {}),
        ([sent()], [job(prompt=None)], {}),
        ([sent()], [job(None)], {}),
        ([sent()], [job("1"), job("2")], {}),
        ([sent()], [job("1"), job("2", prompt="a hen")], {A: "1"}),
        ([sent(), sent(B)], [job()], {}),
        ([sent(), sent(B, open=True)], [job()], {}),
        ([sent(open=True)], [job()], {}),
        ([sent(), sent(B, prompt="a hen")], [job("1"), job("2", prompt="a hen")], {A: "1", B: "2"}),
        ([sent()], [job(after=-60)], {A: "1"}),
        ([sent()], [job(after=-61)], {}),
        ([sent()], [job(after=140)], {A: "1"}),
        ([sent()], [job(after=141)], {}),
        ([sent(), sent(B, after=1000)], [job("1"), job("2", after=1001)], {A: "1", B: "2"}),
    ],
)
def test_takes_only_what_is_certain(attempts: list[Sent], jobs: list[RecentJob], sure: dict[UUID, str]) -> None:
    found = match_jobs(attempts, jobs, patience=PATIENCE, skew=SKEW)
    assert {attempt: job.job_id for attempt, job in found.items()} == sure


def evidence(row: Submission) -> dict[str, Any]:
    """What was kept of the list."""
    row.refresh_from_db()
    assert row.evidence is not None
    return dict(row.evidence)


@pytest.mark.django_db
class TestPixverse:
    """Its usage ledger, as the sandbox keeps it."""

    def look(self) -> int:
        Submission.objects.filter(state=State.UNKNOWN).update(next_poll_at=None)
        return reconcile.reconcile()

    def test_finds_the_job_whose_answer_was_lost(self, studio: Studio) -> None:
        studio.account("pixverse", limit=3)
        studio.send_video()
        one = studio.send_video("accept_then_drop")
        assert one.state == State.UNKNOWN
        [work] = studio.sandbox.works(request_id=str(one.pk))

        assert self.look() == 1

        one.refresh_from_db()
        assert (one.state, one.provider_job_id) == (State.ACCEPTED, str(work["remote_id"]))
        assert "found" in studio.events(one.generation)
        studio.finish(one.generation)
        assert one.generation.status == Status.COMPLETED
        assert studio.submits(one.generation) == [str(one.pk)]

    def test_keeps_what_it_saw_where_two_could_be_meant(self, studio: Studio) -> None:
        studio.account("pixverse", limit=3)
        one = studio.send_video("accept_then_drop", prompt="twice the same")
        two = studio.send_video("accept_then_drop", prompt="twice the same", reuse="none")

        assert self.look() == 2
        assert self.look() == 2

        for row in (one, two):
            told = evidence(row)
            assert (row.state, told["jobs"], told["same_prompt"]) == (State.UNKNOWN, 2, 2)
            assert studio.events(row.generation).count("evidence") == 1
        assert {entry["job_id"] for entry in evidence(one)["candidates"]} == {
            str(work["remote_id"]) for row in (one, two) for work in studio.sandbox.works(request_id=str(row.pk))
        }

    def test_says_when_the_provider_has_no_such_job(self, studio: Studio) -> None:
        studio.account("pixverse")
        one = studio.send_video("drop_before")
        assert one.state == State.UNKNOWN

        self.look()

        assert (evidence(one)["jobs"], one.state) == (0, State.UNKNOWN)
        assert Event.objects.get(generation=one.generation, kind="evidence").data["jobs"] == 0

    def test_reads_one_list_for_all_of_an_account(self, studio: Studio) -> None:
        account = studio.account("pixverse", limit=3)
        rows = [studio.send_video("accept_then_drop") for _ in range(3)]
        key = key_label("pixverse", account.credentials["api_key"])

        assert self.look() == 3

        lists = [call for call in studio.sandbox.record(key=key) if call["path"].endswith("usage-detail")]
        assert len(lists) == 1
        assert {Studio.attempt(row.generation).state for row in rows} == {State.ACCEPTED}

    def test_asks_for_nothing_that_is_not_due(self, studio: Studio) -> None:
        studio.account("pixverse")
        one = studio.send_video("accept_then_drop")
        assert not reconcile.due()
        assert reconcile.reconcile() == 0
        studio.past(one, "next_poll_at")
        assert reconcile.due()

    def test_writes_nothing_once_somebody_else_looks(self) -> None:
        one = SubmissionFactory.create(state=State.UNKNOWN, account__provider_id="pixverse")
        Studio.past(one, "next_poll_at")
        slow, quick = uuid4(), uuid4()
        [row] = reconcile._claim(slow)
        Studio.past(one, "next_poll_at")
        reconcile._claim(quick)
        look = Look(row.account, (row,), by_reference=False)
        reconcile._write(slow, look, ())
        reconcile._not_read(slow, look)
        now = Submission.objects.get(pk=one.pk)
        assert (now.evidence, now.misses, now.last_looks) == (one.evidence, one.misses, one.last_looks)
        assert now.poll_token == quick

    def test_leaves_it_as_it_is_when_the_list_cannot_be_read(self, studio: Studio) -> None:
        account = studio.account("pixverse")
        one = studio.send_video("accept_then_drop")
        type(account).objects.update(base_url="http://127.0.0.1:9/pixverse")

        assert self.look() == 1

        one.refresh_from_db()
        assert (one.state, one.evidence, one.last_looks) == (State.UNKNOWN, None, 1)
        assert one.next_poll_at is not None

    def test_ends_it_at_its_limit_all_the_same(self, studio: Studio) -> None:
        studio.account("pixverse")
        one = studio.send_video("drop_before")
        self.look()
        studio.past(one, "limit_at")
        recover.recover()
        one.refresh_from_db()
        assert (one.state, one.cost_at_risk) == (State.FAILED, True)
        assert studio.wallet == (PURSE, 0)

    @pytest.mark.parametrize(
        "line",
        [{"credits": 10**12}, {"prompt": "a \ud83d fox"}, {"prompt": "a\x00fox"}, {"create_time": "soon"}, "nothing"],
        ids=["a fortune", "half a character", "NUL", "no time", "no line"],
    )
    def test_reads_a_list_with_nonsense_in_it(self, line: Any, httpserver: HTTPServer, hints: list[str]) -> None:
        account = AccountFactory.create(base_url=httpserver.url_for("/"))
        at = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
        one = SubmissionFactory.create(state=State.UNKNOWN, account=account)
        ours = {"video_id": 4711, "prompt": one.generation.prompt, "create_time": at, "credits": 10**12}
        other = {"video_id": 815, "create_time": at, **line} if isinstance(line, dict) else line
        told = {"ErrCode": 0, "ErrMsg": "", "Resp": {"list": [other, ours], "next_cursor": ""}}
        httpserver.expect_request("/account/billing/usage-detail").respond_with_json(told)
        beside = SubmissionFactory.create(state=State.UNKNOWN, account=account)

        assert self.look() == 2

        one.refresh_from_db()
        assert (one.state, one.provider_job_id, one.cost) == (State.ACCEPTED, "4711", None)
        assert evidence(beside)["same_prompt"] == 0

    def test_concludes_nothing_from_a_list_that_never_ends(self, httpserver: HTTPServer, hints: list[str]) -> None:
        pages = count()

        def page(_request: Any) -> Any:
            told = {"ErrCode": 0, "Resp": {"list": [], "next_cursor": str(next(pages))}}
            return HTTPResponse(json.dumps(told), content_type="application/json")

        httpserver.expect_request("/account/billing/usage-detail").respond_with_handler(page)
        one = SubmissionFactory.create(
            state=State.UNKNOWN, account=AccountFactory.create(base_url=httpserver.url_for("/"))
        )

        assert self.look() == 1

        one.refresh_from_db()
        assert (one.state, one.evidence, one.last_looks) == (State.UNKNOWN, None, 1)


class Finder(ModelsLab):
    """A provider that can look a job up by our reference."""

    can_find = True

    def find(
        self, submission_id: str, operation_type: str, credentials: Any
    ) -> Generator[Call, Reply, SubmitResult | None]:
        """GET it."""
        reply = yield Call("GET", f"/find/{submission_id}")
        found = reply.json()
        return SubmitResult(found["id"], {"fetch_path": "/there"}) if found["id"] else None


@pytest.mark.django_db
@pytest.mark.usefixtures("hints")
class TestByReference:
    """A provider that knows our own id."""

    @pytest.fixture
    def one(self, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> Submission:
        monkeypatch.setitem(registry._BY_SLUG, "modelslab", Finder())
        monkeypatch.setattr(registry, "_PROVIDERS", tuple(registry._BY_SLUG.values()))
        account = AccountFactory.create(provider_id="modelslab", base_url=httpserver.url_for("/"))
        return SubmissionFactory.create(state=State.UNKNOWN, account=account, next_poll_at=None)

    def test_takes_the_job_that_is_found(self, one: Submission, httpserver: HTTPServer) -> None:
        httpserver.expect_oneshot_request(f"/find/{one.pk}").respond_with_json({"id": "a-1"})
        assert reconcile.reconcile() == 1
        one.refresh_from_db()
        assert (one.state, one.provider_job_id, one.job_handle) == (State.ACCEPTED, "a-1", {"fetch_path": "/there"})

    def test_notes_that_there_is_none(self, one: Submission, httpserver: HTTPServer) -> None:
        httpserver.expect_oneshot_request(f"/find/{one.pk}").respond_with_json({"id": None})
        assert reconcile.reconcile() == 1
        assert (evidence(one)["jobs"], one.state) == (0, State.UNKNOWN)

    def test_takes_no_job_of_another_attempt(self, one: Submission, httpserver: HTTPServer) -> None:
        SubmissionFactory.create(account=one.account, provider_job_id=(taken := uuid4().hex))
        httpserver.expect_oneshot_request(f"/find/{one.pk}").respond_with_json({"id": taken})
        assert reconcile.reconcile() == 1
        one.refresh_from_db()
        assert one.state == State.UNKNOWN
