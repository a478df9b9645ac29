"""Drives an adapter's story over real HTTP.

A billable call goes out once: no retry, no redirect, a total deadline. Other calls are safe to
repeat and are, at most twice more. What can be known about a failure decides its class:

* before a byte left: NotDelivered;
* after: OutcomeUnknown, which for a call that bills nobody just means "ask again later";
* a call to an address that is not the account's is not made: Refused.

Failures are raised outside the handler that caught their cause, so that no exception chain
keeps a request, with its credentials, alive.
"""

from __future__ import annotations

import http.client
import logging
import ssl
import zlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from time import monotonic
from typing import Any, Generic, TypeVar, cast
from urllib.parse import urlsplit

import requests
import tenacity
import urllib3

from providers import connections
from providers.base import Call, PollResult, Reply
from providers.errors import NotDelivered, OutcomeUnknown, ProviderError, Refused
from providers.multipart import Multipart
from providers.redaction import Exchange, request_record, response_record, scrub, secrets_of

__all__ = ["FAILURES", "LARGEST_REPLY", "Conversation", "Endpoint", "Exchange", "converse", "failure_of"]

R = TypeVar("R")

logger = logging.getLogger(__name__)

LARGEST_REPLY = 2_000_000
"""Bytes of a reply's body, unpacked. Replies are JSON of a few kB; results are fetched elsewhere."""

LONGEST_DETAIL = 500
"""Characters of a provider's message that go into an error for people."""

USER_AGENT = "Darkroom/0.1"
_TRIES = 3
_TRY_AGAIN = frozenset({500, 502, 503, 504})
FAILURES = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
    zlib.error,
)
"""What may be raised while a call is on its way; ``failure_of`` tells what it means."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an account's calls go. ``allow_private`` permits a server of one's own (loopback, private ranges)."""

    base_url: str
    allow_private: bool

    def url(self, path: str) -> str:
        """The absolute URL of ``path`` below the base URL.

        Raises:
            Refused: the base URL is none, or ``path`` is an absolute URL of another origin: a provider
                (or whoever forged its reply) must not choose where our credentials are sent.
        """
        if _origin(self.base_url) is None:
            raise Refused("The account's base URL is not an http(s) URL without login. Correct it on the account.")
        if "://" not in path:
            return f"{self.base_url.rstrip('/')}/{path.lstrip('/')}"
        if _origin(path) != _origin(self.base_url):
            raise Refused("The provider named an address that is not the account's; nothing was sent there.")
        return path


def _origin(url: str) -> tuple[str, str, int] | None:
    """(scheme, host, port) of a plain http(s) URL, else None."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or any(c <= " " for c in url):
        return None
    return parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80)


class Conversation(Generic[R]):
    """A story under way at one account.

    ``prepare()``, ``finish()`` and ``run()`` each take at most ``total_timeout`` seconds.
    ``exchanges`` has every call that was tried, in order, also after a failure. ``result`` is the
    story's, once it has ``ended``.
    """

    def __init__(
        self, story: Generator[Call, Reply, R], endpoint: Endpoint, *, request_id: str, total_timeout: float
    ) -> None:
        self.exchanges: list[Exchange] = []
        self.result: R | None = None
        self.ended = False
        self._story = story
        self._endpoint = endpoint
        self._request_id = request_id
        self._total_timeout = total_timeout
        self._begun = False
        self._billable: Call | None = None
        self._billed = False
        self._secrets: frozenset[str] = frozenset()

    def prepare(self) -> None:
        """Make all calls up to the billable one, which then waits for ``finish()``.

        Raises:
            ProviderError: it ended early. Never OutcomeUnknown: nothing billable has left, so a
                failed upload is NotDelivered or Refused.
        """
        self._begun = True
        failure: Refused | None = None
        try:
            self._advance(None, monotonic() + self._total_timeout)
        except OutcomeUnknown as error:
            failure = Refused(f"Nothing billable was sent: {error.detail}", retry_after=error.retry_after)
        if failure is not None:
            raise failure

    def finish(self) -> R:
        """Send the billable call once, do what follows, and give the story's result.

        Raises:
            ProviderError: what the adapter made of the reply; NotDelivered only if no byte of the
                billable call left this machine; OutcomeUnknown if nobody can know.
        """
        if not self._begun:
            self.prepare()
        if self._billable is not None and not self._billed:
            self._billed = True
            deadline = monotonic() + self._total_timeout
            reply = self._once(self._billable, deadline)
            self._advance(reply, deadline)
        return self._outcome()

    def run(self) -> R:
        """Run a story that has no billable call (poll, balance, cancel) to its end.

        Raises:
            ProviderError: it could not be made or understood. OutcomeUnknown: ask again later.
        """
        self._begun = True
        self._advance(None, monotonic() + self._total_timeout)
        return self._outcome()

    def _outcome(self) -> R:
        if not self.ended:
            raise RuntimeError(
                "the story has not ended: it failed, or it has a second billable call, or none was expected"
            )
        return cast("R", self.result)

    def _advance(self, reply: Reply | None, deadline: float) -> None:
        """Drive the story to its next billable call or its end."""
        while (call := self._step(reply)) is not None:
            if call.billable:
                if self._billed:
                    raise RuntimeError("a story has one billable call")
                self._billable = call
                return
            failure: ProviderError | None = None
            try:
                reply = self._repeatedly(call, deadline)
            except ProviderError as error:
                self._story.close()
                # Once the billable call has left, a failure of a later one says nothing about it.
                failure = OutcomeUnknown(f"After the billable call: {error.detail}") if self._billed else error
            if failure is not None:
                raise failure.with_traceback(None)

    def _step(self, reply: Reply | None) -> Call | None:
        """The story's next call, or None when it has returned its result."""
        failure: ProviderError
        try:
            return next(self._story) if reply is None else self._story.send(reply)
        except StopIteration as end:
            self.ended = True
            self.result = end.value
            if isinstance(end.value, PollResult) and isinstance(end.value.error, ProviderError):
                self._scrubbed(end.value.error)
            return None
        except ProviderError as error:
            failure = self._scrubbed(error)
        except Exception as error:  # noqa: BLE001 - a fault of the adapter must not pass for an answer of the provider
            # Neither the message nor the traceback is told: both may hold what was sent.
            kind, story = type(error).__name__, getattr(self._story, "__qualname__", "a story")
            logger.error("provider:adapter_error %s in %s", kind, story)  # noqa: TRY400
            failure = OutcomeUnknown(f"Darkroom's adapter could not read the provider's reply ({kind}).")
        raise failure

    def _scrubbed(self, error: ProviderError) -> ProviderError:
        """``error`` without the secrets that the provider echoed into its message (nor a cause that has them)."""
        detail = scrub(error.detail, self._secrets)[:LONGEST_DETAIL].replace("\x00", "")
        error.detail = detail.encode("utf-8", "replace").decode()  # half a surrogate pair is no text
        error.args = (error.detail,)
        error.__cause__ = error.__context__ = None
        return error

    def _repeatedly(self, call: Call, deadline: float) -> Reply:
        """Make a call that is safe to repeat, up to three times before the deadline."""
        tries = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(_TRIES) | tenacity.stop_before_delay(max(0.0, deadline - monotonic())),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=1),
            retry=tenacity.retry_if_exception_type((NotDelivered, OutcomeUnknown))
            | tenacity.retry_if_result(lambda reply: reply.status in _TRY_AGAIN),
            retry_error_callback=lambda state: cast("Reply", state.outcome.result() if state.outcome else None),
        )
        return tries(self._once, call, deadline)

    def _once(self, call: Call, deadline: float) -> Reply:
        """Make one call and record it.

        Raises:
            NotDelivered, OutcomeUnknown, Refused: see the module.
        """
        self._secrets |= secrets_of(call)
        url = self._endpoint.url(call.path)
        headers = {
            "X-Request-Id": self._request_id,
            **call.headers,
            **{name: make() for name, make in call.fresh_headers.items()},
        }
        trip = connections.Trip(deadline, self._endpoint.allow_private)
        started = monotonic()
        reply: Reply | None = None
        failure: ProviderError | None = None
        try:
            with connections.travelling(trip):
                reply = _send(call, url, headers, allow_private=trip.allow_private)
        except ProviderError as error:
            failure = error
        except FAILURES as error:
            failure = failure_of(error, trip, monotonic() - started)
        self.exchanges.append(
            Exchange(
                request=request_record(call, url, headers, self._secrets),
                response=response_record(reply, self._secrets) if reply is not None else None,
                elapsed=monotonic() - started,
            )
        )
        if reply is None:
            raise (failure or OutcomeUnknown()).with_traceback(None)
        return reply


def converse(
    story: Generator[Call, Reply, R], endpoint: Endpoint, *, request_id: str, total_timeout: float
) -> tuple[R, list[Exchange]]:
    """Run a story without billable calls; give its result and what was said.

    Raises:
        ProviderError: as ``Conversation.run``.
    """
    conversation = Conversation(story, endpoint, request_id=request_id, total_timeout=total_timeout)
    return conversation.run(), conversation.exchanges


def _send(call: Call, url: str, own_headers: Mapping[str, str], *, allow_private: bool) -> Reply:
    """One request, one reply, on a connection under the current trip."""
    headers = {"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity", **own_headers}
    data: Any = dict(call.form) or None
    if call.files:
        data = Multipart(call.form, call.files)
        headers["Content-Type"] = data.content_type
    request = requests.Request(call.method, url, headers=headers, params=dict(call.query), data=data, json=call.json)
    response = connections.adapter(allow_private=allow_private).send(request.prepare(), stream=True)
    raw: urllib3.HTTPResponse = response.raw
    try:
        body = _read(raw)
    except BaseException:
        raw.close()  # Half a reply is left in this connection: it must not serve another call.
        raise
    raw.release_conn()
    received = {name.lower(): value for name, value in raw.headers.items()}
    # Adapters have no clock: what a relative date means, they read off this one.
    received.setdefault("date", formatdate(usegmt=True))
    return Reply(status=raw.status, headers=received, body=body)


def _read(raw: urllib3.HTTPResponse) -> bytes:
    """The whole body, unpacked, never more than LARGEST_REPLY in memory.

    Raises:
        OSError, zlib.error, urllib3.exceptions.HTTPError: it is too large, cut off or no gzip.
    """
    packed = raw.headers.get("content-encoding", "").strip().lower() in ("gzip", "x-gzip", "deflate")
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32) if packed else None
    body = bytearray()
    for block in raw.stream(65_536, decode_content=False):
        body += unpacker.decompress(block, LARGEST_REPLY + 1 - len(body)) if unpacker else block
        if len(body) > LARGEST_REPLY:
            raise OSError(f"the reply is larger than {LARGEST_REPLY:,} bytes")
    if unpacker is not None and body and not unpacker.eof:
        raise zlib.error("the packed reply is cut off")
    return bytes(body)


def failure_of(error: BaseException, trip: connections.Trip, elapsed: float) -> ProviderError:
    """What a failed call means: only whether a byte left decides."""
    cause = _root(error)
    if monotonic() >= trip.deadline or isinstance(cause, TimeoutError):
        why = f"there was no complete answer within {elapsed:.1f} s"
    elif isinstance(cause, ssl.SSLCertVerificationError):
        why = f"the server's certificate is not trusted ({cause.verify_message})"
    elif isinstance(cause, ssl.SSLError):
        why = f"the encrypted connection failed ({cause.reason})"
    elif isinstance(cause, (ConnectionError, http.client.RemoteDisconnected)):
        why = "the connection was cut"
    elif type(cause) is OSError and cause.errno is None:
        why = str(cause)  # One of our own: a reply too large, an input too short.
    else:
        why = f"the exchange failed ({type(cause).__name__})"
    if trip.sent:
        return OutcomeUnknown(f"The call was sent, but {why}.")
    return NotDelivered(f"Nothing was sent: {why}.")


def _root(error: BaseException) -> BaseException:
    """The first cause, which requests and urllib3 wrap up to four times, each in another attribute."""
    for _ in range(8):
        inner = [getattr(error, "reason", None), *error.args[:2], error.__cause__, error.__context__]
        causes = [cause for cause in inner if isinstance(cause, BaseException)]
        if not causes:
            break
        error = causes[0]
    return error
