"""The console as a whole: it"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.apps import apps
from django.contrib import admin as console_site
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from generations.lifecycle import State, Status
from generations.models import Generation, Heartbeat, HeldBack, Incident
from tests.factories import (
    AccountFactory,
    GenerationFactory,
    GenerationInputFactory,
    PriceFactory,
    SubmissionFactory,
    WalletFactory,
    WebhookDeliveryFactory,
    completed_generation,
)

INDEX = reverse("admin:index")
READ_ONLY = (
    "accountexclusion",
    "asset",
    "event",
    "generation",
    "generationinput",
    "heartbeat",
    "idempotencykey",
    "incident",
    "submission",
    "webhookattempt",
    "webhookdelivery",
    "webhookendpoint",
    "webhooksecret",
)


def test_has_a_page_for_every_model() -> None:
    ours = {model for app in ("accounts", "generations") for model in apps.get_app_config(app).get_models()}
    assert ours <= set(console_site.site._registry)


@pytest.mark.parametrize("model", list(console_site.site._registry), ids=lambda model: model._meta.label_lower)
def test_answers_every_list_and_every_detail(console: Client, model: type[Model]) -> None:
    made = completed_generation()
    GenerationInputFactory.create(generation=made)
    WalletFactory.create(user=made.user)
    PriceFactory.create()
    made.exclusions.create(account=AccountFactory.create(), code="provider_auth")
    Incident.objects.create(kind=Incident.Kind.STORAGE, generation=made, detail="full")
    WebhookDeliveryFactory.create(generation=made).attempts.create(number=1, url="https://hooks.example.com/")
    Heartbeat.beat("tick", "beat@here/1")
    SubmissionFactory.create(state=State.UNKNOWN)
    name = f"{model._meta.app_label}_{model._meta.model_name}"
    assert console.get(reverse(f"admin:{name}_changelist")).status_code == 200
    row = model._default_manager.first()
    if row is not None:
        assert console.get(reverse(f"admin:{name}_change", args=[row.pk])).status_code == 200


@pytest.mark.parametrize("name", READ_ONLY)
def test_changes_no_history(console: Client, name: str) -> None:
    assert console.get(reverse(f"admin:generations_{name}_add")).status_code == 403


def test_shows_attempts_without_secrets(console: Client) -> None:
    attempt = SubmissionFactory.create(state=State.ACCEPTED)
    page = console.get(reverse("admin:generations_submission_change", args=[attempt.pk])).content.decode()
    assert str(attempt.token) not in page
    assert attempt.callback_token not in page
    assert "Attempts" in page


def test_finds_attempts_of_a_generation(console: Client) -> None:
    attempt = SubmissionFactory.create(state=State.ACCEPTED)
    SubmissionFactory.create(state=State.ACCEPTED)
    url = reverse("admin:generations_submission_changelist")
    found = console.get(url, {"q": str(attempt.generation_id)}).context["cl"].result_list
    assert list(found) == [attempt]
    assert len(console.get(url, {"open": "yes"}).context["cl"].result_list) == 2


# --- incidents ------------------------------------------------------------------------------------------


def test_counts_unseen_incidents_beside_their_name_and_on_the_dashboard(console: Client) -> None:
    assert "badge_variant" not in str(console.get(INDEX).context["sidebar_navigation"])
    Incident.objects.create(kind=Incident.Kind.STORAGE)
    response = console.get(INDEX)
    items = [item for group in response.context["sidebar_navigation"] for item in group["items"]]
    assert [item["badge"] for item in items if "badge" in item] == ["1"]
    assert "1 incident</strong> wants" in response.content.decode()


def test_notes_who_saw_an_incident_first(console: Client, admin: User, staff: Callable[..., Client]) -> None:
    incident = Incident.objects.create(kind=Incident.Kind.STORAGE)
    url = reverse("admin:generations_incident_changelist")
    form = {"action": "mark_seen", "_selected_action": [str(incident.pk)]}
    staff("view_incident").post(url, form)
    incident.refresh_from_db()
    assert incident.seen_at is None
    detail = console.get(reverse("admin:generations_incident_change", args=[incident.pk])).content.decode()
    assert "Mark as seen" in detail
    console.post(url, form)
    staff("view_incident", "change_incident").post(url, form)
    incident.refresh_from_db()
    assert incident.seen_by == f"admin:{admin.pk}"
    assert list(console.get(url, {"seen": "no"}).context["cl"].result_list) == []


# --- the dashboard ---------------------------------------------------------------------------------------


def test_shows_the_state_of_the_house(console: Client) -> None:
    done = completed_generation(prompt="a quiet harbour")
    GenerationFactory.create(status=Status.FAILED, error_code="content_moderated")
    waiting = GenerationFactory.create(provider_id="modelslab")
    Heartbeat.beat("tick", "beat@here/1")
    Heartbeat.beat("poll", "beat@here/1")
    page = console.get(INDEX).content.decode()
    assert "a quiet harbour" in page
    assert '<img src="/content/' in page
    assert "content_moderated" in page
    assert str(waiting.pk) in page
    assert str(done.submissions.get().account) in page
    assert "Work stands still" not in page


def test_warns_when_beat_or_the_workers_are_late(console: Client) -> None:
    Heartbeat.beat("tick", "beat@here/1")
    Heartbeat.beat("poll", "beat@here/1")
    Heartbeat.objects.filter(name="poll").update(at=timezone.now() - timedelta(minutes=2))
    assert "Work stands still: poll is late" in console.get(INDEX).content.decode()


def test_says_why_nothing_new_is_sent(console: Client) -> None:
    assert "Nothing new is sent" not in console.get(INDEX).content.decode()
    HeldBack.objects.create(reason="disk_low", since=timezone.now(), detail="3 MiB are free.")
    page = console.get(INDEX).content.decode()
    assert "Nothing new is sent" in page
    assert "The disk for results is almost full (3 MiB are free.)" in page


def test_makes_as_many_queries_for_a_full_house_as_for_an_empty_one(console: Client) -> None:
    def fill() -> None:
        completed_generation()
        SubmissionFactory.create(state=State.ACCEPTED)
        GenerationFactory.create()
        GenerationFactory.create(status=Status.FAILED)
        Incident.objects.create(kind=Incident.Kind.STORAGE)

    fill()
    counts = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as caught:
            console.get(INDEX)
        counts.append(len(caught))
        for _ in range(5):
            fill()
    assert counts[0] == counts[1]
    assert counts[0] <= 22


def test_shows_each_person_what_he_may_see(staff: Callable[..., Client]) -> None:
    GenerationFactory.create(prompt="secret harbour")
    accountant = staff("view_ledgerentry", "view_price")
    response = accountant.get(INDEX)
    assert response.status_code == 200
    titles = {item["title"] for group in response.context["sidebar_navigation"] for item in group["items"]}
    assert {"Ledger", "Prices"} <= titles
    assert not {"Generations", "Accounts", "Users"} & titles
    assert "secret harbour" not in response.content.decode()
    assert Generation.objects.count() == 1
