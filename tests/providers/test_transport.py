"""The transport ..."""

from __future__ import annotations

import gzip
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from providers import connections
from providers.base import Call, PollResult, Reply, Secret
from providers.errors import InvalidParams, JobFailed, NotDelivered, OutcomeUnknown, ProviderError, Refused
from providers.transport import LARGEST_REPLY, Conversation, Endpoint, converse
from tests.providers.conformance import input_file
from tests.providers.conftest import RawServer

KEY = "top/secret key+1"
Story = Generator[Call, Reply, Reply]
Start = Callable[..., RawServer]


def one_call(*, billable: bool = True, **fields: Any) -> Story:
    """A story of one call that returns its reply."""
    defaults: dict[str, Any] = {"method": "POST", "path": "/x", "headers": {"API-KEY": Secret(KEY)}, "json": {"a": 1}}
    return (yield Call(**{**defaults, "billable": billable, **fields}))


def own(base_url: str) -> Endpoint:
    """An endpoint on this machine."""
    return Endpoint(base_url, allow_private=True)


def submit(base_url: str, *, timeout: float = 5, allow_private: bool = True, **fields: Any) -> Conversation[Reply]:
    return Conversation(
        one_call(**fields), Endpoint(base_url, allow_private), request_id="submission-1", total_timeout=timeout
    )


def asked(client: socket.socket) -> bytes:
    """Read one request with its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        block = client.recv(65_536)
        if not block:
            return data
        data += block
    head, _, body = data.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            left = int(line.split(b":")[1]) - len(body)
            while left > 0:
                block = client.recv(65_536)
                left -= len(block)
                data += block
    return data


def answering(answer: bytes) -> Callable[[socket.socket], None]:
    """A handler that reads a request and sends these bytes."""

    def handler(client: socket.socket) -> None:
        asked(client)
        client.sendall(answer)

    return handler


def http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def reset(client: socket.socket) -> None:
    """Read the request, then cut the connection hard."""
    asked(client)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# -- a billable call ------------------------------------------------------------------------------


def test_sends_a_billable_call_once_with_our_id(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/v1/x", method="POST").respond_with_json({"id": 1})
    conversation = submit(httpserver.url_for("/v1"))
    conversation.prepare()
    assert httpserver.log == []
    assert conversation.finish().json() == {"id": 1}
    ((request, _),) = httpserver.log
    assert request.headers["X-Request-Id"] == "submission-1"
    assert request.headers["API-KEY"] == KEY
    assert request.get_json() == {"a": 1}


@pytest.mark.parametrize("status", [301, 302, 307, 308, 500, 502, 503, 504, 429])
def test_neither_repeats_nor_follows_a_billable_call(httpserver: HTTPServer, status: int) -> None:
    httpserver.expect_request("/x").respond_with_data("", status=status, headers={"Location": "/y"})
    httpserver.expect_request("/y").respond_with_json({"id": 1})
    assert submit(httpserver.url_for("/")).finish().status == status
    assert len(httpserver.log) == 1


def test_cannot_send_a_billable_call_twice(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/x").respond_with_json({})

    def two_calls() -> Story:
        yield Call("POST", "/x", billable=True)
        return (yield Call("POST", "/x", billable=True))

    conversation = Conversation(two_calls(), own(httpserver.url_for("/")), request_id="r", total_timeout=5)
    with pytest.raises(RuntimeError):
        conversation.finish()
    with pytest.raises(RuntimeError):
        conversation.finish()
    assert len(httpserver.log) == 1


def test_calls_it_not_delivered_when_nobody_listens() -> None:
    with pytest.raises(NotDelivered):
        submit(f"http://127.0.0.1:{free_port()}").finish()


def test_calls_it_not_delivered_when_the_name_is_unknown() -> None:
    with pytest.raises(NotDelivered, match="could not be looked up"):
        submit("http://no-such-host.invalid").finish()


def test_calls_it_not_delivered_when_tls_fails(raw_server: Start) -> None:
    server = raw_server(lambda client: client.sendall(b"this is no TLS\r\n") or client.recv(1_000))
    with pytest.raises(NotDelivered, match="encrypted connection failed"):
        submit(server.base_url.replace("http:", "https:")).finish()


def test_calls_it_not_delivered_when_tls_hangs(raw_server: Start) -> None:
    server = raw_server(lambda client: client.recv(1_000) and client.recv(1_000) and None)
    started = time.monotonic()
    with pytest.raises(NotDelivered):
        submit(server.base_url.replace("http:", "https:"), timeout=0.4).finish()
    assert time.monotonic() - started < 2


def test_calls_it_not_delivered_when_the_key_cannot_be_a_header(httpserver: HTTPServer) -> None:
    with pytest.raises(NotDelivered) as caught:
        submit(httpserver.url_for("/"), headers={"API-KEY": Secret("se-cret\r\nX: y")}).finish()
    assert "se-cret" not in caught.value.detail
    assert httpserver.log == []


def hang(client: socket.socket) -> None:
    asked(client)
    client.recv(1)


def drip_head(client: socket.socket) -> None:
    asked(client)
    for byte in http(b"{}"):
        client.sendall(bytes([byte]))
        time.sleep(0.1)


def drip_body(client: socket.socket) -> None:
    asked(client)
    client.sendall(http(b"x" * 100)[:-100])
    for _ in range(100):
        client.sendall(b"x")
        time.sleep(0.1)


BOMB = gzip.compress(b"0" * 50_000_000)

SPOILT = {
    "reset": reset,
    "closed": lambda client: asked(client) and None,
    "no HTTP": answering(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "body too short": answering(http(b'{"id": 1}').replace(b"Length: 9", b"Length: 900")),
    "chunks cut off": answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
    "bomb": answering(http(BOMB, "Content-Encoding: gzip")),
    "no gzip": answering(http(b"plain", "Content-Encoding: gzip")),
    "gzip cut off": answering(http(gzip.compress(b'{"id": 1}')[:-9], "Content-Encoding: gzip")),
    "too large": answering(http(b"0" * (LARGEST_REPLY + 1))),
    "hangs": hang,
    "head drips": drip_head,
    "body drips": drip_body,
}


@pytest.mark.parametrize("name", SPOILT)
def test_calls_the_outcome_unknown_once_a_byte_has_left(raw_server: Start, name: str) -> None:
    server = raw_server(SPOILT[name])
    started = time.monotonic()
    conversation = submit(server.base_url, timeout=1)
    with pytest.raises(OutcomeUnknown) as caught:
        conversation.finish()
    assert time.monotonic() - started < 2
    assert server.connections == 1
    (exchange,) = conversation.exchanges
    assert exchange.response is None
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_unpacks_a_reply_that_was_packed_unasked(raw_server: Start) -> None:
    server = raw_server(answering(http(gzip.compress(b'{"id": 1}'), "Content-Encoding: gzip")))
    assert submit(server.base_url).finish().json() == {"id": 1}


def test_ignores_what_follows_the_stated_length(raw_server: Start) -> None:
    server = raw_server(answering(http(b"{}") + http(b'{"forged": true}')))
    for _ in range(2):
        assert submit(server.base_url).finish().json() == {}
        server.hang_up()
    assert server.connections == 2


def test_calls_the_outcome_unknown_when_a_call_after_the_billable_one_fails(raw_server: Start) -> None:
    server = raw_server(answering(http(b"{}", "Connection: close")))

    def story() -> Story:
        yield Call("POST", "/x", billable=True)
        server.close()
        return (yield Call("GET", "/y"))

    conversation = Conversation(story(), own(server.base_url), request_id="r", total_timeout=2)
    with pytest.raises(OutcomeUnknown, match="After the billable call"):
        conversation.finish()


def test_says_before_the_billable_call_that_nothing_was_made(raw_server: Start) -> None:
    server = raw_server(reset)

    def story() -> Story:
        yield Call("POST", "/upload")
        return (yield Call("POST", "/x", billable=True))

    conversation = Conversation(story(), own(server.base_url), request_id="r", total_timeout=5)
    with pytest.raises(Refused, match="Nothing billable was sent"):
        conversation.prepare()
    assert server.connections == 3


def test_calls_an_adapters_fault_an_unknown_outcome(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/x").respond_with_json({})

    def broken() -> Story:
        reply = yield Call("POST", "/x", headers={"API-KEY": Secret(KEY)}, billable=True)
        raise KeyError(KEY, reply)

    conversation = Conversation(broken(), own(httpserver.url_for("/")), request_id="r", total_timeout=5)
    with pytest.raises(OutcomeUnknown) as caught:
        conversation.finish()
    assert KEY not in "".join(traceback.format_exception(caught.value))


# -- calls that may be repeated -------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_repeats_a_safe_call_up_to_twice(httpserver: HTTPServer, status: int) -> None:
    for _ in range(2):
        httpserver.expect_ordered_request("/x").respond_with_data("", status=status)
    httpserver.expect_ordered_request("/x").respond_with_json({"ok": True})
    reply, exchanges = converse(
        one_call(billable=False), own(httpserver.url_for("/")), request_id="r", total_timeout=10
    )
    assert reply.json() == {"ok": True}
    assert [one.response and one.response["status"] for one in exchanges] == [status, status, 200]


def test_gives_the_last_reply_of_a_safe_call_that_keeps_failing(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/x").respond_with_data("", status=503)
    reply, exchanges = converse(
        one_call(billable=False), own(httpserver.url_for("/")), request_id="r", total_timeout=10
    )
    assert (reply.status, len(exchanges)) == (503, 3)


def test_repeats_a_safe_call_after_a_cut(raw_server: Start) -> None:
    server = raw_server(reset, answering(http(b"{}")))
    reply, _ = converse(one_call(billable=False), own(server.base_url), request_id="r", total_timeout=10)
    assert reply.status == 200


def test_makes_headers_anew_for_each_try(httpserver: HTTPServer) -> None:
    httpserver.expect_ordered_request("/x").respond_with_data("", status=500)
    httpserver.expect_ordered_request("/x").respond_with_json({})
    ids = iter(["first", "second"])
    story = one_call(billable=False, fresh_headers={"Ai-trace-id": lambda: next(ids)})
    converse(story, own(httpserver.url_for("/")), request_id="r", total_timeout=10)
    assert [request.headers["Ai-trace-id"] for request, _ in httpserver.log] == ["first", "second"]


def test_stops_repeating_at_the_deadline(raw_server: Start) -> None:
    server = raw_server(hang)
    started = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        converse(one_call(billable=False), own(server.base_url), request_id="r", total_timeout=0.5)
    assert time.monotonic() - started < 1.5


def test_uploads_a_file_from_storage(httpserver: HTTPServer) -> None:
    received: list[tuple[str, bytes, str]] = []

    def take(request: Request) -> Response:
        file = request.files["image"]
        received.append((file.filename or "", file.read(), request.form["kind"]))
        return Response("{}")

    httpserver.expect_request("/x").respond_with_handler(take)
    file = input_file("image", "image")
    submit(httpserver.url_for("/"), json=None, form={"kind": "ä"}, files={"image": file}).finish()
    assert received == [("a.png", file.open().read(), "ä")]


# -- where calls may go ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1"]
)
def test_refuses_a_private_address_unless_allowed(httpserver: HTTPServer, host: str) -> None:
    with pytest.raises(NotDelivered, match=r"private network|could not be looked up"):
        submit(f"http://{host}:{httpserver.port}", allow_private=False).finish()
    assert httpserver.log == []


def test_does_not_lend_a_private_connection_to_who_may_not(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/x").respond_with_json({})
    base = httpserver.url_for("/")
    submit(base).finish()
    with pytest.raises(NotDelivered):
        submit(base, allow_private=False).finish()
    assert len(httpserver.log) == 1


@pytest.mark.parametrize(
    "path", ["http://169.254.169.254/latest", "https://127.0.0.1/x", "http://evil.example/x", "file:///etc/passwd"]
)
def test_sends_nothing_to_an_address_that_is_not_the_accounts(httpserver: HTTPServer, path: str) -> None:
    with pytest.raises(Refused):
        submit(httpserver.url_for("/"), path=path).finish()
    assert httpserver.log == []


def test_takes_an_absolute_url_of_the_accounts_own_origin(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/elsewhere").respond_with_json({})
    assert submit(httpserver.url_for("/api"), path=httpserver.url_for("/elsewhere")).finish().status == 200


@pytest.mark.parametrize("base_url", ["", "ftp://x", "http://", "http://u:p@127.0.0.1", "http://a b", "http://x:99999"])
def test_refuses_a_base_url_that_is_none(base_url: str) -> None:
    with pytest.raises((Refused, NotDelivered)):
        submit(base_url).finish()


# -- what is kept ---------------------------------------------------------------------------------


def test_keeps_no_secret_even_when_the_provider_echoes_it(httpserver: HTTPServer) -> None:
    echoes = {"as it is": KEY, "quoted": quote(KEY, safe=""), KEY: 1, "deep": [{"x": f"key {KEY} is wrong"}]}
    httpserver.expect_request("/x").respond_with_json(echoes)

    def story() -> Story:
        reply = yield Call(
            "POST", "/x", headers={"Authorization": Secret(f"Bearer {KEY}"), "API-KEY": Secret(KEY)},
            query={"key": Secret(KEY)}, json={"key": Secret(KEY), "prompt": "a fox"}, billable=True,
        )  # fmt: skip
        raise InvalidParams(f"no: {reply.json()['as it is']}")

    conversation = Conversation(story(), own(httpserver.url_for("/")), request_id="r", total_timeout=5)
    with pytest.raises(InvalidParams) as caught:
        conversation.finish()
    kept = json.dumps([[one.request, one.response] for one in conversation.exchanges])
    for form in (KEY, quote(KEY), quote(KEY, safe=""), "secret"):
        assert form not in kept
        assert form not in str(caught.value) + caught.value.detail
    assert "a fox" in kept


def test_hides_the_secret_in_the_error_that_a_poll_reports(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/x").respond_with_json({})

    def story() -> Generator[Call, Reply, PollResult]:
        yield Call("GET", "/x", headers={"API-KEY": Secret(KEY)})
        return PollResult("failed", error=JobFailed(f"bad key {KEY}"))

    result, _ = converse(story(), own(httpserver.url_for("/")), request_id="r", total_timeout=5)
    assert str(result.error) == "bad key ***"


def test_keeps_a_few_kilobytes_of_json_that_postgresql_takes(raw_server: Start) -> None:
    odd = (
        b'{"nan": NaN, "inf": 1e999, "nul": "a\\u0000b", "half": "\\ud800", "long": "'
        + b"x" * 100_000
        + b'", "many": ['
    )
    odd += b",".join(b"1" for _ in range(5_000)) + b'], "deep": ' + b"[" * 400 + b"]" * 400 + b"}"
    server = raw_server(answering(http(odd)))
    conversation = submit(server.base_url, json={"image": "A" * 3_000_000, "prompt": "a fox"})
    conversation.finish()
    (exchange,) = conversation.exchanges
    text = json.dumps([exchange.request, exchange.response], allow_nan=False)
    assert len(text) < 12_000
    assert "\\u0000" not in text
    assert "\\ud800" not in text
    assert exchange.request["body"]["prompt"] == "a fox"
    assert exchange.elapsed > 0


def test_keeps_the_beginning_of_a_reply_that_is_no_json(raw_server: Start) -> None:
    server = raw_server(answering(http(b"<html>Bad Gateway</html>\xff", status="502 Bad Gateway")))
    conversation = submit(server.base_url)
    conversation.finish()
    assert conversation.exchanges[0].response is not None
    assert conversation.exchanges[0].response["body"].startswith("<html>Bad Gateway")


def test_tells_the_adapter_when_the_reply_came(raw_server: Start) -> None:
    assert submit(raw_server(answering(http(b"{}"))).base_url).finish().headers["date"].endswith("GMT")


# -- connections ----------------------------------------------------------------------------------


def keep_alive(client: socket.socket) -> None:
    while asked(client):
        client.sendall(http(b"{}"))


def test_reuses_one_connection_for_calls_in_a_row(raw_server: Start) -> None:
    server = raw_server(keep_alive)
    for _ in range(20):
        submit(server.base_url).finish()
    assert server.connections == 1


def test_shares_its_connections_between_threads(raw_server: Start) -> None:
    server = raw_server(keep_alive)
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: submit(server.base_url).finish().status, range(200)))
    assert replies == [200] * 200
    assert server.connections <= 8


def test_does_not_trust_a_connection_that_rested_too_long(raw_server: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = raw_server(keep_alive)
    submit(server.base_url).finish()
    monkeypatch.setattr(connections, "IDLE_LIMIT", 0.0)
    submit(server.base_url).finish()
    assert server.connections == 2


def test_opens_a_new_connection_when_the_server_closed_the_old_one(raw_server: Start) -> None:
    server = raw_server(answering(http(b"{}")))
    for _ in range(3):
        assert submit(server.base_url).finish().status == 200
        time.sleep(0.05)
    assert server.connections == 3


def test_starts_with_no_connections_in_a_forked_child(raw_server: Start) -> None:
    server = raw_server(keep_alive)
    submit(server.base_url).finish()
    program = f"""
import os, sys
from providers.base import Call
from providers.transport import Conversation, Endpoint
def call():
    def story():
        return (yield Call("POST", "/x", billable=True))
    endpoint = Endpoint({server.base_url!r}, allow_private=True)
    return Conversation(story(), endpoint, request_id="r", total_timeout=5).finish().status
assert call() == 200
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        os._exit(0 if [call() for _ in range(3)] == [200] * 3 else 1)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
assert call() == 200
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(connections.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=30)
    assert server.connections == 4


def test_sends_no_cookie_back(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/x").respond_with_data("{}", headers={"Set-Cookie": "session=other-account"})
    for _ in range(2):
        submit(httpserver.url_for("/")).finish()
    assert all("Cookie" not in request.headers for request, _ in httpserver.log)


def test_asks_no_proxy_from_the_environment(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    httpserver.expect_request("/x").respond_with_json({})
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    assert submit(httpserver.url_for("/")).finish().status == 200


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for localhost, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "localhost.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return file


def over_tls(certificate: Path, handler: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def handle(client: socket.socket) -> None:
        with context.wrap_socket(client, server_side=True) as wrapped:
            handler(wrapped)

    return handle


def tls_url(server: RawServer) -> str:
    return server.base_url.replace("http://127.0.0.1", "https://localhost")


def test_trusts_no_certificate_of_its_own_making(raw_server: Start, certificate: Path) -> None:
    server = raw_server(over_tls(certificate, keep_alive))
    with pytest.raises(NotDelivered, match="certificate is not trusted"):
        submit(tls_url(server)).finish()


def test_speaks_tls_with_deadlines_and_kept_connections(
    raw_server: Start, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting = connections.PinnedAdapter()
    trusting.poolmanager.connection_pool_kw["ssl_context"].load_verify_locations(certificate)
    monkeypatch.setattr(connections, "adapter", lambda *, allow_private: trusting)
    server = raw_server(over_tls(certificate, keep_alive))
    for _ in range(3):
        assert submit(tls_url(server)).finish().status == 200
    assert server.connections == 1
    dripping = raw_server(over_tls(certificate, drip_body))
    started = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        submit(tls_url(dripping), timeout=0.6).finish()
    assert time.monotonic() - started < 1.5


def test_leaves_no_thread_behind(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/x").respond_with_json({})
    before = threading.active_count()
    for _ in range(5):
        submit(httpserver.url_for("/")).finish()
    assert threading.active_count() <= before + 1


def test_every_error_of_the_vocabulary_has_words_for_people() -> None:
    for kind in ProviderError.__subclasses__():
        assert kind().detail
