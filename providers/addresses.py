"""Which URLs and which network addresses may be fetched for somebody else.

A URL that a user or a provider gave is a way to make this machine call its own
neighbourhood: the database beside it, the cloud's metadata service, a router. So a URL is
judged twice: by its text (``parse``), and by every address that its name stands for
(``resolve``). The caller then connects to one of exactly these addresses, never to the name
again, so that a name which changes its answer in between gains nothing.

An Account's own configured base URL is the one exception: its origin may be private.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import socket
import threading
from dataclasses import dataclass
from typing import NoReturn

import idna
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from providers.errors import AssetUnusable, NotDelivered

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_URL_LENGTH = 2048
USUAL_PORTS = {"http": 80, "https": 443}
_ALLOWED_PORTS = frozenset(USUAL_PORTS.values())
_RESOLVE_LIMIT = 10.0

_HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\Z")
_LOCAL_NAMES = ("localhost", "local", "internal", "lan", "home.arpa")

# What is never a public server (IANA's special-purpose registries). IPv6 is judged the other
# way round: only 2000::/3 is public at all, which leaves out loopback, mapped IPv4,
# unique local, link-local, multicast and local NAT64 at once.
_FORBIDDEN_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; some clouds keep their metadata here
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, and most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_FORBIDDEN_V6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # Teredo and other protocol assignments
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3ffe::/16",
        "3fff::/20",
    )
)


class UnsafeURL(AssetUnusable):
    """The address may not be fetched."""

    code = "unsafe_url"


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that passed ``parse``, in its parts.

    ``host`` is in ASCII, lower case, an IPv6 address without brackets. ``trusted`` is true
    when it lies in the allowed origin, whose addresses may be private.
    """

    url: str
    scheme: str
    host: str
    port: int
    request_uri: str
    trusted: bool

    @property
    def authority(self) -> str:
        """The Host header: with the port only where it is not the scheme's usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == USUAL_PORTS[self.scheme] else f"{host}:{self.port}"


def parse(url: str, *, allowed_origin: str | None = None) -> Target:
    """Judge a URL by its text and take it apart. No lookup is made.

    ``allowed_origin`` is ``scheme://host[:port]`` of an Account's configured base URL (a path
    behind it is ignored): there, and only there, any port, name and address is allowed.

    Raises:
        UnsafeURL: with a reason for people.
    """
    scheme, host, port, request_uri = _take_apart(url)
    trusted = allowed_origin is not None and _origin(allowed_origin) == (scheme, host, port)
    if not trusted:
        if port not in _ALLOWED_PORTS:
            _refuse(f"port {port} is not a usual one for the web; only 80 and 443 are used")
        _check_host(host)
    return Target(url, scheme, host, port, request_uri, trusted)


@functools.lru_cache(maxsize=256)
def _origin(url: str) -> tuple[str, str, int]:
    """An Account's base URL, which is the same at each of its downloads, as an origin."""
    return _take_apart(url)[:3]


def _take_apart(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and request URI of a URL that is well-formed and plain."""
    if len(url) > MAX_URL_LENGTH:
        _refuse(f"it is longer than {MAX_URL_LENGTH} characters")
    if "\\" in url or not url.isprintable() or any(character.isspace() for character in url):
        _refuse("it contains a space, a line break, a control character or a backslash")
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in USUAL_PORTS:
        _refuse("it does not begin with https:// or http://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        _refuse("it contains a user name or password")
    if "%" in authority and not authority.startswith("["):
        _refuse("its host name is not a valid one")
    try:
        parts = parse_url(url)
        host = _plain_host(parts.host or "")
        port = USUAL_PORTS[scheme] if parts.port is None else parts.port
    except (LocationParseError, UnicodeError, ValueError) as error:
        raise UnsafeURL("This address is refused: it is not a well-formed URL.") from error
    if not host or port == 0:
        _refuse("it names no host, or port 0")
    return scheme, host, port, parts.request_uri


def _plain_host(host: str) -> str:
    """The host in one spelling: lower case, ASCII, no brackets, no closing dot."""
    if host.startswith("["):
        return str(ipaddress.IPv6Address(host[1:-1]))  # a zone id (%eth0) raises or is refused below
    if not host.isascii():
        host = idna.encode(host, uts46=True).decode("ascii")
    return host.lower().removesuffix(".")


def _check_host(host: str) -> None:
    """Refuse a host that, by its text alone, is not a public server."""
    if ":" in host:
        if is_forbidden(ipaddress.IPv6Address(host)):
            _refuse("it points to a private or reserved network address")
        return
    if not _HOST_NAME.match(host):
        _refuse("its host name is not a valid one")
    last_label = host.rpartition(".")[2]
    if last_label.isdigit() or last_label.startswith("0x"):
        # Every spelling that some resolver takes for a number: 127.1, 2130706433, 0x7f.1, 0177.0.0.1.
        try:
            address = ipaddress.IPv4Address(host)
        except ValueError:
            _refuse("its host is a network address in an unusual spelling")
        if is_forbidden(address):
            _refuse("it points to a private or reserved network address")
    elif "." not in host or any(host == name or host.endswith("." + name) for name in _LOCAL_NAMES):
        _refuse("its host is a name of the local network")


def is_forbidden(address: Address) -> bool:
    """Whether an address is anything but a public server's.

    A NAT64 address (64:ff9b::/96, what a DNS64 resolver makes up for IPv4-only servers) is
    judged by the IPv4 address inside; mapped, 6to4 and Teredo forms are always forbidden.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return any(address in network for network in _FORBIDDEN_V4)
    if address.scope_id is not None:
        return True
    if address in _NAT64:
        return is_forbidden(ipaddress.IPv4Address(address.packed[12:]))
    return address not in _PUBLIC_V6 or any(address in network for network in _FORBIDDEN_V6)


def resolve(target: Target, *, timeout: float = _RESOLVE_LIMIT) -> list[str]:
    """The addresses that a target's name stands for now, in the system's order. At least one.

    ``timeout`` is in seconds; the system's resolver has none of its own.

    Raises:
        UnsafeURL: any of them is forbidden (a mixed answer is an attempt at something).
        NotDelivered: the name is unknown, or the lookup failed or took too long.
    """
    addresses = _look_up(target, timeout)
    if not target.trusted:
        for text in addresses:
            if is_forbidden(ipaddress.ip_address(text)):
                _refuse("its host name stands for a private or reserved network address")
    return addresses


def _look_up(target: Target, timeout: float) -> list[str]:
    """Ask the system's resolver, in a thread, since it cannot be interrupted."""
    try:
        return [str(ipaddress.ip_address(target.host))]
    except ValueError:
        pass
    answers: list[str] = []
    failures: list[OSError | UnicodeError] = []

    def ask() -> None:
        try:
            found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            answers.extend(dict.fromkeys(str(address[0]) for *_, address in found))
        except (OSError, UnicodeError) as error:
            failures.append(error)

    thread = threading.Thread(target=ask, name="resolve", daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise NotDelivered(f"The lookup of the host name {target.host} took more than {timeout:.0f} s.")
    if not answers:
        cause = failures[0] if failures else None
        raise NotDelivered(f"The host name {target.host} could not be looked up.") from cause
    return answers


def _refuse(reason: str) -> NoReturn:
    raise UnsafeURL(f"This address is refused: {reason}.")
