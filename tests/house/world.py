"""The whole house for tests: the drill's own (``config.drill.house``), made new between tests."""

from __future__ import annotations

import itertools
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.db import connection

from config.drill import house, people
from config.drill.house import Layout, NotInTime
from config.embedded.ports import free_port
from config.embedded.program import Program

# The times of a day in half a minute. The order between them is that of the defaults; the sandbox's work is much
# shorter than any of them.
SCALED = {
    "lease": 4,
    "submit_timeout": 5,
    "sending_grace": 1,
    "image_deadline": 9,
    "video_deadline": 9,
    "submission_limit": 12,
    "last_look_interval": 1,
    "poll_timeout": 5,
    "image_poll_interval": 0.2,
    "video_poll_interval": 0.5,
    "max_poll_interval": 0.3,
    "reconcile_after": 1,
    "reconcile_interval": 1,
    "backoff_base": 0.5,
    "backoff_cap": 2,
    "webhook_timeout": 3,
    "webhook_backoff_base": 0.5,
}
_numbers = itertools.count(1)


class Person(people.Person):
    """A user, as tests ask."""

    def ask(self, body: Mapping[str, Any]) -> str:
        """Ask for one that must be accepted as a new one; its id."""
        reply = self.post(body)
        assert reply.status_code == 202, reply.text
        return str(reply.json()["id"])

    def look(self, generation_id: str) -> dict[str, Any]:
        """What the API tells about one."""
        reply = self.call("GET", f"/api/v1/generations/{generation_id}")
        assert reply.status_code == 200, reply.text
        told: dict[str, Any] = reply.json()
        return told


class House(house.House):
    """A house that counts the connections made to its database, and can be as if it were new.

    Its webhooks may go to ``receiver_port`` of this machine, where nothing of ours listens.
    """

    def __init__(self, folder: Path) -> None:
        self.receiver_port = free_port()
        allowed = {"WEBHOOK_ALLOWED_ORIGINS": f"http://127.0.0.1:{self.receiver_port}"}
        super().__init__(folder, Layout(times=SCALED, callbacks=True, environment=allowed))
        self.connections_made = 0

    def server_programs(self) -> list[Program]:
        postgres, *others = super().server_programs()
        # One line for each new connection, which ``line`` counts.
        return [replace(postgres, argv=(*postgres.argv, "-c", "log_connections=on")), *others]

    def line(self, name: str, text: str) -> None:
        if name == "postgres" and "connection authorized" in text:
            self.connections_made += 1
        elif "connection received" not in text and "connection authenticated" not in text:
            super().line(name, text)

    def person(self) -> Person:
        return Person(self.addresses.web_url)

    def account(self, provider_id: str, limit: int, label: str = "") -> str:
        return super().account(provider_id, limit, label or f"account {next(_numbers)}")

    @contextmanager
    def away(self, name: str) -> Iterator[None]:
        """A program is killed, and stays away as long as this lasts."""
        assert self._supervisor is not None
        child = self._supervisor.children[name]
        os.kill(self.pid(name), signal.SIGQUIT if name == self.postgres.name else signal.SIGKILL)
        self.until(lambda: child.process is None and child.restart_at is not None, f"the death of {name}")
        child.restart_at = math.inf
        try:
            yield
        finally:
            child.restart_at = time.monotonic()
            connection.close()  # with a database that was away, ours went too
            self.until(lambda: self.postgres.ready() and self.valkey.ready() and child.alive, f"{name} again")

    @contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """A program hangs (SIGSTOP) as long as this lasts."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def until(self, check: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """As ``wait``, of what asks no database."""
        end = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < end, f"not within {seconds:g} s: {what}\n{self.last_lines()}"
            time.sleep(0.02)

    def clean(self) -> None:
        """Nothing of an earlier test: people, accounts, everything that hangs on them, the sandbox's record."""
        with suppress(NotInTime):  # whose work does not end has failed already
            self.wait(self.idle, "the end of an earlier test's work", 15)
        self.wait(_emptied, "an empty database")  # a worker's look may stand in the way
        self.sandbox.reset(keys=True)
        self.sandbox.set_speed(0.1)


def _emptied() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE auth_user, accounts_account, accounts_price, generations_switch CASCADE")
    return True


def picture(prompt: str, **more: Any) -> dict[str, Any]:
    """A request for a small picture that takes the sandbox a while (a second, times its speed)."""
    return {
        "operation_type": "text_to_image",
        "provider_id": "modelslab",
        "params": {"prompt": prompt, "width": 264, "height": 264},
        **more,
    }


def video(prompt: str = "test video", quality: str = "720p") -> dict[str, Any]:
    """A request for a video."""
    return {
        "operation_type": "text_to_video",
        "provider_id": "pixverse",
        "params": {"prompt": prompt, "quality": quality},
    }
