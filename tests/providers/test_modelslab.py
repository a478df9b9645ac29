"""The ModelsLab adapter ..."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from providers.base import Call, JobHandle, PollResult, Reply, Secret, SubmitResult
from providers.errors import (
    AuthFailed,
    ContentModerated,
    InsufficientCredits,
    InvalidParams,
    JobFailed,
    OutcomeUnknown,
    ProviderBusy,
    ProviderError,
)
from providers.modelslab import ModelsLab
from tests.providers.conformance import CREDENTIALS, DIALECTS, drive, fresh_id, input_file, order, reply

LAB = ModelsLab()
SAYS = DIALECTS["modelslab"]


def submitted(
    operation: str, raw: dict[str, Any] | None = None, answer: Reply | None = None, **more: Any
) -> tuple[SubmitResult, list[Call]]:
    return drive(LAB.submit(order(LAB, operation, raw, **more), CREDENTIALS), SAYS.to_submit(answer))


def asked(operation: str, raw: dict[str, Any] | None = None, **more: Any) -> tuple[str, dict[str, Any]]:
    """Path and body of the billable call."""
    _, calls = submitted(operation, raw, **more)
    return calls[-1].path, calls[-1].json


def poll(answer: Reply, note: dict[str, Any] | None = None, operation: str = "text_to_image") -> PollResult:
    job = JobHandle("88120456", operation, note or {}, fresh_id)
    return drive(LAB.poll(job, CREDENTIALS), lambda _: answer)[0]


def poll_path(note: dict[str, Any], operation: str = "text_to_image") -> tuple[str, dict[str, Any]]:
    job = JobHandle("88120456", operation, note, fresh_id)
    _, (call,) = drive(LAB.poll(job, CREDENTIALS), lambda _: SAYS.running)
    assert call.method == "POST"
    return call.path, call.json


@pytest.mark.parametrize(
    ("operation", "model", "path"),
    [
        ("text_to_image", None, "/v6/images/text2img"),
        ("text_to_image", "midjourney", "/v6/images/text2img"),
        ("text_to_image", "seedream-4", "/v7/images/text-to-image"),
        ("text_to_image", "nano-banana-t2i", "/v7/images/text-to-image"),
        ("image_to_image", None, "/v6/images/img2img"),
        ("image_to_image", "seedream-4", "/v7/images/image-to-image"),
        ("text_to_video", None, "/v6/video/text2video_ultra"),
        ("text_to_video", "cogvideox", "/v6/video/text2video"),
        ("text_to_video", "ltx-2.3", "/v6/video/text2video_ultra"),
        ("text_to_video", "seedance-t2v", "/v7/video-fusion/text-to-video"),
        ("image_to_video", "wanx", "/v6/video/img2video"),
        ("image_to_video", "wan2.2", "/v6/video/img2video_ultra"),
        ("image_to_video", "seedance-i2v", "/v7/video-fusion/image-to-video"),
    ],
)
def test_chooses_the_endpoint_by_model(operation: str, model: str | None, path: str) -> None:
    raw = {"prompt": "x", **({"model_id": model} if model else {})}
    assert asked(operation, raw)[0] == path


@pytest.mark.parametrize(("api", "path"), [("v6", "/v6/images/text2img"), ("v7", "/v7/images/text-to-image")])
def test_lets_a_person_choose_the_endpoint(api: str, path: str) -> None:
    assert asked("text_to_image", {"prompt": "x", "model_id": "brand-new", "api": api})[0] == path


def test_fills_in_the_familys_defaults() -> None:
    _, body = asked("text_to_image", {"prompt": "a fox"})
    assert {name: value for name, value in body.items() if name != "key"} == {
        "prompt": "a fox", "model_id": "flux", "width": 512, "height": 512, "samples": 1, "num_inference_steps": 31,
        "guidance_scale": 7.5, "safety_checker": True, "track_id": "submission-1",
    }  # fmt: skip


def test_takes_a_default_given_and_a_default_left_out_for_the_same_request() -> None:
    model = LAB.operations["text_to_video"]
    given = model.model_validate({"prompt": "x", "model_id": "cogvideox", "num_frames": 25, "guidance_scale": 7})
    assert given.canonical() == model.model_validate({"prompt": "x", "model_id": "cogvideox"}).canonical()


def test_sends_text_where_v7_wants_text() -> None:
    _, video = asked("text_to_video", {"prompt": "x", "model_id": "seedance-t2v", "duration": 8})
    assert video["duration"] == "8"
    _, picture = asked("text_to_image", {"prompt": "x", "model_id": "seedream-t2i", "width": 1024, "height": 2048})
    assert (picture["width"], picture["height"]) == ("1024", "2048")


def test_sends_only_the_prompt_to_a_model_that_takes_only_that() -> None:
    _, body = asked("text_to_image", {"prompt": "x", "model_id": "nano-banana-t2i"})
    assert set(body) == {"key", "prompt", "model_id", "track_id"}


@pytest.mark.parametrize(
    ("ratio", "size"),
    [
        ("1:1", (1024, 1024)),
        ("16:9", (1024, 576)),
        ("9:16", (576, 1024)),
        ("3:2", (1024, 680)),
        ("21:9", (1024, 440)),
    ],
)
def test_turns_a_ratio_into_a_size_where_the_model_takes_one(ratio: str, size: tuple[int, int]) -> None:
    _, body = asked("text_to_image", {"prompt": "x", "aspect_ratio": ratio})
    assert ((body["width"], body["height"]), "aspect_ratio" in body) == (size, False)
    _, body = asked("text_to_image", {"prompt": "x", "aspect_ratio": ratio, "model_id": "seedream-t2i"})
    assert (body["width"], body["height"]) == (str(size[0]), str(size[1]))
    _, body = asked("text_to_image", {"prompt": "x", "aspect_ratio": ratio, "model_id": "imagen-4"})
    assert (body["aspect_ratio"], "width" in body) == (ratio, False)


def test_takes_a_ratio_and_its_size_for_the_same_request() -> None:
    model = LAB.operations["text_to_image"]
    by_ratio = model.model_validate({"prompt": "x", "aspect_ratio": "16:9"})
    by_size = model.model_validate({"prompt": "x", "width": 1024, "height": 576})
    assert by_ratio.canonical() == by_size.canonical() == model.model_validate(by_ratio.canonical()).canonical()


@pytest.mark.parametrize(
    ("operation", "change"),
    [
        ("text_to_image", {"width": 500}),
        ("text_to_image", {"width": 248}),
        ("text_to_image", {"width": 1032}),
        ("text_to_image", {"samples": 5}),
        ("text_to_image", {"guidance_scale": 0.5}),
        ("text_to_image", {"aspect_ratio": "16:9", "width": 512}),
        ("text_to_image", {"model_id": "nano-banana-t2i", "aspect_ratio": "16:9"}),
        ("text_to_image", {"model_id": "seedream-4", "width": 512}),
        ("text_to_image", {"model_id": "nano-banana-t2i", "negative_prompt": "fog"}),
        ("text_to_image", {"model_id": "../x y"}),
        ("image_to_image", {"strength": 1.5}),
        ("text_to_video", {"duration": 5}),
        ("text_to_video", {"model_id": "cogvideox", "width": 520}),
        ("text_to_video", {"model_id": "seedance-t2v", "num_frames": 25}),
        ("text_to_video", {"model_id": "seedance-t2v", "portrait": False}),
    ],
    ids=str,
)
def test_refuses_what_the_model_does_not_take(operation: str, change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LAB.operations[operation].model_validate({"prompt": "x", **change})


def test_tells_how_many_pictures_make_a_complete_result() -> None:
    assert LAB.operations["text_to_image"].model_validate({"prompt": "x", "samples": 4}).output_count == 4


def test_asks_for_a_callback_with_our_id() -> None:
    _, body = asked("text_to_image", callback_url="https://darkroom.example/hooks/modelslab/token")
    assert (body["webhook"], body["track_id"]) == ("https://darkroom.example/hooks/modelslab/token", "submission-1")
    assert "webhook" not in asked("text_to_image")[1]


def test_turns_inputs_into_links_first() -> None:
    _, calls = submitted("image_to_image")
    assert [call.path for call in calls] == ["/v6/base64_to_url", "/v6/images/img2img"]
    assert calls[0].json["base64_string"].startswith("data:image/png;base64,iVBOR")
    assert calls[1].json["init_image"] == "https://cdn.example/in.png"
    pictures = [input_file("image", "image"), input_file("image", "image")]
    _, body = asked("image_to_image", {"prompt": "x", "model_id": "seedream-4"}, inputs=pictures)
    assert body["init_image"] == ["https://cdn.example/in.png"] * 2


def test_refuses_several_pictures_where_the_model_takes_one() -> None:
    with pytest.raises(InvalidParams):
        submitted("image_to_image", inputs=[input_file("image", "image"), input_file("image", "image")])


# -- submit replies -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("eta", "poll_after"),
    [(14.5, 11.6), (0, 2.0), (1, 2.0), (1e9, 60.0), (-5, 5.0), ("10", 8.0), (None, 5.0), ([], 5.0), (True, 5.0)],
)
def test_polls_when_the_provider_thinks_it_is_ready(eta: object, poll_after: float) -> None:
    found, _ = submitted("text_to_image", None, reply({"status": "processing", "id": 88120456, "eta": eta}))
    assert found.poll_after == pytest.approx(poll_after)


@pytest.mark.parametrize("job_id", [88120456, "88120456", "abc-DEF_9"])
def test_keeps_the_id_as_text(job_id: object) -> None:
    assert submitted("text_to_image", None, reply({"status": "processing", "id": job_id}))[0].job_id == str(job_id)


def test_takes_a_result_that_comes_at_once() -> None:
    answer = reply({"status": "success", "id": 5, "output": ["https://c.example/a.png", "https://c.example/b.png"]})
    found, _ = submitted("text_to_image", None, answer)
    assert [(output.url, output.kind) for output in found.outputs] == [
        ("https://c.example/a.png", "image"),
        ("https://c.example/b.png", "image"),
    ]


@pytest.mark.parametrize(
    "ending",
    [
        {"status": "success", "output": []},
        {"status": "success", "output": ["https://c.example/a.png"], "nsfw_content_detected": True},
        {"status": "failed", "message": "Generation failed"},
        {"status": "error", "message": "Generation failed"},
        {"status": "pondering"},
    ],
    ids=str,
)
def test_records_a_job_that_was_made_however_it_ended(ending: dict[str, Any]) -> None:
    found, _ = submitted("text_to_image", None, reply({"id": 5, **ending}))
    assert (found.job_id, found.outputs) == ("5", ())
    assert found.poll_after


# -- status ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "path"),
    [
        ("https://modelslab.com/api/v7/images/fetch/88120456", "/v7/images/fetch/88120456"),
        ("http://127.0.0.1:1/modelslab/api/v6/images/fetch/88120456/", "/v6/images/fetch/88120456"),
        ("https://modelslab.com/api/v6/images/fetch", "/v6/images/fetch"),
        ("https://evil.example/api/v7/images/fetch/88120456", "/v7/images/fetch/88120456"),
        ("https://modelslab.com/api/v6/images/fetch/999", "/v6/images/fetch/88120456"),
        ("https://modelslab.com/api/v6/images/fetch/../../x", "/v6/images/fetch/88120456"),
        ("https://modelslab.com/api/wallet_balance", "/v6/images/fetch/88120456"),
        ("http://169.254.169.254/", "/v6/images/fetch/88120456"),
        (None, "/v6/images/fetch/88120456"),
        (["x"], "/v6/images/fetch/88120456"),
        ("x" * 10_000, "/v6/images/fetch/88120456"),
    ],
)
def test_takes_only_the_path_of_the_fetch_address(link: object, path: str) -> None:
    found, _ = submitted("text_to_image", None, reply({"status": "processing", "id": 88120456, "fetch_result": link}))
    polled, body = poll_path(dict(found.note))
    assert polled == path
    assert body["key"] == CREDENTIALS["api_key"]
    assert ("request_id" in body) == (not path.endswith("88120456"))


@pytest.mark.parametrize(
    ("operation", "path"),
    [("text_to_image", "/v6/images/fetch/88120456"), ("text_to_video", "/v7/video-fusion/fetch/88120456")],
)
def test_can_poll_without_a_note(operation: str, path: str) -> None:
    assert poll_path({}, operation)[0] == path


@pytest.mark.parametrize(
    ("operation", "model", "path"),
    [
        ("text_to_video", "wan2.2", "/v6/video/fetch/88120456"),
        ("text_to_video", "cogvideox", "/v6/video/fetch/88120456"),
        ("text_to_video", "seedance-t2v", "/v7/video-fusion/fetch/88120456"),
        ("text_to_image", "flux", "/v6/images/fetch/88120456"),
        ("text_to_image", "seedream-4", "/v7/images/fetch/88120456"),
    ],
)
def test_polls_a_job_that_was_found_where_it_was_asked_for(operation: str, model: str, path: str) -> None:
    wanted = LAB.operations[operation].model_validate({"prompt": "x", "model_id": model}).canonical()
    handle = JobHandle("88120456", operation, params=wanted)
    _, calls = drive(LAB.poll(handle, CREDENTIALS), lambda _: reply({"status": "processing"}))
    assert [call.path for call in calls] == [path]


@pytest.mark.parametrize(("checker", "state"), [(False, "succeeded"), (True, "failed")])
def test_judges_a_job_that_was_found_by_what_was_asked_for(checker: bool, state: str) -> None:
    raw = {"prompt": "x", "model_id": "flux", "safety_checker": checker}
    wanted = LAB.operations["text_to_image"].model_validate(raw).canonical()
    told = {"status": "success", "output": ["https://c.example/a.png"], "nsfw_content_detected": True}
    handle = JobHandle("88120456", "text_to_image", params=wanted)
    found, _ = drive(LAB.poll(handle, CREDENTIALS), lambda _: reply(told))
    assert found.state == state


def test_keeps_its_callback_address_a_secret() -> None:
    _, body = asked("text_to_image", callback_url="https://studio.example/hooks/modelslab/token")
    assert isinstance(body["webhook"], Secret)
    assert body["webhook"].endswith("/token")


def test_fetches_where_it_submitted_when_no_address_is_named() -> None:
    answer = reply({"status": "processing", "id": 88120456})
    for model, path in {
        "cogvideox": "/v6/video/fetch/88120456",
        "wan2.2": "/v6/video/fetch/88120456",
        "seedance-t2v": "/v7/video-fusion/fetch/88120456",
    }.items():
        found, _ = submitted("text_to_video", {"prompt": "x", "model_id": model}, answer)
        assert poll_path(dict(found.note), "text_to_video")[0] == path


@pytest.mark.parametrize(
    ("body", "state", "error"),
    [
        ({"status": "processing", "eta": 3}, "running", None),
        ({"status": "PROCESSING"}, "running", None),
        ({"status": "queued"}, "running", None),
        ({"status": "success", "output": ["https://c.example/a.png"]}, "succeeded", None),
        ({"status": "success", "output": "https://c.example/a.png"}, "succeeded", None),
        ({"status": "success", "output": []}, "succeeded", None),
        ({"status": "success"}, "succeeded", None),
        ({"status": "success", "output": [None, 5, {}]}, "succeeded", None),
        ({"status": "success", "output": ["https://c.example/default.png"]}, "failed", ContentModerated),
        (
            {"status": "success", "output": ["https://c.example/a.png"], "nsfw_content_detected": True},
            "failed",
            ContentModerated,
        ),
        ({"status": "failed", "message": "Out of memory"}, "failed", JobFailed),
        ({"status": "failed"}, "failed", JobFailed),
        ({"status": "error", "message": "Blocked: NSFW"}, "failed", ContentModerated),
        ({"status": "error", "messege": "violates our content policy"}, "failed", ContentModerated),
        ({"status": "error", "message": "Request not found"}, "missing", None),
    ],
    ids=str,
)
def test_reads_each_status(body: dict[str, Any], state: str, error: type[Exception] | None) -> None:
    found = poll(reply(body))
    assert found.state == state
    assert type(found.error) is (error or type(None))
    if isinstance(found.error, ContentModerated):
        assert found.error.stage == "output"


def test_keeps_a_flagged_picture_when_the_checker_was_switched_off() -> None:
    answer = reply(
        {"status": "success", "id": 88120456, "output": ["https://c.example/a.png"], "nsfw_content_detected": True}
    )
    found, _ = submitted("text_to_image", {"prompt": "x", "safety_checker": False}, SAYS.accepted)
    assert poll(answer, dict(found.note)).state == "succeeded"
    assert submitted("text_to_image", {"prompt": "x", "safety_checker": False}, answer)[0].outputs


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (reply({"status": "error", "message": "Invalid API key"}, 401), AuthFailed),
        (reply({"status": "error", "message": "Invalid API key"}), AuthFailed),
        (reply({"status": "error", "message": "Rate limit exceeded"}), ProviderBusy),
        (reply({"status": "error", "message": "Insufficient credits"}, 402), InsufficientCredits),
        (reply({"status": "error", "message": "odd"}, 400), OutcomeUnknown),
        (reply({"status": "error", "message": "odd"}, 500), OutcomeUnknown),
        (reply(b"<html>", 502), OutcomeUnknown),
        (reply(b"<html>", 200), OutcomeUnknown),
        (reply({}, 200), OutcomeUnknown),
    ],
)
def test_lets_a_job_live_when_only_the_asking_failed(answer: Reply, expected: type[ProviderError]) -> None:
    with pytest.raises(expected):
        poll(answer)


@pytest.mark.parametrize("status", [404])
def test_reports_a_job_that_is_not_found_as_missing(status: int) -> None:
    assert poll(reply({"status": "error", "message": "gone"}, status)).state == "missing"


@pytest.mark.parametrize(
    ("body", "headers", "wait"),
    [
        ({"retry_after": 30}, {}, 30),
        ({"retry_after": "12.5"}, {}, 12.5),
        ({"retry_after": -1}, {}, None),
        ({"retry_after": 1e9}, {}, 1e9),
        ({}, {"retry_after": "7"}, 7),
        ({"retry_after": 3}, {"retry_after": "7"}, 3),
        ({}, {"x_ratelimit_reset": "784887160", "date": "Tue, 15 Nov 1994 08:12:31 GMT"}, 9),
        ({}, {"x_ratelimit_reset": "784887160"}, None),
        ({}, {}, None),
    ],
)
def test_reads_how_long_to_wait(body: dict[str, Any], headers: dict[str, str], wait: float | None) -> None:
    answer = reply({"status": "error", "message": "Rate limit exceeded", **body}, 429, **headers)
    with pytest.raises(ProviderBusy) as caught:
        submitted("text_to_image", None, answer)
    assert caught.value.retry_after == wait


def test_reads_the_wallet() -> None:
    body = {"status": "success", "data": {"balance": 43.6, "currency": "USD"}}
    assert drive(LAB.balance(CREDENTIALS, fresh_id), lambda _: reply(body))[0] == Decimal("43.6")
    with pytest.raises(OutcomeUnknown):
        drive(LAB.balance(CREDENTIALS, fresh_id), lambda _: reply({"status": "success", "data": {}}))
