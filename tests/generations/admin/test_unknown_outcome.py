"""The console's inbox of unknown outcomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from generations.lifecycle import State
from generations.models import Event, Submission
from tests.factories import SubmissionFactory

LIST = reverse("admin:generations_unknownoutcome_changelist")


def page_of(one: Submission) -> str:
    return reverse("admin:generations_unknownoutcome_change", args=[one.pk])


@pytest.fixture
def one(db: None) -> Submission:
    evidence = {
        "jobs": 1, "same_prompt": 1, "looked_at": "2026-01-02T03:04:05+00:00",
        "candidates": [{"job_id": "4711", "at": "2026-01-02T03:04:05+00:00", "cost": "45", "prompt": "<script>"}],
    }  # fmt: skip
    return SubmissionFactory.create(
        state=State.UNKNOWN, error_message="The answer was lost.", evidence=evidence, generation__price=7
    )


def test_shows_what_waits_and_how_many(console: Client, one: Submission) -> None:
    page = console.get(LIST)
    items = [item for group in page.context["sidebar_navigation"] for item in group["items"]]
    assert next(item for item in items if item["title"] == "Unknown outcomes")["badge"] == "1"
    text = page.content.decode()
    assert "7 credits" in text
    assert "one job of that time that no attempt of ours has, 1 with the same prompt" in text


def test_puts_evidence_and_exposure_side_by_side(console: Client, one: Submission) -> None:
    text = console.get(page_of(one)).content.decode()
    for words in ("The answer was lost.", "4711", "7 credits of", "a slot of the account", "is given up", "45"):
        assert words in text
    assert "<script>" not in text.partition("What the provider")[2].partition("At stake")[0]


@pytest.mark.parametrize(
    ("decision", "state"), [("billed", State.ACCEPTED), ("not_billed", State.FAILED), ("resubmit", State.UNKNOWN)]
)
def test_does_what_is_said(console: Client, one: Submission, decision: str, state: State) -> None:
    filled = {"decision": decision, "note": "I looked.", "job_id": "4711" if decision == "billed" else ""}
    answered = console.post(page_of(one), {**filled, "insist": "yes"}, follow=True)
    assert "Noted" in answered.content.decode()
    one.refresh_from_db()
    assert (one.state, one.resolution) == (state, decision)
    event = Event.objects.get(generation=one.generation, kind="resolved")
    assert event.data["message"] == "I looked."
    assert str(one.pk) not in console.get(LIST).content.decode()
    assert "waits for nobody any more" in console.get(page_of(one), follow=True).content.decode()


@pytest.mark.parametrize(
    ("filled", "complaint"),
    [
        ({"decision": "billed", "note": ""}, "This field is required"),
        ({"decision": "", "note": "n"}, "Choose one of the three answers"),
        ({"decision": "resubmit", "note": "n"}, "Tick the box"),
        ({"decision": "not_billed", "note": "n", "job_id": "4711"}, "“billed” only"),
        ({"decision": "billed", "note": "n", "cost": "-1"}, "greater than or equal to 0"),
        ({"decision": "billed", "note": "n", "job_id": "a\x01b"}, "no provider"),
    ],
)
def test_says_what_is_wrong(console: Client, one: Submission, filled: dict[str, Any], complaint: str) -> None:
    answered = console.post(page_of(one), filled)
    assert answered.status_code == 200
    assert complaint in answered.content.decode()
    one.refresh_from_db()
    assert (one.state, one.resolution) == (State.UNKNOWN, "")


def test_lets_those_look_who_may_only_look(staff: Callable[..., Client], one: Submission) -> None:
    looker = staff("view_submission", "view_unknownoutcome")
    assert "What did you find out?" not in looker.get(page_of(one)).content.decode()
    assert looker.post(page_of(one), {"decision": "not_billed", "note": "n"}).status_code == 403
    assert staff().get(page_of(one)).status_code == 403
    one.refresh_from_db()
    assert one.resolution == ""
