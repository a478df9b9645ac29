"""Callbacks to the callers: real POSTs, when work has finished, by each provider's own rules."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import time
import urllib.error
import urllib.request
import uuid
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from providers.sandbox.state import State, Work

# Pixverse repeats until it is answered `ok`; ModelsLab sends once. Seconds, times the sandbox's speed.
RETRIES = {"pixverse": (2.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0), "modelslab": ()}
SEND_SECONDS = 10.0
AT_ONCE = 8


class Bodies(Protocol):
    """Where the content of a callback comes from."""

    def callback_body(self, work: Work) -> dict[str, Any]:
        """What a provider says when the work has ended."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class Messenger:
    """Sends what is due. Every try is written down, so that a restart neither forgets nor repeats."""

    def __init__(self, state: State, bodies: Bodies) -> None:
        self._state = state
        self._bodies = bodies
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._opener = urllib.request.build_opener(_NoRedirects, urllib.request.ProxyHandler({}))

    def resume(self) -> None:
        """After a start: go on with what has not been delivered, or given up, before."""
        over = {
            row["remote_id"]
            for row in self._state.record.rows("SELECT DISTINCT remote_id FROM callbacks WHERE final = 1")
        }
        for work in list(self._state.works.values()):
            if work.remote_id not in over:
                self.schedule(work, fresh=False)

    def schedule(self, work: Work, *, fresh: bool = True) -> None:
        """Arrange the callbacks of a work, if it has any."""
        url = self._url(work)
        if not url:
            return
        if fresh and "forged_callback" in work.faults:
            self._start(self._forge(work, url))
        self._start(self._tell(work, url))

    def close(self) -> None:
        """Drop what is under way; it goes on after the next start."""
        for task in self._tasks:
            task.cancel()

    def _url(self, work: Work) -> str:
        return work.webhook or self._state.keys[work.key].settings.callback_url

    def _start(self, story: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(story)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, work: Work, url: str) -> None:
        await asyncio.sleep(max(0.0, work.finish_at - time.time()))
        if self._gone(work):
            return
        if self._state.note(work, "lost_callback"):
            self._write(work, "lost", url, None, final=True)
            return
        for pause in (*RETRIES[work.provider], None):
            status, good = await self._post(work, url, self._bodies.callback_body(work), true=True)
            final = good or pause is None
            self._write(work, "sent", url, status, final=final)
            if final:
                break
            await asyncio.sleep((pause or 0.0) * max(self._state.speed, 0.01))
        if self._state.strike(work, "duplicate_callback"):
            status, _ = await self._post(work, url, self._bodies.callback_body(work), true=True)
            self._write(work, "duplicate", url, status, final=True)

    async def _forge(self, work: Work, url: str) -> None:
        await asyncio.sleep(min(0.2, max(0.0, work.finish_at - time.time()) / 2))
        if self._gone(work) or not self._state.strike(work, "forged_callback"):
            return
        body = self._bodies.callback_body(work)
        liar = "http://127.0.0.1:9/forged.png"
        body.update({"status": 1, "url": liar} if work.provider == "pixverse" else {"output": [liar]})
        status, _ = await self._post(work, url, body, true=False)
        self._write(work, "forged", url, status, final=False)

    def _gone(self, work: Work) -> bool:
        return self._state.works.get(work.remote_id) is not work

    async def _post(self, work: Work, url: str, body: dict[str, Any], *, true: bool) -> tuple[int | None, bool]:
        raw = json.dumps(body, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json", "User-Agent": f"{work.provider}-webhook (sandbox)"}
        if work.provider == "pixverse":
            settings = self._state.keys[work.key].settings
            secret = settings.callback_secret if true else secrets.token_hex(16)
            headers.update(signature(raw, secret, form=settings.signature_form, now=time.time()))
            headers["Ai-Trace-Id"] = str(uuid.uuid4())
        async with self._slots:
            status, text = await asyncio.to_thread(self._send, url, raw, headers)
        good = status is not None and 200 <= status < 300 and (work.provider != "pixverse" or text.strip() == b"ok")
        return status, good

    def _send(self, url: str, raw: bytes, headers: dict[str, str]) -> tuple[int | None, bytes]:
        try:
            request = urllib.request.Request(url, data=raw, headers=headers, method="POST")  # noqa: S310
            with self._opener.open(request, timeout=SEND_SECONDS) as response:
                return response.status, response.read(64)
        except urllib.error.HTTPError as error:
            return error.code, b""
        except (OSError, ValueError):
            return None, b""

    def _write(self, work: Work, what: str, url: str, status: int | None, *, final: bool) -> None:
        # The path may carry the caller's token: the record keeps the digest of the address only.
        place = hashlib.sha256(url.encode()).hexdigest()[:16]
        self._state.record.add(
            "INSERT INTO callbacks (at, remote_id, what, url, http_status, final) VALUES (?,?,?,?,?,?)",
            (time.time(), work.remote_id, what, place, status, int(final)),
        )


def signature(raw: bytes, secret: str, *, form: str, now: float) -> dict[str, str]:
    """Pixverse's webhook headers for a JSON body.

    The signed text is ``timestamp\\nnonce\\npayload``. What ``payload`` is, the sources disagree on:
    form ``query`` is the JSON as a URL-encoded query string in the body's order, ``raw`` the
    percent-encoded body. Both are documented; a receiver should be able to check either.
    """
    timestamp, nonce = str(int(now)), secrets.token_hex(16)
    payload = query_string(json.loads(raw)) if form == "query" else quote(raw, safe="!'()*")
    text = f"{timestamp}\n{nonce}\n{payload}".encode()
    digest = base64.b64encode(hmac.new(secret.encode(), text, hashlib.sha256).digest()).decode()
    return {"Webhook-Timestamp": timestamp, "Webhook-Nonce": nonce, "Webhook-Signature": digest}


def query_string(body: dict[str, Any]) -> str:
    """``key=value&...`` of a flat JSON object; booleans are written ``true`` and ``false``."""
    return urlencode({name: value if isinstance(value, str) else json.dumps(value) for name, value in body.items()})
