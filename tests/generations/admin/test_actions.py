"""Retry, cancel and wake: the console"""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from generations.admin import bulk
from generations.lifecycle import State, Status
from generations.models import Event, Generation
from tests.factories import (
    GenerationFactory,
    PriceFactory,
    SubmissionFactory,
    UserFactory,
    WalletFactory,
    completed_generation,
)

LIST = reverse("admin:generations_generation_changelist")
PARAMS = {"prompt": "a lighthouse", "quality": "720p"}


def act(client: Client, name: str, generation: Generation, **data: str) -> list[str]:
    """Open the confirmation page, press its button, and give the messages of where that leads."""
    url = reverse(f"admin:generations_generation_{name}", args=[generation.pk])
    page = client.get(url)
    assert page.status_code == 200
    response = client.post(url, {"retries": str(page.context.get("retries", 0)), **data}, follow=True)
    assert response.status_code == 200
    return [str(message) for message in response.context["messages"]]


def failed(**fields: Any) -> Generation:
    """One that failed and can be retried."""
    return GenerationFactory.create(status=Status.FAILED, raw_params=PARAMS, **fields)


def test_retries_a_failed_one_at_todays_price(console: Client, admin: User) -> None:
    PriceFactory.create(provider_id="pixverse", operation_type="text_to_video", credits=30)
    made = failed(price=10)
    WalletFactory.create(user=made.user, available=100)
    page = console.get(reverse("admin:generations_generation_retry", args=[made.pk])).content.decode()
    assert "<strong>30 credits</strong>; 100 are available" in page
    act(console, "retry", made)
    successor = made.retries.get()
    assert (successor.status, successor.price) == (Status.PENDING, 30)
    assert made.events.get(kind=Event.Kind.RETRIED).actor == f"admin:{admin.pk}"


def test_does_not_retry_by_merely_looking(console: Client) -> None:
    made = failed()
    console.get(reverse("admin:generations_generation_retry", args=[made.pk]))
    assert Generation.objects.count() == 1


def test_wants_the_csrf_token(admin: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin)
    made = failed()
    url = reverse("admin:generations_generation_retry", args=[made.pk])
    assert client.post(url, {"retries": "0"}).status_code == 403
    assert Generation.objects.count() == 1


def test_refuses_to_retry_a_completed_one(console: Client) -> None:
    made = completed_generation()
    page = console.get(reverse("admin:generations_generation_retry", args=[made.pk])).content.decode()
    assert "It is completed" in page
    assert "data-once" not in page
    assert any("completed" in message for message in act(console, "retry", made))
    assert Generation.objects.count() == 1


def test_retries_once_for_two_clicks_of_one_page(console: Client) -> None:
    made = failed()
    url = reverse("admin:generations_generation_retry", args=[made.pk])
    console.post(url, {"retries": "0"})
    # Even when the first one has ended before the second click arrives.
    successor = made.retries.get()
    Generation.objects.filter(pk=successor.pk).update(
        status=Status.FAILED, completed_at=timezone.now(), active_fingerprint=None
    )
    response = console.post(url, {"retries": "0"}, follow=True)
    assert "nothing more was done" in response.content.decode()
    assert made.retries.count() == 1


@pytest.mark.django_db(transaction=True)
def test_retries_once_for_two_clicks_at_the_same_moment() -> None:
    boss = UserFactory.create(is_staff=True, is_superuser=True)
    made = failed()
    url = reverse("admin:generations_generation_retry", args=[made.pk])
    clients = [Client(), Client()]
    for client in clients:
        client.force_login(boss)
    start = threading.Barrier(2)
    statuses: list[int] = []

    def press(client: Client) -> None:
        try:
            start.wait(10)
            statuses.append(client.post(url, {"retries": "0"}).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=press, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert statuses == [302, 302]
    assert made.retries.count() == 1


def test_insists_only_with_a_tick_while_an_attempt_may_be_billed(console: Client) -> None:
    made = SubmissionFactory.create(
        state=State.UNKNOWN, abandoned=True, generation__raw_params=PARAMS, generation__status=Status.FAILED
    ).generation
    page = console.get(reverse("admin:generations_generation_retry", args=[made.pk])).content.decode()
    assert "may still be billed" in page
    assert any("tick the box" in message for message in act(console, "retry", made))
    assert not made.retries.exists()
    act(console, "retry", made, insist="yes")
    assert made.retries.count() == 1


def test_says_when_the_user_cannot_pay(console: Client) -> None:
    PriceFactory.create(provider_id="pixverse", operation_type="text_to_video", credits=30)
    made = failed()
    WalletFactory.create(user=made.user, available=5)
    assert any("30 credits" in message for message in act(console, "retry", made))
    assert not made.retries.exists()


def test_cancels_a_waiting_one(console: Client, admin: User) -> None:
    made = GenerationFactory.create()
    act(console, "cancel", made)
    made.refresh_from_db()
    assert made.status == Status.CANCELLED
    assert made.events.get(kind=Event.Kind.CANCELLED).actor == f"admin:{admin.pk}"


def test_says_that_it_is_too_late_to_cancel(console: Client) -> None:
    made = SubmissionFactory.create(state=State.COLLECTING).generation
    assert any("result is being fetched" in message for message in act(console, "cancel", made))


def test_wakes_one_that_waits_for_a_time(console: Client) -> None:
    made = GenerationFactory.create(not_before=timezone.now() + timedelta(hours=2))
    act(console, "wake", made)
    made.refresh_from_db()
    assert made.not_before is None
    assert any("waits for no time" in message for message in act(console, "wake", made))
    assert made.events.filter(kind=Event.Kind.WOKEN).count() == 1


# --- many -------------------------------------------------------------------------------------------


def run_bulk(client: Client, action: str, *rows: Generation, query: str = "", **data: str) -> list[str]:
    """Select rows (none: all that match), confirm, and follow the slices to the end; the messages."""
    form: dict[str, Any] = {"action": action, "select_across": "0" if rows else "1"}
    form["_selected_action"] = [str(row.pk) for row in rows or Generation.objects.all()[:1]]
    response = client.post(LIST + query, form)
    assert response.status_code == 200
    for _ in range(20):
        answer = client.post(LIST + query, {**form, "progress": response.context["token"], **data})
        if answer.status_code == 302:
            page = client.get(answer["Location"])
            return [str(message) for message in page.context["messages"]]
        response = answer
    raise AssertionError("the bulk action never ends")


def test_asks_before_it_does_many(console: Client) -> None:
    made = GenerationFactory.create()
    page = console.post(LIST, {"action": "cancel_selected", "_selected_action": [str(made.pk)]})
    assert "Cancel: 1 generation" in page.content.decode()
    made.refresh_from_db()
    assert made.status == Status.PENDING


def test_does_many_and_says_how_many_were_refused_and_why(console: Client) -> None:
    rows = [GenerationFactory.create() for _ in range(3)]
    done = completed_generation()
    messages = run_bulk(console, "cancel_selected", *rows, done)
    assert messages[0] == "3 generations cancelled."
    assert messages[1].startswith("1 generation not cancelled (already_ended): It is completed already")


def test_does_all_that_match_slice_by_slice(console: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "SLICE", 4)
    for _ in range(10):
        failed()
    untouched = GenerationFactory.create()
    messages = run_bulk(console, "retry_selected", query="?status=failed")
    assert messages == ["10 generations retried."]
    assert Generation.objects.filter(retry_of__isnull=False).count() == 10
    untouched.refresh_from_db()
    assert untouched.status == Status.PENDING


def test_stops_at_its_limit(console: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "MOST", 5)
    for _ in range(7):
        GenerationFactory.create()
    assert run_bulk(console, "cancel_selected") == ["5 generations cancelled."]
    assert Generation.objects.filter(status=Status.PENDING).count() == 2


def test_leaves_out_what_may_be_billed_unless_told(console: Client) -> None:
    attempt = SubmissionFactory.create(
        state=State.UNKNOWN, abandoned=True, generation__raw_params=PARAMS, generation__status=Status.FAILED
    )
    messages = run_bulk(console, "retry_selected", attempt.generation)
    assert messages[0].startswith("1 generation not retried (possibly_billed)")
    assert run_bulk(console, "retry_selected", attempt.generation, insist="yes") == ["1 generation retried."]


def test_goes_on_when_the_database_refuses_one(console: Client) -> None:
    rows = [GenerationFactory.create() for _ in range(2)]
    never_held = GenerationFactory.create(user=WalletFactory.create().user, price=10)
    messages = run_bulk(console, "cancel_selected", never_held, *rows)
    assert messages[0] == "2 generations cancelled."
    assert messages[1].startswith("1 generation not cancelled (inconsistent)")


def test_believes_no_forged_progress(console: Client) -> None:
    made = GenerationFactory.create()
    form = {"action": "cancel_selected", "_selected_action": [str(made.pk)], "progress": "eyJ1bnRpbCI6IngifQ:forged"}
    assert console.post(LIST, form).status_code == 302
    made.refresh_from_db()
    assert made.status == Status.PENDING


def test_has_no_bulk_actions_for_whoever_may_only_look(staff: Any) -> None:
    made = GenerationFactory.create()
    looker = staff("view_generation")
    assert looker.get(LIST).context["action_form"] is None
    looker.post(LIST, {"action": "cancel_selected", "_selected_action": [str(made.pk)]})
    made.refresh_from_db()
    assert made.status == Status.PENDING
