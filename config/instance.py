"""A whole instance from this process: what ``up`` keeps running, and ``demo`` starts when nothing runs."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import connections

from config.console import Console
from config.embedded.home import Home, read_json, write_private
from config.embedded.ports import free_port, taken
from config.embedded.servers import Servers
from config.first_run import Logins, logins, sandbox_accounts
from config.stack import Addresses, StackError, programs, responds, worker_sizes
from config.supervisor import Supervisor

READY_SECONDS = 90
WORKING_SECONDS = 60
FLOWER_PORT = 5555


def choose_addresses(folder: Path, host: str, port: int) -> Addresses:
    """Ports for everything; ``port`` is the web's (0: any free one), the others keep theirs where they can.

    Raises StackError when the web's port is taken.
    """
    if port and taken(host, port):
        raise StackError(
            f"Port {port} on {host} is taken by another program. Stop that one, or choose another port: "
            f"python3 manage.py up --port {free_port(host)}"
        )
    kept = read_json(folder / "ports.json")
    web = port or free_port(host)
    flower = free_port(preferred=kept.get("flower", FLOWER_PORT))
    sandbox = free_port(preferred=kept.get("sandbox"))
    return Addresses(host, web, flower, sandbox)


class Instance:
    """The database made ready, the processes started and watched, and the state file for other commands.

    ``home`` is held and ``servers`` run already (``config.entry`` saw to it before Django was loaded).
    """

    def __init__(self, command: str, home: Home, servers: Servers, addresses: Addresses, console: Console) -> None:
        self.command, self.home, self.servers = command, home, servers
        self.addresses, self.console = addresses, console
        self.supervisor = Supervisor(console.line, self.publish)
        self.logins: Logins | None = None

    def prepare(self) -> Logins:
        """Migrate, and make the admin, the token and the sandbox's accounts. Raises StackError for bad settings."""
        worker_sizes()
        (self.home.path / "static").mkdir(exist_ok=True)  # WhiteNoise warns where there is none
        self.console.doing("Bringing the database up to date")
        call_command("migrate", verbosity=0, interactive=False)
        self.console.step("Database up to date")
        found = self.logins = logins(self.home.path)
        sandbox_accounts(self.addresses.sandbox_url)
        connections.close_all()
        self.console.step("Login, API token and the sandbox's Pixverse and ModelsLab accounts")
        return found

    def start(self) -> None:
        """Start every process under the supervisor."""
        assert self.logins is not None
        ports = {"flower": self.addresses.flower, "sandbox": self.addresses.sandbox}
        kept = read_json(self.home.path / "ports.json")
        write_private(self.home.path / "ports.json", json.dumps({**kept, **ports}))
        for program, process in self.servers.hand_over():
            self.supervisor.adopt(program, process)
        for program in programs(self.addresses, self.home.path, self.logins.flower_login):
            if self.stopping():
                return
            self.supervisor.add(program)
        self.console.step(f"Started {', '.join(self.supervisor.children)}")

    def publish(self) -> None:
        """Write the state file: addresses and process ids."""
        self.home.publish(self.state())

    def state(self) -> dict[str, Any]:
        """What other commands may know."""
        return {
            "command": self.command,
            "url": self.addresses.web_url,
            "flower_url": self.addresses.flower_url,
            "sandbox_url": self.addresses.sandbox_url,
            "DATABASE_URL": os.environ["DATABASE_URL"],
            "REDIS_URL": os.environ["REDIS_URL"],
            "processes": self.supervisor.pids(),
        }

    def stopping(self) -> bool:
        """Whether somebody has asked for the stop."""
        return self.supervisor.stop_requests > 0

    def trouble(self) -> str:
        """Which programs die again and again, and where they say why; empty when none does."""
        weak = [child.program.name for child in self.supervisor.children.values() if child.failures > 1]
        if not weak:
            return ""
        return f"Dying again and again: {', '.join(weak)}. What they say is in {self.home.path / 'log'}."

    def wait_ready(self) -> None:
        """Until the web answers; called from the story's thread. Raises StackError when it does not."""
        end = time.monotonic() + READY_SECONDS
        while not responds(f"{self.addresses.web_url}/healthz"):
            if self.stopping():
                raise StackError("Stopped before everything was up.")
            if time.monotonic() > end:
                raise StackError(
                    f"The web process does not answer at {self.addresses.web_url}. What it says is in "
                    f"{self.home.path / 'log' / 'up.log'}"
                )
            self.console.doing("Waiting for the web process")
            time.sleep(0.1)
        self.console.step(f"Answering at {self.addresses.web_url}")

    def wait_working(self) -> None:
        """Until beat and the workers have shown that they live. Raises StackError when they do not."""
        end = time.monotonic() + WORKING_SECONDS
        while not responds(f"{self.addresses.web_url}/readyz"):
            if self.stopping():
                raise StackError("Stopped before everything was up.")
            if time.monotonic() > end:
                raise StackError(
                    f"The web process answers, but not everything works: {self.addresses.web_url}/readyz says what."
                )
            self.console.doing("Waiting for the workers")
            time.sleep(0.5)
        self.console.step("Beat and workers at work")

    def run(self, story: Callable[[], None], *, then_stop: bool) -> None:
        """Watch the processes while ``story`` runs in a thread (HTTP only: it starts no process).

        Goes on until a signal asks for the stop, or until the story's end with ``then_stop``. An exception of the
        story is raised here, once everything has stopped, when ``then_stop``; else it is the story's to report.
        """
        failure: list[BaseException] = []

        def tell() -> None:
            try:
                story()
            except BaseException as error:  # noqa: BLE001  carried over to the main thread
                failure.append(error)

        thread = threading.Thread(target=tell, name="story", daemon=True)
        thread.start()
        try:
            self.supervisor.run(lambda: then_stop and not thread.is_alive())
        finally:
            self.supervisor.shutdown()
        thread.join(5)
        if failure:
            raise failure[0]
