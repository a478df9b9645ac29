"""The sandbox's Pixverse..."""

from __future__ import annotations

import io
import json
import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest
import requests
from PIL import Image

from tests.providers.sandbox.support import PIXVERSE_TEXT, Speaker


def png(colour: str = "red", size: tuple[int, int] = (320, 200)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_takes_a_text_and_delivers_a_video(caller: Speaker) -> None:
    reply = caller.text_video("a sunset").json()
    assert reply["ErrCode"] == 0
    assert reply["Resp"]["credits"] == 30
    result = caller.video_result(reply["Resp"]["video_id"])
    assert result["status"] == 1
    video = caller.get(result["url"])
    assert video.headers["Content-Type"] == "video/mp4"
    assert video.content[4:8] == b"ftyp"


def test_gives_ids_that_no_float_can_hold(caller: Speaker) -> None:
    text = caller.text_video("ids").text
    video_id = json.loads(text)["Resp"]["video_id"]
    assert f'"video_id":{video_id}' in text  # a number, not a text
    assert video_id > 2**53
    assert int(float(video_id)) != video_id


def test_says_five_while_the_work_runs(caller: Speaker) -> None:
    video_id = caller.text_video("[[fault:never_finishes]]").json()["Resp"]["video_id"]
    running = caller.pixverse(f"/video/result/{video_id}").json()["Resp"]
    assert (running["status"], running["url"]) == (5, "")


def test_refuses_a_call_without_a_trace_id(caller: Speaker) -> None:
    url = f"{caller.base_url}/pixverse/openapi/v2/video/text/generate"
    reply = requests.post(url, json={"prompt": "x", **PIXVERSE_TEXT}, headers={"API-KEY": caller.key}, timeout=10)
    assert reply.json()["ErrCode"] == 400011


def test_refuses_a_repeated_trace_id_and_makes_nothing(caller: Speaker) -> None:
    headers = {"Ai-trace-id": str(uuid.uuid4()), "X-Request-Id": str(uuid.uuid4())}
    body = {"prompt": "twice", **PIXVERSE_TEXT}
    first, second = (caller.pixverse("/video/text/generate", body, **headers).json() for _ in range(2))
    assert (first["ErrCode"], second["ErrCode"]) == (0, 400017)
    calls = caller.control.record(kind="submit", request_id=headers["X-Request-Id"])
    assert [call["created"] for call in calls] == [1, 0]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"prompt": ""}, 400011),
        ({"prompt": None}, 400011),
        ({"prompt": 5}, 400013),
        ({"prompt": "x" * 2049}, 400018),
        ({"negative_prompt": "x" * 2049}, 400019),
        ({"duration": "5"}, 400013),
        ({"duration": True}, 400013),
        ({"duration": 7}, 400017),
        ({"quality": "4k"}, 400017),
        ({"model": "v99"}, 400017),
        ({"model": None}, 400011),
        ({"aspect_ratio": "2:3"}, 400017),
        ({"seed": -1}, 400017),
        ({"water_mark": "yes"}, 400013),
        ({"quality": "1080p", "duration": 8}, 400017),
        ({"prompt": "[[fault:nonsense]]"}, 400017),
    ],
)
def test_refuses_a_wrong_field_with_the_documented_code(caller: Speaker, change: dict[str, object], code: int) -> None:
    body = {"prompt": "x", **PIXVERSE_TEXT, **change}
    assert caller.pixverse("/video/text/generate", body).json()["ErrCode"] == code
    assert caller.control.works(key=caller.control.set_key("pixverse", caller.key)) == []


def test_refuses_a_body_that_is_no_object(caller: Speaker) -> None:
    assert caller.pixverse("/video/text/generate", [1]).json()["ErrCode"] == 400013


def test_refuses_an_unknown_key(caller: Speaker) -> None:
    caller.key = "somebody-else"
    reply = caller.text_video("x")
    assert (reply.status_code, reply.json()["ErrCode"]) == (401, 10001)


def test_lets_a_forbidden_key_look_but_not_generate(caller: Speaker) -> None:
    caller.key = "sandbox-forbidden"
    assert caller.pixverse("/account/balance").json()["ErrCode"] == 0
    assert caller.text_video("x").json()["ErrCode"] == 500020


def test_refuses_a_key_without_credits(caller: Speaker) -> None:
    caller.key = "sandbox-broke"
    assert caller.pixverse("/account/balance").json()["Resp"]["credit_package"] == 0
    assert caller.text_video("x").json()["ErrCode"] == 500043


def test_takes_credits_for_accepted_work_and_returns_them_for_failed_work(caller: Speaker) -> None:
    caller.control.set_key("pixverse", caller.key, balance=100)

    def left() -> int:
        balance = caller.pixverse("/account/balance").json()["Resp"]
        return int(balance["credit_monthly"] + balance["credit_package"])

    caller.video_result(caller.text_video("one").json()["Resp"]["video_id"])
    assert left() == 70
    caller.video_result(caller.text_video("[[fault:job_failed]]").json()["Resp"]["video_id"])
    assert left() == 70


def test_lists_what_was_consumed_and_refunded(caller: Speaker) -> None:
    good = caller.text_video("kept").json()["Resp"]["video_id"]
    bad = caller.text_video("[[fault:job_failed]]").json()["Resp"]["video_id"]
    caller.video_result(bad)
    now = datetime.now(UTC)
    span = {
        "start_time": f"{now - timedelta(hours=1):%Y-%m-%d %H:%M:%S}",
        "end_time": f"{now + timedelta(hours=1):%Y-%m-%d %H:%M:%S}",
    }

    def page(**extra: object) -> dict[str, object]:
        answer: dict[str, object] = caller.pixverse("/account/billing/usage-detail", {**span, **extra}).json()["Resp"]
        return answer

    first = page(limit=1)
    assert [line["video_id"] for line in first["list"]] == [good]  # type: ignore[attr-defined]
    second = page(limit=1, cursor=first["next_cursor"])
    assert [line["video_id"] for line in second["list"]] == [bad]  # type: ignore[attr-defined]
    assert second["has_more"] is False
    assert [line["video_id"] for line in page(credits_status="refund")["list"]] == [bad]  # type: ignore[attr-defined]


def test_animates_an_uploaded_image(caller: Speaker) -> None:
    img_id = caller.upload(png("blue", (300, 300)))
    body = {"img_id": img_id, "prompt": "it moves", "model": "v5", "duration": 5, "quality": "360p"}
    reply = caller.pixverse("/video/img/generate", body).json()
    result = caller.video_result(reply["Resp"]["video_id"])
    assert result["outputWidth"] == result["outputHeight"]
    assert caller.get(result["url"]).status_code == 200


def test_makes_a_transition_an_extension_and_a_fusion(caller: Speaker) -> None:
    one, two = caller.upload(png("blue")), caller.upload(png("orange"))
    common = {"prompt": "together @one", "model": "v5", "duration": 5, "quality": "360p"}
    frames = {"first_frame_img": one, "last_frame_img": two}
    transition = caller.pixverse("/video/transition/generate", {**common, **frames}).json()["Resp"]["video_id"]
    caller.video_result(transition)
    extended = caller.pixverse("/video/extend/generate", {**common, "source_video_id": transition}).json()
    references = [{"type": "subject", "img_id": one, "ref_name": "one"}]
    fusion = caller.pixverse(
        "/video/fusion/generate", {**common, "aspect_ratio": "1:1", "image_references": references}
    ).json()
    for video_id in (transition, extended["Resp"]["video_id"], fusion["Resp"]["video_id"]):
        assert caller.get(caller.video_result(video_id)["url"]).content[4:8] == b"ftyp"


def test_refuses_an_image_id_of_another_key(caller: Speaker) -> None:
    img_id = caller.upload(png())
    caller.key += "-other"
    body = {"img_id": img_id, "prompt": "x", "model": "v5", "duration": 5, "quality": "360p"}
    assert caller.pixverse("/video/img/generate", body).json()["ErrCode"] == 400032


def test_refuses_an_upload_that_is_no_image(caller: Speaker) -> None:
    url = f"{caller.base_url}/pixverse/openapi/v2/image/upload"
    reply = requests.post(url, files={"image": ("x.png", b"hello")}, headers=caller.headers(), timeout=10).json()
    assert reply["ErrCode"] == 500031
    reply = requests.post(url, files={"other": ("x.png", png())}, headers=caller.headers(), timeout=10).json()
    assert reply["ErrCode"] == 400011


def test_takes_an_image_by_its_address(caller: Speaker) -> None:
    made = caller.session.post(
        f"{caller.base_url}/pixverse/openapi/v2/image/upload",
        files={"image": ("a.png", png("green"))}, headers=caller.headers(), timeout=10,
    ).json()["Resp"]  # fmt: skip
    again = caller.session.post(
        f"{caller.base_url}/pixverse/openapi/v2/image/upload",
        files={"image_url": (None, made["img_url"])}, headers=caller.headers(), timeout=10,
    ).json()  # fmt: skip
    assert again["ErrCode"] == 0
    assert again["Resp"]["img_id"] != made["img_id"]


def test_does_not_know_the_work_of_another_key(caller: Speaker) -> None:
    video_id = caller.text_video("mine").json()["Resp"]["video_id"]
    caller.key += "-other"
    assert caller.pixverse(f"/video/result/{video_id}").json()["ErrCode"] == 500008


def test_refuses_more_than_its_limit_at_once(caller: Speaker) -> None:
    label = caller.control.set_key("pixverse", caller.key, limit=1)
    assert caller.text_video("[[fault:never_finishes]]").json()["ErrCode"] == 0
    assert caller.text_video("second").json()["ErrCode"] == 500044
    key = caller.control.summary()["keys"][label]
    assert (key["most_in_flight"], key["refused_over_limit"], key["limit"]) == (1, 1, 1)


def test_answers_a_submit_quickly(caller: Speaker) -> None:
    started = time.perf_counter()
    for number in range(20):
        caller.text_video(f"quick {number} [[fault:no_url]]")
    assert time.perf_counter() - started < 5


def test_extends_an_uploaded_video(caller: Speaker) -> None:
    url = f"{caller.base_url}/pixverse/openapi/v2/media/upload"
    made = caller.get(caller.video_result(caller.text_video("first part").json()["Resp"]["video_id"])["url"]).content
    files = {"file": ("clip.mp4", made)}
    media = requests.post(url, files=files, data={"media_type": "video"}, headers=caller.headers(), timeout=10).json()
    assert media["Resp"]["media_type"] == "video"
    body = {"prompt": "and on", "model": "v5", "duration": 5, "quality": "360p"}
    both = {"video_media_id": media["Resp"]["media_id"], "source_video_id": 1}
    assert caller.pixverse("/video/extend/generate", {**body, **both}).json()["ErrCode"] == 400017
    reply = caller.pixverse("/video/extend/generate", {**body, "video_media_id": media["Resp"]["media_id"]}).json()
    assert caller.video_result(reply["Resp"]["video_id"])["status"] == 1
