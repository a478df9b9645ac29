"""A small HTTP/1.1 server on asyncio: keep-alive, bounded, and able to misbehave on purpose."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlsplit

MAX_HEAD = 32 * 1024
MAX_BODY = 32 * 1024 * 1024
MAX_CONNECTIONS = 1000
IDLE_SECONDS = 75.0


class BadRequest(ValueError):
    """The bytes received are no HTTP request that this server takes; carries the status to answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One request. Header names are lower case; ``path`` is as sent, without the query."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def origin(self) -> str:
        """Scheme and host as the caller wrote them, for absolute URLs in replies."""
        return f"http://{self.headers.get('host', '127.0.0.1')}"


@dataclass(slots=True)
class Reply:
    """What to answer: ``delay`` seconds later, or, with ``drop``, by closing the connection.

    ``stream`` replaces ``body``; the headers must then say how it is framed.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    delay: float = 0.0
    stream: AsyncIterator[bytes] | None = None


Handler = Callable[[Request], Awaitable[Reply]]


def json_reply(data: Any, status: int = 200, **headers: str) -> Reply:
    """A JSON reply; underscores in ``headers`` names stand for hyphens."""
    body = json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    return Reply(status=status, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})


def html_reply(text: str, status: int = 200) -> Reply:
    """An HTML page."""
    return Reply(status=status, body=text.encode("utf-8", "replace"), content_type="text/html; charset=utf-8")


class Server:
    """Accepts connections and serves each in a task, one request at a time."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Bind and listen; returns the port. Raises OSError when the address is taken."""
        self._server = await asyncio.start_server(self._connected, host, port, limit=MAX_HEAD, backlog=512)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Stop listening and cut what is open: a caller learns by its connection, as with a real crash."""
        if self._server is not None:
            self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= MAX_CONNECTIONS:
            writer.write(_head(503, {"Content-Length": "0", "Retry-After": "1", "Connection": "close"}))
            writer.close()
            return
        self._open.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError, asyncio.CancelledError):
                while await self._one(reader, writer):
                    pass
        finally:
            self._open.discard(task)
            with suppress(Exception):
                writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; says whether the connection may be used again."""
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                request = await _read(reader, writer)
        except (BadRequest, asyncio.LimitOverrunError) as error:
            status = getattr(error, "status", 431)
            body = json.dumps({"error": str(error)}).encode()
            writer.write(_head(status, {"Content-Length": str(len(body)), "Connection": "close"}) + body)
            await writer.drain()
            return False
        if request is None:
            return False
        reply = await self._handle(request)
        if reply.delay > 0:
            await asyncio.sleep(reply.delay)
        if reply.drop:
            writer.transport.abort()
            return False
        return await _send(writer, request, reply)


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise BadRequest(400, "The request ended within its head.") from error
        return None
    lines = head[:-4].decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequest(400, "This is not an HTTP/1.1 request.")
    headers = {"connection": "close"} if parts[2] == "HTTP/1.0" else {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest(400, "A header line has no colon.")
        headers[name.strip().lower()] = value.strip()
    if "transfer-encoding" in headers:
        raise BadRequest(411, "Send a Content-Length: chunked requests are not taken here.")
    length = headers.get("content-length", "0")
    if not length.isdigit():
        raise BadRequest(400, "Content-Length is not a number.")
    if int(length) > MAX_BODY:
        raise BadRequest(413, f"The body is larger than {MAX_BODY} bytes.")
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await reader.readexactly(int(length)) if length != "0" else b""
    target = urlsplit(parts[1]) if "?" in parts[1] else None
    query = dict(parse_qsl(target.query)) if target else {}
    return Request(parts[0], target.path if target else parts[1], query, headers, body)


async def _send(writer: asyncio.StreamWriter, request: Request, reply: Reply) -> bool:
    keep = request.headers.get("connection", "").lower() != "close"
    headers = {"Content-Type": reply.content_type, **reply.headers}
    if reply.stream is None:
        headers.setdefault("Content-Length", str(len(reply.body)))
        # A false length makes the framing of anything that follows meaningless.
        keep = keep and headers["Content-Length"] == str(len(reply.body))
    else:
        keep = False
    if not keep:
        headers["Connection"] = "close"
    head = _head(reply.status, headers)
    if request.method == "HEAD":
        writer.write(head)
    elif reply.stream is None:
        writer.write(head + reply.body)
    else:
        writer.write(head)
        async for chunk in reply.stream:
            writer.write(chunk)
            await writer.drain()
    await writer.drain()
    return keep


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Status"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace")
