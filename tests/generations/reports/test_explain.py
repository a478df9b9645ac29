"""What happened, why it waits, what comes next and when."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from generations.intake.switches import turn_on
from generations.lifecycle import State, Status
from generations.models import AccountExclusion, Generation, Heartbeat, Submission
from generations.reports.explain import explain
from generations.reports.lookup import IdError, find
from tests.factories import (
    AccountFactory,
    GenerationFactory,
    SubmissionFactory,
    UserCapFactory,
    UserFactory,
    WebhookDeliveryFactory,
    completed_generation,
)

pytestmark = pytest.mark.django_db

SOON = timedelta(minutes=5)


@pytest.fixture(autouse=True)
def services_up(settings: Any, tmp_path: Any) -> None:
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {**settings.STORAGES["default"], "OPTIONS": {"location": str(tmp_path)}},
    }
    Heartbeat.beat("tick", "test")


def steps(generation: Generation) -> dict[str, float | None]:
    return {step["text"]: step["in_seconds"] for step in explain(generation)["next"]}


def only(found: dict[str, float | None], words: str) -> float | None:
    [seconds] = [at for text, at in found.items() if words in text]
    return seconds


def test_is_json_and_holds_the_story() -> None:
    generation = completed_generation()
    told = explain(generation)
    assert json.loads(json.dumps(told)) == told
    assert told["generation"]["id"] == str(generation.pk)
    assert told["summary"].startswith("It is completed (")
    assert told["waiting"] is None
    assert told["next"] == []
    assert told["story"][0]["kind"] == "accepted"


def test_says_that_a_free_slot_will_take_it() -> None:
    AccountFactory.create()
    generation = GenerationFactory.create()
    told = explain(generation)
    assert told["waiting"]["reason"] is None
    assert told["summary"].startswith("It is about to start")
    assert only(steps(generation), "next claim") is None
    assert only(steps(generation), "queue_timeout") == pytest.approx(7 * 86400, abs=5)


def test_says_who_has_paused_it_since_when_and_why() -> None:
    AccountFactory.create()
    person = UserFactory.create(username="mina")
    turn_on("dispatch:provider:pixverse", reason="They bill twice today.", actor=f"admin:{person.pk}")
    generation = GenerationFactory.create()
    told = explain(generation)
    assert told["waiting"]["reason"] == "paused"
    assert told["waiting"]["paused"]["actor"] == f"admin:{person.pk}"
    words = r"Dispatch to Pixverse is paused by mina since 20\d\d-\d\d-\d\d \d\d:\d\d UTC \(They bill twice today\)\.$"
    assert re.search(words, told["summary"])
    assert only(steps(generation), "manage.py switch off dispatch:provider:pixverse") is None
    assert json.loads(json.dumps(told)) == told


def test_guesses_no_end_of_what_is_paused() -> None:
    AccountFactory.create(limit=1)
    completed_generation(params={"prompt": "p"})
    generation = GenerationFactory.create()
    assert explain(generation)["eta_seconds"] is not None
    turn_on("dispatch", reason="an upgrade", actor="command:drain/ops")
    assert explain(generation)["eta_seconds"] is None
    assert "paused by ops (manage.py drain)" in explain(generation)["summary"]


def test_says_for_each_account_why_it_cannot_take_it() -> None:
    full = AccountFactory.create(label="full", limit=1)
    SubmissionFactory.create(account=full)
    AccountFactory.create(label="cooling", cooldown_until=timezone.now() + SOON)
    refused = AccountFactory.create(label="refused")
    AccountFactory.create(label="elsewhere", provider_id="modelslab")
    generation = GenerationFactory.create()
    AccountExclusion.objects.create(generation=generation, account=refused, code="provider_auth")
    GenerationFactory.create(priority=9)
    waiting = explain(generation)["waiting"]
    assert waiting["reason"] == "no_capacity"
    assert waiting["ahead"] == 1
    assert {row["label"]: row["why_not"] for row in waiting["accounts"]} == {
        "full": "its only slot is in use",
        "cooling": "cooling down",
        "refused": "it refused this one (provider_auth) and is not asked again",
    }
    assert only(steps(generation), "1 may go first") is None


def test_says_when_the_first_account_comes_back() -> None:
    AccountFactory.create(cooldown_until=timezone.now() + SOON)
    AccountFactory.create(cooldown_until=timezone.now() + 2 * SOON)
    generation = GenerationFactory.create()
    assert explain(generation)["waiting"]["reason"] == "cooling_down"
    assert only(steps(generation), "comes back") == pytest.approx(300, abs=5)


def test_says_that_its_user_has_as_many_in_flight_as_he_may() -> None:
    AccountFactory.create()
    cap = UserCapFactory.create(max_in_flight=1)
    GenerationFactory.create(user=cap.user, status=Status.PROCESSING)
    generation = GenerationFactory.create(user=cap.user)
    told = explain(generation)
    assert told["waiting"]["reason"] == "user_cap"
    assert "as many in flight as the user's cap allows (1 of 1)" in told["summary"]
    assert only(steps(generation), "when one of its user's is through") is None
    [account] = told["waiting"]["accounts"]
    assert account["why_not"] == "a slot is free, but its user has as many in flight as the user's cap allows"


def test_says_that_the_day_has_nothing_left_and_when_the_next_begins() -> None:
    account = AccountFactory.create(daily_cap=1)
    SubmissionFactory.create(account=account, state=State.SUCCEEDED)
    AccountFactory.create(balance=1, balance_floor=5, exhausted_at=timezone.now(), probe_at=timezone.now() + SOON)
    generation = GenerationFactory.create()
    told = explain(generation)
    assert (told["waiting"]["reason"], told["waiting"]["returns_at"][10:]) == ("daily_cap", "T00:00:00Z")
    assert "has reached its cap for today (UTC)" in told["summary"]
    [row] = [row for row in told["waiting"]["accounts"] if row["label"] == account.label]
    assert (row["why_not"], row["used_today"]) == ("its cap of 1 for today (UTC) is reached", 1)
    assert 0 < (only(steps(generation), "comes back") or 0) <= 86400


def test_says_when_a_pause_is_over() -> None:
    generation = GenerationFactory.create(not_before=timezone.now() + SOON)
    told = explain(generation)
    assert told["waiting"]["reason"] == "backing_off"
    assert only(steps(generation), "becomes due") == pytest.approx(300, abs=5)
    assert told["next"][0]["in_seconds"] < told["next"][1]["in_seconds"]


def test_says_what_to_do_when_no_account_may_serve_it() -> None:
    assert only(steps(GenerationFactory.create()), "operator adds or switches on") is None


def test_says_when_nothing_moves_because_the_services_are_down() -> None:
    Heartbeat.objects.update(at=timezone.now() - SOON)
    assert "manage.py up" in str(steps(GenerationFactory.create()))
    Heartbeat.objects.all().delete()
    assert "no tick was ever seen" in str(steps(GenerationFactory.create()))
    assert "manage.py up" not in str(steps(completed_generation()))


@pytest.mark.parametrize(
    ("state", "field", "words"),
    [
        (State.RESERVED, "lease_until", "goes back to the queue"),
        (State.SENDING, "lease_until", "counts as unknown"),
        (State.UNKNOWN, "limit_at", "given up"),
        (State.ACCEPTED, "next_poll_at", "asked again"),
        (State.ACCEPTED, "limit_at", "given up"),
        (State.COLLECTING, "lease_until", "collector has the result"),
        (State.COLLECTING, "collect_by", "not stored"),
    ],
)
def test_says_what_comes_next_for_an_open_attempt(state: State, field: str, words: str) -> None:
    submission = SubmissionFactory.create(state=state)
    Submission.objects.update(**{field: timezone.now() + timedelta(seconds=77)})
    assert only(steps(submission.generation), words) == pytest.approx(77, abs=3)


def test_says_when_the_deadline_and_the_cancel_are() -> None:
    submission = SubmissionFactory.create()
    generation = submission.generation
    generation.deadline_at, generation.cancel_at = timezone.now() + SOON, timezone.now() + timedelta(seconds=30)
    generation.save()
    found = steps(generation)
    assert only(found, "deadline") == pytest.approx(300, abs=5)
    assert only(found, "cancel takes effect") == pytest.approx(30, abs=5)
    Submission.objects.update(state=State.COLLECTING)
    assert not any("deadline" in text for text in steps(generation))


def test_tells_of_an_attempt_that_lives_on_after_the_end() -> None:
    submission = SubmissionFactory.create(state=State.ACCEPTED, abandoned=True)
    told = explain(submission.generation)
    assert "may still be billed" in told["summary"]
    assert only(steps(submission.generation), "asked again") is not None
    assert told["attempts"][0]["abandoned"]


def test_names_the_process_that_ran_an_attempt() -> None:
    submission = SubmissionFactory.create(process="host/4711 /usr/bin/python3 /srv/darkroom 0.1.0")
    assert explain(submission.generation)["attempts"][0]["process"] == submission.process


def test_names_retries_on_both_sides() -> None:
    failed = GenerationFactory.create(status=Status.FAILED)
    assert any("deadletters --replay" in text for text in steps(failed))
    retry = GenerationFactory.create(retry_of=failed)
    assert explain(failed)["generation"]["retries"] == [str(retry.pk)]
    assert explain(retry)["generation"]["retry_of"] == str(failed.pk)
    assert not any("deadletters --replay" in text for text in steps(failed))


class TestFind:
    """Whom a person means."""

    def test_takes_an_id_or_the_beginning_of_one(self) -> None:
        generation = GenerationFactory.create()
        other = GenerationFactory.create()
        text = str(generation.pk)
        shared = next(n for n in range(36) if text[n] != str(other.pk)[n]) + 1
        assert find(text) == generation
        assert find(text.upper()) == generation
        assert find(text.replace("-", "")) == generation
        assert find(f" {text[:shared]} ") == generation

    def test_names_those_that_a_prefix_could_mean(self) -> None:
        first, second = GenerationFactory.create(), GenerationFactory.create()
        with pytest.raises(IdError, match="Several") as error:
            find(str(first.pk)[:4])
        assert str(first.pk) in str(error.value)
        assert str(second.pk) in str(error.value)

    def test_takes_an_attempts_id(self) -> None:
        submission = SubmissionFactory.create()
        assert find(str(submission.pk)) == submission.generation

    @pytest.mark.parametrize("text", ["", "-", "x", "'; --", "f" * 33, "01a2zz"])
    def test_refuses_what_is_no_id(self, text: str) -> None:
        with pytest.raises(IdError, match="is no id"):
            find(text)

    def test_says_when_there_is_none(self) -> None:
        with pytest.raises(IdError, match="no generation"):
            find("ffff")


def test_says_when_its_webhooks_are_sent() -> None:
    generation = completed_generation()
    later = timezone.now() + SOON
    WebhookDeliveryFactory.create(generation=generation, endpoint__user=generation.user, tries=3, next_try_at=later)
    assert only(steps(generation), "The webhook to hooks.example.com is sent again") == pytest.approx(300, abs=5)
    assert any(line["kind"] == "webhook_due" for line in explain(generation)["story"])
