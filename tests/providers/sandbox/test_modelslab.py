"""The sandbox's ModelsLab..."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from tests.providers.sandbox.support import Speaker


def opened(caller: Speaker, url: str) -> Image.Image:
    reply = caller.get(url)
    assert reply.headers["Content-Type"] == "image/png"
    picture = Image.open(io.BytesIO(reply.content))
    picture.load()
    return picture


@pytest.mark.parametrize(
    ("path", "extra"),
    [("/v6/images/text2img", {"width": 512, "height": 256}), ("/v7/images/text-to-image", {"aspect_ratio": "16:9"})],
)
def test_takes_a_text_and_delivers_pictures(caller: Speaker, path: str, extra: dict[str, object]) -> None:
    reply = caller.modelslab(path, {"model_id": "flux", "prompt": "a fox", "samples": "3", "seed": 5, **extra}).json()
    assert reply["status"] == "processing"
    assert reply["output"] == []
    assert len(reply["future_links"]) == 3
    end = caller.fetched(reply)
    pictures = [opened(caller, url) for url in end["output"]]
    assert [picture.size for picture in pictures] == [(end["meta"]["W"], end["meta"]["H"])] * 3
    assert len({picture.tobytes() for picture in pictures}) == 3


def test_promises_links_that_are_dead_until_the_work_is_done(caller: Speaker) -> None:
    reply = caller.picture("[[fault:never_finishes]]").json()
    assert caller.get(reply["future_links"][0]).status_code == 404


@pytest.mark.parametrize(("extra", "prompt"), [({"width": 256, "height": 256}, "small"), ({}, "[[fault:instant]]")])
def test_may_be_done_at_once(caller: Speaker, extra: dict[str, object], prompt: str) -> None:
    reply = caller.picture(prompt, **extra).json()
    assert reply["status"] == "success"
    assert caller.get(reply["output"][0]).status_code == 200


def test_can_be_fetched_by_both_forms(caller: Speaker) -> None:
    reply = caller.picture("both").json()
    caller.fetched(reply)
    by_path = caller.modelslab(f"/v6/images/fetch/{reply['id']}", {}).json()
    by_body = caller.modelslab("/v6/images/fetch", {"request_id": reply["id"]}).json()
    assert by_path == by_body
    assert by_path["status"] == "success"


@pytest.mark.parametrize("path", ["/v6/video/text2video", "/v7/video-fusion/text-to-video"])
def test_takes_a_text_and_delivers_a_video(caller: Speaker, path: str) -> None:
    reply = caller.modelslab(path, {"model_id": "wanx", "prompt": "waves"}).json()
    assert caller.get(caller.fetched(reply)["output"][0]).content[4:8] == b"ftyp"


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/v6/images/img2img", "url"),
        ("/v7/images/image-to-image", "list"),
        ("/v6/video/img2video", "data"),
        ("/v7/video-fusion/image-to-video", "url"),
    ],
)
def test_works_on_a_given_image(caller: Speaker, path: str, form: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (200, 120), "teal").save(buffer, "JPEG")
    text = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    url = caller.modelslab("/v6/base64_to_url", {"base64_string": text}).json()["output"][0]
    image = {"url": url, "list": [url], "data": text}[form]
    reply = caller.modelslab(path, {"model_id": "flux", "prompt": "warmer", "init_image": image}).json()
    assert caller.get(caller.fetched(reply)["output"][0]).status_code == 200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": ""}, "prompt is required"),
        ({"model_id": None}, "model_id is required"),
        ({"model_id": "missing-one"}, "Model not found: missing-one"),
        ({"width": 513}, "multiples of 8"),
        ({"width": 4096}, "between"),
        ({"samples": 5}, "between 1 and 4"),
        ({"webhook": "ftp://x"}, "webhook"),
    ],
)
def test_refuses_a_wrong_field(caller: Speaker, change: dict[str, object], message: str) -> None:
    reply = caller.modelslab("/v6/images/text2img", {"model_id": "flux", "prompt": "x", **change})
    assert reply.status_code == 400
    assert reply.json()["status"] == "error"
    assert message in reply.json()["message"]


def test_refuses_an_image_that_it_cannot_fetch(caller: Speaker) -> None:
    body = {"model_id": "flux", "prompt": "x", "init_image": "http://127.0.0.1:9/nothing.png"}
    reply = caller.modelslab("/v6/images/img2img", body)
    assert (reply.status_code, reply.json()["message"]) == (400, "Unable to fetch image from provided URL")


def test_refuses_wrong_poor_and_forbidden_keys(caller: Speaker) -> None:
    statuses = []
    for caller.key in ("nobody", "sandbox-broke", "sandbox-forbidden"):
        statuses.append(caller.picture("x").status_code)
    assert statuses == [401, 402, 403]


def test_takes_money_for_each_output(caller: Speaker) -> None:
    caller.control.set_key("modelslab", caller.key, balance=1)
    caller.picture("x", samples=2)
    balance = caller.modelslab("/wallet_balance", {}).json()["data"]
    assert balance == {"balance": 0.9906, "currency": "USD"}


def test_counts_and_limits_what_runs(caller: Speaker) -> None:
    caller.control.set_key("modelslab", caller.key, limit=2)
    for _ in range(2):
        caller.picture("[[fault:never_finishes]]")
    assert caller.modelslab("/v6/processing/request_count", {}).json()["processing_count"] == 2
    refused = caller.picture("third")
    assert refused.status_code == 429
    assert refused.json()["retry_after"] == 5
    assert "Maximum 2" in refused.json()["message"]


def test_does_not_know_a_strange_id(caller: Speaker) -> None:
    reply = caller.modelslab("/v6/images/fetch/12", {})
    assert (reply.status_code, reply.json()["status"]) == (404, "error")


def test_gives_base64_when_asked(caller: Speaker) -> None:
    end = caller.fetched(caller.picture("as text", base64="yes", width=256, height=256).json())
    assert base64.b64decode(end["output"][0]).startswith(b"\x89PNG")
