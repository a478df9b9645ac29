"""Connections with a total deadline, a pinned address and a memory of whether anything was sent.

``requests`` and urllib3 do the HTTP. Three things that they do not offer are added below them,
at the socket, which is the one place that all traffic passes:

* **A total deadline.** Their timeouts count from read to read, so that a server that drips a
  byte per second is never too late. Here each read and write gets what is left.
* **Did a byte leave?** Only that decides whether a failed call may be repeated, and no
  exception class tells it reliably.
* **Resolve once, check, connect to just that address**, so that a name cannot lead into our
  own network on the second look.

One adapter (a set of kept connections per origin) serves all threads of a process. A forked
child starts with none: two processes on one TLS connection would garble each other.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

import certifi
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.poolmanager import PoolManager

from providers import addresses
from providers.errors import NotDelivered

CONNECT_TIMEOUT = 5.0
"""Seconds for one address to answer, and for a name to be looked up."""

IDLE_LIMIT = 4.0
"""Seconds after which a kept connection is no longer trusted. Many servers close theirs after 5;
a billable call that meets the closing door would end as "outcome unknown"."""

ORIGINS_KEPT = 64
CONNECTIONS_PER_ORIGIN = 128


@dataclass(slots=True)
class Trip:
    """One call on its way: until when (``time.monotonic``), where it may go, and whether a byte has left."""

    deadline: float
    allow_private: bool
    sent: bool = False

    def left(self) -> float:
        """Seconds left. Raises TimeoutError when there are none."""
        seconds = self.deadline - monotonic()
        if seconds <= 0:
            raise TimeoutError("the total time limit is over")
        return seconds


_trip: ContextVar[Trip] = ContextVar("trip")


@contextmanager
def travelling(trip: Trip) -> Iterator[None]:
    """Put what this thread's connections do inside the block under ``trip``."""
    token = _trip.set(trip)
    try:
        yield
    finally:
        _trip.reset(token)


if TYPE_CHECKING:
    _SocketBase = socket.socket
else:
    _SocketBase = object


class _Deadlined(_SocketBase):
    """Mixin over a socket: each operation gets the time that is left to the current trip."""

    used_at = 0.0

    def _arm(self) -> None:
        self.settimeout(_trip.get().left())
        self.used_at = monotonic()

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self._arm()
        return super().recv_into(*args, **kwargs)

    def recv(self, *args: Any, **kwargs: Any) -> bytes:
        self._arm()
        return super().recv(*args, **kwargs)

    def send(self, data: Any, *args: Any) -> int:
        self._arm()
        _trip.get().sent = True
        return super().send(data, *args)

    def sendall(self, data: Any, *args: Any) -> None:
        self._arm()
        _trip.get().sent = True
        super().sendall(data, *args)


class _PlainSocket(_Deadlined, socket.socket):
    pass


class _TLSSocket(_Deadlined, ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - ssl's signature
        self._arm()
        super().do_handshake(block)


def _resolve(connection: HTTPConnection, trip: Trip) -> list[str]:
    """Each address of the connection's host, all of them checked.

    Raises:
        NotDelivered: the name is unknown, took too long, or leads where we may not go.
    """
    host = connection.host.strip("[]")
    target = addresses.Target("", "", host, connection.port or connection.default_port, "", trip.allow_private)
    try:
        return addresses.resolve(target, timeout=min(CONNECT_TIMEOUT, trip.left()))
    except addresses.UnsafeURL:
        pass
    raise NotDelivered(
        f"The host {host} has an address in a private network, so nothing was sent. If that server is your own, "
        "private addresses must be allowed for it."
    )


def _connect(connection: HTTPConnection) -> socket.socket:
    """A connected socket to one of the host's checked addresses.

    Raises:
        NotDelivered: no address answered.
    """
    trip = _trip.get()
    port = connection.port or connection.default_port
    why = "did not answer"
    for address in _resolve(connection, trip):
        sock = _PlainSocket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.settimeout(min(CONNECT_TIMEOUT, trip.left()))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect((address, port))
        except TimeoutError:
            sock.close()
            why = "did not answer in time"
        except OSError as error:
            sock.close()
            why = f"could not be reached ({error.strerror or type(error).__name__})"
        else:
            sock.used_at = monotonic()
            return sock
    raise NotDelivered(f"{connection.host}:{port} {why}. Nothing was sent.")


def _is_fresh(connection: HTTPConnection) -> bool:
    """Whether a kept connection was in use just now, so that the server has surely not given it up."""
    used_at = getattr(connection.sock, "used_at", 0.0)
    return monotonic() - used_at < IDLE_LIMIT


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self)

    @property
    def is_connected(self) -> bool:
        return super().is_connected and _is_fresh(self)


class _TLSConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self)

    @property
    def is_connected(self) -> bool:
        return super().is_connected and _is_fresh(self)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


def _tls_context() -> ssl.SSLContext:
    """Trusts the machine's certificates and certifi's: a slim container may have none of its own."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    context.sslsocket_class = _TLSSocket
    return context


class PinnedAdapter(HTTPAdapter):
    """requests' adapter on these connections: no retries, no redirects, no proxies, no cookies."""

    def __init__(self) -> None:
        super().__init__(pool_connections=ORIGINS_KEPT, pool_maxsize=CONNECTIONS_PER_ORIGIN, max_retries=0)

    def init_poolmanager(
        self,
        connections: int,
        maxsize: int,
        block: bool = False,  # noqa: FBT001, FBT002 - requests' signature
        **pool_kwargs: Any,
    ) -> None:
        """Keep connections of ours; requests asks for this once, from its own initialiser."""
        self.poolmanager = PoolManager(
            num_pools=connections, maxsize=maxsize, block=block, ssl_context=_tls_context(), **pool_kwargs
        )
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Nothing: the shared context verifies. The inherited one loads all certificates anew per connection."""


class _Adapters:
    """This process's adapters: who may reach private addresses has connections of his own."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start with none, as a forked child must: the parent's connections stay the parent's."""
        self._lock = threading.Lock()
        self._by_reach: dict[bool, PinnedAdapter] = {}

    def get(self, *, allow_private: bool) -> PinnedAdapter:
        with self._lock:
            if allow_private not in self._by_reach:
                self._by_reach[allow_private] = PinnedAdapter()
            return self._by_reach[allow_private]


_adapters = _Adapters()
os.register_at_fork(after_in_child=_adapters.forget)


def adapter(*, allow_private: bool) -> PinnedAdapter:
    """The adapter that all threads of this process share, for public addresses only or for private ones too."""
    return _adapters.get(allow_private=allow_private)
