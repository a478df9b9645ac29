"""The studio: asks a renderer in another process for files, once each, without holding up the server."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import struct
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

# In light mode, so many different motifs exist per size; each result still has bytes of its own.
MOTIFS = 8
URGENT, AHEAD = 0, 1
ROOT = Path(__file__).resolve().parents[2]


class RenderFailed(RuntimeError):
    """The renderer could not make a file."""


class Studio:
    """Makes and caches results. ``light`` saves CPU in drills: few motifs, re-used with a stamp."""

    def __init__(self, folder: Path, uploads: Path, *, light: bool) -> None:
        self._folder = folder
        self._uploads = uploads
        self.light = light
        self._waiting: asyncio.PriorityQueue[tuple[int, int, Path, dict[str, Any]]] = asyncio.PriorityQueue()
        self._order = itertools.count()
        self._promised: dict[Path, asyncio.Future[None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._child: asyncio.subprocess.Process | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, spec: dict[str, Any]) -> Path:
        """Where the file of a spec is, or will be."""
        text = json.dumps(spec, sort_keys=True) + ("light" if self.light else "")
        digest = hashlib.sha256(text.encode()).hexdigest()[:40]
        return self._folder / f"{digest}.{'mp4' if spec['medium'] == 'video' else 'png'}"

    def prepare(self, spec: dict[str, Any]) -> None:
        """Have it drawn when nothing more urgent waits."""
        if not self.light:
            self._order_file(self.path(spec), spec, AHEAD)

    async def file(self, spec: dict[str, Any]) -> Path:
        """The finished file. Raises RenderFailed."""
        path = self.path(spec)
        if path.exists():
            return path
        if self.light:
            motif = int(hashlib.sha256(spec["prompt"].encode("utf-8", "replace")).hexdigest(), 16) % MOTIFS
            common = {**spec, "prompt": f"light {motif}", "seed": motif, "images": [], "mode": "plain", "index": 0}
            common.pop("before", None)
            base = self.path(common)
            if not base.exists():
                await self._made(base, common)
            _write(path, stamped(base.read_bytes(), path.stem))
            return path
        await self._made(path, spec)
        return path

    async def _made(self, path: Path, spec: dict[str, Any]) -> None:
        await asyncio.shield(self._order_file(path, spec, URGENT))

    def _order_file(self, path: Path, spec: dict[str, Any], urgency: int) -> asyncio.Future[None]:
        future = self._promised.get(path)
        if future is None:
            future = self._promised[path] = asyncio.get_running_loop().create_future()
            # Nobody may ever ask for what was drawn ahead: a failure then is no unhandled one.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
        elif urgency != URGENT:
            return future
        if not future.done():
            self._waiting.put_nowait((urgency, next(self._order), path, spec))
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._work())
        return future

    async def _work(self) -> None:
        while not self._waiting.empty():
            _, _, path, spec = self._waiting.get_nowait()
            future = self._promised.get(path)
            if future is None or future.done():
                continue
            error = "" if path.exists() else await self._draw(path, spec)
            del self._promised[path]
            if error:
                future.set_exception(RenderFailed(error))
            else:
                future.set_result(None)

    async def _draw(self, path: Path, spec: dict[str, Any]) -> str:
        """Ask the child; returns what went wrong, "" for nothing."""
        order = {"path": str(path), "uploads": str(self._uploads), "spec": spec}
        for _attempt in range(2):
            child = await self._renderer()
            assert child.stdin is not None
            assert child.stdout is not None
            with suppress(ConnectionError):
                child.stdin.write(json.dumps(order).encode() + b"\n")
                await child.stdin.drain()
                line = await child.stdout.readline()
                if line:
                    return str(json.loads(line)["error"])
            self._child = None
        return "the renderer ended unexpectedly"

    async def _renderer(self) -> asyncio.subprocess.Process:
        if self._child is None or self._child.returncode is not None:
            # It ends by itself when our end of the pipe closes, so it never outlives us.
            self._child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "providers.sandbox.art",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                cwd=ROOT, start_new_session=True,
            )  # fmt: skip
        return self._child

    async def close(self) -> None:
        """Let the renderer go."""
        if self._task is not None:
            self._task.cancel()
        if self._child is not None and self._child.returncode is None:
            with suppress(ProcessLookupError):
                self._child.terminate()
            await self._child.wait()


def stamped(data: bytes, text: str) -> bytes:
    """The same picture or video with other bytes: a comment where the format allows one."""
    payload = text.encode()
    if data.startswith(b"\x89PNG"):
        chunk = b"tEXt" + b"Comment\x00" + payload
        block = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        return data[:-12] + block + data[-12:]
    return data + struct.pack(">I", len(payload) + 8) + b"free" + payload


def _write(path: Path, data: bytes) -> None:
    partial = path.with_suffix(".part")
    partial.write_bytes(data)
    partial.replace(path)
