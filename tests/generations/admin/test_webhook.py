"""The console's pages about webhooks: it ..."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from generations import wakeups
from generations.models import WebhookDelivery, WebhookEndpoint
from tests.factories import WebhookDeliveryFactory, WebhookEndpointFactory

DELIVERIES = reverse("admin:generations_webhookdelivery_changelist")
ENDPOINTS = reverse("admin:generations_webhookendpoint_changelist")


@pytest.fixture(autouse=True)
def _no_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeups, "_wake", lambda *_, **__: None)


def act(client: Client, url: str, action: str, *rows: Any) -> list[str]:
    """Do it to these rows; what people are told."""
    form = {"action": action, "_selected_action": [str(row.pk) for row in rows]}
    return [str(message) for message in client.post(url, form, follow=True).context["messages"]]


def page(client: Client, delivery: WebhookDelivery) -> str:
    return client.get(reverse("admin:generations_webhookdelivery_change", args=[delivery.pk])).content.decode()


def test_shows_a_delivery_with_every_try(console: Client) -> None:
    delivery = WebhookDeliveryFactory.create(tries=2)
    delivery.attempts.create(number=1, url=delivery.endpoint.url)
    delivery.attempts.create(
        number=2,
        url=delivery.endpoint.url,
        elapsed=0.25,
        status=500,
        error_code="http_error",
        error_message="It answered HTTP 500.",
        answer="<script>alert(1)</script>",
    )
    shown = page(console, delivery)
    assert "nobody knows" in shown
    assert "It answered HTTP 500." in shown
    assert "&lt;script&gt;alert(1)" in shown
    assert "<script>alert(1)" not in shown
    assert str(delivery.token) not in shown
    assert delivery.endpoint.url in shown


def test_sends_again_what_has_ended_and_offers_that_only_where_it_can_be_done(
    console: Client, staff: Callable[..., Client]
) -> None:
    delivery = WebhookDeliveryFactory.create(state="failed", error_code="http_error")
    reader = staff("view_webhookdelivery")
    assert "Send again" in page(console, delivery)
    assert "Send again" not in page(reader, delivery)
    act(reader, DELIVERIES, "redeliver_selected", delivery)
    delivery.refresh_from_db()
    assert delivery.state == "failed"
    assert act(console, DELIVERIES, "redeliver_selected", delivery) == ["1 is sent again now."]
    delivery.refresh_from_db()
    assert delivery.state == "pending"
    WebhookEndpoint.objects.update(disabled_at=timezone.now())
    assert "Send again" not in page(console, delivery)
    [refused] = act(console, DELIVERIES, "redeliver_selected", delivery)
    assert "switched off" in refused


def test_sends_many_again_but_not_those_that_are_being_sent(console: Client) -> None:
    rows = [WebhookDeliveryFactory.create(state="failed") for _ in range(3)]
    busy = WebhookDeliveryFactory.create(lease_until=timezone.now() + timedelta(minutes=1))
    assert act(console, DELIVERIES, "redeliver_selected", *rows, busy) == ["3 are sent again now."]
    assert act(console, DELIVERIES, "redeliver_selected", busy) == [
        "It is being sent at this moment. Look at what comes of it."
    ]


def test_switches_endpoints_off_and_on(console: Client, staff: Callable[..., Client]) -> None:
    one, two = WebhookEndpointFactory.create(), WebhookEndpointFactory.create()
    waiting = WebhookDeliveryFactory.create(endpoint=one)
    act(staff("view_webhookendpoint"), ENDPOINTS, "switch_off", one)
    one.refresh_from_db()
    assert one.enabled
    assert act(console, ENDPOINTS, "switch_off", one, two) == ["2 endpoints are switched off."]
    one.refresh_from_db()
    waiting.refresh_from_db()
    assert (one.enabled, one.disabled_reason, waiting.state) == (False, "operator", "failed")
    assert act(console, ENDPOINTS, "switch_on", one, two) == ["2 endpoints are switched on."]
    one.refresh_from_db()
    assert one.enabled


def test_filters_by_state_and_finds_by_generation(console: Client) -> None:
    failed = WebhookDeliveryFactory.create(state="failed")
    WebhookDeliveryFactory.create()
    assert list(console.get(DELIVERIES, {"state": "failed"}).context["cl"].result_list) == [failed]
    assert list(console.get(DELIVERIES, {"state": "nonsense"}).context["cl"].result_list) == []
    found = console.get(DELIVERIES, {"q": str(failed.generation_id)}).context["cl"].result_list
    assert list(found) == [failed]


@pytest.mark.parametrize("url", [DELIVERIES, ENDPOINTS])
def test_lists_many_in_as_many_queries_as_one(console: Client, url: str) -> None:
    counts = []
    for number in (1, 10):
        for _ in range(number):
            WebhookDeliveryFactory.create()
        with CaptureQueriesContext(connection) as caught:
            console.get(url)
        counts.append(len(caught))
    assert counts[0] == counts[1]


def test_never_shows_a_secret(console: Client) -> None:
    endpoint = WebhookEndpointFactory.create()
    assert endpoint.secret is not None
    [told] = endpoint.secret.in_force(timezone.now())
    for name, row in (("webhookendpoint", endpoint), ("webhooksecret", endpoint.secret)):
        for url in (
            reverse(f"admin:generations_{name}_changelist"),
            reverse(f"admin:generations_{name}_change", args=[row.pk]),
        ):
            shown = console.get(url).content.decode()
            assert told not in shown
            assert bytes(endpoint.secret.secret_encrypted).decode() not in shown
