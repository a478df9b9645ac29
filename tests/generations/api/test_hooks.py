"""Callbacks are only a reason to look now."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import Account
from generations import wakeups
from generations.lifecycle import State
from generations.models import CallbackNonce, Event, Submission
from providers.pixverse_callbacks import verify
from providers.sandbox.callbacks import signature
from tests.factories import AccountFactory, SubmissionFactory
from tests.generations.api.helpers import assert_problem


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was hinted at."""
    hints: list[str] = []
    monkeypatch.setattr(wakeups, "wake_poll", lambda: hints.append("poll"))
    return hints


def waiting(**fields: Any) -> Submission:
    fields = {"state": State.ACCEPTED, "provider_job_id": "371", **fields}
    if fields["state"] == State.ACCEPTED:
        fields["next_poll_at"] = timezone.now() + timedelta(minutes=5)
    else:
        fields["provider_job_id"] = None
    return SubmissionFactory.create(**fields)


def call(provider: str, token: str, told: Any) -> Any:
    raw = told if isinstance(told, bytes) else json.dumps(told).encode()
    client = Client(enforce_csrf_checks=True)
    return client.post(f"/hooks/{provider}/{token}", data=raw, content_type="application/json")


def is_due(submission: Submission) -> bool:
    submission.refresh_from_db()
    return submission.next_poll_at is not None and submission.next_poll_at <= timezone.now() + timedelta(seconds=2)


@pytest.mark.parametrize("whose", ["account", "attempt"])
def test_looks_now(whose: str, db: None, woken: list[str], django_capture_on_commit_callbacks: Any) -> None:
    submission = waiting()
    token = submission.account.callback_token if whose == "account" else submission.callback_token

    with django_capture_on_commit_callbacks(execute=True):
        reply = call("pixverse", token, {"id": 371, "status": 1})

    assert (reply.status_code, reply.content, reply.headers["Content-Type"]) == (200, b"ok", "text/plain")
    assert is_due(submission)
    assert submission.state == State.ACCEPTED
    event = Event.objects.get(generation=submission.generation)
    assert (event.kind, event.actor, event.attempt) == ("callback", "provider", 1)
    assert woken == ["poll"]


def test_notes_a_repeated_callback_once(db: None, woken: list[str]) -> None:
    submission = waiting()

    for _ in range(3):
        assert call("pixverse", submission.callback_token, {"id": 371, "status": 1}).content == b"ok"

    assert Event.objects.filter(generation=submission.generation).count() == 1


def test_learns_the_job_of_an_unknown_outcome(db: None, woken: list[str]) -> None:
    submission = waiting(state=State.UNKNOWN)

    assert call("pixverse", submission.callback_token, {"id": 371, "status": 1}).status_code == 200

    submission.refresh_from_db()
    assert (submission.state, submission.provider_job_id) == (State.ACCEPTED, "371")
    assert is_due(submission)
    assert Event.objects.filter(generation=submission.generation, kind="callback").count() == 1


def test_keeps_the_job_of_one_that_is_still_being_sent(db: None, woken: list[str]) -> None:
    submission = SubmissionFactory.create(state=State.SENDING)

    assert call("pixverse", submission.callback_token, {"id": 371, "status": 1}).status_code == 200

    submission.refresh_from_db()
    assert (submission.state, submission.provider_job_id, submission.told_job_id) == (State.SENDING, None, "371")


def test_tells_people_of_a_second_job(db: None, woken: list[str]) -> None:
    submission = waiting()

    assert call("pixverse", submission.callback_token, {"id": 999, "status": 1}).status_code == 200

    submission.refresh_from_db()
    assert submission.provider_job_id == "371"
    [incident] = submission.incidents.all()
    assert (incident.kind, "999" in incident.detail) == ("duplicate_charge", True)


def test_ignores_what_names_another_attempt(db: None, woken: list[str]) -> None:
    submission = waiting(state=State.UNKNOWN, account=AccountFactory.create(provider_id="modelslab"))
    told = {"status": "success", "id": 881, "track_id": "somebody-elses"}

    assert call("modelslab", submission.callback_token, told).status_code == 200
    submission.refresh_from_db()
    assert submission.state == State.UNKNOWN

    assert call("modelslab", submission.callback_token, {**told, "track_id": str(submission.pk)}).status_code == 200
    submission.refresh_from_db()
    assert (submission.state, submission.provider_job_id) == (State.ACCEPTED, "881")


class TestSigned:
    """An account that knows its secret believes only what is signed with it."""

    BODY = json.dumps({"id": 371, "status": 1, "url": "https://media.example/a b.mp4", "has_audio": False}).encode()

    @pytest.fixture
    def submission(self, db: None, woken: list[str]) -> Submission:
        account = AccountFactory.create(provider_id="pixverse")
        account.set_webhook_secret("the secret")
        account.save()
        return waiting(account=account)

    def post(self, submission: Submission, headers: dict[str, str]) -> Any:
        path = f"/hooks/pixverse/{submission.account.callback_token}"
        return Client().post(path, data=self.BODY, content_type="application/json", headers=headers)

    @pytest.mark.parametrize("form", ["query", "raw"])
    def test_takes_either_documented_form(self, form: str, submission: Submission) -> None:
        Account.objects.update(callback_form=form)

        reply = self.post(submission, signature(self.BODY, "the secret", form=form, now=time.time()))

        assert (reply.status_code, reply.content) == (200, b"ok")
        assert is_due(submission)

    @pytest.mark.parametrize("form", ["query", "raw"])
    def test_refuses_the_other_form(self, form: str, submission: Submission) -> None:
        Account.objects.update(callback_form={"query": "raw", "raw": "query"}[form])

        reply = self.post(submission, signature(self.BODY, "the secret", form=form, now=time.time()))

        assert_problem(reply, 401, "bad_signature")
        assert not is_due(submission)

    @pytest.mark.parametrize(
        ("secret", "off", "changes"),
        [
            ("another secret", 0, {}),
            ("the secret", 0, {"Webhook-Nonce": "other"}),
            ("the secret", 0, {"Webhook-Nonce": ""}),
            ("the secret", 0, {"Webhook-Signature": ""}),
            ("the secret", 0, {"Webhook-Timestamp": "9" * 5000}),
            ("the secret", -86_400, {}),
            ("the secret", 86_400, {}),
        ],
        ids=["another secret", "another nonce", "no nonce", "unsigned", "no time", "too old", "too new"],
    )
    def test_refuses_what_is_not_signed_as_it_should_be(
        self, secret: str, off: float, changes: dict[str, str], submission: Submission
    ) -> None:
        headers = {**signature(self.BODY, secret, form="query", now=time.time() + off), **changes}
        assert_problem(self.post(submission, headers), 401, "bad_signature")
        assert not is_due(submission)
        assert not CallbackNonce.objects.exists()

    def test_takes_what_a_javascript_client_signed(self) -> None:
        """A vector made with Node's crypto and encodeURIComponent, its timestamp in milliseconds."""
        body = b'{"id":"371","status":1,"url":"https://media.example/a (1)!.mp4"}'
        headers = {
            "webhook-timestamp": "1767323045000",
            "webhook-nonce": "n-1",
            "webhook-signature": "ZK8ocjI/6XWkLtPCl4l+7+4QqVcTS7pTifQ/p9wROjM=",
        }
        nonce = verify(headers, body, secret="the secret", form="raw", now=1767323045.0)
        assert nonce == "n-1"

    def test_takes_the_same_one_once(self, submission: Submission) -> None:
        headers = signature(self.BODY, "the secret", form="query", now=time.time())
        assert self.post(submission, headers).status_code == 200
        Submission.objects.update(next_poll_at=timezone.now() + timedelta(minutes=5))

        assert self.post(submission, headers).content == b"ok"

        assert not is_due(submission)
        assert Event.objects.count() == 1

    def test_refuses_all_while_the_secret_cannot_be_decrypted(self, submission: Submission, settings: Any) -> None:
        headers = signature(self.BODY, "the secret", form="query", now=time.time())
        settings.CREDENTIAL_KEYS = ["another key altogether"]

        assert_problem(self.post(submission, headers), 401, "bad_signature")


def test_makes_an_accounts_callback_about_a_job_of_nobody_a_reason_to_read_the_list(
    db: None, woken: list[str], monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    monkeypatch.setattr(wakeups, "wake_reconcile", lambda: woken.append("reconcile"))
    submission = waiting(state=State.UNKNOWN)
    Submission.objects.update(next_poll_at=timezone.now() + timedelta(minutes=5))

    with django_capture_on_commit_callbacks(execute=True):
        call("pixverse", submission.account.callback_token, {"id": 371, "status": 1})

    assert is_due(submission)
    assert woken == ["reconcile"]


def test_does_not_believe_an_accounts_callback_about_an_unknown_outcome(db: None, woken: list[str]) -> None:
    submission = waiting(state=State.UNKNOWN)

    assert call("pixverse", submission.account.callback_token, {"id": 371, "status": 1}).status_code == 200

    submission.refresh_from_db()
    assert (submission.state, submission.provider_job_id) == (State.UNKNOWN, None)


def test_does_nothing_for_another_job(db: None, woken: list[str]) -> None:
    submission = waiting()

    assert call("pixverse", submission.callback_token, {"id": 999, "status": 1}).status_code == 200
    assert call("pixverse", submission.account.callback_token, {"id": 999, "status": 1}).status_code == 200

    assert not is_due(submission)
    assert submission.provider_job_id == "371"
    assert not Event.objects.exists()


@pytest.mark.parametrize("state", [State.COLLECTING, State.SUCCEEDED, State.RESERVED])
def test_changes_nothing_in_another_state(state: State, db: None, woken: list[str]) -> None:
    submission = SubmissionFactory.create(state=state)
    before = Submission.objects.filter(pk=submission.pk).values().get()

    assert call("pixverse", submission.callback_token, {"id": 371, "status": 1}).status_code == 200

    assert Submission.objects.filter(pk=submission.pk).values().get() == before


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"id": {"a": 1}}',
        b'{"id": "' + b"9" * 10_000 + b'"}',
        b'{"id": "\\u0000"}',
        b'{"id": ' + b"9" * 5000 + b"}",
        b" " * 300_000,
    ],
    ids=["empty", "null", "array", "no id", "no text", "deep", "object", "long", "zero", "big", "large"],
)
@pytest.mark.parametrize("provider", ["pixverse", "modelslab"])
def test_refuses_garbage(provider: str, raw: bytes, db: None, woken: list[str]) -> None:
    submission = waiting(account=AccountFactory.create(provider_id=provider))

    assert_problem(call(provider, submission.callback_token, raw), 400, "malformed_body")

    assert not is_due(submission)
    assert not Event.objects.exists()


def test_keeps_what_is_no_text_out_of_the_database(db: None, woken: list[str]) -> None:
    submission = waiting(account=AccountFactory.create(provider_id="modelslab"), provider_job_id="881")
    raw = b'{"id": 881, "status": "success\\u0000\\ud83d"}'
    assert call("modelslab", submission.callback_token, raw).status_code == 200
    assert is_due(submission)


@pytest.mark.parametrize("token", ["a%00b", "%ff", "a" * 65, "a%20b"])
def test_knows_no_token_that_is_none(token: str, db: None) -> None:
    assert_problem(
        Client().post(f"/hooks/modelslab/{token}", data=b"{}", content_type="application/json"), 404, "not_found"
    )


@pytest.mark.parametrize("provider", ["pixverse", "modelslab", "nobody"])
def test_knows_no_token_of_another_provider(provider: str, db: None, woken: list[str]) -> None:
    submission = waiting(account=AccountFactory.create(provider_id="modelslab"))
    token = submission.callback_token if provider != "modelslab" else "guessed"

    assert_problem(call(provider, token, {"id": 371, "status": "success"}), 404, "not_found")

    assert not is_due(submission)


def test_is_posted_to(db: None) -> None:
    reply = Client().get("/hooks/pixverse/token")

    assert_problem(reply, 405, "method_not_allowed")
    assert reply.headers["Allow"] == "POST"


def test_writes_no_token_into_the_log(db: None, woken: list[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    submission = waiting()

    call("pixverse", submission.callback_token, {"id": 371, "status": 1})
    call("pixverse", "guessed-token-of-mine", {"id": 371, "status": 1})

    assert "/hooks/pixverse/***" in caplog.text
    assert submission.callback_token not in caplog.text
    assert "guessed-token-of-mine" not in caplog.text
