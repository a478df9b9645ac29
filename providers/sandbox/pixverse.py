"""Pixverse's platform API (openapi v2), as its documentation and official client describe it."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from providers.sandbox import uploads
from providers.sandbox.desk import Call, Refusal, spoiled_poll, submit
from providers.sandbox.faults import without_markers
from providers.sandbox.media import placeholder_url, result_url
from providers.sandbox.state import Draft, Key, State, Work, any_seed
from providers.sandbox.web import Reply, json_reply

SLUG = "pixverse"
PREFIX = "/pixverse/openapi/v2"
MODELS = ("v3.5", "v4", "v4.5", "v5", "v5.5", "v5.6", "v6", "c1")
FREE_LENGTH = ("v6", "c1")
QUALITIES = {"360p": 426, "540p": 480, "720p": 640, "1080p": 640}  # long side of what the sandbox really draws
CREDITS = {"360p": 30, "540p": 30, "720p": 45, "1080p": 90}  # per 5 seconds
RATIOS = ("16:9", "4:3", "1:1", "3:4", "9:16")
RATIOS_V6 = (*RATIOS, "2:3", "3:2", "21:9")
STYLES = ("anime", "3d_animation", "clay", "comic", "cyberpunk")

# refusal -> (HTTP status, ErrCode, ErrMsg)
ERRORS = {
    "500_before": (500, 500069, "The system is currently experiencing high load. Please try again later"),
    "503_before": (503, 500069, "The system is currently experiencing high load. Please try again later"),
    "429": (429, 429, "Too many requests"),
    "concurrency": (200, 500044, "The number of concurrent generations has reached the limit"),
    "moderated_input": (200, 500063, "The input failed content moderation"),
    "no_credits": (200, 500043, "All credits have been used up"),
    "auth_failed": (401, 10001, "The API key is not valid"),
    "forbidden": (200, 500020, "No permission"),
    "invalid_params": (200, 400017, "Invalid parameter"),
    "key_echo": (200, 400017, "Invalid parameter"),
    "not_found": (200, 500008, "Requested data not found"),
    "404": (404, 500008, "Requested data not found"),
    "500": (500, 99999, "Unknown error"),
    "503": (503, 500069, "The system is currently experiencing high load. Please try again later"),
}


def envelope(resp: Any) -> Reply:
    """Success."""
    return json_reply({"ErrCode": 0, "ErrMsg": "success", "Resp": resp})


def failure(code: int, message: str, status: int = 200) -> Reply:
    """The error body."""
    return json_reply({"ErrCode": code, "ErrMsg": message, "Resp": None}, status)


def wrong(code: int, message: str) -> Refusal:
    """A request that this API refuses for its content."""
    return Refusal("invalid_params", failure(code, message))


class Pixverse:
    """The endpoints below ``/pixverse/openapi/v2``."""

    slug = SLUG

    def __init__(self, state: State, shelf: uploads.Shelf) -> None:
        self.state = state
        self.shelf = shelf

    async def handle(self, call: Call, path: str) -> Reply:
        """Answer one call; ``path`` is what follows the prefix."""
        call.provider = SLUG
        call.kind = _kind(path)
        headers = call.request.headers
        api_key = headers.get("api-key", "")
        call.trace_id = headers.get("ai-trace-id", "")
        key = self.state.login(SLUG, api_key)
        if key is None:
            raise Refusal("auth_failed", self.refusal("auth_failed", "", call))
        call.key = key.label
        if not call.trace_id:
            raise wrong(400011, "The header Ai-trace-id is missing")
        if not self.state.first_use(call.trace_id):
            raise wrong(400017, "The Ai-trace-id was used before; it must differ for each request")
        route = (call.request.method, path)
        if call.kind == "submit" and path in _GENERATE:
            call.operation = path.split("/")[2]
            draft = _GENERATE[path](Body(call.request.body), key, self)
            call.api_key = api_key
            return submit(self.state, self, key, draft, call)
        if route[0] == "GET" and path.startswith("/video/result/"):
            return self._result(path.rpartition("/")[2], key, call)
        if route[0] == "GET" and path.startswith("/video/credits/"):
            work = self._work(path.rpartition("/")[2], key)
            return envelope({"video_id": work.remote_id, "credit": int(work.cost)})
        if route == ("GET", "/account/balance"):
            left = int(key.balance(SLUG, time.time()))
            monthly = min(left, 1200)
            account = int(key.label.rpartition(":")[2][:8], 16)
            return envelope({"account_id": account, "credit_monthly": monthly, "credit_package": left - monthly})
        if route == ("POST", "/account/billing/usage-detail"):
            return self._usage(Body(call.request.body), key)
        if route == ("POST", "/image/upload"):
            return await self._upload(call, key, "image")
        if route == ("POST", "/media/upload"):
            return await self._upload(call, key, "media")
        raise Refusal("not_found", failure(500008, f"There is no {route[0]} {path}", 404))

    # -- the desk's words -----------------------------------------------------------------------

    def accepted(self, work: Work, call: Call) -> Reply:
        """The reply to a submit."""
        return envelope({"video_id": work.remote_id, "credits": int(work.cost)})

    def refusal(self, kind: str, argument: str, call: Call) -> Reply:
        """The reply that refuses."""
        status, code, message = ERRORS[kind]
        if argument and kind in ("invalid_params", "key_echo"):
            message = argument
        reply = failure(code, message, status)
        if kind in ("429", "503_before"):
            reply.headers["Retry-After"] = argument or "5"
        return reply

    def id_field(self) -> tuple[str, ...]:
        """Where the id stands."""
        return ("Resp", "video_id")

    # -- status ---------------------------------------------------------------------------------

    def _work(self, text: str, key: Key) -> Work:
        work = self.state.find(SLUG, key, int(text)) if text.isdigit() and len(text) < 20 else None
        if work is None:
            raise Refusal("not_found", failure(500008, "Requested data not found"))
        return work

    def _result(self, text: str, key: Key, call: Call) -> Reply:
        call.remote_id = text[:40]
        work = self._work(text, key)
        refusals = {name: self.refusal(name, "", call) for name in ("404", "429", "500", "503")}
        spoilt = spoiled_poll(self.state, work, call, refusals)
        if spoilt is not None:
            return spoilt
        now = time.time()
        status = self.status(work, now)
        if self.state.strike(work, "poll_unknown_status", 2):
            call.faults.append("poll_unknown_status")
            status = 99
        return envelope(self.resp(work, status, now, call.request.origin, call))

    @staticmethod
    def status(work: Work, now: float) -> int:
        """The number that the API gives: 5 running, 1 finished, 7 moderated, 8 failed."""
        if now < work.finish_at:
            return 5
        return {"done": 1, "moderated": 7, "failed": 8}[work.outcome]

    def resp(self, work: Work, status: int, now: float, origin: str, call: Call | None = None) -> dict[str, Any]:
        """The ``Resp`` of a result. ``url`` is empty until it is finished."""
        url = ""
        if status == 1:
            url = result_url(self.state, work, 0, origin)
            for fault in ("no_url", "late_moderation", "bad_url"):
                if self.state.note(work, fault):
                    url = {"no_url": "", "late_moderation": placeholder_url(work, origin)}.get(
                        fault, work.faults[fault] or "file:///etc/passwd"
                    )
                    if call is not None:
                        call.faults.append(fault)
        spec = work.spec
        changed = min(now, work.finish_at)
        return {
            "id": work.remote_id, "status": status, "url": url, "prompt": work.prompt,
            "negative_prompt": work.echo.get("negative_prompt", ""), "seed": spec["seed"],
            "style": work.echo.get("style", ""), "size": 0, "resolution_ratio": 0,
            "outputWidth": spec["width"], "outputHeight": spec["height"], "has_audio": False, "customer_paths": {},
            "credits": int(work.cost), "create_time": _iso(work.accepted_at), "modify_time": _iso(changed),
        }  # fmt: skip

    # -- uploads, ledger ------------------------------------------------------------------------

    async def _upload(self, call: Call, key: Key, what: str) -> Reply:
        try:
            upload = await self.shelf.receive(SLUG, key, call.request, what)
        except uploads.Unusable as error:
            code = {"missing": 400011, "large": 500030, "format": 500032, "size": 500033}.get(error.why, 500031)
            raise wrong(code, str(error)) from error
        call.remote_id = str(upload.id)
        if what == "image":
            return envelope({"img_id": upload.id, "img_url": upload.url})
        kind = "audio" if upload.mime.startswith("audio") else "video"
        return envelope({"media_id": upload.id, "media_type": kind, "url": upload.url})

    def _usage(self, body: Body, key: Key) -> Reply:
        start, end = _utc(body.text("start_time", required=True)), _utc(body.text("end_time", required=True))
        if end < start or end - start > timedelta(days=30).total_seconds():
            raise wrong(400017, "start_time and end_time must be at most 30 days apart")
        limit = body.integer("limit", low=1, high=100) or 50
        cursor = body.text("cursor") or "0"
        kinds = body.data.get("creation_type") or []
        wanted = body.text("credits_status", choices=("consume", "refund")) or "consume"
        now = time.time()
        lines = []
        for work in self.state.works.values():
            if work.key != key.label or (kinds and f"{work.operation}_to_video" not in kinds):
                continue
            at = work.accepted_at if wanted == "consume" else work.finish_at
            if wanted == "refund" and (work.outcome == "done" or at > now):
                continue
            if start <= at <= end:
                lines.append((at, work))
        lines.sort(key=lambda line: (line[0], line[1].remote_id))
        first = int(cursor) if cursor.isdigit() else 0
        page = lines[first : first + limit]
        more = first + limit < len(lines)
        details = [
            {
                "id": work.remote_id, "video_id": work.remote_id, "creation_type": f"{work.operation}_to_video",
                "credits": int(work.cost), "credits_status": wanted, "model": work.echo.get("model", ""),
                "prompt": work.prompt, "create_time": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S"),
            }
            for at, work in page
        ]  # fmt: skip
        return envelope({"list": details, "has_more": more, "next_cursor": str(first + limit) if more else ""})


class Body:
    """A JSON body with this API's own complaints about its fields. Raises the binding error for no object."""

    def __init__(self, raw: bytes) -> None:
        try:
            data = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise wrong(400013, "The body is not valid JSON") from error
        if not isinstance(data, dict):
            raise wrong(400013, "The body is not a JSON object")
        self.data: dict[str, Any] = data

    def text(
        self, name: str, *, required: bool = False, choices: tuple[str, ...] = (), most: int = 0, too_long: int = 400018
    ) -> str:
        """A string, "" when left out."""
        value = self.data.get(name)
        if value is None or value == "":
            if required:
                raise wrong(400011, f"{name} is required")
            return ""
        if not isinstance(value, str):
            raise wrong(400013, f"{name} must be a string")
        if choices and value not in choices:
            raise wrong(400017, f"{name} must be one of {', '.join(choices)}")
        if most and len(value) > most:
            raise wrong(too_long, f"{name} is longer than {most} characters")
        return value

    def integer(self, name: str, *, required: bool = False, low: int = 0, high: int = 2**63 - 1) -> int | None:
        """An integer within bounds (a quoted one is refused), None when left out."""
        value = self.data.get(name)
        if value is None:
            if required:
                raise wrong(400011, f"{name} is required")
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong(400013, f"{name} must be an integer")
        if not low <= value <= high:
            raise wrong(400017, f"{name} must be between {low} and {high}")
        return value

    def flag(self, name: str) -> None:
        """Refuse a switch that is not a boolean."""
        if not isinstance(self.data.get(name, False), bool):
            raise wrong(400013, f"{name} must be a boolean")


def _draft(body: Body, operation: str, ratio: str, images: list[str], mode: str) -> Draft:
    """What all kinds of generation share. ``ratio`` as in ``16:9``; ``images``: files of the data folder."""
    model = body.text("model", required=True, choices=MODELS)
    free = model in FREE_LENGTH
    prompt = body.text("prompt", required=operation != "transition", most=5000 if free else 2048)
    duration = body.integer("duration", required=True) or 0
    quality = body.text("quality", required=True, choices=tuple(QUALITIES))
    if duration not in (range(1, 16) if free else (5, 8, 10)):
        raise wrong(400017, f"duration {duration} is not possible with {model}")
    if quality == "1080p" and duration == 8 and not free and model != "v5.6":
        raise wrong(400017, "8 seconds are not possible in 1080p")
    negative = body.text("negative_prompt", most=2048, too_long=400019)
    seed = body.integer("seed", high=2147483647)
    style = body.text("style", choices=STYLES)
    motion = body.text("motion_mode", choices=("normal", "fast"))
    if motion == "fast" and (duration != 5 or quality == "1080p"):
        raise wrong(400017, "motion_mode fast is possible for 5 seconds below 1080p only")
    body.integer("template_id")
    for name in ("water_mark", "sound_effect_switch", "generate_audio_switch", "generate_multi_clip_switch"):
        body.flag(name)
    body.text("thinking_type", choices=("enabled", "disabled", "auto"))
    width, height = _size(ratio, QUALITIES[quality])
    spec = {
        "medium": "video", "prompt": without_markers(prompt), "seed": any_seed() if seed is None else seed,
        "width": width, "height": height, "images": images, "mode": mode,
    }  # fmt: skip
    credits = CREDITS[quality] * -(-duration // 5)
    echo = {"negative_prompt": negative, "style": style, "model": model, "duration": duration, "quality": quality}
    return Draft(operation, prompt, spec, float(credits), echo=echo)


def _text(body: Body, _key: Key, _api: Pixverse) -> Draft:
    ratios = RATIOS_V6 if body.data.get("model") in FREE_LENGTH else RATIOS
    return _draft(body, "text", body.text("aspect_ratio", required=True, choices=ratios), [], "plain")


def _image(body: Body, key: Key, api: Pixverse) -> Draft:
    many = body.data.get("img_ids")
    if many is None:
        body.integer("img_id", required=True)
        many = [body.data["img_id"]]
    elif not isinstance(many, list) or not many:
        raise wrong(400013, "img_ids must be a list of integers")
    files = [_uploaded(api, key, img_id) for img_id in many]
    return _draft(body, "image", api.shelf.ratio(files[0]), files, "move")


def _transition(body: Body, key: Key, api: Pixverse) -> Draft:
    names = ("first_frame_img", "last_frame_img")
    for name in names:
        body.integer(name, required=True)
    files = [_uploaded(api, key, body.data[name]) for name in names]
    return _draft(body, "transition", api.shelf.ratio(files[0]), files, "transition")


def _extend(body: Body, key: Key, api: Pixverse) -> Draft:
    source, media = body.integer("source_video_id"), body.integer("video_media_id")
    if (source is None) == (media is None):
        raise wrong(400017, "Give exactly one of source_video_id and video_media_id")
    if source is not None:
        work = api.state.find(SLUG, key, source)
        if work is None or work.outcome != "done" or work.finish_at > time.time():
            raise wrong(500008, "source_video_id is no finished video of this account")
        draft = _draft(body, "extend", f"{work.spec['width']}:{work.spec['height']}", [], "extend")
        draft.spec["before"] = {name: work.spec[name] for name in ("prompt", "seed", "images", "mode")}
        return draft
    _uploaded(api, key, media)
    return _draft(body, "extend", "16:9", [], "extend")


def _fusion(body: Body, key: Key, api: Pixverse) -> Draft:
    references = body.data.get("image_references")
    if not references:
        raise wrong(400011, "image_references is required")
    model = body.data.get("model")
    most = 10 if model == "v6" else 7 if model in ("v5.5", "v5.6", "c1") else 3
    if not isinstance(references, list) or len(references) > most:
        raise wrong(400017, f"image_references takes 1 to {most} entries")
    files, names = [], set()
    for reference in references:
        if not isinstance(reference, dict) or reference.get("type") not in ("subject", "background"):
            raise wrong(400017, "Each of image_references needs a type, subject or background")
        name = reference.get("ref_name")
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9]{1,30}", name) or name in names:
            raise wrong(400017, "ref_name must be 1 to 30 letters and digits, each used once")
        names.add(name)
        files.append(_uploaded(api, key, reference.get("img_id")))
    prompt = body.text("prompt", required=True)
    unknown = set(re.findall(r"@([A-Za-z0-9]+)", prompt)) - names
    if unknown:
        raise wrong(400017, f"The prompt refers to @{min(unknown)}, which is no ref_name")
    ratios = RATIOS_V6 if model in FREE_LENGTH else RATIOS
    return _draft(body, "fusion", body.text("aspect_ratio", required=True, choices=ratios), files, "fusion")


_GENERATE = {
    "/video/text/generate": _text,
    "/video/img/generate": _image,
    "/video/transition/generate": _transition,
    "/video/extend/generate": _extend,
    "/video/fusion/generate": _fusion,
}


def _uploaded(api: Pixverse, key: Key, upload_id: object) -> str:
    if isinstance(upload_id, bool) or not isinstance(upload_id, int):
        raise wrong(400013, "An image id must be an integer")
    upload = api.state.uploads.get(upload_id)
    if upload is None or upload["provider"] != SLUG or upload["key"] != key.label:
        raise wrong(400032, f"Invalid image id {upload_id}")
    return str(upload["file"])


def _kind(path: str) -> str:
    if path.endswith("/generate"):
        return "submit"
    if path.endswith("/upload"):
        return "upload"
    if path.startswith(("/video/result/", "/image/result/")):
        return "poll"
    return "balance" if path == "/account/balance" else "other"


def _size(ratio: str, long_side: int) -> tuple[int, int]:
    """Even width and height in pixels, ``long_side`` along the longer one."""
    wide, high = (float(part) for part in ratio.split(":"))
    scale = long_side / max(wide, high)
    return max(2, int(wide * scale) // 2 * 2), max(2, int(high * scale) // 2 * 2)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _utc(text: str) -> float:
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise wrong(400017, "Times are written as 2026-01-02 03:04:05, in UTC") from error
