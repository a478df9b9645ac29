"""What any adapter must hold to, and what the suite needs to know of each.

A new provider adds one ``Dialect``: how it says yes, how it says no. The tests are in
``test_conformance.py`` and run over ``registry.all()``.
"""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar
from uuid import uuid4

import imageio_ffmpeg
from PIL import Image

from providers import registry
from providers.base import Call, InputFile, Order, Provider, Reply
from providers.errors import (
    AuthFailed,
    ConcurrencyLimit,
    ContentModerated,
    InsufficientCredits,
    InvalidParams,
    OutcomeUnknown,
    PermissionDenied,
    ProviderError,
    RateLimited,
    Refused,
)
from providers.params import Params

R = TypeVar("R")

CREDENTIALS = {"api_key": "sandbox-Top/Secret+key=1"}
CASES = [(provider, operation) for provider in registry.all() for operation in provider.operations]
CASE_IDS = [f"{provider.slug}-{operation}" for provider, operation in CASES]


def reply(body: object, status: int = 200, **headers: str) -> Reply:
    """A reply with this body (JSON unless bytes)."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, data)


def fresh_id() -> str:
    return str(uuid4())


@cache
def picture() -> bytes:
    """A small PNG."""
    stream = io.BytesIO()
    Image.new("RGB", (320, 192), "teal").save(stream, "PNG")
    return stream.getvalue()


@cache
def video() -> bytes:
    """A short mp4."""
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", "testsrc=s=64x64:d=1"]
    return subprocess.run(
        [*ffmpeg, "-f", "mp4", "-movflags", "frag_keyframe+empty_moov", "-"], stdout=subprocess.PIPE, check=True
    ).stdout


def input_file(role: str, medium: str, *, job_id: str | None = None) -> InputFile:
    """An input of this medium."""
    data, mime, name = (picture(), "image/png", "a.png") if medium == "image" else (video(), "video/mp4", "a.mp4")
    return InputFile(role, name, mime, len(data), "0" * 64, lambda: io.BytesIO(data), job_id)


def order(provider: Provider, operation: str, raw: Mapping[str, Any] | None = None, **more: Any) -> Order:
    """The least that can be asked: a prompt, and the fewest inputs."""
    model = provider.operations[operation]
    inputs = [
        input_file(role, model.accepted_media[role][0])
        for role, (least, _) in model.input_roles.items()
        for _ in range(least)
    ]
    wanted: Params = model.model_validate(dict(raw or {"prompt": "a fox in the snow"}))
    return Order(operation, wanted, more.pop("inputs", inputs), "submission-1", fresh_id, **more)


def drive(story: Generator[Call, Reply, R], answer: Callable[[Call], Reply]) -> tuple[R, list[Call]]:
    """Run a story against ``answer``; give its result and the calls it made."""
    calls: list[Call] = []
    got: Reply | None = None
    while True:
        try:
            call = next(story) if got is None else story.send(got)
        except StopIteration as end:
            return end.value, calls
        calls.append(call)
        got = answer(call)


@dataclass(frozen=True)
class Dialect:
    """How one provider speaks."""

    sandbox_prefix: str
    accepted: Reply
    uploaded: Reply
    refusals: tuple[tuple[Reply, type[ProviderError]], ...]
    """Replies to the billable call, and what each means."""
    running: Reply
    unknown_status: Reply
    callback: bytes

    def to_submit(self, last: Reply | None = None) -> Callable[[Call], Reply]:
        """Answers uploads well, and the billable call with ``last`` (or the acceptance)."""
        return lambda call: (last or self.accepted) if call.billable else self.uploaded


def _pixverse(code: int, text: str = "no") -> Reply:
    return reply({"ErrCode": code, "ErrMsg": text, "Resp": None})


def _modelslab(text: object, status: int = 200, **more: object) -> Reply:
    return reply({"status": "error", "message": text, **more}, status)


HTML = b"<html><body><h1>Bad Gateway</h1></body></html>"

DIALECTS = {
    "pixverse": Dialect(
        sandbox_prefix="/pixverse/openapi/v2",
        accepted=reply({"ErrCode": 0, "ErrMsg": "success", "Resp": {"video_id": 371204488120551, "credits": 45}}),
        uploaded=reply({"ErrCode": 0, "ErrMsg": "ok", "Resp": {"img_id": 9007199254740993, "media_id": 77}}),
        refusals=(
            *((_pixverse(code), InvalidParams) for code in (400011, 400013, 400017, 400018, 400019, 400032)),
            *((_pixverse(code), InvalidParams) for code in (500008, 500030, 500031, 500032, 500033, 500042)),
            *((_pixverse(code), InvalidParams) for code in (500070, 500071)),
            *((_pixverse(code), AuthFailed) for code in (400012, 10001, 10002, 10003, 10004, 10005)),
            (_pixverse(500020), PermissionDenied),
            (_pixverse(500060), PermissionDenied),
            (_pixverse(500041), Refused),
            (_pixverse(500069), Refused),
            (_pixverse(500043), InsufficientCredits),
            (_pixverse(500090), InsufficientCredits),
            (_pixverse(500044), ConcurrencyLimit),
            (_pixverse(500054), ContentModerated),
            (_pixverse(500063), ContentModerated),
            (_pixverse(99999), OutcomeUnknown),
            (_pixverse(123456), OutcomeUnknown),
            (reply(b"", 401), AuthFailed),
            (reply(HTML, 403), AuthFailed),
            (reply(HTML, 429, retry_after="7"), RateLimited),
            (reply({"ErrCode": 500044, "ErrMsg": "", "Resp": None}, 429), ConcurrencyLimit),
            (reply({"ErrCode": 500069, "ErrMsg": "", "Resp": None}, 503), Refused),
            (reply(HTML, 404), Refused),
            *((reply(HTML, status), OutcomeUnknown) for status in (200, 302, 400, 409, 500, 502, 503, 504)),
        ),
        running=reply({"ErrCode": 0, "ErrMsg": "", "Resp": {"id": 1, "status": 5, "url": ""}}),
        unknown_status=reply({"ErrCode": 0, "ErrMsg": "", "Resp": {"id": 1, "status": 42, "url": ""}}),
        callback=b'{"id":"371204488120551","status":1,"url":"https://media.example/abc.mp4"}',
    ),
    "modelslab": Dialect(
        sandbox_prefix="/modelslab/api",
        accepted=reply({"status": "processing", "eta": 14.5, "id": 88120456, "output": []}),
        uploaded=reply({"status": "success", "id": 3, "output": ["https://cdn.example/in.png"]}),
        refusals=(
            (_modelslab("prompt is required", 400), InvalidParams),
            (_modelslab("Model not found: x", 400), InvalidParams),
            (_modelslab({"width": ["must be a multiple of 8"]}, 422), InvalidParams),
            (_modelslab("Unable to fetch image from provided URL"), InvalidParams),
            (reply({"status": "error", "messege": "prompt is required"}), InvalidParams),
            (_modelslab("Invalid API key", 401), AuthFailed),
            (_modelslab("Invalid API key"), AuthFailed),
            (_modelslab("Insufficient credits. Please add more credits to continue.", 402), InsufficientCredits),
            (_modelslab("Insufficient credits. Please add more credits to continue."), InsufficientCredits),
            (_modelslab("This feature requires a premium subscription", 403), PermissionDenied),
            (_modelslab("This feature requires a premium subscription"), PermissionDenied),
            (_modelslab("Rate limit exceeded. Maximum 5 queued requests allowed.", 429), ConcurrencyLimit),
            (_modelslab("Rate limit exceeded. Maximum 5 queued requests allowed."), ConcurrencyLimit),
            (_modelslab("Rate limit exceeded.", 429, retry_after=30), RateLimited),
            (reply(HTML, 429), RateLimited),
            (_modelslab("Video cannot be generated at the moment, try use another model"), Refused),
            (_modelslab("Something odd"), Refused),
            (_modelslab("NSFW content detected"), ContentModerated),
            (_modelslab("Rejected by the content policy", 400), ContentModerated),
            (_modelslab("Server is busy", 503), Refused),
            (reply({"message": "Service Unavailable"}, 503), OutcomeUnknown),
            (reply({"message": "Request Timeout"}, 408), OutcomeUnknown),
            (reply({"message": "duplicate"}, 409), OutcomeUnknown),
            (_modelslab("Server error. Your request was not processed.", 500), Refused),
            (_modelslab("Server error", 500), OutcomeUnknown),
            (reply(HTML, 404), Refused),
            (reply(b"", 401), AuthFailed),
            *((reply(HTML, status), OutcomeUnknown) for status in (200, 302, 400, 409, 500, 502, 503, 504)),
        ),
        running=reply({"status": "processing", "eta": 3, "id": 1, "output": []}),
        unknown_status=reply({"status": "pondering", "id": 1, "output": []}),
        callback=b'{"status":"success","id":88120456,"output":["https://cdn.example/a.png"],"track_id":"submission-1"}',
    ),
}

ABSURD_IDS: tuple[object, ...] = (
    None, "", 0, -1, 1.5, True, [], [1], {}, {"id": 1}, "x" * 10_000, "9" * 5_000, 2**63, "../../admin", "1/2", "1?a=b",
    "1\r\nX: y", "\x00",
)  # fmt: skip

JUNK_BODIES: tuple[bytes, ...] = (
    b"", b"null", b"[]", b'"text"', b"123", b"{}", b"true", HTML, b"\xff\xfe\x00", b'{"ErrCode":0,"Resp"',
    b"[" * 100_000,
    b'{"ErrCode":NaN}', b'{"id":' + b"9" * 5_000 + b"}", b'{"ErrCode":0,"Resp":[]}', b'{"ErrCode":0,"Resp":{}}',
    b'{"ErrCode":"0","Resp":{"video_id":1}}', b'{"ErrCode":true,"Resp":{"video_id":1}}', b'{"status":null,"id":1}',
    b'{"status":["success"],"id":1}', b'{"status":{},"output":{}}', b'{"status":"success"}', b'{"status":"processing"}',
    b'{"status":"success","output":["https://cdn.example/a.png"]}', b'\xef\xbb\xbf{"status":"success"}',
)  # fmt: skip
"""Bodies that name no usable job: with any status, a submit must not be taken for accepted."""
