"""The house for a bench: a database and a broker space of its own, and real processes on them."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import redis
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connection
from knox.models import AuthToken

from accounts.models import Account
from config.bench import peer_tasks
from config.celery import app
from config.embedded.ports import answers, free_port
from config.embedded.program import Program, spawn, stop, wait_until
from config.first_run import sandbox_base_url
from config.stack import Addresses, programs, responds

BROKER_SPACE = "15"


class House:
    """What a bench measures on: servers by name, a user with a token."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        user = get_user_model().objects.create_user("bench")
        self.user_id: int = user.pk
        self.token: str = AuthToken.objects.create(user, expiry=None)[1]
        ports = [free_port() for _ in range(4)]
        self.addresses = Addresses("127.0.0.1", *ports[:3])
        self.bare_port = ports[3]

    @contextmanager
    def running(self, *names: str, extra: Sequence[Program] = (), **environment: str) -> Iterator[list[int]]:
        """Run these programs of the house (and ``extra`` ones); gives their pids."""
        wanted = [one for one in programs(self.addresses, self.folder, "bench:bench") if one.name in names]
        started = []
        with (self.folder / "log").open("ab") as log:
            try:
                for one in [*wanted, *extra]:
                    program = replace(one, env={**(one.env or os.environ), **environment})
                    started.append((program, spawn(program, log)))
                self._wait(names, [program.name for program in extra])
                yield [process.pid for _, process in started]
            finally:
                for program, process in reversed(started):
                    stop(process, program)

    def program(self, name: str, *argv: str) -> Program:
        """A program that is not part of the house: a peer."""
        return Program(name=name, argv=(sys.executable, "-m", *argv), stage=20, stop_seconds=10, env=dict(os.environ))

    def bare(self) -> Program:
        """The peer of P1."""
        return self.program(
            "bare",
            *("granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(self.bare_port)),
            *("--workers", os.environ["DARKROOM_WEB_WORKERS"], "--blocking-threads", "4", "--no-ws"),
            *("--log-level", "warning", "config.bench.bare_wsgi:application"),
        )

    def sandbox_account(self, provider_id: str, limit: int) -> Account:
        """An account that the sandbox plays."""
        account = Account(
            provider_id=provider_id,
            label="bench",
            base_url=sandbox_base_url(provider_id, self.addresses.sandbox_url),
            allow_private_base_url=True,
            limit=limit,
        )
        account.set_credentials({"api_key": "sandbox-bench"})
        account.save()
        return account

    def _wait(self, names: Sequence[str], extra: Sequence[str]) -> None:
        checks = []
        if "web" in names:
            checks.append(f"{self.addresses.web_url}/healthz")
        if "sandbox" in names:
            checks.append(f"{self.addresses.sandbox_url}/_sandbox/health")
        for url in checks:
            if not wait_until(partial(responds, url), 30):
                raise RuntimeError(f"{url} does not answer; see {self.folder / 'log'}")
        if "bare" in extra and not wait_until(lambda: answers("127.0.0.1", self.bare_port), 30):
            raise RuntimeError(f"the bare peer does not answer; see {self.folder / 'log'}")


@contextmanager
def house() -> Iterator[House]:
    """A fresh database (dropped afterwards) on the configured server, with the schema; nothing else is touched."""
    before = settings.DATABASES["default"]["NAME"]
    settings.DATABASES["default"].setdefault("TEST", {})["NAME"] = "darkroom_bench"
    connection.settings_dict["TEST"]["NAME"] = "darkroom_bench"
    name = connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    broker = _with_path(settings.REDIS_URL, BROKER_SPACE)
    saved = {
        key: os.environ.get(key)
        for key in ("DATABASE_URL", "REDIS_URL", "MEDIA_ROOT", "DARKROOM_WEB_WORKERS", "API_RATE")
    }
    with tempfile.TemporaryDirectory(prefix="darkroom-bench-") as folder:
        os.environ.update(
            DATABASE_URL=_with_path(os.environ["DATABASE_URL"], name),
            REDIS_URL=broker,
            MEDIA_ROOT=f"{folder}/media",
            DARKROOM_WEB_WORKERS="2",
            API_RATE="0",
        )
        settings.REDIS_URL = broker
        app.conf.update(broker_url=broker)
        try:
            with connection.cursor() as cursor:
                cursor.execute(peer_tasks.CREATE)
            yield House(Path(folder))
        finally:
            redis.Redis.from_url(broker).flushdb()
            for key, value in saved.items():
                os.environ.pop(key) if value is None else os.environ.update({key: value})
            connection.creation.destroy_test_db(before, verbosity=0)


def _with_path(url: str, path: str) -> str:
    """The same server, another database."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, f"/{path}", parts.query, ""))
