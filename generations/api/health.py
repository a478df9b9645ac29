"""``/healthz`` and ``/readyz``: is this process alive, and is everything there that work needs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import redis
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from django_celery_beat.models import PeriodicTask
from pydantic_core import to_json

from generations.models import Heartbeat, HeldBack, Switch
from generations.models.clock import database_now

KEPT_SECONDS = 1.0
ESSENTIAL = {
    "beat": ("tick", "The scheduler or the maintenance worker"),
    "worker": ("poll", "The poll worker"),
}
"""Check, its heartbeat (which is also its periodic task's name), and who is missing when it stops."""
START = "Start the processes (`python3 manage.py up`, or docker compose) and look at their logs."
MAKE_ROOM = (
    "See that MEDIA_ROOT is mounted and writable, and make room on its disk (`python3 manage.py cleanup` removes what "
    "nothing refers to). It goes on by itself."
)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. ``age_seconds``: since it was last seen alive, where that is how it is known."""

    name: str
    ok: bool
    detail: str
    what_to_do: str = ""
    age_seconds: float | None = None


@require_safe
def healthz(_request: HttpRequest) -> HttpResponse:
    """Alive: this process answers. Looks at nothing else, so that a lost database does not restart it."""
    return HttpResponse(b'{"status":"ok"}', content_type="application/json")


@require_safe
def readyz(_request: HttpRequest) -> HttpResponse:
    """Every check with its age and what to do; 503 when one is red. Looked at once a second at most."""
    checks = latest()
    ready = all(check.ok for check in checks)
    body = {"status": "ready" if ready else "not_ready", "checks": [asdict(check) for check in checks]}
    return HttpResponse(
        to_json(body),
        status=200 if ready else 503,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def run() -> list[Check]:
    """All checks now: database, schema, broker, beat, worker, storage, switches. Those that need the database are
    red without it."""
    found = _database()
    there = all(check.ok for check in found)
    return [*found, _broker(), *([*_heartbeats(), _storage(), _switches()] if there else _blind())]


def _database() -> list[Check]:
    started = time.monotonic()
    try:
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        answered = Check("database", ok=True, detail=f"Answered in {(time.monotonic() - started) * 1000:.0f} ms.")
        return [answered, _schema()]
    except (DatabaseError, InterfaceError) as error:
        connection.close()
        detail = f"PostgreSQL does not answer ({type(error).__name__})."
        return [
            Check("database", ok=False, detail=detail, what_to_do="Check that it runs and that DATABASE_URL is right."),
            Check("schema", ok=False, detail="Not known without the database."),
        ]


_migrated = threading.Event()


def _schema() -> Check:
    """Once migrated, this process's code stays migrated: looked at until it is."""
    if not _migrated.is_set():
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if missing:
            detail = f"{len(missing)} migrations are missing."
            return Check("schema", ok=False, detail=detail, what_to_do="Run `python3 manage.py migrate`.")
        _migrated.set()
    return Check("schema", ok=True, detail="Up to date.")


def _broker() -> Check:
    try:
        with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1) as client:
            client.ping()
    except (redis.RedisError, OSError) as error:
        return Check(
            "broker",
            ok=False,
            detail=f"Redis does not answer ({type(error).__name__}). Requests are accepted, but nothing moves on.",
            what_to_do="Check that it runs and that REDIS_URL is right.",
        )
    return Check("broker", ok=True, detail="Answered.")


def _heartbeats() -> list[Check]:
    """Beat and workers by their traces; late after three intervals of the periodic task as it is set up now."""
    now = database_now()
    names = [beat for beat, _ in ESSENTIAL.values()]
    seen = {row.name: row.at for row in Heartbeat.objects.filter(name__in=names)}
    tasks = {task.name: task for task in PeriodicTask.objects.filter(name__in=names).select_related("interval")}
    checks = []
    for name, (beat, who) in ESSENTIAL.items():
        task, at = tasks.get(beat), seen.get(beat)
        if task is not None and not task.enabled:
            detail, to_do = f"The periodic task {beat!r} is switched off.", "Enable it in the console."
            checks.append(Check(name, ok=False, detail=detail, what_to_do=to_do))
        elif at is None:
            checks.append(Check(name, ok=False, detail=f"{who} was never seen.", what_to_do=START))
        else:
            age = (now - at).total_seconds()
            interval = task.interval.schedule.run_every.total_seconds() if task and task.interval else 5
            ok = age <= max(3 * interval, 3)
            detail = f"{who} was seen {age:.0f} s ago."
            checks.append(
                Check(name, ok=ok, detail=detail, what_to_do="" if ok else START, age_seconds=round(max(0, age), 1))
            )
    return checks


def _storage() -> Check:
    """Whether results can be stored, as the tick has seen it. Too many of them are work that waits, and no fault."""
    held = {row.reason: row for row in HeldBack.objects.active()}
    faults = [held[reason] for reason in (HeldBack.Reason.STORAGE_DOWN, HeldBack.Reason.DISK_LOW) if reason in held]
    if faults:
        detail = " ".join(f"{row}: {row.detail}" for row in faults)
        return Check("storage", ok=False, detail=f"{detail} Nothing new is sent.", what_to_do=MAKE_ROOM)
    if HeldBack.Reason.BACKLOG in held:
        return Check("storage", ok=True, detail="It can be written to. Nothing new is sent: too many results wait.")
    return Check("storage", ok=True, detail="It can be written to.")


def _switches() -> Check:
    """What people have stopped: told, and no fault. Why and by whom is not for everybody who can ask here."""
    on = ", ".join(Switch.objects.order_by("pk").values_list("key", flat=True))
    if not on:
        return Check("switches", ok=True, detail="Nothing is stopped.")
    to_do = "If that is over, turn it off: in the console under Switches, or with `python3 manage.py switch`."
    return Check("switches", ok=True, detail=f"Stopped by an operator: {on}.", what_to_do=to_do)


def _blind() -> list[Check]:
    return [
        Check(name, ok=False, detail="Not known without the database.") for name in (*ESSENTIAL, "storage", "switches")
    ]


class _Kept:
    """The last result, for a second; one request looks, the others wait for it."""

    def __init__(self, look: Callable[[], list[Check]]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._until = 0.0
        self._checks: list[Check] = []

    def forget(self) -> None:
        """Look again at the next call."""
        self._until = 0.0

    def __call__(self) -> list[Check]:
        with self._lock:
            if time.monotonic() >= self._until:
                self._checks = self._look()
                self._until = time.monotonic() + KEPT_SECONDS
            return self._checks


latest = _Kept(run)
