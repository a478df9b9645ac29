"""When work has finished, the sandbox..."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any
from urllib.parse import quote

import pytest
from pytest_httpserver import HTTPServer

from providers.sandbox.callbacks import query_string
from tests.providers.sandbox.support import Speaker, until


def received(httpserver: HTTPServer, count: int) -> list[tuple[dict[str, Any], Any]]:
    """The bodies and headers of so many callbacks."""
    log = until(lambda: list(httpserver.log), lambda log: len(log) >= count)
    return [(json.loads(request.get_data()), request) for request, _ in log]


def test_tells_the_webhook_of_a_request(caller: Speaker, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/hook").respond_with_data("fine")
    reply = caller.picture("x", webhook=httpserver.url_for("/hook"), track_id="attempt-7").json()
    ((body, _),) = received(httpserver, 1)
    assert (body["id"], body["status"], body["track_id"]) == (reply["id"], "success", "attempt-7")
    assert caller.get(body["output"][0]).status_code == 200


def test_tells_of_a_failure(caller: Speaker, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/hook").respond_with_data("fine")
    caller.picture("[[fault:job_failed]]", webhook=httpserver.url_for("/hook"), track_id=7)
    ((body, _),) = received(httpserver, 1)
    assert (body["status"], body["track_id"]) == ("failed", 7)


@pytest.mark.parametrize("form", ["query", "raw"])
def test_signs_a_pixverse_callback(caller: Speaker, httpserver: HTTPServer, form: str) -> None:
    httpserver.expect_request("/hook").respond_with_data("ok")
    caller.control.set_key(
        "pixverse", caller.key, callback_url=httpserver.url_for("/hook"), callback_secret="s3", signature_form=form
    )
    video_id = caller.text_video("x").json()["Resp"]["video_id"]
    ((body, request),) = received(httpserver, 1)
    assert (body["id"], body["status"]) == (str(video_id), 1)
    raw = request.get_data()
    payload = query_string(body) if form == "query" else quote(raw, safe="")
    text = f"{request.headers['Webhook-Timestamp']}\n{request.headers['Webhook-Nonce']}\n{payload}"
    digest = base64.b64encode(hmac.new(b"s3", text.encode(), hashlib.sha256).digest()).decode()
    assert request.headers["Webhook-Signature"] == digest
    assert len(request.headers["Webhook-Nonce"]) == 32


def test_repeats_a_pixverse_callback_until_it_is_answered_ok(caller: Speaker, httpserver: HTTPServer) -> None:
    httpserver.expect_ordered_request("/hook").respond_with_data("what?")
    httpserver.expect_ordered_request("/hook").respond_with_data("ok")
    caller.control.set_key("pixverse", caller.key, callback_url=httpserver.url_for("/hook"), callback_secret="s")
    caller.text_video("x")
    (first, _), (second, _) = received(httpserver, 2)
    assert first == second


def test_sends_a_callback_twice_forges_one_or_loses_it(caller: Speaker, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/hook").respond_with_data("ok")
    hook = httpserver.url_for("/hook")
    caller.picture("[[fault:lost_callback]]", webhook=hook)
    caller.picture("[[fault:duplicate_callback]]", webhook=hook, track_id="two")
    bodies = [body for body, _ in received(httpserver, 2)]
    assert [body["track_id"] for body in bodies] == ["two", "two"]
    caller.picture("[[fault:forged_callback]] [[fault:never_finishes]]", webhook=hook, track_id="lie")
    body = received(httpserver, 3)[2][0]
    assert body["output"] == ["http://127.0.0.1:9/forged.png"]
