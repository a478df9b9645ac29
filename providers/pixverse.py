"""Pixverse's platform API (openapi v2); the shared note wire/pixverse.md is the source of every fact here.

What is worth knowing: HTTP 200 does not mean success, ``ErrCode`` 0 does. Each HTTP request needs
an ``Ai-trace-id`` of its own. Ids are int64: text for us, numbers on the wire. Nothing is
idempotent, nothing can be cancelled, and a finished video may later be replaced by a placeholder.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, cast

from providers import pixverse_callbacks, replies
from providers import pixverse_params as params
from providers.base import (
    BalanceStory,
    Call,
    CallbackResult,
    CredentialField,
    Credentials,
    InputFile,
    JobHandle,
    Order,
    Output,
    PollResult,
    PollStory,
    Provider,
    RecentJob,
    RecentStory,
    Reply,
    Secret,
    SubmitResult,
    SubmitStory,
)
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

FIRST_POLL_AFTER = 5.0
USAGE_TIME = "%Y-%m-%d %H:%M:%S"
MOST_USAGE_PAGES = 10
LARGEST_IMAGE = 20_000_000
IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp")
VIDEO_TYPES = ("video/mp4", "video/quicktime", "video/webm")

_PATHS = {
    "text_to_video": "/video/text/generate",
    "image_to_video": "/video/img/generate",
    "video_extend": "/video/extend/generate",
    "video_transition": "/video/transition/generate",
    "fusion": "/video/fusion/generate",
}

_Make = Callable[[str], ProviderError]


def _invalid(field: str | None = None) -> _Make:
    return lambda detail: InvalidParams(detail, field=field)


def _moderated(stage: str) -> _Make:
    return lambda detail: ContentModerated(detail, stage=stage)


ERRORS: dict[int, _Make] = {
    400011: _invalid(),
    400012: AuthFailed,
    400013: _invalid(),
    400017: _invalid(),
    400018: _invalid("prompt"),
    400019: _invalid("negative_prompt"),
    400032: _invalid("inputs"),
    500008: _invalid("inputs"),  # on submit: the video to extend is not there; a poll reads it as "missing"
    500020: PermissionDenied,
    500030: _invalid("inputs"),
    500031: _invalid("inputs"),
    500032: _invalid("inputs"),
    500033: _invalid("inputs"),
    500041: Refused,
    500042: _invalid("inputs"),
    500043: InsufficientCredits,
    500044: ConcurrencyLimit,
    500054: _moderated("output"),
    500060: PermissionDenied,  # this month's effect activations are used up: this account cannot, another may
    500063: _moderated("input"),
    500069: Refused,
    500070: _invalid("template_id"),
    500071: _invalid("template_id"),
    500090: InsufficientCredits,
    10001: AuthFailed,
    10002: AuthFailed,
    10003: AuthFailed,
    10004: AuthFailed,
    10005: AuthFailed,
}
"""ErrCode -> what it means to us. All of them are refusals: no job was made.

99999 ("unknown") is left out on purpose, as is every code that the note does not list: on a
billable call they prove nothing.
"""

NOT_FOUND = 500008
_POLL_MAY_RAISE = (AuthFailed, PermissionDenied, InsufficientCredits, ConcurrencyLimit, RateLimited, Refused)

RUNNING, DELETED, MODERATED, FAILED, SUCCEEDED = (2, 3, 5), 6, 7, 8, 1


class Pixverse(Provider):
    """Videos by Pixverse: from text, from an image, extended, between two frames, from references."""

    slug = "pixverse"
    title = "Pixverse"
    default_base_url = "https://app-api.pixverse.ai/openapi/v2"
    credential_fields = (
        CredentialField("api_key", "API key", "From the console of Pixverse's platform, under API keys."),
    )
    operations = {
        "text_to_video": params.TextToVideo,
        "image_to_video": params.ImageToVideo,
        "video_extend": params.VideoExtend,
        "video_transition": params.VideoTransition,
        "fusion": params.Fusion,
    }
    has_balance = True
    lists_recent = True
    signs_callbacks = True

    def submit(self, order: Order, credentials: Credentials) -> SubmitStory:
        """Upload the inputs, then generate. An input that Pixverse made itself is named by its job id."""
        if order.operation_type not in self.operations:
            raise InvalidParams(f"Pixverse has no operation {order.operation_type}.", field="operation_type")
        wanted = cast("params.Video", order.params)
        wanted.check_inputs(Counter(file.role for file in order.inputs))
        body = wanted.wire()
        if isinstance(wanted, params.VideoExtend):
            body |= yield from self._video_source(order, credentials)
        elif isinstance(wanted, params.Fusion):
            pictures = [file for file in order.inputs if file.role == "image"]
            ids = yield from self._upload_images(order, credentials, pictures)
            body["image_references"] = [
                {"type": wanted.named(index).type, "img_id": image_id, "ref_name": wanted.named(index).name}
                for index, image_id in enumerate(ids)
            ]
        elif order.operation_type == "image_to_video":
            (body["img_id"],) = yield from self._upload_images(order, credentials, [order.input("image")])
        elif order.operation_type == "video_transition":
            frames = [order.input("first_frame"), order.input("last_frame")]
            body["first_frame_img"], body["last_frame_img"] = yield from self._upload_images(order, credentials, frames)
        reply = yield Call(
            "POST",
            _PATHS[order.operation_type],
            headers=_key(credentials),
            fresh_headers={"Ai-trace-id": order.trace_ids},
            json=body,
            billable=True,
        )
        accepted = _result_of(reply)
        job_id = replies.number_id(accepted.get("video_id"))
        if job_id is None:
            self.unknown(reply, "Pixverse accepted but named no usable job id")
        return SubmitResult(job_id, poll_after=FIRST_POLL_AFTER, cost=replies.money(accepted.get("credits")))

    def poll(self, handle: JobHandle, credentials: Credentials) -> PollStory:
        """GET the result. A code that concerns the job itself ends it; all else says "ask again"."""
        job_id = replies.number_id(handle.job_id)
        if job_id is None:
            return PollResult("missing", raw_status="not an id of Pixverse's")
        reply = yield Call(
            "GET",
            f"/video/result/{job_id}",
            headers=_key(credentials),
            fresh_headers={"Ai-trace-id": handle.trace_ids},
        )
        code = _code(reply)
        if code == NOT_FOUND or (reply.status == 404 and not code):
            return PollResult("missing", raw_status=f"ErrCode {code}" if code else "HTTP 404")
        try:
            return _standing(_result_of(reply))
        except ContentModerated as error:
            return PollResult("failed", raw_status=f"ErrCode {code}", error=error)
        except _POLL_MAY_RAISE:
            raise
        except ProviderError as error:
            raise OutcomeUnknown(f"Pixverse's reply to a poll was of no use: {error.detail}") from error

    def balance(self, credentials: Credentials, trace_ids: Callable[[], str]) -> BalanceStory:
        """Monthly and bought credits together."""
        reply = yield Call(
            "GET", "/account/balance", headers=_key(credentials), fresh_headers={"Ai-trace-id": trace_ids}
        )
        found = _result_of(reply)
        parts = [replies.money(found.get(name)) for name in ("credit_monthly", "credit_package")]
        known = [part for part in parts if part is not None]
        if not known:
            self.unknown(reply, "Pixverse told no balance")
        return sum(known, Decimal())

    def recent(
        self, since: datetime, until: datetime, credentials: Credentials, trace_ids: Callable[[], str]
    ) -> RecentStory:
        """The usage ledger's charges, page by page.

        The note documents the question; what a line tells beside its time and credits is not documented, so what is
        missing stays None.
        """
        found: list[RecentJob] = []
        cursor = ""
        for _ in range(MOST_USAGE_PAGES):
            reply = yield Call(
                "POST",
                "/account/billing/usage-detail",
                headers=_key(credentials),
                fresh_headers={"Ai-trace-id": trace_ids},
                json={
                    "start_time": since.astimezone(UTC).strftime(USAGE_TIME),
                    "end_time": until.astimezone(UTC).strftime(USAGE_TIME),
                    "cursor": cursor,
                    "limit": 100,
                    "credits_status": "consume",
                },
            )
            page = _result_of(reply)
            lines = page.get("list")
            found += [job for line in (lines if isinstance(lines, list) else []) if (job := _charge(line)) is not None]
            following = page.get("next_cursor")
            if not isinstance(following, str) or following in ("", cursor):
                return tuple(found)
            cursor = following
        raise OutcomeUnknown("Pixverse's usage ledger of that time is too long to be read whole.")

    def verify_callback(self, headers: Mapping[str, str], body: bytes, *, secret: str, form: str, now: float) -> str:
        """See ``providers.pixverse_callbacks``."""
        return pixverse_callbacks.verify(headers, body, secret=secret, form=form, now=now)

    def parse_callback(self, headers: Mapping[str, str], body: bytes) -> CallbackResult:
        """The console's one webhook for the whole account: ``{"id": "371...", "status": 1, ...}``."""
        found = replies.json_object(Reply(200, {}, body))
        job_id = replies.number_id(found.get("id")) if found is not None else None
        if found is None or job_id is None:
            raise ValueError("no callback of Pixverse's: it names no job id")
        return CallbackResult(job_id, raw_status=replies.word_id(found.get("status")) or "")

    def _video_source(self, order: Order, credentials: Credentials) -> Generator[Call, Reply, dict[str, int]]:
        video = order.input("video")
        made_here = replies.number_id(video.provider_job_id)
        if made_here is not None:
            return {"source_video_id": int(made_here)}
        media_id = yield from self._upload(order, credentials, video, "video")
        return {"video_media_id": media_id}

    def _upload_images(
        self, order: Order, credentials: Credentials, files: Sequence[InputFile]
    ) -> Generator[Call, Reply, list[int]]:
        for file in files:  # all are looked at before the first is sent
            if file.mime_type not in IMAGE_TYPES:
                raise InvalidParams(f"{file.role}: Pixverse takes JPEG, PNG and WebP pictures.", field="inputs")
            if file.size >= LARGEST_IMAGE:
                raise InvalidParams(f"{file.role}: Pixverse takes pictures below 20 MB.", field="inputs")
        ids: list[int] = []
        for file in files:
            image_id = yield from self._upload(order, credentials, file, "image")
            ids.append(image_id)
        return ids

    def _upload(
        self, order: Order, credentials: Credentials, file: InputFile, kind: Literal["image", "video"]
    ) -> Generator[Call, Reply, int]:
        if kind == "video" and file.mime_type not in VIDEO_TYPES:
            raise InvalidParams(f"{file.role}: Pixverse takes MP4, MOV and WebM videos.", field="inputs")
        image = kind == "image"
        reply = yield Call(
            "POST",
            "/image/upload" if image else "/media/upload",
            headers=_key(credentials),
            fresh_headers={"Ai-trace-id": order.trace_ids},
            form={} if image else {"media_type": "video"},
            files={"image" if image else "file": file},
        )
        try:
            found = _result_of(reply)
        except OutcomeUnknown as error:
            found = {}
            why = error.detail
        else:
            why = "Pixverse named no id for the uploaded file."
        upload_id = replies.number_id(found.get("img_id" if image else "media_id"))
        if upload_id is None:
            raise Refused(f"The upload of {file.role} failed, nothing was generated: {why}")
        return int(upload_id)


def _charge(line: object) -> RecentJob | None:
    """A line of the usage ledger; None for what has no time."""
    if not isinstance(line, dict):
        return None
    try:
        at = datetime.strptime(str(line.get("create_time")), USAGE_TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
    prompt = line.get("prompt")
    return RecentJob(
        at,
        job_id=replies.number_id(line.get("video_id")) or replies.number_id(line.get("id")),
        prompt=prompt if isinstance(prompt, str) else None,
        what=str(line.get("creation_type") or "")[:40],
        cost=replies.money(line.get("credits")),
    )


def _key(credentials: Credentials) -> dict[str, str]:
    api_key = credentials.get("api_key", "")
    if not api_key:
        raise AuthFailed("The account has no API key.")
    return {"API-KEY": Secret(api_key)}


def _code(reply: Reply) -> int | None:
    """The envelope's ErrCode, None when there is no such envelope."""
    body = replies.json_object(reply)
    code = body.get("ErrCode") if body is not None else None
    return code if isinstance(code, int) and not isinstance(code, bool) else None


def _result_of(reply: Reply) -> dict[str, Any]:
    """The envelope's ``Resp`` after a success.

    Raises:
        ProviderError: the class that ``ERRORS`` or the HTTP status give; OutcomeUnknown for all else.
    """
    body = replies.json_object(reply) or {}
    code = _code(reply)
    wait = replies.retry_after(reply.headers)
    if code in ERRORS:
        detail = f"Pixverse: {replies.message(body.get('ErrMsg')) or 'no message'} (ErrCode {code})"
        error = ERRORS[code](detail)
        error.retry_after = wait
        raise error
    if code == 0 and 200 <= reply.status < 300 and isinstance(body.get("Resp"), dict):
        return cast("dict[str, Any]", body["Resp"])
    if code == 0:
        raise OutcomeUnknown(f"Pixverse said success and gave no result (HTTP {reply.status})")
    if reply.status in (401, 403):
        raise AuthFailed(f"Pixverse does not accept the API key (HTTP {reply.status}).")
    if reply.status == 429:
        raise RateLimited("Pixverse asks to slow down (HTTP 429).", retry_after=wait)
    if code is None and reply.status in (404, 405):
        # No handler ran: that path is not there. Most likely the base URL is wrong.
        raise Refused(f"There is no Pixverse API at this base URL (HTTP {reply.status}).")
    why = f"Pixverse answered with ErrCode {code}" if code else "Pixverse's reply is not its API's"
    raise OutcomeUnknown(f"{why} (HTTP {reply.status})")


def _standing(found: Mapping[str, Any]) -> PollResult:
    """What the result's ``status`` number means. An unknown one keeps the job running."""
    status = replies.number_id(found.get("status"))
    number = int(status) if status is not None else None
    raw = status or json.dumps(found.get("status"), default=str)[:40]
    cost = replies.money(found.get("credits"))
    if number == SUCCEEDED:
        url = replies.web_url(found.get("url"))
        if url is not None and replies.is_placeholder(url):
            error = ContentModerated("Pixverse replaced the finished video by a placeholder.", stage="output")
            return PollResult("failed", cost=cost, raw_status=raw, error=error)
        outputs = (Output(url, "video"),) if url is not None else ()
        return PollResult("succeeded", outputs, cost=cost, raw_status=raw)
    endings: dict[int | None, ProviderError] = {
        MODERATED: ContentModerated("Pixverse's moderation refused the video that was made.", stage="output"),
        FAILED: JobFailed("Pixverse reports that the generation failed."),
        DELETED: JobFailed("Pixverse reports that the video was deleted."),
    }
    if number in endings:
        return PollResult("failed", cost=cost, raw_status=raw, error=endings[number])
    return PollResult("running", cost=cost, raw_status=raw)
