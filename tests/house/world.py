"""A whole house for tests: every process that ``up`` runs, on servers of its own, kept running by its supervisor.

The servers are embedded ones in a temporary folder, also where the rest of the tests runs on others: here they are
killed. Django's connection of the test's own thread leads to the house's database while ``House.entered`` lasts.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import redis
import requests
from django.core.management import call_command
from django.db import OperationalError, connection, connections
from django.db.utils import InterfaceError, load_backend
from django_celery_beat.models import IntervalSchedule, PeriodicTask, PeriodicTasks
from environ import Env
from knox.models import AuthToken

from config.celery import QUEUES
from config.embedded.ports import free_port
from config.embedded.postgres import Postgres
from config.embedded.program import Program
from config.embedded.valkey import Valkey
from config.first_run import sandbox_base_url
from config.stack import Addresses, programs, responds
from config.supervisor import Supervisor
from generations.models import Generation, Heartbeat, Submission
from providers.sandbox.client import SandboxControl
from tests.factories import AccountFactory, UserFactory

START_SECONDS = 90
TICK_SECONDS = 1
WITHOUT = ("flower",)  # shows; does nothing
# The times of a day in half a minute. The order between them is that of the defaults; the sandbox's work is much
# shorter than any of them.
SCALED = {
    "LEASE": "4",
    "SUBMIT_TIMEOUT": "5",
    "SENDING_GRACE": "1",
    "IMAGE_DEADLINE": "9",
    "VIDEO_DEADLINE": "9",
    "SUBMISSION_LIMIT": "12",
    "LAST_LOOK_INTERVAL": "1",
    "POLL_TIMEOUT": "5",
    "IMAGE_POLL_INTERVAL": "0.2",
    "VIDEO_POLL_INTERVAL": "0.5",
    "MAX_POLL_INTERVAL": "0.3",
    "BACKOFF_BASE": "0.5",
    "BACKOFF_CAP": "2",
}


class Person:
    """A user with a token, and the API as this user sees it."""

    def __init__(self, url: str) -> None:
        self.user = UserFactory.create()
        self.token: str = AuthToken.objects.create(self.user, expiry=None)[1]
        self._url = url

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """One request on a connection of its own; may be made in any thread."""
        with requests.Session() as session:
            session.trust_env = False
            headers = {"Authorization": f"Bearer {self.token}"}
            return session.request(method, self._url + path, headers=headers, timeout=30, **options)

    def post(self, body: Mapping[str, Any]) -> requests.Response:
        """Ask for one Generation."""
        return self.call("POST", "/api/v1/generations", json=body)

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


class House:
    """The processes, the servers, and what a test asks of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres = Postgres(folder, throwaway=True)
        self.valkey = Valkey(folder)
        self.addresses = Addresses("127.0.0.1", *(free_port() for _ in range(3)))
        self.sandbox = SandboxControl(self.addresses.sandbox_url)
        self.media = folder / "media"
        self.connections_made = 0
        self._log = (folder / "log.txt").open("w", buffering=1)
        self._wanted: queue.SimpleQueue[Program] = queue.SimpleQueue()
        self._leaving = threading.Event()
        self._supervisor: Supervisor | None = None
        # Programs are tied to the thread that starts them: this one lives as long as they do.
        self._thread = threading.Thread(target=self._supervise, name="supervisor")

    # --- its life ------------------------------------------------------------------------

    def start(self) -> None:
        """Start the servers, bring the database up to date, start the programs, wait until all of them work."""
        self._thread.start()
        postgres = self.postgres.program()
        # One line for each new connection, which ``_line`` counts.
        self._wanted.put(replace(postgres, argv=(*postgres.argv, "-c", "log_connections=on")))
        self._wanted.put(self.valkey.program())
        self.wait(lambda: self.postgres.ready() and self.valkey.ready(), "the servers", START_SECONDS)
        self.postgres.finish()
        with self.entered():
            call_command("migrate", verbosity=0, interactive=False)
            soon, _ = IntervalSchedule.objects.get_or_create(every=TICK_SECONDS, period=IntervalSchedule.SECONDS)
            PeriodicTask.objects.filter(name__in=["tick", "poll", "collect"]).update(interval=soon)
            PeriodicTasks.update_changed()
            for program in self._programs():
                self._wanted.put(program)
            self.wait(self._works, "every process at work", START_SECONDS)

    def stop(self) -> None:
        """Stop everything, in order."""
        self._leaving.set()
        self._thread.join()
        self.sandbox.close()
        self._log.close()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Django's default connection of this thread is one to the house's database."""
        config = {**connections.settings["default"], **Env.db_url_config(self.postgres.url)}
        outside = connections["default"]
        inside = load_backend(config["ENGINE"]).DatabaseWrapper(config, "default")
        connections["default"] = inside
        try:
            yield
        finally:
            inside.close()
            connections["default"] = outside

    def _programs(self) -> list[Program]:
        environment = {
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.valkey.url,
            "MEDIA_ROOT": str(self.media),
            "LOG_LEVEL": "WARNING",
            **{f"DARKROOM_{name}": value for name, value in SCALED.items()},
        }
        made = [one for one in programs(self.addresses, self.folder, "house:house") if one.name not in WITHOUT]
        return [replace(one, env={**(one.env or {}), **environment}) for one in made]

    def _works(self) -> bool:
        beats = set(Heartbeat.objects.values_list("name", flat=True))
        return (
            {"tick", "poll"} <= beats
            and responds(f"{self.addresses.web_url}/healthz")
            and responds(f"{self.addresses.sandbox_url}/_sandbox/health")
            and self._listening() == set(QUEUES)
        )

    def _listening(self) -> set[str]:
        """The queues that some worker waits on."""
        with redis.Redis.from_url(self.valkey.url) as client:
            return {name for name in QUEUES if client.exists(f"_kombu.binding.{name}")}

    def _supervise(self) -> None:
        supervisor = self._supervisor = Supervisor(self._line)
        while not self._leaving.is_set():
            while not self._wanted.empty():
                supervisor.add(self._wanted.get())
            supervisor.step(0.05)
        supervisor.shutdown()

    def _line(self, name: str, text: str) -> None:
        if name == "postgres" and "connection authorized" in text:
            self.connections_made += 1
            return
        if "connection received" not in text and "connection authenticated" not in text:
            self._log.write(f"{time.monotonic():.1f} {name:18} {text}\n")

    # --- what a test does with it -----------------------------------------------------------

    def person(self) -> Person:
        """A new user."""
        return Person(self.addresses.web_url)

    def account(self, provider_id: str, limit: int) -> str:
        """A new account that the sandbox plays, and limits likewise; its label in the sandbox's record."""
        account = AccountFactory.create(
            provider_id=provider_id,
            limit=limit,
            base_url=sandbox_base_url(provider_id, self.addresses.sandbox_url),
        )
        return self.sandbox.set_key(provider_id, account.credentials["api_key"], limit=limit)

    def wait(self, check: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Until ``check`` says yes. A database that is away meanwhile is asked again."""
        end = time.monotonic() + seconds
        while True:
            try:
                if check():
                    return
            except (OperationalError, InterfaceError):
                connection.close()
            assert time.monotonic() < end, f"not within {seconds:g} s: {what}\n{self.last_lines()}"
            time.sleep(0.05)

    def wait_for_the_end(self, seconds: float = 60) -> None:
        """Until every Generation has ended and every attempt too."""
        self.wait(self.idle, "the end of all", seconds)

    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not Generation.objects.live().exists() and not Submission.objects.open().exists()

    def pid(self, name: str) -> int:
        """The process id of a program that runs now."""
        assert self._supervisor is not None
        return self._supervisor.pids()[name]

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a program's main process and wait until it is dead; the supervisor starts it again."""
        pid = self.pid(name)
        os.kill(pid, number)
        self.wait(lambda: not _alive(pid), f"the death of {name}", 10)
        if name == self.postgres.name:
            connection.close()  # ours went with it
            self.wait(self.postgres.ready, "the database", 30)

    def kill_child(self, name: str) -> None:
        """kill -9 of one of a program's children."""
        child = psutil.Process(self.pid(name)).children()[0]
        child.kill()
        self.wait(lambda: not _alive(child.pid), f"the death of a child of {name}", 10)

    def clean(self) -> None:
        """Nothing of an earlier test: people, accounts, everything that hangs on them, the sandbox's record."""
        with suppress(AssertionError):  # whose work does not end has failed already
            self.wait(self.idle, "the end of an earlier test's work", 15)
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE auth_user, accounts_account, accounts_price CASCADE")
        self.sandbox.reset(keys=True)
        self.sandbox.set_speed(0.1)

    def last_lines(self, count: int = 60) -> str:
        """The end of the processes' log."""
        return "\n".join((self.folder / "log.txt").read_text().splitlines()[-count:])


def _alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


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
