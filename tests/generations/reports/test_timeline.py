"""One Generation's whole story."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts import credits
from accounts.credits import Movement
from accounts.models import LedgerEntry
from generations.lifecycle import State, Status
from generations.models import AccountExclusion, Event, Generation, Incident, Submission
from generations.reports.sentences import EVENTS
from generations.reports.timeline import timeline
from tests.factories import (
    AccountFactory,
    AssetFactory,
    GenerationFactory,
    SubmissionFactory,
    WalletFactory,
    WebhookDeliveryFactory,
    WebhookEndpointFactory,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _storage(settings: Any, tmp_path: Any) -> None:
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {**settings.STORAGES["default"], "OPTIONS": {"location": str(tmp_path)}},
    }


def story() -> Generation:
    """A first attempt that the provider refused, a second one that completed, paid for."""
    wallet = WalletFactory.create(available=100)
    start = timezone.now() - timedelta(minutes=10)

    def at(seconds: float) -> Any:
        return start + timedelta(seconds=seconds)

    generation = GenerationFactory.create(status=Status.COMPLETED, user=wallet.user, price=10, with_events=True)
    movement = [Movement(wallet.user_id, generation.pk, 10)]
    credits.hold(movement, actor="user:1")
    account = AccountFactory.create(label="main", limit=3)
    first = SubmissionFactory.create(
        generation=generation,
        account=account,
        state=State.FAILED,
        error_code="provider_busy",
        error_message="Too many at once.",
        sent_at=at(2),
        ended_at=at(3),
    )
    second = SubmissionFactory.create(
        generation=generation,
        account=account,
        state=State.SUCCEEDED,
        slot=2,
        choice={"pinned": False, "own": False, "priority": 0, "held": 1, "limit": 3, "among": 2},
        process="host/4711 /usr/bin/python /srv 0.1.0",
        sent_at=at(11),
        accepted_at=at(12),
        provider_job_id="job-7",
        finished_at=at(40),
        ended_at=at(42),
    )
    asset = AssetFactory.create(submission=second)
    credits.capture(movement, actor="worker:host/1")
    retrying = Event.objects.create(
        generation=generation,
        attempt=1,
        kind=Event.Kind.RETRYING,
        actor="worker:host/1",
        data={"code": "provider_busy", "message": "Too many at once.", "delay": 7.5},
    )
    AccountExclusion.objects.create(
        generation=generation, account=AccountFactory.create(label="other"), code="provider_auth"
    )
    Submission.objects.filter(pk=first.pk).update(created_at=at(1))
    Submission.objects.filter(pk=second.pk).update(created_at=at(10))
    type(asset).objects.update(created_at=at(41))
    Event.objects.filter(kind="accepted").update(at=at(0))
    Event.objects.filter(pk=retrying.pk).update(at=at(3))
    Event.objects.filter(kind="completed").update(at=at(42))
    generation.exclusions.update(created_at=at(3.5))
    LedgerEntry.objects.filter(kind="hold").update(created_at=at(0))
    LedgerEntry.objects.filter(kind="capture").update(created_at=at(42))
    return generation


def test_tells_the_whole_story_in_order() -> None:
    lines = timeline(story())
    assert [(line["kind"], line["attempt"]) for line in lines] == [
        ("accepted", None),
        ("credits_hold", None),
        ("attempt_reserved", 1),
        ("attempt_sent", 1),
        ("attempt_ended", 1),
        ("retrying", 1),
        ("account_excluded", None),
        ("attempt_reserved", 2),
        ("attempt_sent", 2),
        ("attempt_accepted", 2),
        ("attempt_finished", 2),
        ("asset_stored", 2),
        ("attempt_ended", 2),
        ("credits_capture", None),
        ("completed", None),
    ]


def test_tells_it_in_sentences() -> None:
    texts = [line["text"] for line in timeline(story())]
    assert "10 credits were set aside." in texts
    assert "Attempt 2 took slot 2 of 3 of pixverse/main (the best of 2 with a free slot, 1 of 3 were in use)." in texts
    assert "Attempt 1 failed: provider_busy: Too many at once." in texts
    assert "Attempt 1 ended without a result (provider_busy: Too many at once). Another one follows after 8 s." in texts
    assert any("accepted attempt 2 as job job-7" in text for text in texts)
    assert any(text.startswith("Output 0 was verified and stored: image/png, 64x48") for text in texts)
    assert "pixverse/other refused it (provider_auth) and is not asked again." in texts
    assert texts[-1] == "Completed."
    assert all(text.endswith(".") and "{" not in text and "None" not in text for text in texts)


def test_gives_the_account_choice_and_the_process_as_data() -> None:
    [line] = [one for one in timeline(story()) if one["kind"] == "attempt_reserved" and one["attempt"] == 2]
    assert line["data"]["choice"]["among"] == 2
    assert line["data"]["process"].startswith("host/4711")
    assert line["actor"] == "worker:host/4711"


def test_names_the_dispatcher_only_for_what_the_dispatcher_did() -> None:
    actors = {one["kind"]: one["actor"] for one in timeline(story()) if one["attempt"] == 2}
    assert actors["attempt_sent"] == "worker:host/4711"
    assert actors["attempt_ended"] == ""


def test_is_json_with_times_in_utc() -> None:
    lines = timeline(story())
    assert json.loads(json.dumps(lines)) == lines
    assert all(line["at"].endswith("Z") for line in lines)


def test_asks_the_same_number_of_questions_however_long_it_is(django_assert_num_queries: Any) -> None:
    generation = story()
    for _ in range(2):
        delivery = WebhookDeliveryFactory.create(generation=generation)
        for number in (1, 2):
            delivery.attempts.create(number=number, url=delivery.endpoint.url)
    with django_assert_num_queries(8):
        timeline(generation)


def test_puts_cause_before_effect_within_one_commit() -> None:
    generation = GenerationFactory.create(status=Status.FAILED, with_events=True)
    submission = SubmissionFactory.create(generation=generation, state=State.FAILED)
    now = timezone.now()
    Submission.objects.update(created_at=now, sent_at=now, ended_at=now)
    Event.objects.update(at=now)
    assert [line["kind"] for line in timeline(generation)] == [
        "accepted",
        "attempt_reserved",
        "attempt_sent",
        "attempt_ended",
        "failed",
    ]
    assert submission.number == 1


def test_shows_incidents_and_late_results() -> None:
    submission = SubmissionFactory.create(state=State.SUCCEEDED, abandoned=True)
    generation = submission.generation
    Event.objects.create(generation=generation, attempt=1, kind=Event.Kind.LATE_RESULT, actor="worker")
    Incident.objects.create(
        kind=Incident.Kind.LATE_RESULT, generation=generation, submission=submission, detail="It is stored."
    )
    lines = {line["kind"]: line for line in timeline(generation)}
    assert "after the end" in lines["late_result"]["text"]
    assert lines["incident"]["text"] == "Incident: A result came after its Generation had ended. It is stored."
    assert lines["incident"]["attempt"] == 1


@pytest.mark.parametrize("kind", list(Event.Kind))
def test_has_a_sentence_for_every_kind_of_event(kind: Event.Kind) -> None:
    assert kind in EVENTS
    generation = GenerationFactory.create()
    for attempt, data in ((None, {}), (3, {"code": "c", "message": "m.", "delay": 2, "generation": "g"})):
        event = Event.objects.create(generation=generation, kind=kind, attempt=attempt, actor="system", data=data)
        [line] = timeline(generation)
        event.delete()
        assert line["text"][0].isupper()
        assert line["text"].endswith(".")
        assert not any(mark in line["text"] for mark in ("{", "}", "..", "None"))


def test_says_how_many_of_several_outputs_there_are() -> None:
    generation = GenerationFactory.create(status=Status.COMPLETED)
    data = {"outputs": 3, "expected": 4, "partial": True}
    Event.objects.create(generation=generation, kind=Event.Kind.COMPLETED, actor="worker", data=data)
    assert [line["text"] for line in timeline(generation)] == ["Completed with 3 of 4 outputs."]


def test_tells_every_try_of_every_webhook_and_no_more_of_its_url_than_the_host() -> None:
    generation = GenerationFactory.create(status=Status.COMPLETED)
    endpoint = WebhookEndpointFactory.create(user=generation.user, url="https://hooks.example.com/key-of-mine")
    delivery = WebhookDeliveryFactory.create(
        endpoint=endpoint, generation=generation, state="failed", error_code="gone", error_message="It is gone."
    )
    tries: list[dict[str, Any]] = [
        {},
        {"elapsed": 1.5, "status": 500, "error_code": "http_error", "error_message": "It answered HTTP 500."},
        {"elapsed": 0.1, "status": 204},
    ]
    for number, outcome in enumerate(tries, start=1):
        delivery.attempts.create(number=number, url=endpoint.url, **outcome)
    lines = [line for line in timeline(generation) if line["kind"].startswith("webhook_")]
    assert [(line["kind"], line["text"]) for line in sorted(lines, key=lambda line: line["kind"])] == [
        ("webhook_delivered", "Try 3 of the webhook to hooks.example.com was delivered (HTTP 204)."),
        ("webhook_due", "A webhook (generation.completed) is due to hooks.example.com."),
        (
            "webhook_ended",
            "The webhook to hooks.example.com is not sent any more by itself: gone: It is gone.",
        ),
        ("webhook_failed", "Try 2 of the webhook to hooks.example.com failed: http_error: It answered HTTP 500."),
        (
            "webhook_interrupted",
            "Try 1 of the webhook to hooks.example.com began; nothing was heard of what came of it.",
        ),
    ]
    assert all(line["data"]["delivery"] == str(delivery.pk) for line in lines)
    assert "key-of-mine" not in json.dumps(lines)
