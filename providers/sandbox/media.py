"""Results: their addresses, and how they are served, whole or spoilt."""

from __future__ import annotations

import asyncio
import re
import struct
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from providers.sandbox.desk import SORRY_PAGE, Call
from providers.sandbox.faults import CATALOGUE
from providers.sandbox.state import State, Work
from providers.sandbox.studio import RenderFailed, Studio
from providers.sandbox.web import Reply, json_reply

MIME = {
    ".mp4": "video/mp4",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
    ".m4a": "audio/mp4",
    ".aac": "audio/aac",
}
DRIP_SECONDS = 600
NOT_FOUND = b"<Error><Code>NoSuchKey</Code></Error>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HUGE_BYTES = 500 * 1000**3
PLACEHOLDER_SPEC: dict[str, Any] = {
    "prompt": "This content was removed", "seed": 1, "width": 320, "height": 180, "images": [], "mode": "removed",
}  # fmt: skip

_RESULT = re.compile(r"/media/([a-z]+)/(\d{1,20})/(\d)-v(\d{1,3})\.(?:mp4|png)")
_PLACEHOLDER = re.compile(r"/media/[a-z]+/default\.(mp4|png)")


def result_url(state: State, work: Work, index: int, origin: str) -> str:
    """The address of one output. It changes when an earlier one has expired."""
    version = 1 + state.fired[(work.remote_id, "expired_url_once")]
    suffix = "mp4" if work.medium == "video" else "png"
    return f"{origin}/media/{work.provider}/{work.remote_id}/{index}-v{version}.{suffix}"


def placeholder_url(work: Work, origin: str) -> str:
    """The address that replaces a result which moderation took back."""
    return f"{origin}/media/{work.provider}/default.{'mp4' if work.medium == 'video' else 'png'}"


def spec_of(work: Work, index: int) -> dict[str, Any]:
    """What the renderer must draw for one output."""
    return {**work.spec, "index": index, "blurred": work.outcome == "moderated"}


class Gallery:
    """Serves ``/media/<provider>/...``."""

    def __init__(self, state: State, studio: Studio) -> None:
        self._state = state
        self._studio = studio

    def own_file(self, path: str) -> Path | None:
        """The file behind one of our own result addresses, if it is drawn already."""
        match = _RESULT.fullmatch(path)
        work = self._state.works.get(int(match[2])) if match else None
        if match is None or work is None:
            return None
        file = self._studio.path(spec_of(work, int(match[3])))
        return file if file.is_file() else None

    async def serve(self, call: Call) -> Reply:
        """Answer a download."""
        path = call.request.path
        placeholder = _PLACEHOLDER.fullmatch(path)
        if placeholder:
            medium = "video" if placeholder[1] == "mp4" else "picture"
            return await self._whole({**PLACEHOLDER_SPEC, "medium": medium})
        match = _RESULT.fullmatch(path)
        work = self._state.works.get(int(match[2])) if match else None
        if match is None or work is None or work.provider != match[1]:
            return _missing()
        call.provider, call.key, call.remote_id = work.provider, work.key, str(work.remote_id)
        if time.time() < work.finish_at or int(match[3]) >= work.outputs or work.outcome == "failed":
            return _missing()
        spoilt = await self._spoilt(work, int(match[3]), int(match[4]), call)
        return spoilt if spoilt is not None else await self._whole(spec_of(work, int(match[3])))

    async def _whole(self, spec: dict[str, Any]) -> Reply:
        try:
            file = await self._studio.file(spec)
        except RenderFailed as error:
            return json_reply({"error": f"The sandbox could not draw this: {error}"}, 500)
        return file_reply(file)

    async def _spoilt(self, work: Work, index: int, version: int, call: Call) -> Reply | None:
        state = self._state
        mime = MIME[".mp4"] if work.medium == "video" else MIME[".png"]
        expired = state.fired[(work.remote_id, "expired_url_once")]
        if "expired_url_once" in work.faults and version <= max(1, expired):
            if not expired:
                state.strike(work, "expired_url_once")
            call.faults.append("expired_url_once")
            return _missing()
        if state.strike(work, "media_500_once"):
            call.faults.append("media_500_once")
            return Reply(status=500, body=SORRY_PAGE.encode(), content_type="text/html")
        name = next((name for name in work.faults if name in LASTING), None)
        if name is None:
            return None
        state.note(work, name)
        call.faults.append(name)
        if name in _INSTEAD:
            status, body, kind = _INSTEAD[name]
            return Reply(status=status, body=body, content_type=kind or mime)
        whole = (await self._whole(spec_of(work, index))).body
        if name == "huge":
            headers = {} if work.faults[name] == "chunked" else {"Content-Length": str(HUGE_BYTES)}
            return Reply(content_type=mime, headers=headers, stream=_endless(whole))
        headers = {"Content-Length": str(len(whole))}
        if name == "truncated":
            return Reply(body=whole[: len(whole) // 2], content_type=mime, headers=headers)
        return Reply(content_type=mime, headers=headers, stream=_drip(whole))


def file_reply(file: Path) -> Reply:
    """A file of ours with its right type."""
    return Reply(body=file.read_bytes(), content_type=MIME[file.suffix], headers={"Cache-Control": "no-store"})


def _missing() -> Reply:
    return Reply(status=404, body=NOT_FOUND, content_type="application/xml")


async def _drip(data: bytes) -> AsyncIterator[bytes]:
    for place in range(min(len(data), DRIP_SECONDS)):
        yield data[place : place + 1]
        await asyncio.sleep(1.0)


async def _endless(start: bytes) -> AsyncIterator[bytes]:
    yield start
    filler = bytes(256 * 1024)
    while True:
        yield filler
        # Fast enough to run into any honest limit, slow enough to leave the machine to the others.
        await asyncio.sleep(0.01)


def _giant_png() -> bytes:
    """A well-formed head of a picture that would need 7.5 GB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1024))) + chunk(b"IEND", b"")
    )


LASTING = frozenset(CATALOGUE["media"]) - {"expired_url_once", "media_500_once"}
# What is served instead of the result: status, body, MIME type ("": the result's own).
_INSTEAD: dict[str, tuple[int, bytes, str]] = {
    "404_url": (404, NOT_FOUND, "application/xml"),
    "html_media": (200, SORRY_PAGE.encode(), ""),
    "svg_media": (200, SVG, ""),
    "zero_bytes": (200, b"", ""),
    "giant_picture": (200, _giant_png(), ""),
}
