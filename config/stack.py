"""The processes of a whole instance on one machine: web, workers, beat, Flower, the sandbox."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from config.embedded.home import ROOT
from config.embedded.program import Program

# Processes per queue, for two cores; DARKROOM_WORKERS="dispatch=4,collect=4" changes them.
WORKERS = {"dispatch": 2, "poll": 2, "collect": 2, "deliver": 1, "export": 1, "maintenance": 2}
# Celery's own warm shutdown has to end before the supervisor loses patience.
WORKER_STOP_SECONDS = 40


class StackError(Exception):
    """The stack cannot be started as asked; the message says why and what to do."""


@dataclass(frozen=True)
class Addresses:
    """Where the processes listen. Flower and the sandbox are on loopback always."""

    host: str
    web: int
    flower: int
    sandbox: int

    @property
    def web_url(self) -> str:
        """The address for people and for the API, without a slash at its end."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104  where to reach it
        return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{self.web}"

    @property
    def flower_url(self) -> str:
        """Flower's address."""
        return f"http://127.0.0.1:{self.flower}"

    @property
    def sandbox_url(self) -> str:
        """The sandbox's address; the wire protocols are one path prefix each below it."""
        return f"http://127.0.0.1:{self.sandbox}"


def worker_sizes() -> dict[str, int]:
    """How many processes work on each queue. Raises StackError for an unknown queue or a bad number."""
    sizes = dict(WORKERS)
    for part in filter(None, os.environ.get("DARKROOM_WORKERS", "").split(",")):
        name, _, number = part.strip().partition("=")
        if name not in sizes or not number.isdigit() or int(number) < 1:
            raise StackError(
                f"DARKROOM_WORKERS has {part.strip()!r} in it. Write queue=processes with a queue of "
                f"{', '.join(WORKERS)} and at least one process, for example: dispatch=4,collect=2"
            )
        sizes[name] = int(number)
    return sizes


def programs(addresses: Addresses, folder: Path, flower_login: str) -> list[Program]:
    """All programs beside the two servers, in the order in which they are started.

    ``flower_login`` is ``user:password``. Order and environment: what the first picture needs comes first.
    """
    env = {"FLOWER_URL": addresses.flower_url, **os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
    python = sys.executable
    celery = (python, "-m", "celery", "--quiet", "-A", "config.celery")
    level = os.environ.get("LOG_LEVEL", "WARNING")

    def make(name: str, argv: tuple[str, ...], stage: int, stop_seconds: float = 10, **extra: str) -> Program:
        return Program(name=name, argv=argv, stage=stage, stop_seconds=stop_seconds, env={**env, **extra}, cwd=ROOT)

    web = (
        *(python, "-m", "granian", "--interface", "wsgi", "--host", addresses.host, "--port", str(addresses.web)),
        *("--workers", os.environ.get("DARKROOM_WEB_WORKERS", "1"), "--blocking-threads", "4", "--no-ws"),
        *("--log-level", "warning", "--respawn-failed-workers", "config.wsgi:application"),
    )
    worker = (*celery, "worker", "--without-gossip", "--without-mingle")
    workers = [
        make(
            f"worker-{queue}",
            (*worker, "-Q", queue, "-n", f"{queue}@%h", "-c", str(size), "--loglevel", level),
            20,
            WORKER_STOP_SECONDS,
        )
        for queue, size in worker_sizes().items()
    ]
    sandbox = (python, "-m", "providers.sandbox", "--port", str(addresses.sandbox), "--data", str(folder / "sandbox"))
    beat = (*celery, "beat", "-S", "django_celery_beat.schedulers:DatabaseScheduler", "--loglevel", level, "--pidfile=")
    flower = (*celery, "flower", "--address=127.0.0.1", f"--port={addresses.flower}", "--logging=warning")
    return [
        make("sandbox", sandbox, 50),
        make("web", web, 30),
        *workers,
        make("beat", beat, 10),
        # By its environment, so that the password is in no process list.
        make("flower", flower, 40, FLOWER_BASIC_AUTH=flower_login),
    ]


def responds(url: str) -> bool:
    """Whether a GET of the URL is answered with 2xx."""
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:  # noqa: S310  our own address
            return bool(200 <= reply.status < 300)
    except (urllib.error.URLError, OSError, ValueError):
        return False
