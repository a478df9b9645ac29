"""A real sandbox in a process of its own, and servers that misbehave below HTTP."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Handler = Callable[[socket.socket], None]


class RawServer:
    """A TCP server on loopback; connection n is given to handler n, the last one to all later connections."""

    def __init__(self, *handlers: Handler) -> None:
        self.handlers = handlers
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._handling: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            handler = self.handlers[min(self.connections, len(self.handlers) - 1)]
            self.connections += 1
            thread = threading.Thread(target=self._handle, args=(handler, client), daemon=True)
            self._handling.append(thread)
            thread.start()

    def _handle(self, handler: Handler, client: socket.socket) -> None:
        try:
            with client:
                handler(client)
        except OSError:
            pass  # the client went away, as many of these tests want

    def hang_up(self) -> None:
        """Wait until every connection so far has been handled and closed: whoever uses one again can tell."""
        for thread in self._handling:
            thread.join(5)

    def close(self) -> None:
        """Close the listener and what is left of the connections. Twice is as good as once."""
        if self._listener.fileno() < 0:
            return
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for client in self._open:
            client.close()
        self._thread.join(5)


@pytest.fixture
def raw_server() -> Iterator[Callable[..., RawServer]]:
    """Starts servers; closes them all afterwards."""
    servers: list[RawServer] = []

    def start(*handlers: Handler) -> RawServer:
        servers.append(RawServer(*handlers))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def sandbox_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running sandbox."""
    data: Path = tmp_path_factory.mktemp("sandbox")
    command = [
        sys.executable,
        "-m",
        "providers.sandbox",
        "--port",
        "0",
        "--data",
        str(data),
        "--speed",
        "0.05",
        "--light",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()
