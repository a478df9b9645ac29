"""The guarded POST ..."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from providers import addresses
from providers.errors import NotDelivered, OutcomeUnknown
from providers.post import LARGEST_ANSWER, Answer, UnsafeURL, check_url, post
from tests.providers.conftest import RawServer

Start = Callable[..., RawServer]

INSIDE = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f.1",
    "0177.0.0.1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "localhost",
    "LOCALHOST.",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "metadata.google.internal",
    "redis",
]
ODD = [
    "",
    "example.com/hook",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "https://me:secret@example.com/",
    "https://me@example.com/",
    "https://example.com:22/",
    "https://example.com:8443/",
    "https://example.com/a\r\nX-Evil: 1",
    "https://example.com/" + "a" * 2048,
]


def origin(server: HTTPServer | RawServer) -> str:
    return server.url_for("").rstrip("/") if isinstance(server, HTTPServer) else server.base_url


def send(server: HTTPServer | RawServer, path: str = "/hook", **options: Any) -> Answer:
    own = origin(server)
    return post(own + path, b'{"a":1}', {"X-One": "1"}, total_timeout=options.pop("timeout", 5), allowed_origins=[own])


def head(client: socket.socket) -> None:
    """Read one request with its body."""
    got = b""
    while b'{"a":1}' not in got:
        got += client.recv(65_536)


@pytest.mark.parametrize("url", [f"http://{host}/" for host in INSIDE] + ODD)
def test_refuses_at_the_door_what_is_no_public_web_address(url: str) -> None:
    with pytest.raises(UnsafeURL):
        check_url(url)
    with pytest.raises(UnsafeURL):
        post(url, b"{}", {}, total_timeout=1)


def test_lets_an_allowed_origin_in_and_no_other_port_of_it(httpserver: HTTPServer) -> None:
    allowed = ["https://elsewhere.example", origin(httpserver)]
    assert check_url(httpserver.url_for("/hook"), allowed_origins=allowed).trusted
    assert not check_url("https://example.com/hook", allowed_origins=allowed).trusted
    with pytest.raises(UnsafeURL):
        check_url("http://127.0.0.1:1/hook", allowed_origins=allowed)


def test_sends_the_bytes_and_nothing_of_ours(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    httpserver.expect_request("/hook", method="POST").respond_with_data("thanks", headers={"Set-Cookie": "id=1"})
    for _ in range(2):
        assert send(httpserver) == Answer(200, "thanks", None)
    for request, _ in httpserver.log:
        assert request.get_data() == b'{"a":1}'
        assert request.headers["X-One"] == "1"
        assert not {"Cookie", "Authorization"} & set(request.headers.keys())


@pytest.mark.parametrize("status", [201, 204, 301, 307, 400, 410, 429, 500, 503])
def test_gives_any_status_and_follows_no_redirect(httpserver: HTTPServer, status: int) -> None:
    elsewhere = {"Location": httpserver.url_for("/elsewhere"), "Retry-After": "7"}
    httpserver.expect_request("/hook").respond_with_data("", status=status, headers=elsewhere)
    answer = send(httpserver)
    assert (answer.status, answer.retry_after) == (status, 7)
    assert [request.path for request, _ in httpserver.log] == ["/hook"]


def test_reads_only_the_beginning_of_an_answer(raw_server: Start) -> None:
    sent = threading.Event()

    def endless(client: socket.socket) -> None:
        head(client)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n")
        try:
            while True:
                client.sendall(b"x" * 65_536)
        except OSError:
            sent.set()

    answer = send(raw_server(endless))
    assert answer == Answer(200, "x" * LARGEST_ANSWER, None)
    assert sent.wait(5), "the rest is cut off"


def test_takes_a_status_whose_body_never_ends_for_an_answer(raw_server: Start) -> None:
    def drip(client: socket.socket) -> None:
        head(client)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
        while True:
            client.sendall(b"x")
            time.sleep(0.05)

    assert send(raw_server(drip), timeout=0.4).status == 200


def test_unpacks_nothing_that_was_packed(raw_server: Start) -> None:
    def packed(client: socket.socket) -> None:
        head(client)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x00\x00")

    assert send(raw_server(packed)).status == 200


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 2", b"nonsense\r\n\r\n"], ids=["nothing", "half a line", "nonsense"])
def test_says_that_it_was_sent_when_no_answer_comes(raw_server: Start, says: bytes) -> None:
    def broken(client: socket.socket) -> None:
        head(client)
        client.sendall(says)

    with pytest.raises(OutcomeUnknown):
        send(raw_server(broken))


def test_waits_for_an_answer_no_longer_than_it_may(raw_server: Start) -> None:
    gone = threading.Event()

    def drip(client: socket.socket) -> None:
        head(client)
        try:
            for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 10_000:
                client.sendall(bytes([byte]))
                time.sleep(0.05)
        except OSError:
            gone.set()

    with pytest.raises(OutcomeUnknown):
        send(raw_server(drip), timeout=0.5)
    assert gone.wait(5), "the connection is given up"


def test_says_that_nothing_was_sent_when_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    own = f"http://127.0.0.1:{port}"
    with pytest.raises(NotDelivered):
        post(own, b"{}", {}, total_timeout=2, allowed_origins=[own])


@pytest.mark.parametrize(
    "found", [["127.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["169.254.169.254"]], ids=["loopback", "mixed", "metadata"]
)
def test_reaches_no_private_address_behind_a_public_name(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, found: list[str]
) -> None:
    asked = []

    def looked_up(target: addresses.Target, _timeout: float) -> list[str]:
        asked.append(target.host)
        return found

    monkeypatch.setattr(addresses, "_look_up", looked_up)
    with pytest.raises(NotDelivered, match="private network"):
        post("http://hooks.example.com/", b"{}", {}, total_timeout=2)
    assert asked == ["hooks.example.com"]
    assert httpserver.log == []


def test_keeps_the_connection_where_the_whole_answer_was_read(httpserver: HTTPServer, raw_server: Start) -> None:
    def two(client: socket.socket) -> None:
        for _ in range(2):
            head(client)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    server = raw_server(two)
    assert [send(server).body, send(server).body] == ["ok", "ok"]
    assert server.connections == 1


def test_gives_the_beginning_of_an_answer_as_text_whatever_it_is(httpserver: HTTPServer) -> None:
    def odd(_request: Request) -> Response:
        return Response(b"\xff\x00\xed\xa0\x80", status=200)

    httpserver.expect_request("/hook").respond_with_handler(odd)
    assert send(httpserver).body.startswith("\ufffd\x00")
