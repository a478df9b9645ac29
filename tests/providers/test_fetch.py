"""The guarded downloader, against a real HTTP server on the loopback interface."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import gzip
import hashlib
import io
import ipaddress
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from providers import addresses, fetch
from providers.errors import AssetGone, AssetUnusable, NotDelivered, ProviderBusy
from providers.fetch import UnsafeURL, check_url, download

Route = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def do_GET(self) -> None:
        self.server.seen.append((self.path, dict(self.headers), self.client_address[1]))
        with contextlib.suppress(OSError):
            self.server.routes[self.path](self)

    def give(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Answer with right lengths unless the headers say otherwise."""
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


class Site(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.routes: dict[str, Route] = {}
        self.seen: list[tuple[str, dict[str, str], int]] = []
        super().__init__((address, 0), Handler)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextlib.contextmanager
def serving(site: Site) -> Iterator[Site]:
    thread = threading.Thread(target=site.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield site
    site.shutdown()
    site.server_close()
    thread.join()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site()) as running:
        yield running


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A stand-in for DNS: host name -> addresses. Other names stay as they are."""
    known: dict[str, list[str]] = {}
    really = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in known:
            return really(host, port, *args, **kwargs)
        if not known[host]:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


def get(site: Site, path: str, **options: Any) -> tuple[fetch.Fetched, bytes]:
    into = io.BytesIO()
    options = {"max_bytes": 1_000_000, "allowed_origin": site.origin, **options}
    fetched = download(site.origin + path, into, **options)
    return fetched, into.getvalue()


# At the door


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a.png",
        "http://example.com:80/a.png?x=1#top",
        "https://EXAMPLE.com:443/",
        "https://93.184.216.34/a.png",
        "https://bücher.example/ü.png",
        "https://[2606:2800:220:1:248:1893:25c8:1946]/a.png",
    ],
)
def test_lets_public_urls_in(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/a.png",
        "//example.com/a.png",
        "https:/example.com",
        "https://",
        "https:///etc/passwd",
        "file:///etc/passwd",
        "ftp://example.com/a",
        "gopher://example.com/a",
        "data:image/png;base64,AAAA",
        "https://user@example.com/",
        "https://user:secret@example.com/",
        "https://@example.com/",
        "https://example.com@127.0.0.1/",
        "https://example.com\\@127.0.0.1/",
        "https://example.com:22/",
        "https://example.com:8000/",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://example.com:x/",
        "https://example.com/a\r\nX-Evil: 1",
        "https://example.com/a b",
        "https://example.com/\x00",
        "https://exa\u202emple.com/",
        "https://example.com/" + "a" * 2048,
        "https://exa%2emple.com/",
        "https://127%2e0.0.1/",
        "https://[::1/",
    ],
)
def test_refuses_malformed_and_odd_urls(url: str) -> None:
    with pytest.raises(UnsafeURL) as caught:
        check_url(url)
    assert caught.value.detail.startswith("This address is refused: ")


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST.",
        "api.localhost",
        "redis",
        "nas.local",
        "metadata.google.internal",
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.0x1",
        "\uff11\uff12\uff17.0.0.1",
        "127\u30020\u30020\u30021",
        "0.0.0.0",
        "0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "192.0.0.192",
        "192.88.99.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "[::]",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b:1::1]",
        "[2002:7f00:1::]",
        "[2001::1]",
        "[2001:db8::1]",
    ],
)
def test_refuses_private_hosts_in_every_spelling(host: str) -> None:
    with pytest.raises(UnsafeURL):
        check_url(f"http://{host}/")


def test_lets_an_accounts_own_origin_be_private() -> None:
    origin = "http://127.0.0.1:8188/api/"
    check_url("http://127.0.0.1:8188/view?filename=a.png", allowed_origin=origin)
    check_url("http://comfy:8188/view", allowed_origin="http://COMFY:8188")
    check_url("http://[::1]:8188/view", allowed_origin="http://[::1]:8188")
    for other in ("http://127.0.0.1:5432/", "https://127.0.0.1:8188/", "http://127.0.0.2:8188/"):
        with pytest.raises(UnsafeURL):
            check_url(other, allowed_origin=origin)
    with pytest.raises(UnsafeURL, match="user name"):
        check_url("http://me@127.0.0.1:8188/", allowed_origin=origin)


# What is fetched


def test_writes_the_bytes_and_says_what_they_are(site: Site) -> None:
    body = bytes(range(256)) * 1000
    site.routes["/a.png?sig=%2B"] = lambda h: h.give(200, body, Content_Type="Image/PNG; charset=x")
    fetched, got = get(site, "/a.png?sig=%2B")
    assert got == body
    assert fetched.size == len(body)
    assert fetched.sha256 == hashlib.sha256(body).hexdigest()
    assert fetched.content_type == "image/png"
    assert fetched.final_url == site.origin + "/a.png?sig=%2B"


def test_sends_nothing_of_ours(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    site.routes["/a"] = lambda h: h.give(302, Location="/b", Set_Cookie="id=1")
    site.routes["/b"] = lambda h: h.give(200, b"x")
    get(site, "/a")
    assert [path for path, _, _ in site.seen] == ["/a", "/b"]
    for _, headers, _ in site.seen:
        assert set(headers) == {"Host", "User-Agent", "Accept", "Accept-Encoding"}
        assert headers["Accept-Encoding"] == "identity"


def test_keeps_its_connections_also_across_threads(site: Site) -> None:
    site.routes["/a"] = lambda h: h.give(200, b"x" * 200_000)
    for _ in range(3):
        get(site, "/a")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(get, site, "/a").result()
    assert len(site.seen) == 6
    assert len({port for _, _, port in site.seen}) == 1


def test_reads_chunked_bodies(site: Site) -> None:
    def chunked(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")

    site.routes["/a"] = chunked
    assert get(site, "/a")[1] == b"abcde"


def test_follows_a_few_redirects(site: Site) -> None:
    for number in range(6):
        site.routes[f"/{number}"] = lambda h, n=number: h.give(302, b"moved", Location=f"/{n + 1}")  # type: ignore[misc]
    site.routes["/6"] = lambda h: h.give(200, b"end")
    fetched, got = get(site, "/2")
    assert (got, fetched.final_url) == (b"end", site.origin + "/6")
    with pytest.raises(UnsafeURL, match="redirects more than"):
        get(site, "/1")


def test_decodes_data_urls() -> None:
    body = bytes(range(256)) * 5000
    into = io.BytesIO()
    fetched = download("data:image/PNG;base64," + base64.b64encode(body).decode(), into, max_bytes=len(body))
    assert into.getvalue() == body
    assert fetched == fetch.Fetched(len(body), hashlib.sha256(body).hexdigest(), "image/png", "data:image/PNG;base64,")


@pytest.mark.parametrize(
    "url",
    [
        "data:image/svg+xml,<svg/>",
        "data:image/png;base64,",
        "data:image/png;base64,AAA",
        "data:image/png;base64,AA AA",
        "data:image/png;base64,AAAA*AAA",
        "data:image/png;base64",
        "data:",
    ],
)
def test_refuses_broken_data_urls(url: str) -> None:
    with pytest.raises(AssetUnusable):
        download(url, io.BytesIO(), max_bytes=1000)


def test_measures_a_data_url_before_it_decodes_it() -> None:
    into = io.BytesIO()
    with pytest.raises(AssetUnusable, match="larger than 1,000 bytes"):
        download("data:image/png;base64," + "A" * 4_000_000, into, max_bytes=1000)
    assert into.getvalue() == b""


# What the server may do wrong


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_says_that_a_link_is_gone(site: Site, status: int) -> None:
    site.routes["/a"] = lambda h: h.give(status, b"no")
    with pytest.raises(AssetGone, match=str(status)):
        get(site, "/a")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7), ("-1", None), ("1000000000", 3600), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("1e9", None)],
)
@pytest.mark.parametrize("status", [202, 408, 429, 500, 503])
def test_asks_to_come_back_later(site: Site, status: int, header: str, seconds: float | None) -> None:
    site.routes["/a"] = lambda h: h.give(status, b"later", Retry_After=header)
    with pytest.raises(ProviderBusy) as caught:
        get(site, "/a")
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize("status", [201, 206, 300, 304])
def test_refuses_answers_that_are_not_the_file(site: Site, status: int) -> None:
    site.routes["/a"] = lambda h: h.give(status, b"" if status == 304 else b"part")
    with pytest.raises(AssetUnusable):
        get(site, "/a")


def test_refuses_an_empty_file(site: Site) -> None:
    site.routes["/a"] = lambda h: h.give(200, b"")
    with pytest.raises(AssetUnusable, match="empty"):
        get(site, "/a")


def test_refuses_what_announces_to_be_too_big(site: Site) -> None:
    site.routes["/a"] = lambda h: h.give(200, b"x", Content_Length="1001")
    site.routes["/b"] = lambda h: h.give(200, b"x", Content_Length="9" * 5000)
    for path in ("/a", "/b"):
        with pytest.raises(AssetUnusable, match="larger than 1,000 bytes"):
            get(site, path, max_bytes=1000)


def test_takes_exactly_the_most_that_is_allowed(site: Site) -> None:
    site.routes["/a"] = lambda h: h.give(200, b"x" * 1000)
    assert get(site, "/a", max_bytes=1000)[0].size == 1000


def endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 65536)


def test_counts_what_comes_without_a_length(site: Site) -> None:
    site.routes["/a"] = endless
    with pytest.raises(AssetUnusable, match="larger than"):
        get(site, "/a", max_bytes=100_000)


def test_counts_a_gzip_bomb_by_its_decoded_bytes(site: Site) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    site.routes["/a"] = lambda h: h.give(200, bomb, Content_Encoding="gzip")
    into = io.BytesIO()
    with pytest.raises(AssetUnusable, match="larger than"):
        download(site.origin + "/a", into, max_bytes=100_000, allowed_origin=site.origin)
    assert len(into.getvalue()) <= 100_000


def test_decodes_an_unasked_gzip(site: Site) -> None:
    site.routes["/a"] = lambda h: h.give(200, gzip.compress(b"picture" * 50_000), Content_Encoding="gzip")
    assert get(site, "/a")[1] == b"picture" * 50_000
    site.routes["/b"] = lambda h: h.give(200, b"no gzip at all", Content_Encoding="gzip")
    with pytest.raises(AssetUnusable, match="decoded"):
        get(site, "/b")


def test_notices_a_body_shorter_than_its_length(site: Site) -> None:
    def short(handler: Handler) -> None:
        handler.give(200, b"x" * 10, Content_Length="20")
        handler.close_connection = True

    site.routes["/a"] = short
    with pytest.raises(NotDelivered, match="10 bytes had come"):
        get(site, "/a")


def test_takes_nothing_left_over_for_the_next_answer(site: Site) -> None:
    site.routes["/long"] = lambda h: h.give(
        200, b"abcHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", Content_Length="3"
    )
    site.routes["/next"] = lambda h: h.give(200, b"good")
    assert get(site, "/long")[1] == b"abc"
    time.sleep(0.05)  # let the rest arrive, so that it could be mistaken
    assert get(site, "/next")[1] == b"good"


def drip(data: bytes, pause: float) -> Route:
    def route(handler: Handler) -> None:
        handler.close_connection = True
        for position in range(len(data)):
            handler.wfile.write(data[position : position + 1])
            time.sleep(pause)

    return route


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 500,
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b"x" * 500,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 500,
    ],
    ids=["headers", "body", "chunk size"],
)
def test_ends_a_slow_drip_at_the_total_limit(site: Site, data: bytes) -> None:
    site.routes["/a"] = drip(data, 0.02)
    began = time.monotonic()
    with pytest.raises(NotDelivered, match="total limit"):
        get(site, "/a", total_timeout=0.5)
    assert 0.4 < time.monotonic() - began < 3


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"])
def test_ends_when_nothing_comes(site: Site, beginning: bytes) -> None:
    done = threading.Event()

    def silent(handler: Handler) -> None:
        handler.wfile.write(beginning)
        handler.close_connection = True
        done.wait(10)

    site.routes["/a"] = silent
    began = time.monotonic()
    try:
        with pytest.raises(NotDelivered, match=r"nothing for 0\.2 s"):
            get(site, "/a", idle_timeout=0.2)
    finally:
        done.set()
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "answer",
    [b"", b"\x16\x03\x01 not http at all\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
)
def test_survives_answers_that_are_no_http(site: Site, answer: bytes) -> None:
    def route(handler: Handler) -> None:
        handler.wfile.write(answer)
        handler.close_connection = True

    site.routes["/a"] = route
    with pytest.raises(NotDelivered):
        get(site, "/a")


def test_says_when_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        origin = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(NotDelivered, match="No connection"):
            download(origin + "/a", io.BytesIO(), max_bytes=10, allowed_origin=origin)


# Names and redirects


def test_refuses_a_private_server_before_it_connects(site: Site) -> None:
    with pytest.raises(UnsafeURL):
        get(site, "/a", allowed_origin=None)
    assert site.seen == []


@pytest.mark.parametrize(
    "answers",
    [["10.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["::1"], ["::ffff:10.0.0.1"], ["fe80::1%2"], ["64:ff9b::a00:1"]],
)
def test_refuses_a_name_if_any_address_is_private(names: dict[str, list[str]], answers: list[str]) -> None:
    names["cdn.example"] = answers
    with pytest.raises(UnsafeURL, match="stands for a private"):
        download("https://cdn.example/a", io.BytesIO(), max_bytes=10)


def test_judges_nat64_by_the_address_inside() -> None:
    assert not addresses.is_forbidden(ipaddress.ip_address("64:ff9b::5db8:d822"))
    assert addresses.is_forbidden(ipaddress.ip_address("64:ff9b::c0a8:1"))


def test_says_when_a_name_is_unknown(names: dict[str, list[str]]) -> None:
    names["cdn.example"] = []
    with pytest.raises(NotDelivered, match=r"cdn\.example could not be looked up"):
        download("https://cdn.example/a", io.BytesIO(), max_bytes=10)


def test_does_not_wait_for_ever_for_a_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: done.wait(10) and [])
    try:
        with pytest.raises(NotDelivered, match="lookup"):
            download("https://cdn.example/a", io.BytesIO(), max_bytes=10, idle_timeout=0.1)
    finally:
        done.set()


def test_looks_a_name_up_once_and_connects_to_what_it_judged(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second lookup (DNS rebinding) would lead to where nobody listens."""
    answers = ["127.0.0.1", "127.0.0.99"]

    def getaddrinfo(host: str, port: int, *_args: Any, **_kwargs: Any) -> Any:
        # urllib3 asks for the connection too: with an address, which is no lookup.
        address = answers.pop(0) if host == "comfy.example" else host
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    site.routes["/a"] = lambda h: h.give(200, b"x")
    origin = f"http://comfy.example:{site.server_port}"
    download(origin + "/a", io.BytesIO(), max_bytes=10, allowed_origin=origin)
    assert answers == ["127.0.0.99"]
    assert site.seen[0][1]["Host"] == f"comfy.example:{site.server_port}"


def test_tries_the_next_address(site: Site, names: dict[str, list[str]]) -> None:
    site.routes["/a"] = lambda h: h.give(200, b"x")
    names["comfy.example"] = ["127.0.0.77", "127.0.0.1"]
    origin = f"http://comfy.example:{site.server_port}"
    assert download(origin + "/a", io.BytesIO(), max_bytes=10, allowed_origin=origin).size == 1


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:22/",
        "http://inside.example/",
        "file:///etc/passwd",
        "//127.0.0.1:6379/",
        "http://[::1",
        "ftp://a.example/",
    ],
)
def test_checks_every_hop(site: Site, names: dict[str, list[str]], location: str) -> None:
    names["inside.example"] = ["192.168.0.1"]
    site.routes["/a"] = lambda h: h.give(302, Location=location)
    with pytest.raises(UnsafeURL):
        get(site, "/a")


def test_refuses_a_redirect_to_nowhere(site: Site) -> None:
    site.routes["/a"] = lambda h: h.give(302)
    with pytest.raises(AssetUnusable, match="nowhere"):
        get(site, "/a")


def test_lets_no_stranger_redirect_into_the_private_origin(
    site: Site, names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """127.0.0.5 plays the public server, since the test machine reaches no real one."""
    really = addresses.is_forbidden
    public = ipaddress.ip_address("127.0.0.5")
    monkeypatch.setattr(addresses, "is_forbidden", lambda address: address != public and really(address))
    site.routes["/private"] = lambda h: h.give(200, b"secret")
    with serving(Site("127.0.0.5")) as stranger:
        monkeypatch.setattr(addresses, "_ALLOWED_PORTS", frozenset({80, 443, stranger.server_port}))
        names["stranger.example"] = ["127.0.0.5"]
        stranger.routes["/public"] = lambda h: h.give(200, b"fine")
        stranger.routes["/trap"] = lambda h: h.give(302, Location=site.origin + "/private")
        outside = f"http://stranger.example:{stranger.server_port}"
        site.routes["/out"] = lambda h: h.give(302, Location=outside + "/public")
        assert get(site, "/out")[1] == b"fine"
        with pytest.raises(UnsafeURL):
            download(outside + "/trap", io.BytesIO(), max_bytes=10, allowed_origin=site.origin)
    assert [path for path, _, _ in site.seen] == ["/out"]


# TLS


@pytest.fixture
def secure_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An HTTPS server for the name cdn.example, whose certificate is trusted in this test."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "cdn.example")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("cdn.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "cdn.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    trusting = ssl.create_default_context(cafile=str(pem))
    monkeypatch.setattr(fetch, "_tls", lambda: trusting)
    server = Site()
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server) as running:
        yield running
    fetch._manager().clear()


def test_proves_the_servers_name_although_it_connects_to_an_address(
    secure_site: Site, names: dict[str, list[str]]
) -> None:
    secure_site.routes["/a"] = lambda h: h.give(200, b"x" * 100_000)
    names["cdn.example"] = names["other.example"] = ["127.0.0.1"]
    origin = f"https://cdn.example:{secure_site.server_port}"
    for _ in range(2):
        assert download(origin + "/a", io.BytesIO(), max_bytes=100_000, allowed_origin=origin).size == 100_000
    assert len({port for _, _, port in secure_site.seen}) == 1
    other = f"https://other.example:{secure_site.server_port}"
    with pytest.raises(NotDelivered, match="secure"):
        download(other + "/a", io.BytesIO(), max_bytes=10, allowed_origin=other)


def test_does_not_follow_from_https_to_http(secure_site: Site, names: dict[str, list[str]]) -> None:
    names["cdn.example"] = ["127.0.0.1"]
    secure_site.routes["/a"] = lambda h: h.give(302, Location="http://93.184.216.34/a")
    origin = f"https://cdn.example:{secure_site.server_port}"
    with pytest.raises(UnsafeURL, match="less safe"):
        download(origin + "/a", io.BytesIO(), max_bytes=10, allowed_origin=origin)


def test_shares_no_connection_with_a_forked_worker() -> None:
    ours = fetch._manager()
    child = os.fork()
    if child == 0:
        os._exit(0 if fetch._manager() is not ours else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert fetch._manager() is ours
