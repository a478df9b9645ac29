"""ModelsLab v6 and v7, as its documentation, client and SDK describe them."""

from __future__ import annotations

import base64
import json
import re
import time
from dataclasses import dataclass
from typing import Any

from providers.sandbox import uploads
from providers.sandbox.desk import Call, Refusal, spoiled_poll, submit
from providers.sandbox.faults import without_markers
from providers.sandbox.media import file_reply, placeholder_url, result_url, spec_of
from providers.sandbox.state import Draft, Key, State, Work, any_seed
from providers.sandbox.studio import RenderFailed, Studio
from providers.sandbox.web import Reply, json_reply

SLUG = "modelslab"
PREFIX = "/modelslab/api"
PICTURE_COST, VIDEO_COST = 0.0047, 0.12
# Pictures of up to this many pixels are ready in the reply to the submit.
INSTANT_PIXELS = 256 * 256
RATIOS = {"1:1": (512, 512), "16:9": (640, 360), "9:16": (360, 640), "4:3": (600, 448), "3:4": (448, 600),
          "3:2": (600, 400), "2:3": (400, 600), "21:9": (672, 288)}  # fmt: skip

# refusal -> (HTTP status, message)
ERRORS = {
    "500_before": (500, "Server error. Your request was not processed, please try again."),
    "503_before": (503, "Server is busy. Your request was not processed, please try again."),
    "429": (429, "Rate limit exceeded. Maximum 5 queued requests allowed."),
    "concurrency": (429, "Rate limit exceeded. Maximum {limit} queued requests allowed."),
    "moderated_input": (200, "The prompt was rejected by the content policy: NSFW content detected"),
    "no_credits": (402, "Insufficient credits. Please add more credits to continue."),
    "auth_failed": (401, "Invalid API key"),
    "forbidden": (403, "This feature requires a premium subscription"),
    "invalid_params": (400, "The given data was invalid"),
    "key_echo": (400, "The given data was invalid"),
    "404": (404, "Request not found"),
    "500": (500, "Server error"),
    "503": (503, "Server is busy"),
}


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint that generates: what it makes, from what, and where its results are fetched."""

    operation: str
    medium: str
    fetch: str
    from_image: bool = False
    v7: bool = False


ROUTES = {
    "/v6/images/text2img": Route("text_to_image", "picture", "/v6/images/fetch"),
    "/v6/images/img2img": Route("image_to_image", "picture", "/v6/images/fetch", from_image=True),
    "/v6/video/text2video": Route("text_to_video", "video", "/v6/video/fetch"),
    "/v6/video/text2video_ultra": Route("text_to_video", "video", "/v6/video/fetch"),
    "/v6/video/img2video": Route("image_to_video", "video", "/v6/video/fetch", from_image=True),
    "/v6/video/img2video_ultra": Route("image_to_video", "video", "/v6/video/fetch", from_image=True),
    "/v7/images/text-to-image": Route("text_to_image", "picture", "/v7/images/fetch", v7=True),
    "/v7/images/image-to-image": Route("image_to_image", "picture", "/v7/images/fetch", from_image=True, v7=True),
    "/v7/video-fusion/text-to-video": Route("text_to_video", "video", "/v7/video-fusion/fetch", v7=True),
    "/v7/video-fusion/image-to-video": Route(
        "image_to_video", "video", "/v7/video-fusion/fetch", from_image=True, v7=True
    ),
}
_FETCH = re.compile(r"(/v6/images/fetch|/v6/video/fetch|/v7/images/fetch|/v7/video-fusion/fetch)(?:/([^/]{1,40}))?")


def failure(message: str, status: int) -> Reply:
    """The error body."""
    return json_reply({"status": "error", "message": message}, status)


def wrong(message: str) -> Refusal:
    """A request that this API refuses for its content."""
    return Refusal("invalid_params", failure(message, 400))


class ModelsLab:
    """The endpoints below ``/modelslab/api``."""

    slug = SLUG

    def __init__(self, state: State, shelf: uploads.Shelf, studio: Studio) -> None:
        self.state = state
        self.shelf = shelf
        self.studio = studio

    async def handle(self, call: Call, path: str) -> Reply:
        """Answer one call; ``path`` is what follows the prefix."""
        call.provider = SLUG
        fetch = _FETCH.fullmatch(path)
        call.kind = _kind(path, fetched=fetch is not None)
        if call.request.method == "GET" and path == "/agents/v1/wallet/balance":
            return self._agents_balance(call)
        if call.request.method != "POST":
            raise Refusal("not_found", failure("The GET method is not supported for this route.", 405))
        data = _object(call.request.body)
        key = self.state.login(SLUG, data.get("key"))
        if key is None:
            raise Refusal("auth_failed", self.refusal("auth_failed", "", call))
        call.key = key.label
        if path in ROUTES:
            route = ROUTES[path]
            call.operation = route.operation
            draft = await self._draft(route, data, key, call)
            call.api_key = str(data["key"])
            return submit(self.state, self, key, draft, call)
        if fetch is not None:
            return await self._fetch(fetch[1], str(fetch[2] or data.get("request_id", "")), key, call)
        if path == "/wallet_balance":
            left = round(key.balance(SLUG, time.time()), 4)
            return json_reply({"status": "success", "data": {"balance": left, "currency": "USD"}})
        if path in ("/v6/processing/request_count", "/v6/processing_request_count"):
            count = key.in_flight(time.time())
            return json_reply({"status": "success", "processing_count": count, "message": f"{count} in processing"})
        if path == "/v6/base64_to_url":
            return await self._base64(data, key, call)
        raise Refusal("not_found", failure(f"The route {path} could not be found.", 404))

    # -- the desk's words -----------------------------------------------------------------------

    def accepted(self, work: Work, call: Call) -> Reply:
        """The reply to a submit: the result, when it is there at once, else where to fetch it."""
        now = time.time()
        if work.finish_at <= work.accepted_at and work.outcome == "done" and not work.echo["base64"]:
            return json_reply(self.finished(work, call.request.origin, call))
        return json_reply(self._processing(work, now, call.request.origin))

    def refusal(self, kind: str, argument: str, call: Call) -> Reply:
        """The reply that refuses."""
        status, message = ERRORS[kind]
        if kind == "concurrency":
            key = self.state.keys.get(call.key)
            message = message.format(limit=key.settings.limit if key and key.settings.limit is not None else 5)
        if argument and kind in ("invalid_params", "key_echo"):
            message = argument
        reply = failure(message, status)
        if status in (429, 503):
            wait = argument or "5"
            reply.headers["Retry-After"] = wait
            if wait.isdigit():
                body = {"status": "error", "message": message, "retry_after": int(wait)}
                reply.body = json.dumps(body, separators=(",", ":")).encode()
        return reply

    def id_field(self) -> tuple[str, ...]:
        """Where the id stands."""
        return ("id",)

    # -- generating -----------------------------------------------------------------------------

    async def _draft(self, route: Route, data: dict[str, Any], key: Key, call: Call) -> Draft:
        prompt = data.get("prompt")
        if not isinstance(prompt, str) or not prompt.strip():
            raise wrong("prompt is required")
        call.prompt = prompt
        model = data.get("model_id")
        if not isinstance(model, str) or not model:
            raise wrong("model_id is required")
        if model.startswith(("missing", "unknown")):
            raise wrong(f"Model not found: {model}")
        width, height = _dimensions(route, data)
        samples = _number(data, "samples", 1, 4) or 1
        if route.medium == "video":
            samples = 1
            if data.get("duration") not in (None, *(str(n) for n in range(1, 21)), *range(1, 21)):
                raise wrong("duration must be a number of seconds as a string, such as 5")
            _number(data, "num_frames", 1, 250)
        _number(data, "num_inference_steps", 1, 100)
        seed = _number(data, "seed", 0, 2**63)
        webhook = data.get("webhook") or ""
        if not isinstance(webhook, str) or (webhook and not webhook.startswith(("http://", "https://"))):
            raise wrong("webhook must be a URL")
        images = await self._inputs(route, data, key, call)
        medium = route.medium
        spec = {
            "medium": medium, "prompt": without_markers(prompt),
            "seed": any_seed() if seed is None else seed,
            "width": width, "height": height, "images": images,
            "mode": "plain" if not images else "move" if medium == "video" else "restyle",
        }  # fmt: skip
        cost = VIDEO_COST if medium == "video" else PICTURE_COST * samples
        echo = {
            "fetch": f"{PREFIX}{route.fetch}", "base64": _truth(data.get("base64")), "model_id": model,
            "negative_prompt": str(data.get("negative_prompt") or "")[:500],
        }  # fmt: skip
        instant = medium == "picture" and width * height <= INSTANT_PIXELS
        return Draft(
            route.operation, prompt, spec, cost, samples, echo, webhook, data.get("track_id"), instant=instant
        )  # fmt: skip

    async def _inputs(self, route: Route, data: dict[str, Any], key: Key, call: Call) -> list[str]:
        if not route.from_image:
            return []
        given = data.get("init_image")
        sources = given if isinstance(given, list) else [given]
        files = []
        for source in sources[:4] or [None]:
            if not isinstance(source, str) or not source:
                raise wrong("init_image is required")
            try:
                files.append(await self.shelf.source(source, SLUG, key, call.request.origin))
            except uploads.Unusable as error:
                raise wrong("Unable to fetch image from provided URL") from error
        return files

    async def _base64(self, data: dict[str, Any], key: Key, call: Call) -> Reply:
        text = data.get("base64_string")
        if not isinstance(text, str) or not text:
            raise wrong("base64_string is required")
        try:
            upload = await self.shelf.keep_picture(SLUG, key, uploads.from_base64(text), call.request.origin)
        except uploads.Unusable as error:
            raise wrong(str(error)) from error
        call.remote_id = str(upload.id)
        return json_reply({"status": "success", "id": upload.id, "output": [upload.url]})

    # -- status ---------------------------------------------------------------------------------

    async def _fetch(self, route: str, text: str, key: Key, call: Call) -> Reply:
        call.remote_id = text[:40]
        work = self.state.find(SLUG, key, int(text)) if text.isdigit() and len(text) < 20 else None
        if work is None or work.echo["fetch"] != f"{PREFIX}{route}":
            raise Refusal("not_found", self.refusal("404", "", call))
        refusals = {name: self.refusal(name, "", call) for name in ("404", "429", "500", "503")}
        spoilt = spoiled_poll(self.state, work, call, refusals)
        if spoilt is not None:
            return spoilt
        now = time.time()
        if self.state.strike(work, "poll_unknown_status", 2):
            call.faults.append("poll_unknown_status")
            return json_reply({"status": "pondering", "id": work.remote_id, "output": []})
        if now < work.finish_at:
            return json_reply(self._processing(work, now, call.request.origin))
        reply = self.finished(work, call.request.origin, call)
        if work.echo["base64"] and reply["status"] == "success":
            try:
                reply["output"] = [await self._encoded(work, index) for index in range(len(reply["output"]))]
            except RenderFailed as error:
                return failure(str(error), 500)
        return json_reply(reply)

    async def _encoded(self, work: Work, index: int) -> str:
        return base64.b64encode(file_reply(await self.studio.file(spec_of(work, index))).body).decode()

    def _processing(self, work: Work, now: float, origin: str) -> dict[str, Any]:
        eta = round(max(0.1, min(work.finish_at - now, 60.0)), 2)
        return {
            "status": "processing", "tip": "Your request is being processed. Fetch it later.", "eta": eta,
            "message": "Try to fetch request after seconds estimated",
            "fetch_result": f"{origin}{work.echo['fetch']}/{work.remote_id}", "id": work.remote_id, "output": [],
            "future_links": [result_url(self.state, work, index, origin) for index in range(work.outputs)],
            "meta": self._meta(work),
        }  # fmt: skip

    def finished(self, work: Work, origin: str, call: Call | None = None) -> dict[str, Any]:
        """The body that reports the end, well or not."""
        if work.outcome == "failed":
            return {"status": "failed", "id": work.remote_id, "message": "Generation failed", "output": []}
        if work.outcome == "moderated" and work.faults.get("moderated_output") == "failed":
            return {"status": "failed", "id": work.remote_id, "output": [],
                    "message": "The output was blocked by the content policy (NSFW)"}  # fmt: skip
        outputs = [result_url(self.state, work, index, origin) for index in range(work.outputs)]
        for fault in ("no_url", "late_moderation", "bad_url", "partial"):
            if self.state.note(work, fault):
                outputs = {
                    "no_url": [], "late_moderation": [placeholder_url(work, origin)], "partial": outputs[:-1],
                }.get(fault, [work.faults[fault] or "file:///etc/passwd"])  # fmt: skip
                if call is not None:
                    call.faults.append(fault)
        return {
            "status": "success", "generationTime": round(work.finish_at - work.accepted_at, 2), "id": work.remote_id,
            "output": outputs, "proxy_links": outputs, "nsfw_content_detected": work.outcome == "moderated",
            "webhook_status": "", "meta": self._meta(work),
        }  # fmt: skip

    def _meta(self, work: Work) -> dict[str, Any]:
        spec = work.spec
        return {
            "prompt": work.prompt, "negative_prompt": work.echo["negative_prompt"], "seed": spec["seed"],
            "model_id": work.echo["model_id"], "W": spec["width"], "H": spec["height"], "n_samples": work.outputs,
        }  # fmt: skip

    def _agents_balance(self, call: Call) -> Reply:
        token = call.request.headers.get("authorization", "").removeprefix("Bearer ")
        key = self.state.login(SLUG, token)
        if key is None:
            raise Refusal("auth_failed", self.refusal("auth_failed", "", call))
        call.key, call.kind = key.label, "balance"
        left = round(key.balance(SLUG, time.time()), 4)
        return json_reply({"data": {"balance": left, "currency": "USD"}, "error": None, "meta": {"request_id": ""}})


def _object(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise wrong("The body is not valid JSON") from error
    if not isinstance(data, dict):
        raise wrong("The body is not a JSON object")
    return data


def _kind(path: str, *, fetched: bool) -> str:
    if path in ROUTES:
        return "submit"
    if fetched:
        return "poll"
    return {"/wallet_balance": "balance", "/v6/base64_to_url": "upload"}.get(path, "other")


def _dimensions(route: Route, data: dict[str, Any]) -> tuple[int, int]:
    ratio = data.get("aspect_ratio")
    if ratio is not None and ratio not in RATIOS:
        raise wrong(f"aspect_ratio must be one of {', '.join(RATIOS)}")
    preset = RATIOS[ratio] if ratio else (512, 288) if route.medium == "video" else (512, 512)
    highest = 2048 if route.v7 else 512 if route.medium == "video" else 1024
    width = _number(data, "width", 64 if route.v7 or route.medium == "video" else 256, highest) or preset[0]
    height = _number(data, "height", 64 if route.v7 or route.medium == "video" else 256, highest) or preset[1]
    if width % 8 or height % 8:
        raise wrong("width and height must be multiples of 8")
    if route.medium == "video" and max(width, height) > 640:
        scale = 640 / max(width, height)
        width, height = int(width * scale) // 2 * 2, int(height * scale) // 2 * 2
    return width, height


def _number(data: dict[str, Any], name: str, low: int, high: int) -> int | None:
    """An integer, also as a string (as old clients send it); None when left out."""
    value = data.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not re.fullmatch(r"-?\d{1,19}", str(value)):
        raise wrong(f"{name} must be an integer")
    if not low <= int(value) <= high:
        raise wrong(f"{name} must be between {low} and {high}")
    return int(value)


def _truth(value: object) -> bool:
    return value is True or value in ("yes", "true", "True")
