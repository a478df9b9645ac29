"""The guarded POST: bytes to a URL that a user gave.

The URL is judged by ``providers.addresses`` each time: by its text, and by every address that its host stands for at
the moment of the connection, which then goes to one of just these. Nothing of ours goes out beside the body and the
given headers, a redirect is an answer like any other, and of the answer only the beginning is read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from time import monotonic

import requests
import urllib3

from providers import addresses, connections, replies
from providers.addresses import Target, UnsafeURL
from providers.errors import ProviderError
from providers.transport import FAILURES, USER_AGENT, failure_of

__all__ = ["Answer", "UnsafeURL", "check_url", "post"]

LARGEST_ANSWER = 1_000
"""Bytes of the answer's body that are read: enough for a person to see what it says."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status, the beginning of the body as text, and the wished pause in seconds."""

    status: int
    body: str
    retry_after: float | None


def check_url(url: str, *, allowed_origins: Collection[str] = ()) -> Target:
    """Judge a URL by its text and take it apart. No lookup is made.

    ``allowed_origins`` (``scheme://host[:port]`` each): there, and only there, any port and address is allowed.

    Raises:
        UnsafeURL: with a reason for people.
    """
    for origin in allowed_origins:
        try:
            target = addresses.parse(url, allowed_origin=origin)
        except UnsafeURL:
            continue
        if target.trusted:
            return target
    return addresses.parse(url)


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    total_timeout: float,
    allowed_origins: Collection[str] = (),
) -> Answer:
    """Send ``body`` once, and give what the server said to it, whatever its status is.

    ``total_timeout`` is in seconds, for all of it. Once there is a status, it counts: a body that breaks off or does
    not end is cut.

    Raises:
        UnsafeURL: the URL may not be used.
        NotDelivered: no byte left this machine (also: the host stands for an address that may not be reached).
        OutcomeUnknown: it was sent, and no answer came.
    """
    target = check_url(url, allowed_origins=allowed_origins)
    trip = connections.Trip(monotonic() + total_timeout, target.trusted)
    started = monotonic()
    failure: ProviderError
    try:
        with connections.travelling(trip):
            return _send(url, body, headers, allow_private=target.trusted)
    except ProviderError as error:
        failure = error
    except FAILURES as error:
        failure = failure_of(error, trip, monotonic() - started)
    # Outside the handler: no chain of exceptions keeps the request alive.
    raise failure.with_traceback(None)


def _send(url: str, body: bytes, headers: Mapping[str, str], *, allow_private: bool) -> Answer:
    sent = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity", **headers}
    request = requests.Request("POST", url, headers=sent, data=body).prepare()
    raw: urllib3.HTTPResponse = connections.adapter(allow_private=allow_private).send(request, stream=True).raw
    try:
        beginning = _beginning(raw)
    finally:
        if raw.length_remaining == 0:
            raw.release_conn()
        else:
            raw.close()  # What was not read to its end must not be taken for the next answer.
    received = {"date": formatdate(usegmt=True), **{name.lower(): value for name, value in raw.headers.items()}}
    return Answer(raw.status, beginning.decode("utf-8", "replace"), replies.retry_after(received))


def _beginning(raw: urllib3.HTTPResponse) -> bytes:
    found = b""
    try:
        for block in raw.stream(LARGEST_ANSWER, decode_content=False):
            found += block
            if len(found) >= LARGEST_ANSWER:
                break
    except FAILURES:
        pass  # It has answered all the same.
    return found[:LARGEST_ANSWER]
