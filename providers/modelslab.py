"""ModelsLab, v6 and v7; the shared note wire/modelslab.md is the source of every fact here.

What is worth knowing: everything is a POST with the key in its JSON body, also asking for a status.
HTTP 200 may carry ``status: error``. A submit may answer with the finished result. Callbacks are unsigned
and come once, or not: they are given our Submission's id as ``track_id`` and are only a reason to poll.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Literal, cast

from pydantic import ValidationError

from providers import modelslab_params as params
from providers import replies
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
    ProviderBusy,
    ProviderError,
    RateLimited,
    Refused,
)

LARGEST_IMAGE = 5_000_000
"""Bytes that ``base64_to_url`` takes."""
SHORTEST_POLL, LONGEST_POLL, USUAL_POLL = 2.0, 60.0, 5.0

_FETCH_PATH = re.compile(r"/v[67]/(?:images|video|video-fusion)/fetch(?:/([A-Za-z0-9_-]{1,64}))?")

_MODERATED = re.compile(r"nsfw|safety|moderat|content polic|policy violation", re.IGNORECASE)
_UNKNOWN_JOB = re.compile(r"request (id )?(was )?not found|invalid request.?id|no request found", re.IGNORECASE)
_SURELY_NOT_MADE = re.compile(r"not processed|at the moment|server is busy|try another model", re.IGNORECASE)
_QUEUE_FULL = re.compile(r"queue|concurren|parallel", re.IGNORECASE)

_BY_STATUS: dict[int, type[ProviderError]] = {
    400: InvalidParams,
    401: AuthFailed,
    402: InsufficientCredits,
    403: PermissionDenied,
    404: InvalidParams,
    422: InvalidParams,
}
"""HTTP status of an error body -> class (429 and 5xx are read more closely)."""

_BY_MESSAGE: tuple[tuple[re.Pattern[str], type[ProviderError]], ...] = (
    (re.compile(r"rate limit|too many requests|maximum \d+ queued", re.IGNORECASE), RateLimited),
    (re.compile(r"api.?key|unauthori[sz]ed|unauthenticated", re.IGNORECASE), AuthFailed),
    (re.compile(r"insufficient|not enough credit|out of credit|add more credits", re.IGNORECASE), InsufficientCredits),
    (re.compile(r"premium|subscription|upgrade your plan", re.IGNORECASE), PermissionDenied),
    (_SURELY_NOT_MADE, Refused),
    (
        re.compile(r"required|not found|unable to fetch|must be|may not be|invalid|unsupported", re.IGNORECASE),
        InvalidParams,
    ),
)
"""Words of an error body with HTTP 200 -> class. None of them: Refused, for an error body says that no job was made."""


class ModelsLab(Provider):
    """Pictures and videos by ModelsLab's many models."""

    slug = "modelslab"
    title = "ModelsLab"
    default_base_url = "https://modelslab.com/api"
    credential_fields = (CredentialField("api_key", "API key", "From ModelsLab's dashboard, under API keys."),)
    operations = {
        "text_to_image": params.TextToImage,
        "image_to_image": params.ImageToImage,
        "text_to_video": params.TextToVideo,
        "image_to_video": params.ImageToVideo,
    }
    balance_unit = "USD"
    default_concurrency = 5  # what a pay-as-you-go account may have queued
    has_balance = True

    def submit(self, order: Order, credentials: Credentials) -> SubmitStory:
        """Turn the inputs into links, then generate."""
        if order.operation_type not in self.operations:
            raise InvalidParams(f"ModelsLab has no operation {order.operation_type}.", field="operation_type")
        wanted = cast("params.Wanted", order.params)
        wanted.check_inputs(Counter(file.role for file in order.inputs))
        path, _, _ = wanted.route()
        body = {"key": _key(credentials), **wanted.wire(), "track_id": order.submission_id}
        if order.callback_url:
            body["webhook"] = Secret(order.callback_url)  # whoever knows it may call back
        links: list[str] = []
        for file in order.inputs:
            _check_image(file)
        for file in order.inputs:
            link = yield from self._upload(file, credentials)
            links.append(link)
        if links:
            body["init_image"] = links[0] if len(links) == 1 else links
        reply = yield Call("POST", path, json=body, billable=True)
        found = _accepted(reply)
        job_id = replies.word_id(found.get("id"))
        if job_id is None:
            self.unknown(reply, "ModelsLab accepted but named no usable job id")
        note = _note(wanted, job_id)
        note["fetch_path"] = _fetch_path(found.get("fetch_result"), job_id) or note["fetch_path"]
        standing = _standing(found, _kind(order.operation_type), note)
        if standing.state == "succeeded" and standing.outputs:
            return SubmitResult(job_id, note, outputs=standing.outputs)
        # A result that is flagged, empty or failed already is a job all the same: the poll will say so.
        return SubmitResult(job_id, note, poll_after=standing.poll_after or SHORTEST_POLL)

    def poll(self, handle: JobHandle, credentials: Credentials) -> PollStory:
        """POST to the fetch address that the submit reply named (its path: the host is always the account's)."""
        job_id = replies.word_id(handle.job_id)
        if job_id is None:
            return PollResult("missing", raw_status="not an id of ModelsLab's")
        note = handle.note or self._note_of(handle, job_id)
        path = _fetch_path(note.get("fetch_path"), job_id)
        if path is None:
            images = _kind(handle.operation_type) == "image"
            path = f"/v6/images/fetch/{job_id}" if images else f"/v7/video-fusion/fetch/{job_id}"
        body: dict[str, Any] = {"key": _key(credentials)}
        if not path.endswith(f"/{job_id}"):
            body["request_id"] = job_id
        reply = yield Call("POST", path, json=body)
        found = replies.json_object(reply)
        text = _message(found)
        if reply.status == 404 or (_word(found) == "error" and _UNKNOWN_JOB.search(text)):
            return PollResult("missing", raw_status=f"HTTP {reply.status} {text}"[:80])
        if found is not None and 200 <= reply.status < 300 and _word(found) and not _concerns_the_account(text):
            return _standing(found, _kind(handle.operation_type), note)
        error = _refusal(reply, found)
        if isinstance(error, (AuthFailed, PermissionDenied, InsufficientCredits, ProviderBusy, Refused)):
            raise error
        raise OutcomeUnknown(f"ModelsLab's reply to a poll was of no use: {error.detail}")

    def balance(self, credentials: Credentials, trace_ids: Callable[[], str]) -> BalanceStory:
        """The wallet's dollars."""
        reply = yield Call("POST", "/wallet_balance", json={"key": _key(credentials)})
        data = _accepted(reply).get("data")
        amount = replies.money(data.get("balance")) if isinstance(data, dict) else None
        if amount is None:
            self.unknown(reply, "ModelsLab told no balance")
        return amount

    def parse_callback(self, headers: Mapping[str, str], body: bytes) -> CallbackResult:
        """``{"status": "success", "id": 881, "track_id": "<our Submission>", ...}``; unsigned, so only a hint."""
        found = replies.json_object(Reply(200, {}, body))
        job_id = replies.word_id(found.get("id")) if found is not None else None
        if job_id is None:
            raise ValueError("no callback of ModelsLab's: it names no job id")
        reference = found.get("track_id") if found is not None else None
        return CallbackResult(
            job_id, raw_status=_word(found), reference=reference if isinstance(reference, str) else ""
        )

    def _note_of(self, handle: JobHandle, job_id: str) -> dict[str, Any]:
        """What would have been noted, had the submit been answered; nothing where its params are of another time."""
        try:
            wanted = self.operations[handle.operation_type].model_validate(dict(handle.params))
        except (KeyError, ValidationError):
            return {}
        return _note(cast("params.Wanted", wanted), job_id)

    def _upload(self, file: InputFile, credentials: Credentials) -> Generator[Call, Reply, str]:
        """A link (good for 24 h) to an input picture."""
        with file.open() as stream:
            data = f"data:{file.mime_type};base64,{b64encode(stream.read(LARGEST_IMAGE + 1)).decode('ascii')}"
        reply = yield Call("POST", "/v6/base64_to_url", json={"key": _key(credentials), "base64_string": data})
        try:
            output = _accepted(reply).get("output")
        except OutcomeUnknown as error:
            output, why = None, error.detail
        else:
            why = "ModelsLab named no link."
        links = output if isinstance(output, list) else [output]
        link = replies.web_url(links[0]) if links else None
        if link is None or link.startswith("data:"):
            raise Refused(f"The upload of {file.role} failed, nothing was generated: {why}")
        return link


def _check_image(file: InputFile) -> None:
    if not file.mime_type.startswith("image/"):
        raise InvalidParams(f"{file.role}: ModelsLab takes pictures.", field="inputs")
    if file.size > LARGEST_IMAGE:
        raise InvalidParams(f"{file.role}: ModelsLab takes pictures of up to 5 MB.", field="inputs")


def _key(credentials: Credentials) -> Secret:
    api_key = credentials.get("api_key", "")
    if not api_key:
        raise AuthFailed("The account has no API key.")
    return Secret(api_key)


def _kind(operation_type: str) -> Literal["image", "video"]:
    return "image" if operation_type.endswith("_image") else "video"


def _word(found: Mapping[str, Any] | None) -> str:
    """The envelope's ``status`` in lower case, "" when there is none."""
    word = found.get("status") if found is not None else None
    return word.strip().lower()[:40] if isinstance(word, str) else ""


def _message(found: Mapping[str, Any] | None) -> str:
    """The envelope's message, under any of the names that it is seen under."""
    for name in ("message", "messege", "error", "error_message"):
        if found is not None and (text := replies.message(found.get(name))):
            return text
    return ""


def _note(wanted: params.Wanted, job_id: str) -> dict[str, Any]:
    """What a poll needs to know of what was asked for."""
    return {"fetch_path": f"{wanted.route()[1]}/{job_id}", "checked": wanted.wire().get("safety_checker", True)}


def _fetch_path(link: object, job_id: str) -> str | None:
    """The path of a fetch address for this job, None if it is not one.

    Only the path is taken, and only one of the known shape for this very job: neither a forged reply
    nor a proxy's inner host name can send our key elsewhere.
    """
    if not isinstance(link, str) or len(link) > replies.LONGEST_URL:
        return None
    found = re.search(_FETCH_PATH.pattern + r"/?$", link)
    return found[0].rstrip("/") if found is not None and found[1] in (None, job_id) else None


def _accepted(reply: Reply) -> dict[str, Any]:
    """The body of a reply that says anything but an error.

    Raises:
        ProviderError: the refusal's class; OutcomeUnknown for what is no reply of this API.
    """
    found = replies.json_object(reply)
    if found is not None and 200 <= reply.status < 300 and _word(found):
        made_one = replies.word_id(found.get("id")) is not None
        if _word(found) not in ("error", "failed") or made_one:
            return found
    raise _refusal(reply, found)


def _refusal(reply: Reply, found: Mapping[str, Any] | None) -> ProviderError:
    """The class of an error reply. What does not surely mean "no job was made" is OutcomeUnknown."""
    text = _message(found)
    detail = f"ModelsLab: {text or 'no message'} (HTTP {reply.status})"
    said = _word(found) in ("error", "failed")
    says_error = said or (found is not None and reply.status >= 400 and bool(text))
    wait = _wait(reply, found)
    if says_error and reply.status < 500 and _MODERATED.search(text):
        return ContentModerated(detail, stage="input")
    if reply.status == 429:
        return _busy(text, detail, wait)
    if reply.status in (401, 402, 403) or (says_error and reply.status in _BY_STATUS):
        return _BY_STATUS[reply.status](detail)
    if reply.status in (404, 405) and not says_error:
        return Refused(f"There is no ModelsLab API at this base URL (HTTP {reply.status}).")
    if says_error and reply.status >= 500:
        if _SURELY_NOT_MADE.search(text):
            return Refused(detail, retry_after=wait)
        return OutcomeUnknown(detail)
    if said:
        kind = next((kind for pattern, kind in _BY_MESSAGE if pattern.search(text)), Refused)
        return _busy(text, detail, wait) if kind is RateLimited else kind(detail)
    return OutcomeUnknown(f"ModelsLab's reply is not its API's (HTTP {reply.status})")


def _busy(text: str, detail: str, wait: float | None) -> ProviderError:
    return (ConcurrencyLimit if _QUEUE_FULL.search(text) else RateLimited)(detail, retry_after=wait)


def _wait(reply: Reply, found: Mapping[str, Any] | None) -> float | None:
    """Seconds to wait: the body's ``retry_after``, Retry-After, or X-RateLimit-Reset (an epoch, read against Date)."""
    told = replies.seconds(found.get("retry_after")) if found is not None else None
    if told is not None:
        return told
    if (header := replies.retry_after(reply.headers)) is not None:
        return header
    reset = replies.seconds(reply.headers.get("x-ratelimit-reset"))
    try:
        now = parsedate_to_datetime(reply.headers.get("date", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, reset - now) if reset is not None else None


def _concerns_the_account(text: str) -> bool:
    """Whether an error on a status call is about the asking, not about the job."""
    return any(pattern.search(text) and kind in (RateLimited, AuthFailed) for pattern, kind in _BY_MESSAGE)


def _standing(found: Mapping[str, Any], kind: Literal["image", "video"], note: Mapping[str, Any]) -> PollResult:
    """What an envelope says about its job. An unknown status keeps it running."""
    word = _word(found)
    if word in ("error", "failed"):
        text = _message(found)
        detail = f"ModelsLab: {text or 'the generation failed'}"
        error: ProviderError = JobFailed(detail)
        if _MODERATED.search(text):
            error = ContentModerated(detail, stage="output")
        return PollResult("failed", raw_status=word, error=error)
    if word == "success":
        urls = found.get("output")
        links = [replies.web_url(url) for url in (urls if isinstance(urls, list) else [urls])]
        outputs = tuple(Output(link, kind) for link in links if link is not None)
        # Where the checker is on, a flagged picture comes blurred or black: nobody's result.
        flagged = found.get("nsfw_content_detected") is True and note.get("checked") is not False
        if flagged or any(replies.is_placeholder(output.url) for output in outputs):
            error = ContentModerated(
                "ModelsLab flagged what was made and returns it blurred or not at all.", stage="output"
            )
            return PollResult("failed", raw_status="success, flagged", error=error)
        return PollResult("succeeded", outputs, raw_status=word)
    eta = replies.seconds(found.get("eta"))
    poll_after = min(LONGEST_POLL, max(SHORTEST_POLL, eta * 0.8)) if eta is not None else USUAL_POLL
    return PollResult("running", poll_after=poll_after, raw_status=word)
