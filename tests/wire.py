"""A wire between a client and PostgreSQL that can be cut: at once, or between a COMMIT and its answer."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from typing import Any, Self

from django.db import connection

CHUNK = 65536


class Wire:
    """Passes on what comes, from a port of its own to a server's. ``with`` ends it."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=32)
        self.port: int = self._listener.getsockname()[1]
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._open = True
        self._trap: bytes | None = None
        self.sprung = threading.Event()
        """Set when a trap has cut a connection."""
        threading.Thread(target=self._accept, name="wire", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # A thread that waits in accept() is woken by this, and not by close() alone.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """End all connections that there are, on both sides, without a word."""
        for pair in list(self._pairs):
            _close(*pair)

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """As long as this lasts there is no server."""
        self._open = False
        self.cut()
        try:
            yield
        finally:
            self._open = True

    def cut_after(self, words: bytes) -> None:
        """The next time that a client sends these words they still reach the server, which does as they say; but the
        connection ends before the client hears of it."""
        self.sprung.clear()
        self._trap = words

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            if not self._open:
                client.close()
                continue
            threading.Thread(target=self._pass_on, args=(client,), name="wire", daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._server, timeout=10)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        pair = (client, server)
        self._pairs.add(pair)
        with contextlib.suppress(OSError, ValueError), selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while self._step(selector, client, server):
                pass
        _close(*pair)
        self._pairs.discard(pair)

    def _step(self, selector: selectors.BaseSelector, client: socket.socket, server: socket.socket) -> bool:
        """Pass on a little; False: it is over."""
        for key, _ in selector.select():
            data = key.fileobj.recv(CHUNK)  # type: ignore[union-attr]
            if not data:
                return False
            key.data.sendall(data)
            if key.fileobj is client and self._trap is not None and self._trap in data:
                self._trap = None
                server.recv(CHUNK)  # it is done
                self.sprung.set()
                return False
        return True


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


def url_of(port: int | None = None) -> str:
    """The test's own database as a URL, by another port if one is given."""
    made: dict[str, Any] = connection.settings_dict
    return f"postgres://{made['USER']}:{made['PASSWORD']}@{made['HOST']}:{port or made['PORT']}/{made['NAME']}"


def wire_to_the_database() -> Wire:
    """A wire to the test's own database."""
    made: dict[str, Any] = connection.settings_dict
    return Wire(made["HOST"], int(made["PORT"]))
