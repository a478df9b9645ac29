"""The guarded downloader: bytes from a URL that a user or a provider gave.

Nothing of ours goes out with it: no cookies, no credentials, no proxy from the environment.
Each hop is judged by ``providers.addresses``, its name is looked up once, and the connection
goes to the address that was judged, with the name kept for TLS and the Host header.
Connections are kept and shared by all threads of a process.

What a caller makes of the errors:

=============== ================================================= =======================
AssetGone       any 4xx but 408, 425, 429 (an expired signature    poll for a fresh link
                is 403 at S3, 400 at Google)
UnsafeURL       the URL, or a redirect, may not be fetched         give up this link
AssetUnusable   too big, empty, undecodable, unexpected 2xx or 3xx give up this link
ProviderBusy    5xx, 408, 425, 429, 202 (with ``retry_after``)     try the link again later
NotDelivered    lookup, connect, TLS, idle, total limit, cut short try the link again later
=============== ================================================= =======================
"""

from __future__ import annotations

import binascii
import functools
import hashlib
import http.client
import io
import os
import re
import socket
import ssl
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, BinaryIO, cast
from urllib.parse import urljoin

import certifi
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import DecodeError, HTTPError
from urllib3.response import BaseHTTPResponse

from providers import addresses
from providers.addresses import Target, UnsafeURL
from providers.errors import AssetGone, AssetUnusable, NotDelivered, ProviderBusy

__all__ = ["Fetched", "UnsafeURL", "check_url", "download"]

_CHUNK = 64 * 1024
_CONNECT_LIMIT = 5.0
_ADDRESSES_TRIED = 3
_MAX_REDIRECTS = 4
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BUSY = frozenset({202, 408, 425, 429})
_LONGEST_RETRY_AFTER = 3600.0
_HEADERS = {
    "User-Agent": "Darkroom",
    "Accept": "image/*, video/*, */*;q=0.1",
    "Accept-Encoding": "identity",
}
_DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[^;,]*)*;base64,", re.IGNORECASE | re.ASCII)
_BASE64_SLICE = 4 * 256 * 1024


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was written: ``size`` in bytes, ``sha256`` in hex.

    ``content_type`` is what the server said (lower case, without parameters, maybe empty):
    a hint at most. ``final_url`` is where the bytes came from after redirects; of a
    ``data:`` URL it is only the head.
    """

    size: int
    sha256: str
    content_type: str
    final_url: str


def check_url(url: str, *, allowed_origin: str | None = None) -> None:
    """Refuse at the door what ``download`` would never fetch, as far as the text alone tells.

    It makes no lookup: a name that turns out to stand for a private address is refused
    by ``download``. ``data:`` URLs are refused, since only providers may give them.

    Raises:
        UnsafeURL: with a reason for people.
    """
    addresses.parse(url, allowed_origin=allowed_origin)


def download(
    url: str,
    into: BinaryIO,
    *,
    max_bytes: int,
    allowed_origin: str | None = None,
    idle_timeout: float = 10,
    total_timeout: float = 300,
) -> Fetched:
    """Write the bytes behind an ``http(s):`` or ``data:`` URL to ``into``, from where it stands.

    ``max_bytes`` counts decoded bytes. ``allowed_origin`` is the ``scheme://host:port`` of the
    Account's configured base URL, which may be private; a redirect that leaves it cannot come
    back. Timeouts are in seconds: without any byte, and in all. After an error ``into`` holds
    an unusable beginning.

    Raises:
        AssetGone, UnsafeURL, AssetUnusable, ProviderBusy, NotDelivered: see the module.
    """
    if url[:5].lower() == "data:":
        return _decode_data_url(url, into, max_bytes)
    limits = _Limits(idle_timeout, time.monotonic() + total_timeout)
    token = _limits.set(limits)
    try:
        return _follow(url, into, max_bytes, allowed_origin, limits)
    finally:
        _limits.reset(token)


# The limits -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Limits:
    idle: float
    ends_at: float

    def next_wait(self) -> float:
        """Seconds that the next read may take. Raises TimeoutError when there are none left."""
        left = self.ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError("the total limit is over")
        return min(self.idle, left)


_limits: ContextVar[_Limits] = ContextVar("_limits")


class _TimedReader(io.RawIOBase):
    """A socket's reading end whose every single read keeps to the limits.

    A socket's own timeout counts per read, so one byte every few seconds would hold us for
    ever: in the body, but just as well in the headers or between two chunks.
    """

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, limits: _Limits) -> None:
        self._sock, self._raw, self._limits = sock, raw, limits

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        self._sock.settimeout(self._limits.next_wait())
        return cast("int | None", self._raw.readinto(buffer))

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        raw = self.fp.detach()
        self.fp = io.BufferedReader(_TimedReader(sock, raw, _limits.get()))


class _TimedHTTPConnection(HTTPConnection):
    response_class = _TimedResponse


class _TimedHTTPSConnection(HTTPSConnection):
    response_class = _TimedResponse


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _TimedHTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TimedHTTPSConnection


# The connections --------------------------------------------------------------------------


@functools.cache
def _tls() -> ssl.SSLContext:
    """One context for all: loading the certificates takes longer than a small download."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


@functools.cache
def _manager() -> urllib3.PoolManager:
    manager = urllib3.PoolManager(num_pools=64, maxsize=16, block=False, retries=False)
    manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
    return manager


# A forked worker must not read from sockets that it shares with its parent.
os.register_at_fork(after_in_child=_manager.cache_clear)


def _pool(target: Target, address: str) -> urllib3.HTTPConnectionPool:
    """The kept connections to one address in the name of one host."""
    if target.scheme == "http":
        return _manager().connection_from_host(address, target.port, "http")
    tls = {"ssl_context": _tls(), "server_hostname": target.host, "assert_hostname": target.host}
    return _manager().connection_from_host(address, target.port, "https", tls)


def _open(target: Target, limits: _Limits) -> BaseHTTPResponse:
    """Send the GET to the first of the target's addresses that takes the connection.

    Raises:
        UnsafeURL, NotDelivered.
    """
    found = addresses.resolve(target, timeout=_wait(limits))
    for number, address in enumerate(found[:_ADDRESSES_TRIED], start=1):
        wait = _wait(limits)
        try:
            return _pool(target, address).urlopen(
                "GET",
                target.request_uri,
                headers={**_HEADERS, "Host": target.authority},
                redirect=False,
                retries=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=min(_CONNECT_LIMIT, wait), read=wait),
            )
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as error:
            if number == min(len(found), _ADDRESSES_TRIED):
                raise NotDelivered(f"No connection to {target.host} could be made.") from error
        except urllib3.exceptions.SSLError as error:
            raise NotDelivered(f"No secure connection to {target.host} could be made.") from error
        except (HTTPError, OSError, ValueError) as error:
            raise _cut_short(target, limits, 0) from error
    raise AssertionError("resolve gives at least one address")


def _wait(limits: _Limits) -> float:
    try:
        return limits.next_wait()
    except TimeoutError as error:
        raise NotDelivered("The download took longer than its total limit.") from error


def _cut_short(target: Target, limits: _Limits, size: int) -> NotDelivered:
    if time.monotonic() >= limits.ends_at:
        why = "took longer than its total limit"
    else:
        why = f"stopped (the server broke off, or sent nothing for {limits.idle:g} s)"
    return NotDelivered(f"The download from {target.host} {why}; {size} bytes had come.")


# The download -----------------------------------------------------------------------------


def _follow(url: str, into: BinaryIO, max_bytes: int, allowed_origin: str | None, limits: _Limits) -> Fetched:
    """Go from hop to hop, each judged anew, and save what the last one gives."""
    for _ in range(_MAX_REDIRECTS + 1):
        target = addresses.parse(url, allowed_origin=allowed_origin)
        if not target.trusted:
            # Once outside, always outside: a stranger's redirect opens no private door.
            allowed_origin = None
        response = _open(target, limits)
        kept = False
        try:
            if response.status not in _REDIRECTS:
                _check_status(response, target)
                fetched = _save(response, target, into, max_bytes, limits)
                kept = True
                return fetched
            location = response.headers.get("location", "")
        finally:
            # What was not read to its end must not be taken for the next answer.
            if not kept:
                response.close()
        if not location:
            raise AssetUnusable(f"{target.host} answered with a redirect to nowhere.")
        url = _next_url(target, location)
    raise UnsafeURL(f"This address is refused: it redirects more than {_MAX_REDIRECTS} times.")


def _next_url(target: Target, location: str) -> str:
    try:
        url = urljoin(target.url, location)
    except ValueError as error:
        raise UnsafeURL("This address is refused: it redirects to something that is no URL.") from error
    if target.scheme == "https" and not url.lower().startswith("https:"):
        raise UnsafeURL("This address is refused: it redirects from https to something less safe.")
    return url


def _check_status(response: BaseHTTPResponse, target: Target) -> None:
    status = response.status
    if status in (200, 203):
        return
    if status in _BUSY or status >= 500:
        raise ProviderBusy(
            f"{target.host} answered HTTP {status} instead of the file.",
            retry_after=_retry_after(response.headers.get("retry-after", "")),
        )
    if 400 <= status < 500:
        raise AssetGone(f"{target.host} no longer gives the file (HTTP {status}).")
    raise AssetUnusable(f"{target.host} answered HTTP {status} instead of the file.")


def _retry_after(text: str) -> float | None:
    """Seconds, where the header holds a sensible number of them (a date is ignored)."""
    text = text.strip()
    return min(float(text), _LONGEST_RETRY_AFTER) if re.fullmatch(r"[0-9]{1,12}", text) else None


def _save(response: BaseHTTPResponse, target: Target, into: BinaryIO, max_bytes: int, limits: _Limits) -> Fetched:
    announced = response.headers.get("content-length", "").strip()
    if announced.isdigit() and (len(announced) > 15 or int(announced) > max_bytes):
        raise _too_big(max_bytes)
    size, digest = 0, hashlib.sha256()
    while True:
        try:
            # read1 gives what has come, so that the count and the limits are looked at often.
            chunk = response.read1(_CHUNK, decode_content=True)
        except DecodeError as error:
            raise AssetUnusable(f"{target.host} sent bytes that cannot be decoded.") from error
        except (HTTPError, http.client.HTTPException, OSError) as error:
            raise _cut_short(target, limits, size) from error
        if not chunk:
            break
        size += len(chunk)
        if size > max_bytes:
            raise _too_big(max_bytes)
        digest.update(chunk)
        into.write(chunk)
    if size == 0:
        raise AssetUnusable(f"{target.host} sent an empty file.")
    content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()[:100]
    return Fetched(size, digest.hexdigest(), content_type, target.url)


def _decode_data_url(url: str, into: BinaryIO, max_bytes: int) -> Fetched:
    """A ``data:`` URL in base64, measured before a byte of it is decoded."""
    head = _DATA_URL.match(url[:300])
    if head is None:
        raise AssetUnusable("The provider gave a data: URL that is not in base64.")
    start = head.end()
    if (len(url) - start) // 4 * 3 > max_bytes + 2:
        raise _too_big(max_bytes)
    size, digest = 0, hashlib.sha256()
    for position in range(start, len(url), _BASE64_SLICE):
        try:
            chunk = binascii.a2b_base64(url[position : position + _BASE64_SLICE], strict_mode=True)
        except ValueError as error:
            raise AssetUnusable("The provider gave a data: URL whose base64 is broken.") from error
        size += len(chunk)
        if size > max_bytes:
            raise _too_big(max_bytes)
        digest.update(chunk)
        into.write(chunk)
    if size == 0:
        raise AssetUnusable("The provider gave an empty data: URL.")
    return Fetched(size, digest.hexdigest(), (head["type"] or "").lower(), url[:start])


def _too_big(max_bytes: int) -> AssetUnusable:
    return AssetUnusable(f"The file is larger than {max_bytes:,} bytes, the most that is accepted.")
