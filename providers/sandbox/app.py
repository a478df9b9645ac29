"""The whole sandbox: routes each call, writes it down, then lets the answer (or the fault) go."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from providers.sandbox import control, modelslab, page, pixverse
from providers.sandbox.callbacks import Messenger
from providers.sandbox.desk import Call, Refusal
from providers.sandbox.media import Gallery, file_reply
from providers.sandbox.record import Record
from providers.sandbox.state import State, Work
from providers.sandbox.studio import Studio
from providers.sandbox.uploads import Shelf
from providers.sandbox.web import Reply, Request, html_reply, json_reply

# What must be on the disk before anybody hears of it. Polls and downloads change nothing.
AWAITED = frozenset({"submit", "upload"})


@dataclass(frozen=True, slots=True)
class Settings:
    """How to run. ``speed``: see the package's docstring; None (and empty rates): as remembered."""

    data: Path
    seed: int = 1
    speed: float | None = None
    never_seconds: float | None = None
    rates: dict[str, float] = field(default_factory=dict)
    light: bool = False


class App:
    """One sandbox over one data folder. Make it on the running event loop."""

    def __init__(self, settings: Settings) -> None:
        self.record = Record(settings.data)
        self.state = State(self.record, seed=settings.seed, speed=1.0, never_seconds=600.0)
        kept = self.state.remembered()
        self.state.rates = settings.rates or kept.get("rates", {})
        self.state.speed = settings.speed if settings.speed is not None else kept.get("speed", 1.0)
        if settings.never_seconds is not None:
            self.state.never_seconds = settings.never_seconds
        else:
            self.state.never_seconds = kept.get("never_seconds", 600.0)
        uploads = settings.data / "uploads"
        self.studio = Studio(settings.data / "media", uploads, light=settings.light)
        self.gallery = Gallery(self.state, self.studio)
        self.shelf = Shelf(self.state, uploads, self.gallery.own_file)
        self.pixverse = pixverse.Pixverse(self.state, self.shelf)
        self.modelslab = modelslab.ModelsLab(self.state, self.shelf, self.studio)
        self.control = control.Control(self.state, time.time())
        self.messenger = Messenger(self.state, self)
        self.messenger.resume()

    async def handle(self, request: Request) -> Reply:
        """Answer one request, after it is written down."""
        path = request.path
        if path.startswith(control.PREFIX + "/"):
            return await self.control.handle(request, path.removeprefix(control.PREFIX))
        if path == "/":
            await self.record.durable()
            summary = await asyncio.to_thread(self.control.summary)
            return html_reply(page.render(self.state, summary))
        call = Call(request)
        try:
            reply = await self._route(call, path)
        except Refusal as refusal:
            call.error, reply = refusal.kind, refusal.reply
        except Exception as error:  # noqa: BLE001 - a defect of ours must be seen as ours, and be on the record
            call.error = f"defect: {error!r}"
            reply = json_reply({"error": f"The sandbox itself failed: {error!r}"}, 500)
        self._write(call, reply)
        if call.kind in AWAITED or call.faults:
            await self.record.durable()
        if call.created:
            work = self.state.works.get(int(call.remote_id))
            if work is not None:
                self._started(work)
        return reply

    def callback_body(self, work: Work) -> dict[str, Any]:
        """What a provider says by webhook when work has ended."""
        if work.provider == pixverse.SLUG:
            resp = self.pixverse.resp(work, self.pixverse.status(work, work.finish_at), work.finish_at, work.origin)
            body = {name: resp[name] for name in ("status", "url", "size", "has_audio", "credits")}
            return {"id": str(work.remote_id), **body}
        end = self.modelslab.finished(work, work.origin)
        names = ("status", "id", "output", "generationTime", "message", "meta")
        return {**{name: end[name] for name in names if name in end}, "track_id": work.track_id}

    async def close(self) -> None:
        """Write what is queued, stop the renderer."""
        self.messenger.close()
        await self.studio.close()
        self.record.close()

    async def _route(self, call: Call, path: str) -> Reply:
        if path.startswith(pixverse.PREFIX + "/"):
            return await self.pixverse.handle(call, path.removeprefix(pixverse.PREFIX))
        if path.startswith(modelslab.PREFIX + "/"):
            return await self.modelslab.handle(call, path.removeprefix(modelslab.PREFIX))
        if path.startswith("/media/"):
            call.kind = "media"
            if call.request.method not in ("GET", "HEAD"):
                return json_reply({"error": "Results are only read."}, 405)
            upload = self.shelf.path(path)
            return file_reply(upload) if upload is not None else await self.gallery.serve(call)
        return json_reply({"error": f"There is nothing at {path}. See / for what there is."}, 404)

    def _started(self, work: Work) -> None:
        self.messenger.schedule(work)
        if work.outcome == "done":
            for index in range(work.outputs):
                self.studio.prepare({**work.spec, "index": index, "blurred": False})

    def _write(self, call: Call, reply: Reply) -> None:
        request = call.request
        digest = hashlib.sha256(request.body).hexdigest() if request.body else None
        self.record.add(
            "INSERT INTO calls (at, provider, key, method, path, kind, operation, request_id, trace_id, body_sha256, "
            "prompt, remote_id, created, fault, http_status, error) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                time.time(), call.provider, call.key, request.method, request.path[:500], call.kind, call.operation,
                call.request_id, call.trace_id or None, digest, call.prompt[:5000], call.remote_id,
                int(call.created), ",".join(dict.fromkeys(call.faults)) or None, reply.status, call.error or None,
            ),
        )  # fmt: skip
