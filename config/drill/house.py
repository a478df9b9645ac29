"""A whole house: every process that ``up`` runs, on servers of its own, kept running by its supervisor.

The servers are embedded ones in the house's folder, or given ones (``config.drill.servers``). Django's connection of
the calling thread leads to the house's database while ``House.entered`` lasts; other threads use HTTP, or psycopg.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import redis
from django.conf import settings
from django.core.management import call_command
from django.db import InterfaceError, OperationalError, connection, connections
from django.db.utils import load_backend
from django_celery_beat.models import IntervalSchedule, PeriodicTask, PeriodicTasks
from environ import Env

from accounts.models import Account
from config.celery import QUEUES
from config.drill.people import Person
from config.drill.servers import GivenPostgres, GivenValkey
from config.embedded.home import ROOT
from config.embedded.ports import free_port
from config.embedded.postgres import Postgres
from config.embedded.program import Program
from config.embedded.valkey import Valkey
from config.first_run import sandbox_base_url
from config.stack import Addresses, programs, responds
from config.supervisor import Supervisor
from generations.models import Batch, Generation, Heartbeat, Submission
from providers.sandbox.client import SandboxControl

START_SECONDS = 120
DEATH_SECONDS = 10
WITHOUT = ("flower",)  # shows; does nothing
AWAY = (OperationalError, InterfaceError)
"""The database is restarting, or has ended our connection."""


class NotInTime(Exception):
    """Something that was waited for did not come; the message says what, and has the end of the processes' log."""


@dataclass(frozen=True)
class Layout:
    """How a house is built. ``times``: limits of ``generations.conf`` by name, scaled. ``doubles``: run twice."""

    times: Mapping[str, float] = field(default_factory=dict)
    tick_seconds: int = 1
    doubles: tuple[str, ...] = ()
    sandbox: tuple[str, ...] = ()
    callbacks: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


class House:
    """The processes, the servers, and what one asks of them."""

    def __init__(
        self,
        folder: Path,
        layout: Layout,
        *,
        postgres: Postgres | GivenPostgres | None = None,
        valkey: Valkey | GivenValkey | None = None,
    ) -> None:
        self.folder, self.layout = folder, layout
        self.postgres = postgres or Postgres(folder, throwaway=True)
        self.valkey = valkey or Valkey(folder)
        self.addresses = Addresses("127.0.0.1", *(free_port() for _ in range(3)))
        self.sandbox = SandboxControl(self.addresses.sandbox_url)
        self.media = folder / "media"
        self.log = folder / "log.txt"
        self._log = self.log.open("w", buffering=1)
        self._wanted: queue.SimpleQueue[Program] = queue.SimpleQueue()
        self._leaving = threading.Event()
        self._supervisor: Supervisor | None = None
        # Programs are tied to the thread that starts them: this one lives as long as they do.
        self._thread = threading.Thread(target=self._supervise, name="supervisor")

    # --- its life ------------------------------------------------------------------------

    def start(self) -> None:
        """Start the servers, bring the database up to date, start the programs, wait until all of them work.

        Raises:
            NotInTime, PostgresError, ServerError: it cannot be built.
        """
        self._thread.start()
        for program in self.server_programs():
            self._wanted.put(program)
        self.wait(lambda: self.postgres.ready() and self.valkey.ready(), "the servers", START_SECONDS)
        self.postgres.finish()
        self.valkey.finish()
        with self.entered():
            call_command("migrate", verbosity=0, interactive=False)
            every = {"every": self.layout.tick_seconds, "period": IntervalSchedule.SECONDS}
            soon, _ = IntervalSchedule.objects.get_or_create(**every)
            PeriodicTask.objects.filter(name__in=["tick", "poll", "collect"]).update(interval=soon)
            PeriodicTasks.update_changed()
            for program in self.programs():
                self._wanted.put(program)
            self.wait(self._works, "every process at work", START_SECONDS)

    def stop(self) -> None:
        """Stop everything, in order, and leave nothing on given servers."""
        self._leaving.set()
        if self._thread.is_alive():
            self._thread.join()
        self.sandbox.close()
        self._log.close()
        self.postgres.discard()
        self.valkey.discard()

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

    def environment(self) -> dict[str, str]:
        """What every process of the house is told, beside what this one was."""
        return {
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.valkey.url,
            "MEDIA_ROOT": str(self.media),
            "DARKROOM_VAR": str(self.folder),
            "DARKROOM_PRODUCTION": "",
            "SECRET_KEY": settings.SECRET_KEY,
            "CREDENTIAL_KEYS": ",".join(settings.CREDENTIAL_KEYS),
            "ALLOWED_HOSTS": "127.0.0.1",
            "PUBLIC_URL": self.addresses.web_url if self.layout.callbacks else "",
            "API_RATE": "0",
            "LOG_LEVEL": "WARNING",
            **{f"DARKROOM_{name.upper()}": f"{value:g}" for name, value in self.layout.times.items()},
            **self.layout.environment,
        }

    def server_programs(self) -> list[Program]:
        """The servers that are ours to run."""
        return [program for program in (self.postgres.program(), self.valkey.program()) if program is not None]

    def programs(self) -> list[Program]:
        """Everything else, in the order in which it is started."""
        (self.folder / "static").mkdir(exist_ok=True)
        environment = self.environment()
        made = []
        for one in programs(self.addresses, self.folder, "house:house"):
            if one.name in WITHOUT:
                continue
            argv = (*one.argv, *self.layout.sandbox) if one.name == "sandbox" else one.argv
            program = replace(one, argv=argv, env={**(one.env or {}), **environment})
            made.append(program)
            if one.name in self.layout.doubles:
                made.append(_double(program))
        return made

    def _works(self) -> bool:
        beats = set(Heartbeat.objects.values_list("name", flat=True))
        return {"tick", "poll"} <= beats and self.answers() and self._listening() == set(QUEUES)

    def answers(self) -> bool:
        """Whether the web process and the sandbox answer."""
        web, sandbox = self.addresses.web_url, self.addresses.sandbox_url
        return responds(f"{web}/healthz") and responds(f"{sandbox}/_sandbox/health")

    def _listening(self) -> set[str]:
        """The queues that some worker waits on."""
        with redis.Redis.from_url(self.valkey.url) as client:
            return {name for name in QUEUES if client.exists(f"_kombu.binding.{name}")}

    def _supervise(self) -> None:
        supervisor = self._supervisor = Supervisor(self.line)
        while not self._leaving.is_set():
            while not self._wanted.empty():
                supervisor.add(self._wanted.get())
            supervisor.step(0.05)
        supervisor.shutdown()

    def line(self, name: str, text: str) -> None:
        """A process's log line."""
        self._log.write(f"{time.monotonic():.1f} {name:18} {text}\n")

    # --- what one does with it ---------------------------------------------------------------

    def person(self) -> Person:
        """A new user."""
        return Person(self.addresses.web_url)

    def account(self, provider_id: str, limit: int, label: str) -> str:
        """A new account that the sandbox plays, and limits likewise; its label in the sandbox's record."""
        key = f"sandbox-{label}"
        account = Account(
            provider_id=provider_id,
            label=label,
            limit=limit,
            base_url=sandbox_base_url(provider_id, self.addresses.sandbox_url),
            allow_private_base_url=True,
        )
        account.set_credentials({"api_key": key})
        account.save()
        # ModelsLab is told where to call back with each request, Pixverse once for all.
        hook = f"{self.addresses.web_url}/hooks/{provider_id}/{account.callback_token}"
        return self.sandbox.set_key(provider_id, key, limit=limit, callback_url=hook if self.layout.callbacks else "")

    def manage(self, *arguments: str, seconds: float = 300) -> tuple[int, Any]:
        """A command on this house in a process of its own: its exit code, and the JSON that it printed."""
        ran = subprocess.run(
            [sys.executable, "-m", "django", *arguments, "--settings", "config.settings"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **self.environment()},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        try:
            return ran.returncode, json.loads(ran.stdout)
        except ValueError as error:
            raise RuntimeError(f"`{' '.join(arguments)}` printed no JSON: {ran.stdout}{ran.stderr}") from error

    def wait(self, check: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Until ``check`` says yes. A database that is away meanwhile is asked again. Raises NotInTime."""
        end = time.monotonic() + seconds
        while True:
            try:
                if check():
                    return
            except AWAY:
                connection.close()
            if time.monotonic() >= end:
                raise NotInTime(f"not within {seconds:g} s: {what}\n{self.last_lines()}")
            time.sleep(0.05)

    def wait_for_the_end(self, seconds: float = 60) -> None:
        """Until every Generation has ended and every attempt too."""
        self.wait(self.idle, "the end of all", seconds)

    def idle(self) -> bool:
        """Whether nothing is under way."""
        under_way = Generation.objects.live(), Submission.objects.open(), Batch.objects.filter(closed_at=None)
        return not any(rows.exists() for rows in under_way)

    def pids(self) -> dict[str, int]:
        """The process id of each program that runs now."""
        assert self._supervisor is not None
        return self._supervisor.pids()

    def pid(self, name: str) -> int:
        """The process id of a program that runs now. Raises KeyError."""
        return self.pids()[name]

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a program's main process and wait until it is dead; the supervisor starts it again."""
        pid = self.pid(name)
        os.kill(pid, number)
        self.wait(lambda: not alive(pid), f"the death of {name}", DEATH_SECONDS)
        if name == self.postgres.name:
            connection.close()  # ours went with it
            self.wait(self.postgres.ready, "the database", START_SECONDS)

    def kill_child(self, name: str) -> None:
        """kill -9 of one of a program's children."""
        child = psutil.Process(self.pid(name)).children()[0]
        child.kill()
        self.wait(lambda: not alive(child.pid), f"the death of a child of {name}", DEATH_SECONDS)

    def last_lines(self, count: int = 60) -> str:
        """The end of the processes' log."""
        return "\n".join(self.log.read_text().splitlines()[-count:])


def alive(pid: int) -> bool:
    """Whether this process runs still."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _double(program: Program) -> Program:
    """The same program a second time; Celery's workers need a name of their own."""
    argv = [f"{part.removesuffix('@%h')}-2@%h" if part.endswith("@%h") else part for part in program.argv]
    return replace(program, name=f"{program.name}-2", argv=tuple(argv))
