"""Webhooks out of a real house: real processes send them to a real receiver."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from pytest_httpserver import HTTPServer
from standardwebhooks import Webhook
from werkzeug import Request, Response

from generations.models import WebhookAttempt, WebhookDelivery
from generations.reports import audit
from tests.house.world import House, Person, picture


@pytest.fixture
def receiver(house: House) -> Iterator[HTTPServer]:
    """A user's server, which answers several at once."""
    with HTTPServer(host="127.0.0.1", port=house.receiver_port, threaded=True) as server:
        yield server


def listen(person: Person, receiver: HTTPServer) -> tuple[str, str]:
    """Make an endpoint by the API: its id and its secret."""
    reply = person.call("POST", "/api/v1/webhooks", json={"url": receiver.url_for("/hook")})
    assert reply.status_code == 201, reply.text
    return reply.json()["id"], reply.json()["secret"]


def all_sent() -> bool:
    return WebhookDelivery.objects.exists() and not WebhookDelivery.objects.filter(state="pending").exists()


def said(request: Request, secret: str) -> dict[str, Any]:
    told: dict[str, Any] = Webhook(secret).verify(request.get_data(), dict(request.headers))
    return told


def test_tells_of_an_end_with_links_that_open(house: House, receiver: HTTPServer) -> None:
    receiver.expect_request("/hook").respond_with_data("")
    house.account("modelslab", limit=3)
    person = house.person()
    _, secret = listen(person, receiver)
    generation_id = person.ask(picture("told to a receiver", webhook_url=receiver.url_for("/hook?of=request")))
    house.wait_for_the_end()
    house.wait(all_sent, "both webhooks", 30)
    both = {request.query_string: request for request, _ in receiver.log}
    assert set(both) == {b"", b"of=request"}
    told = said(both[b""], secret)
    assert (told["type"], told["data"]["id"]) == ("generation.completed", generation_id)
    with requests.Session() as anybody:
        anybody.trust_env = False
        assert anybody.get(told["data"]["outputs"][0]["url"], timeout=10).content.startswith(b"\x89PNG")
    kinds = [
        line["kind"] for line in person.call("GET", f"/api/v1/generations/{generation_id}/timeline").json()["lines"]
    ]
    assert kinds[-4:].count("webhook_delivered") == 2
    assert audit.run() == []


@pytest.mark.timeout(180)
def test_sends_the_same_webhook_again_when_its_worker_dies_before_it_is_written_down(
    house: House, receiver: HTTPServer
) -> None:
    arrived, killed = threading.Event(), threading.Event()

    def answer(_request: Request) -> Response:
        first = not arrived.is_set()
        arrived.set()
        if first:
            killed.wait(20)
        return Response("")

    receiver.expect_request("/hook").respond_with_handler(answer)
    person = house.person()
    endpoint, secret = listen(person, receiver)
    assert person.call("POST", f"/api/v1/webhooks/{endpoint}/test").status_code == 202
    assert arrived.wait(30)
    house.kill_child("worker-deliver")
    killed.set()
    house.wait(all_sent, "the second try", 60)
    tries = [request for request, _ in receiver.log]
    assert len(tries) == 2
    assert len({request.headers["webhook-id"] for request in tries}) == 1
    assert all(said(request, secret)["type"] == "webhook.test" for request in tries)
    told = list(WebhookAttempt.objects.order_by("number").values_list("number", "status", "elapsed"))
    assert [(number, status) for number, status, _ in told] == [(1, None), (2, 200)]
    assert told[0][2] is None
