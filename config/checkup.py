"""The five checks of ``doctor``: what must work for any Generation to be made, each with what to do if it does not."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from celery import Celery
from django.db import DatabaseError, ProgrammingError, connection
from django.db.migrations.executor import MigrationExecutor
from kombu.exceptions import OperationalError

from config.celery import BEAT, QUEUES
from generations.models import Heartbeat
from generations.wakeups import CANARY, SENT

REPLY_SECONDS = 3.0
ROUND_TRIP_SECONDS = 15.0
START = "Start the processes: python3 manage.py up (or the services of docker-compose.yml)."


class Unwell(Exception):
    """A check failed. ``advice`` says what to do."""

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(problem)
        self.advice = advice


@dataclass(frozen=True)
class Finding:
    """What one check found: ``advice`` is empty when it passed."""

    name: str
    ok: bool
    detail: str
    advice: str = ""


def examine(app: Celery) -> list[Finding]:
    """Make all checks, whatever the earlier ones found."""
    checks: tuple[tuple[str, Callable[[Celery], str]], ...] = (
        ("database", database),
        ("broker", broker),
        ("workers", workers),
        ("tasks", tasks),
        ("round trip", round_trip),
    )
    return [_finding(name, check, app) for name, check in checks]


def _finding(name: str, check: Callable[[Celery], str], app: Celery) -> Finding:
    try:
        return Finding(name, ok=True, detail=check(app))
    except Unwell as error:
        return Finding(name, ok=False, detail=str(error), advice=error.advice)
    except ProgrammingError as error:
        detail = f"the schema is not this version's: {str(error).splitlines()[0]}"
        return Finding(name, ok=False, detail=detail, advice="Run: python3 manage.py migrate")
    except DatabaseError as error:
        advice = "Check DATABASE_URL and that PostgreSQL runs; without DATABASE_URL: python3 manage.py up"
        return Finding(name, ok=False, detail=f"the database refused: {str(error).splitlines()[0]}", advice=advice)
    except (OperationalError, OSError) as error:
        advice = "Check REDIS_URL and that Redis or Valkey runs; without REDIS_URL: python3 manage.py up"
        return Finding(name, ok=False, detail=f"the broker cannot be reached: {error}", advice=advice)


def database(_: Celery) -> str:
    """The database answers and has every migration."""
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        names = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _ in missing[:5])
        raise Unwell(f"{len(missing)} migrations are missing: {names}", "Run: python3 manage.py migrate")
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        version = cursor.fetchone()
    return f"PostgreSQL {version[0] if version else ''}, schema up to date"


def broker(app: Celery) -> str:
    """The broker answers."""
    with app.connection_for_read() as link:
        link.ensure_connection(max_retries=1, timeout=int(REPLY_SECONDS))
        return f"answers at {link.hostname}:{link.port}"


def workers(app: Celery) -> str:
    """For each queue there is a worker that answers."""
    served = app.control.inspect(timeout=REPLY_SECONDS).active_queues() or {}
    names = {queue["name"] for queues in served.values() for queue in queues}
    idle = [queue for queue in QUEUES if queue not in names]
    if not served:
        raise Unwell("no worker answers", START)
    if idle:
        raise Unwell(f"no worker answers for the queues {', '.join(idle)}", START)
    return f"{len(served)} workers answer, every queue is served"


def tasks(app: Celery) -> str:
    """Every task that is sent by name is one that the workers know."""
    registered = app.control.inspect(timeout=REPLY_SECONDS).registered() or {}
    if not registered:
        raise Unwell("no worker answers, so nothing is known about their tasks", START)
    sent = {*SENT, *(task for task, _ in BEAT.values())}
    for worker, known in registered.items():
        unknown = sorted(sent - {name.split(" ")[0] for name in known})
        if unknown:
            raise Unwell(
                f"{worker} does not know {', '.join(unknown)}",
                "It runs other code than this. Restart all workers from one version.",
            )
    return f"all {len(sent)} that are sent are known to {len(registered)} workers"


def round_trip(app: Celery) -> str:
    """A task travels through the broker and a worker into the database."""
    name = f"doctor-{secrets.token_hex(8)}"
    started = time.monotonic()
    app.send_task(CANARY, kwargs={"name": name}, queue="maintenance", retry=False, expires=ROUND_TRIP_SECONDS)
    try:
        while time.monotonic() - started < ROUND_TRIP_SECONDS:
            beat = Heartbeat.objects.filter(name=name).first()
            if beat is not None:
                return f"{(time.monotonic() - started) * 1000:.0f} ms, run by {beat.process}"
            time.sleep(0.05)
    finally:
        Heartbeat.objects.filter(name=name).delete()
    raise Unwell(
        f"a task was sent, but no worker has run it within {ROUND_TRIP_SECONDS:.0f} s",
        f"Look at the log of the maintenance worker, and whether it uses the same database. {START}",
    )
