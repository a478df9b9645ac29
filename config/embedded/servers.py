"""Starts the servers that are missing, names them in the environment, and stops them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from config.embedded.home import read_json, write_private
from config.embedded.postgres import Postgres, PostgresError
from config.embedded.program import Program, spawn, stop, wait_until
from config.embedded.valkey import Valkey, ValkeyError

Server = Postgres | Valkey
EmbeddedError = (PostgresError, ValkeyError)
START_SECONDS = 60
TRIES = 3


def nothing(_: str) -> None:
    """Report to nobody."""


class Servers:
    """Embedded PostgreSQL and Valkey, each only when its URL is not in the environment.

    ``start`` sets DATABASE_URL and REDIS_URL; ``stop`` ends what was started and takes them out again. A
    supervisor may take the running processes over with ``hand_over``. Used from the main thread only.
    """

    def __init__(self, folder: Path, *, throwaway: bool = False, report: Callable[[str], None] = nothing) -> None:
        self.folder = folder
        self.throwaway = throwaway
        self.report = report
        self.running: list[tuple[Server, Program, subprocess.Popen[bytes]]] = []
        self._set: list[str] = []

    def start(self) -> None:
        """Start what is missing.

        Raises PostgresError or ValkeyError, with the end of the server's log, when one does not come up.
        """
        ports = read_json(self.folder / "ports.json")
        wanted: list[tuple[str, Server]] = []
        if not os.environ.get("DATABASE_URL"):
            wanted.append(("DATABASE_URL", Postgres(self.folder, ports.get("postgres"), throwaway=self.throwaway)))
        if not os.environ.get("REDIS_URL"):
            wanted.append(("REDIS_URL", Valkey(self.folder, ports.get("valkey"))))
        try:
            for variable, server in wanted:
                program, process = self._start(server)
                self.running.append((server, program, process))
                server.finish()
                os.environ[variable] = server.url
                self._set.append(variable)
                self.report(f"{'PostgreSQL' if server.name == 'postgres' else 'Valkey'} on port {server.port}")
        except BaseException:
            self.stop()
            raise
        # The same ports next time, when they are free: an address that was noted down stays good.
        write_private(
            self.folder / "ports.json", json.dumps({**ports, **{server.name: server.port for _, server in wanted}})
        )

    def _start(self, server: Server) -> tuple[Program, subprocess.Popen[bytes]]:
        log = self.folder / "log" / f"{server.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(TRIES):
            program = server.program()
            with log.open("wb") as output:
                process = spawn(program, output)
            check = program.ready
            assert check is not None
            wait_until(lambda p=process, c=check: p.poll() is not None or c(), START_SECONDS)  # type: ignore[misc]
            if process.poll() is None and check():
                return program, process
            stop(process, program)
            # Another program may have taken the port since we looked.
            server.port = type(server)(self.folder).port
        text = log.read_text(errors="replace").strip()[-2000:]
        kind = PostgresError if isinstance(server, Postgres) else ValkeyError
        raise kind(f"{server.name} did not start. The end of its log, {log}:\n{text}")

    def hand_over(self) -> list[tuple[Program, subprocess.Popen[bytes]]]:
        """The running processes, for a supervisor that from now on restarts and stops them."""
        handed = [(program, process) for _, program, process in self.running]
        self.running = []
        return handed

    def stop(self) -> None:
        """Stop what was started and not handed over, last one first; remove what was throw-away."""
        while self.running:
            server, program, process = self.running.pop()
            stop(process, program)
            if self.throwaway:
                server.discard()
        if self.throwaway:
            shutil.rmtree(self.folder, ignore_errors=True)
        for variable in self._set:
            os.environ.pop(variable, None)
        self._set = []
