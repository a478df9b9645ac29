"""The house in numbers."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from generations.lifecycle import State, Status
from generations.models import Generation, Heartbeat, HeldBack, Incident
from generations.reports import overview as reports
from generations.reports.overview import overview
from tests.factories import AccountFactory, GenerationFactory, SubmissionFactory

pytestmark = pytest.mark.django_db


def test_counts_what_is_live() -> None:
    GenerationFactory.create()
    GenerationFactory.create(not_before=timezone.now() + timedelta(hours=1))
    SubmissionFactory.create()
    GenerationFactory.create(status=Status.COMPLETED)
    counts = overview()["counts"]
    assert {name: count["number"] for name, count in counts.items()} == {
        "pending": 1,
        "scheduled": 1,
        "processing": 1,
    }


def test_stops_counting_at_its_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "CAP", 2)
    for _ in range(3):
        GenerationFactory.create()
    assert overview()["counts"]["pending"] == {"number": 2, "capped": True}


def test_shows_the_slots_in_use() -> None:
    account = AccountFactory.create(limit=3, balance=12)
    SubmissionFactory.create(account=account)
    SubmissionFactory.create(account=account, state=State.COLLECTING)
    [row] = overview()["accounts"]
    assert (row["held"], row["free"], row["limit"], row["condition"]) == (1, 2, 3, "usable")
    assert row["balance"].startswith("12")


def test_counts_results_that_wait_to_be_fetched() -> None:
    SubmissionFactory.create(state=State.COLLECTING)
    assert overview()["collecting"] == {"number": 1, "capped": False}


def test_says_why_nothing_new_is_sent() -> None:
    assert overview()["held_back"] == []
    at = timezone.now()
    HeldBack.objects.create(reason="backlog", since=at, ended_at=at, detail="it is over")
    HeldBack.objects.create(reason="disk_low", since=at, detail="3 MiB are free.")
    assert overview()["held_back"] == [
        {
            "reason": "disk_low",
            "text": "The disk for results is almost full",
            "detail": "3 MiB are free.",
            "since": at.isoformat(),
        }
    ]


def test_counts_recent_failures_by_code() -> None:
    for code in ("provider_busy", "provider_busy", "no_account"):
        GenerationFactory.create(status=Status.FAILED, error_code=code)
    old = GenerationFactory.create(status=Status.FAILED, error_code="old")
    Generation.objects.filter(pk=old.pk).update(completed_at=timezone.now() - timedelta(hours=25))
    assert [(row["code"], row["number"]) for row in overview()["failures"]] == [("provider_busy", 2), ("no_account", 1)]


def test_says_which_heartbeats_are_late() -> None:
    Heartbeat.beat("tick", "host/1")
    Heartbeat.beat("canary-x", "host/1")
    Heartbeat.objects.filter(name="canary-x").update(at=timezone.now() - timedelta(hours=1))
    late = {row["name"]: row["late"] for row in overview()["heartbeats"]}
    assert late == {"tick": False, "poll": True, "canary-x": False}
    Heartbeat.objects.filter(name="tick").update(at=timezone.now() - timedelta(seconds=20))
    assert {row["name"] for row in overview()["heartbeats"] if row["late"]} == {"tick", "poll"}


def test_counts_incidents_that_nobody_has_seen() -> None:
    Incident.objects.create(kind=Incident.Kind.STORAGE)
    Incident.objects.create(kind=Incident.Kind.STORAGE, seen_at=timezone.now())
    assert overview()["incidents_unseen"] == {"number": 1, "capped": False}


def test_names_the_oldest_that_wait_with_why() -> None:
    young = GenerationFactory.create()
    old = GenerationFactory.create(queue_until=timezone.now() + timedelta(days=1))
    rows = overview()["oldest_waiting"]
    assert [row["id"] for row in rows] == [str(old.pk), str(young.pk)]
    assert rows[0]["wait_reason"] == "no_account"


def test_costs_the_same_number_of_queries_whatever_there_is() -> None:
    def cost() -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert json.dumps(overview())
        return len(queries)

    GenerationFactory.create()
    few = cost()
    for _ in range(5):
        AccountFactory.create(provider_id="modelslab")
        SubmissionFactory.create()
        GenerationFactory.create()
        GenerationFactory.create(status=Status.FAILED)
        Incident.objects.create(kind=Incident.Kind.STORAGE)
    assert cost() == few <= 14
