"""Webhooks by the API: it ..."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any, get_args

import jsonschema
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient
from standardwebhooks import Webhook

from generations import wakeups
from generations.api.requests import WebhookWord
from generations.models import Generation, WebhookDelivery, WebhookEndpoint, WebhookSecret
from generations.models.webhook import FILTERABLE
from tests.factories import (
    GenerationFactory,
    WebhookDeliveryFactory,
    WebhookEndpointFactory,
)
from tests.generations.api.helpers import GENERATIONS, assert_problem
from tests.generations.api.test_bad_input import INSIDE, RAW

WEBHOOKS = "/api/v1/webhooks"
DELIVERIES = f"{WEBHOOKS}/deliveries"
UNKNOWN_ID = "01a207cd-0168-7661-8dc1-15d46e9a95ba"
URL = "https://hooks.example.com/me"


@pytest.fixture(autouse=True)
def hints(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The wake-ups that would have been sent."""
    sent: list[str] = []
    monkeypatch.setattr(wakeups, "_wake", lambda name, **_: sent.append(name.rpartition(".")[2]))
    return sent


def make(api: APIClient, **more: Any) -> dict[str, Any]:
    reply = api.post(WEBHOOKS, {"url": URL, **more}, format="json")
    assert reply.status_code == 201, reply.content
    told: dict[str, Any] = reply.json()
    return told


def of(told: dict[str, Any], path: str = "") -> str:
    return f"{WEBHOOKS}/{told['id']}{path}"


# --- endpoints -------------------------------------------------------------------------------------------


def test_makes_an_endpoint_and_tells_its_secret_this_once(api: APIClient) -> None:
    reply = api.post(WEBHOOKS, {"url": URL, "description": "mine"}, format="json")
    told = reply.json()
    assert reply.status_code == 201
    assert reply.headers["Location"].endswith(of(told))
    assert Webhook(told["secret"]).sign("id", timezone.now(), "{}").startswith("v1,")
    assert (told["url"], told["events"], told["description"], told["enabled"]) == (URL, list(FILTERABLE), "mine", True)
    for path in (WEBHOOKS, of(told)):
        assert told["secret"] not in api.get(path).content.decode()
    assert [row["id"] for row in api.get(WEBHOOKS).json()["results"]] == [told["id"]]


def test_offers_every_event_that_can_be_asked_for() -> None:
    assert get_args(WebhookWord) == FILTERABLE


def test_changes_what_is_given_and_switches_off_and_on(api: APIClient) -> None:
    told = make(api, events=["generation.failed", "generation.completed", "generation.failed"])
    assert told["events"] == ["generation.completed", "generation.failed"]
    changed = api.patch(of(told), {"description": "another"}, format="json").json()
    assert (changed["description"], changed["events"], changed["url"]) == ("another", told["events"], URL)
    off = api.patch(of(told), {"enabled": False}, format="json").json()
    assert (off["enabled"], off["disabled_reason"]) == (False, "owner")
    assert off["disabled_at"] is not None
    on = api.patch(of(told), {"enabled": True}, format="json").json()
    assert (on["enabled"], on["disabled_reason"], on["disabled_at"]) == (True, None, None)
    assert api.patch(of(told), {}, format="json").json()["description"] == "another"


def test_removes_an_endpoint(api: APIClient) -> None:
    told = make(api)
    reply = api.delete(of(told))
    assert (reply.status_code, reply.content) == (204, b"")
    assert_problem(api.get(of(told)), 404, "not_found")
    assert_problem(api.delete(of(told)), 404, "not_found")
    assert api.get(WEBHOOKS).json()["results"] == []


def test_rotates_a_secret_and_tells_until_when_both_sign(api: APIClient) -> None:
    told = make(api)
    rotated = api.post(of(told, "/rotate")).json()
    assert rotated["secret"] != told["secret"]
    assert rotated["previous_secret_until"] == api.get(of(told)).json()["previous_secret_until"]
    [secret] = WebhookSecret.objects.all()
    assert secret.in_force(timezone.now()) == [rotated["secret"], told["secret"]]


def test_tells_and_rotates_the_secret_of_ones_requests(api: APIClient, user: User) -> None:
    first = api.post(f"{WEBHOOKS}/secret/rotate").json()
    second = api.post(f"{WEBHOOKS}/secret/rotate", {}, format="json").json()
    secret = WebhookSecret.objects.get(user=user, for_requests=True)
    assert secret.in_force(timezone.now()) == [second["secret"], first["secret"]]


def test_refuses_a_second_endpoint_with_the_same_url(api: APIClient) -> None:
    make(api)
    assert_problem(api.post(WEBHOOKS, {"url": URL}, format="json"), 409, "endpoint_exists")
    assert WebhookEndpoint.objects.count() == 1


# --- deliveries ------------------------------------------------------------------------------------------


def test_sends_a_test_event(api: APIClient) -> None:
    told = make(api)
    reply = api.post(of(told, "/test"))
    sent = reply.json()
    assert reply.status_code == 202
    assert reply.headers["Location"].endswith(f"{DELIVERIES}/{sent['id']}")
    assert (sent["event"], sent["state"], sent["endpoint"], sent["generation"]) == (
        "webhook.test",
        "pending",
        told["id"],
        None,
    )
    api.patch(of(told), {"enabled": False}, format="json")
    assert_problem(api.post(of(told, "/test")), 409, "endpoint_disabled")


def test_tells_of_a_delivery_with_every_try(api: APIClient, user: User) -> None:
    row = WebhookDeliveryFactory.create(endpoint__user=user, tries=2, error_code="http_error", error_message="No.")
    row.attempts.create(number=1, url=URL)
    row.attempts.create(
        number=2, url=URL, elapsed=0.5, status=500, error_code="http_error", error_message="No.", answer="oh"
    )
    told = api.get(f"{DELIVERIES}/{row.pk}").json()
    assert (told["id"], told["tries"], told["error_code"]) == (str(row.pk), 2, "http_error")
    assert [(one["number"], one["status"], one["elapsed"], one["answer"]) for one in told["attempts"]] == [
        (1, None, None, ""),
        (2, 500, 0.5, "oh"),
    ]


def test_lists_deliveries_by_endpoint_generation_and_state(api: APIClient, user: User) -> None:
    failed = WebhookDeliveryFactory.create(endpoint__user=user, state="failed")
    pending = WebhookDeliveryFactory.create(endpoint__user=user)
    of_request = WebhookDeliveryFactory.create(
        endpoint=WebhookEndpointFactory.create(user=user, generation=pending.generation), generation=pending.generation
    )
    WebhookDeliveryFactory.create()

    def ids(query: str) -> list[str]:
        return [row["id"] for row in api.get(f"{DELIVERIES}?{query}").json()["results"]]

    assert ids("") == [str(row.pk) for row in (of_request, pending, failed)]
    assert ids("state=failed") == [str(failed.pk)]
    assert ids("state=failed,delivered&state=pending") == [str(row.pk) for row in (of_request, pending, failed)]
    assert ids(f"endpoint={pending.endpoint_id}") == [str(pending.pk)]
    assert ids(f"generation={pending.generation_id}") == [str(of_request.pk), str(pending.pk)]
    assert ids(f"generation={UNKNOWN_ID}") == []
    first = api.get(f"{DELIVERIES}?limit=2").json()
    assert [row["id"] for row in api.get(first["next"]).json()["results"]] == [str(failed.pk)]
    assert [row["endpoint"] for row in first["results"]] == [None, str(pending.endpoint_id)]


def test_sends_again_by_hand(api: APIClient, user: User, hints: list[str]) -> None:
    row = WebhookDeliveryFactory.create(endpoint__user=user, state="failed", tries=21)
    reply = api.post(f"{DELIVERIES}/{row.pk}/redeliver")
    assert (reply.status_code, reply.json()["id"], reply.json()["state"]) == (202, str(row.pk), "pending")
    WebhookDelivery.objects.update(lease_until=timezone.now() + timedelta(minutes=1))
    assert_problem(api.post(f"{DELIVERIES}/{row.pk}/redeliver"), 409, "under_way")
    WebhookEndpoint.objects.update(disabled_at=timezone.now())
    assert_problem(api.post(f"{DELIVERIES}/{row.pk}/redeliver"), 409, "endpoint_disabled")


def test_wakes_a_deliverer(
    api: APIClient, hints: list[str], django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    told = make(api)
    with django_capture_on_commit_callbacks(execute=True):
        api.post(of(told, "/test"))
    assert hints == ["deliver"]


def test_lists_many_in_as_many_queries_as_one(api: APIClient, user: User) -> None:
    for path in (WEBHOOKS, DELIVERIES):
        counts = []
        for number in (1, 8):
            for _ in range(number):
                WebhookDeliveryFactory.create(endpoint__user=user)
            with CaptureQueriesContext(connection) as caught:
                api.get(path)
            counts.append(len(caught))
        assert counts[0] == counts[1]


# --- whose they are ----------------------------------------------------------------------------------------

OF_ENDPOINT = [("get", ""), ("patch", ""), ("delete", ""), ("post", "/rotate"), ("post", "/test")]
OF_DELIVERY = [("get", ""), ("post", "/redeliver")]


@pytest.mark.parametrize(("method", "path"), OF_ENDPOINT)
def test_hides_somebody_elses_endpoint(method: str, path: str, api: APIClient) -> None:
    theirs = WebhookEndpointFactory.create()
    reply = getattr(api, method)(f"{WEBHOOKS}/{theirs.pk}{path}", {}, format="json")
    assert_problem(reply, 404, "not_found")
    theirs.refresh_from_db()
    assert theirs.enabled
    assert not WebhookDelivery.objects.exists()


@pytest.mark.parametrize(("method", "path"), OF_DELIVERY)
def test_hides_somebody_elses_delivery(method: str, path: str, api: APIClient) -> None:
    theirs = WebhookDeliveryFactory.create(state="failed")
    assert_problem(getattr(api, method)(f"{DELIVERIES}/{theirs.pk}{path}"), 404, "not_found")
    theirs.refresh_from_db()
    assert theirs.state == "failed"
    assert api.get(f"{DELIVERIES}?endpoint={theirs.endpoint_id}").json()["results"] == []


def test_shows_a_requests_webhook_url_among_the_deliveries_only(api: APIClient, user: User) -> None:
    row = GenerationFactory.create(user=user)
    endpoint = WebhookEndpointFactory.create(user=user, generation=row)
    assert api.get(WEBHOOKS).json()["results"] == []
    assert_problem(api.get(f"{WEBHOOKS}/{endpoint.pk}"), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [("get", WEBHOOKS), ("post", WEBHOOKS), ("post", f"{WEBHOOKS}/secret/rotate"), ("get", DELIVERIES)]
    + [(method, f"{WEBHOOKS}/{UNKNOWN_ID}{path}") for method, path in OF_ENDPOINT]
    + [(method, f"{DELIVERIES}/{UNKNOWN_ID}{path}") for method, path in OF_DELIVERY],
)
def test_asks_for_a_token(method: str, path: str, db: None) -> None:
    assert_problem(getattr(APIClient(), method)(path), 401, "not_authenticated")


# --- bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RAW)
def test_refuses_a_body_that_is_no_object(name: str, api: APIClient, user: User) -> None:
    raw, status, _code = RAW[name]
    endpoint = WebhookEndpointFactory.create(user=user)
    for method, path in (("post", WEBHOOKS), ("patch", f"{WEBHOOKS}/{endpoint.pk}")):
        reply = getattr(api, method)(path, data=raw, content_type="application/json")
        assert reply.status_code == status, reply.content
        assert reply.headers["Content-Type"] == "application/problem+json"
    assert WebhookEndpoint.objects.count() == 1


BODIES: dict[str, dict[str, Any]] = {
    "url null": {"url": None},
    "url a number": {"url": 5},
    "url a list": {"url": [URL]},
    "url empty": {"url": ""},
    "url too long": {"url": "https://hooks.example.com/" + "x" * 2048},
    "no event": {"events": []},
    "events null": {"events": None},
    "events a text": {"events": "generation.failed"},
    "unknown event": {"events": ["generation.exploded"]},
    "the test event": {"events": ["webhook.test"]},
    "events objects": {"events": [{}]},
    "a thousand events": {"events": ["generation.failed"] * 1000},
    "description a list": {"description": []},
    "description too long": {"description": "x" * 201},
    "description null": {"description": None},
    "secret": {"secret": "whsec_AAAA"},
    "user": {"user": 1},
    "unknown field": {"colour": "red"},
}
CHANGES: dict[str, dict[str, Any]] = {
    **BODIES,
    "enabled a number": {"enabled": 1},
    "enabled a text": {"enabled": "false"},
    "enabled null": {"enabled": None},
    "disabled_at": {"disabled_at": None},
}


@pytest.mark.parametrize("name", [*BODIES, "nothing", "enabled"])
def test_refuses_a_wrong_endpoint(name: str, api: APIClient) -> None:
    wrong = {"nothing": {}, "enabled": {"url": URL, "enabled": True}}.get(name, {"url": URL, **BODIES.get(name, {})})
    reply = api.post(WEBHOOKS, wrong, format="json")
    assert reply.status_code == 400, reply.content
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert not WebhookEndpoint.objects.exists()
    assert not WebhookSecret.objects.exists()


@pytest.mark.parametrize("name", CHANGES)
def test_refuses_a_wrong_change(name: str, api: APIClient, user: User) -> None:
    endpoint = WebhookEndpointFactory.create(user=user)
    reply = api.patch(f"{WEBHOOKS}/{endpoint.pk}", CHANGES[name], format="json")
    assert reply.status_code == 400, reply.content
    before = endpoint.changed_at
    endpoint.refresh_from_db()
    assert endpoint.changed_at == before


@pytest.mark.parametrize("url", [*INSIDE, "https://me:secret@example.com/", "https://example.com:22/"])
def test_refuses_a_url_that_leads_inside(url: str, api: APIClient, user: User, body: dict[str, Any]) -> None:
    endpoint = WebhookEndpointFactory.create(user=user)
    replies = [
        api.post(WEBHOOKS, {"url": url}, format="json"),
        api.patch(f"{WEBHOOKS}/{endpoint.pk}", {"url": url}, format="json"),
        api.post(GENERATIONS, {**body, "webhook_url": url}, format="json"),
        api.post(f"{GENERATIONS}/quote", {**body, "webhook_url": url}, format="json"),
    ]
    for reply in replies:
        told = assert_problem(reply, 400, "unsafe_url")
        assert told["errors"][0]["field"] in {"url", "webhook_url"}
    assert WebhookEndpoint.objects.count() == 1
    assert not Generation.objects.exists()


@pytest.mark.parametrize("url", [5, [URL], "https://hooks.example.com/" + "x" * 2048, {"url": URL}])
def test_refuses_a_webhook_url_that_is_none(url: Any, api: APIClient, body: dict[str, Any]) -> None:
    assert_problem(api.post(GENERATIONS, {**body, "webhook_url": url}, format="json"), 400, "invalid_request")
    assert not Generation.objects.exists()


def test_takes_a_long_url_of_many_letters(api: APIClient, body: dict[str, Any]) -> None:
    url = "https://hooks.example.com/" + "ä" * 2000
    assert make(api, url=url)["url"] == url
    assert api.post(GENERATIONS, {**body, "webhook_url": url}, format="json").status_code == 202
    assert WebhookEndpoint.objects.count() == 2


@pytest.mark.parametrize("path", ["/rotate", "/test"])
@pytest.mark.parametrize("raw", [b"[]", b"{", b'{"secret": "x"}'])
def test_refuses_wrong_bodies_of_actions(path: str, raw: bytes, api: APIClient, user: User) -> None:
    endpoint = WebhookEndpointFactory.create(user=user)
    reply = api.post(f"{WEBHOOKS}/{endpoint.pk}{path}", data=raw, content_type="application/json")
    assert reply.status_code == 400, reply.content
    assert WebhookSecret.objects.get().previous_encrypted is None
    assert not WebhookDelivery.objects.exists()


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("ordering=password", "unknown_parameter"),
        ("state=broken", "invalid_parameter"),
        ("state=", "invalid_parameter"),
        ("endpoint=%27%20OR%201=1", "invalid_parameter"),
        ("endpoint=", "invalid_parameter"),
        ("generation=1", "invalid_parameter"),
        ("generation=%00", "invalid_parameter"),
        ("limit=0", "invalid_parameter"),
        ("cursor=forged", "invalid_parameter"),
    ],
)
def test_refuses_a_query_that_it_does_not_know(query: str, code: str, api: APIClient) -> None:
    assert_problem(api.get(f"{DELIVERIES}?{query}"), 400, code)


@pytest.mark.parametrize("path", ["1", "%27%20OR%201=1", UNKNOWN_ID, "deliveries/1", "secret", "%00"])
def test_knows_no_endpoint_by_a_strange_id(path: str, api: APIClient) -> None:
    assert_problem(api.get(f"{WEBHOOKS}/{path}"), 404, "not_found")


# --- what it says of itself -----------------------------------------------------------------------------------


def test_answers_as_it_describes(schema: dict[str, Any], api: APIClient, user: User) -> None:
    told = schema
    endpoint = make(api)
    row = WebhookDeliveryFactory.create(endpoint__user=user)
    row.attempts.create(number=1, url=URL)
    answers = {
        "NewWebhookAnswer": api.post(WEBHOOKS, {"url": f"{URL}/2"}, format="json"),
        "WebhookAnswer": api.get(of(endpoint)),
        "WebhookPage": api.get(WEBHOOKS),
        "SecretAnswer": api.post(of(endpoint, "/rotate")),
        "DeliveryAnswer": api.post(of(endpoint, "/test")),
        "DeliveryPage": api.get(DELIVERIES),
        "DeliveryDetailAnswer": api.get(f"{DELIVERIES}/{row.pk}"),
    }
    for name, reply in answers.items():
        wanted = {"$ref": f"#/components/schemas/{name}", "components": told["components"]}
        jsonschema.validate(reply.json(), wanted, format_checker=jsonschema.FormatChecker())
    change = told["components"]["schemas"]["WebhookChange"]
    assert "required" not in change
    assert '"default"' not in json.dumps(change)
