"""The Pixverse adapter ..."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from providers.base import Call, InputFile, JobHandle, PollResult, Reply
from providers.errors import (
    AuthFailed,
    ConcurrencyLimit,
    ContentModerated,
    InsufficientCredits,
    InvalidParams,
    JobFailed,
    OutcomeUnknown,
    PermissionDenied,
    ProviderError,
    RateLimited,
    Refused,
)
from providers.pixverse import ERRORS, Pixverse
from tests.providers.conformance import CREDENTIALS, DIALECTS, drive, fresh_id, input_file, order, reply

PIXVERSE = Pixverse()
SAYS = DIALECTS["pixverse"]
LARGE_ID = 9007199254740993  # 2**53 + 1: a float would lose it


def body_of(operation: str, raw: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """The JSON of the billable call."""
    wanted = order(PIXVERSE, operation, raw, **more)
    _, calls = drive(PIXVERSE.submit(wanted, CREDENTIALS), SAYS.to_submit())
    found: dict[str, Any] = calls[-1].json
    return found


def result(resp: object, code: int = 0, status: int = 200) -> Callable[[Call], Reply]:
    return lambda _: reply({"ErrCode": code, "ErrMsg": "m", "Resp": resp}, status)


def poll(answer: Callable[[Call], Reply], job_id: str = "371204488120551") -> PollResult:
    found, _ = drive(PIXVERSE.poll(JobHandle(job_id, "text_to_video", {}, fresh_id), CREDENTIALS), answer)
    return found


def test_sends_all_that_is_required_for_a_bare_prompt() -> None:
    assert body_of("text_to_video", {"prompt": "test video", "quality": "720p"}) == {
        "prompt": "test video",
        "model": "v5",
        "duration": 5,
        "quality": "720p",
        "aspect_ratio": "16:9",
    }


def test_sends_options_only_when_they_are_set() -> None:
    asked = {
        "prompt": "x", "model": "v4.5", "negative_prompt": "fog", "seed": 0, "style": "anime", "motion_mode": "fast",
        "camera_movement": "zoom_in", "template_id": 302, "water_mark": True, "sound_effect_switch": True,
        "sound_effect_content": "rain", "aspect_ratio": "9:16", "duration": 5, "quality": "360p",
    }  # fmt: skip
    assert body_of("text_to_video", asked) == asked


def test_puts_upload_ids_on_the_wire_as_numbers() -> None:
    assert body_of("image_to_video")["img_id"] == LARGE_ID
    assert "aspect_ratio" not in body_of("image_to_video")
    transition = body_of("video_transition")
    assert (transition["first_frame_img"], transition["last_frame_img"]) == (LARGE_ID, LARGE_ID)


def test_names_the_video_to_extend_by_its_job_where_it_was_made_here() -> None:
    wanted = order(PIXVERSE, "video_extend", inputs=[input_file("video", "video", job_id=str(LARGE_ID))])
    _, calls = drive(PIXVERSE.submit(wanted, CREDENTIALS), SAYS.to_submit())
    assert [call.path for call in calls] == ["/video/extend/generate"]
    assert calls[0].json["source_video_id"] == LARGE_ID
    assert "video_media_id" not in calls[0].json


def test_uploads_the_video_to_extend_where_it_was_not() -> None:
    wanted = order(PIXVERSE, "video_extend")
    _, calls = drive(PIXVERSE.submit(wanted, CREDENTIALS), SAYS.to_submit())
    assert [call.path for call in calls] == ["/media/upload", "/video/extend/generate"]
    assert (list(calls[0].files), calls[0].form) == (["file"], {"media_type": "video"})
    assert calls[1].json["video_media_id"] == 77
    assert "source_video_id" not in calls[1].json


def test_names_the_references_of_a_fusion() -> None:
    pictures = [input_file("image", "image"), input_file("image", "image")]
    named = [{"name": "cat"}, {"name": "beach", "type": "background"}]
    body = body_of("fusion", {"prompt": "@cat on the @beach", "references": named}, inputs=pictures)
    assert body["image_references"] == [
        {"type": "subject", "img_id": LARGE_ID, "ref_name": "cat"},
        {"type": "background", "img_id": LARGE_ID, "ref_name": "beach"},
    ]
    assert "references" not in body
    unnamed = body_of("fusion", {"prompt": "@image1 and @image2"}, inputs=pictures)
    assert [one["ref_name"] for one in unnamed["image_references"]] == ["image1", "image2"]


@pytest.mark.parametrize(
    ("model", "count", "fits"),
    [("v5", 3, True), ("v5", 4, False), ("v5.5", 7, True), ("v5.5", 8, False), ("v6", 10, True), ("v6", 11, False)],
)
def test_knows_how_many_pictures_each_model_fuses(model: str, count: int, fits: bool) -> None:
    params = PIXVERSE.operations["fusion"].model_validate({"prompt": "x", "model": model})
    if fits:
        params.check_inputs({"image": count})
    else:
        with pytest.raises(InvalidParams):
            params.check_inputs({"image": count})


def test_wants_a_reference_for_each_picture_or_none() -> None:
    params = PIXVERSE.operations["fusion"].model_validate({"prompt": "x", "references": [{"name": "cat"}]})
    with pytest.raises(InvalidParams) as caught:
        params.check_inputs({"image": 2})
    assert caught.value.field == "references"


def test_gives_every_http_request_a_trace_id_of_its_own() -> None:
    _, calls = drive(PIXVERSE.submit(order(PIXVERSE, "video_transition"), CREDENTIALS), SAYS.to_submit())
    ids = [call.fresh_headers["Ai-trace-id"]() for call in calls]
    assert len(set(ids)) == len(calls) == 3
    _, (asked,) = drive(PIXVERSE.balance(CREDENTIALS, fresh_id), result({"credit_monthly": 1}))
    assert asked.fresh_headers["Ai-trace-id"]()


@pytest.mark.parametrize(
    "change",
    [
        {"quality": "1080p", "duration": 8},
        {"duration": 6},
        {"duration": 10},
        {"model": "v6", "duration": 16},
        {"motion_mode": "fast", "duration": 8},
        {"motion_mode": "fast", "quality": "1080p"},
        {"motion_mode": "fast", "model": "v6"},
        {"style": "anime", "model": "v5.5"},
        {"camera_movement": "zoom_in"},
        {"generate_audio_switch": True},
        {"sound_effect_content": "rain"},
        {"aspect_ratio": "21:9"},
        {"prompt": "x" * 2049},
        {"quality": "4k"},
        {"model": "v99"},
    ],
    ids=str,
)
def test_refuses_what_the_model_cannot_do(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PIXVERSE.operations["text_to_video"].model_validate({"prompt": "x", **change})


@pytest.mark.parametrize(
    "change",
    [
        {"model": "v6", "duration": 15, "quality": "1080p", "aspect_ratio": "21:9"},
        {"model": "v6", "prompt": "x" * 5000},
        {"model": "v5.5", "duration": 10, "generate_audio_switch": True},
        {"quality": "1080p", "duration": 5},
        {"quality": "720p", "duration": 8},
        {"motion_mode": "fast", "style": "clay"},
        {"prompt": "x" * 2048},
        {"duration": 5.0},
    ],
    ids=lambda change: str(change)[:60],
)
def test_takes_what_the_model_can_do(change: dict[str, Any]) -> None:
    params = PIXVERSE.operations["text_to_video"].model_validate({"prompt": "x", **change})
    assert change.items() <= params.canonical().items()


@pytest.mark.parametrize(("mime", "size"), [("image/gif", 10), ("image/png", 20_000_000), ("text/html", 10)])
def test_refuses_pictures_that_pixverse_does_not_take_before_any_call(mime: str, size: int) -> None:
    good = input_file("image", "image")
    bad = InputFile("image", "a", mime, size, "0", good.open)
    story = PIXVERSE.submit(order(PIXVERSE, "image_to_video", inputs=[bad]), CREDENTIALS)
    with pytest.raises(InvalidParams):
        next(story)


def test_keeps_the_cost_that_the_submit_reply_names() -> None:
    found, _ = drive(PIXVERSE.submit(order(PIXVERSE, "text_to_video"), CREDENTIALS), SAYS.to_submit())
    assert (found.job_id, found.cost, found.poll_after) == ("371204488120551", Decimal(45), 5.0)


@pytest.mark.parametrize("code", ERRORS)
def test_reads_each_known_code_in_a_poll(code: int) -> None:
    expected = type(ERRORS[code]("x"))
    if code == 500008:
        assert poll(result(None, code)).state == "missing"
    elif expected is ContentModerated:
        found = poll(result(None, code))
        assert found.state == "failed"
        assert isinstance(found.error, ContentModerated)
    else:
        with pytest.raises(ProviderError) as caught:
            poll(result(None, code))
        polite = (AuthFailed, PermissionDenied, InsufficientCredits, ConcurrencyLimit, RateLimited, Refused)
        assert type(caught.value) is (expected if issubclass(expected, polite) else OutcomeUnknown)


@pytest.mark.parametrize(
    ("status", "state", "error"),
    [
        (1, "succeeded", None),
        ("1", "succeeded", None),
        (2, "running", None),
        (3, "running", None),
        (5, "running", None),
        (6, "failed", JobFailed),
        (7, "failed", ContentModerated),
        (8, "failed", JobFailed),
        (0, "running", None),
        (4, "running", None),
        (9, "running", None),
        (None, "running", None),
        (True, "running", None),
        ({"a": 1}, "running", None),
    ],
)
def test_reads_each_status(status: object, state: str, error: type[Exception] | None) -> None:
    found = poll(result({"id": 1, "status": status, "url": "https://m.example/a.mp4", "credits": 45}))
    assert (found.state, found.cost) == (state, Decimal(45))
    assert type(found.error) is (error or type(None))
    assert [output.url for output in found.outputs] == (["https://m.example/a.mp4"] if state == "succeeded" else [])
    if isinstance(found.error, ContentModerated):
        assert found.error.stage == "output"


@pytest.mark.parametrize(
    "url", ["https://m.example/x/default.mp4", "https://m.example/DEFAULT.MP4?sig=1", "https://m.example/default.png"]
)
def test_takes_a_placeholder_for_late_moderation(url: str) -> None:
    found = poll(result({"status": 1, "url": url}))
    assert found.state == "failed"
    assert isinstance(found.error, ContentModerated)
    assert found.error.stage == "output"


def test_does_not_take_a_default_in_the_path_for_a_placeholder() -> None:
    assert poll(result({"status": 1, "url": "https://m.example/default/abc.mp4"})).state == "succeeded"


@pytest.mark.parametrize("url", [None, "", 5, [], "not a url", "https://m.example/" + "x" * 3_000])
def test_reports_success_without_an_output_as_such(url: object) -> None:
    found = poll(result({"status": 1, "url": url}))
    assert (found.state, found.outputs) == ("succeeded", ())


@pytest.mark.parametrize("job_id", ["", "abc", "../../account/balance", "-1", "9" * 20, "1 2"])
def test_asks_for_no_job_that_cannot_be_its_own(job_id: str) -> None:
    assert poll(lambda call: pytest.fail(f"asked {call.path}"), job_id).state == "missing"


def test_adds_up_the_balance() -> None:
    found, _ = drive(PIXVERSE.balance(CREDENTIALS, fresh_id), result({"credit_monthly": 1200, "credit_package": 300}))
    assert found == Decimal(1500)


def test_does_not_take_a_missing_balance_for_zero() -> None:
    with pytest.raises(OutcomeUnknown):
        drive(PIXVERSE.balance(CREDENTIALS, fresh_id), result({"account_id": 1}))


@pytest.mark.parametrize("status", [200, 401, 500])
def test_says_success_only_with_a_2xx(status: int) -> None:
    story = PIXVERSE.submit(order(PIXVERSE, "text_to_video"), CREDENTIALS)
    answer = SAYS.to_submit(Reply(status, {}, SAYS.accepted.body))
    if status == 200:
        assert drive(story, answer)[0].job_id
    else:
        with pytest.raises(OutcomeUnknown):
            drive(story, answer)
