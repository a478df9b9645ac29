"""Celery: queues, the measured settings, and the beat schedule."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any

from celery import Celery
from celery.beat import Service
from celery.signals import beat_init, setup_logging, task_prerun
from django.conf import settings
from django.db import connections
from kombu.transport.redis import Channel

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# A worker that makes the system checks loads the web's pages for it, and keeps them: 12 MB of each of its processes.
# ``migrate``, which comes before, has made them.
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")

QUEUES = ("dispatch", "poll", "collect", "deliver", "export", "maintenance")

# Seconds between two messages; each expires after its interval, and overlapping ones do no harm.
BEAT: dict[str, tuple[str, float]] = {
    "tick": ("generations.tasks.tick", 5),
    "poll": ("generations.tasks.poll", 2),
    "collect": ("generations.tasks.collect", 5),
    "deliver": ("generations.tasks.deliver", 5),
    "export": ("generations.tasks.export", 15),
    "refresh_credits": ("generations.tasks.refresh_credits", 60),
    "compare_balances": ("generations.tasks.compare_balances", 3600),
    "reconcile": ("generations.tasks.reconcile", 60),
    "cleanup": ("generations.tasks.cleanup", 3600),
}

app = Celery("darkroom")
app.conf.update(
    broker_url=settings.REDIS_URL,
    # The database is the queue: a message that is lost is found by the tick, so nothing is acknowledged late
    # (a late acknowledgement ran tasks twice and ended the worker when Redis was killed).
    task_acks_late=False,
    task_reject_on_worker_lost=False,
    task_ignore_result=True,
    result_expires=None,  # there are no results, so nothing of theirs to clean up
    worker_prefetch_multiplier=1,
    worker_max_tasks_per_child=500,
    worker_soft_shutdown_timeout=25,
    worker_hijack_root_logger=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    task_serializer="json",
    accept_content=["json"],
    enable_utc=True,
    timezone="UTC",
    task_default_queue="maintenance",
    task_routes={
        "generations.tasks.dispatch": {"queue": "dispatch"},
        "generations.tasks.poll": {"queue": "poll"},
        "generations.tasks.collect": {"queue": "collect"},
        "generations.tasks.deliver": {"queue": "deliver"},  # slow endpoints of users hold up nothing else
        "generations.tasks.export": {"queue": "export"},  # nor do pictures and videos that take minutes of CPU
    },
    task_create_missing_queues=True,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        "visibility_timeout": 900,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "socket_timeout": 10,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 20,
        "max_retries": 2,
    },
    task_publish_retry_policy={"max_retries": 1, "interval_start": 0, "interval_max": 0.2},
    beat_scheduler="django_celery_beat.schedulers:DatabaseScheduler",
    beat_max_loop_interval=5,
)
# Without it Celery closes the database connection before and after every task.
app.conf["CELERY_DB_REUSE_MAX"] = 500
# A worker that loses the broker would put back what it had fetched and not begun, by a connection that it has just
# closed, and die of that (kombu 5.7). The message is a hint: the tick finds the work.
Channel.do_restore = False
app.autodiscover_tasks()


@setup_logging.connect
def _keep_our_logging(**_: Any) -> None:
    """Celery would replace the logging that Django has set up."""


@task_prerun.connect
def _reconnect_where_it_broke(**_: Any) -> None:
    """A connection that had an error is looked at before the next task, and closed if the server has left it.

    A web request does so for itself; a worker that keeps its connection would fail task after task on a dead one.
    """
    for connection in connections.all(initialized_only=True):
        if connection.errors_occurred:
            connection.close_if_unusable_or_obsolete()


@beat_init.connect
def _stop_between_two_looks(sender: Service, **_: Any) -> None:
    """SIGTERM ends beat when it has looked through its schedule, or at once while it sleeps.

    Celery's own handler saves the schedule from within whatever it interrupts. If that is a query, it waits for ever
    for the connection that this very query holds.
    """

    def stop(_number: int, frame: FrameType | None) -> None:
        sender.stop()
        if frame is not None and frame.f_code is Service.start.__code__:
            raise SystemExit

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def declared(seconds: float) -> str:
    """The description of a task that this file declares: it tells an interval that was edited from an old one."""
    return f"{DECLARED} every {seconds:.0f} s. The interval may be changed here."


def sync_beat_schedule(**_: Any) -> None:
    """Write ``BEAT`` to django-celery-beat's tables, after migrate.

    Intervals that an operator edited in the admin stay; what is no longer declared goes. Each message expires after
    its interval.
    """
    from django_celery_beat.models import IntervalSchedule, PeriodicTask  # noqa: PLC0415

    for name, (task, seconds) in BEAT.items():
        wanted = {"every": int(seconds), "period": IntervalSchedule.SECONDS}
        # Nothing keeps an operator from making the same interval twice.
        interval = IntervalSchedule.objects.filter(**wanted).first() or IntervalSchedule.objects.create(**wanted)
        row = PeriodicTask.objects.filter(name=name).select_related("interval").first()
        row = row or PeriodicTask(name=name, interval=interval, description=declared(seconds))
        every = row.interval.schedule.run_every.total_seconds()
        if row.description == declared(every):
            row.interval, every = interval, seconds
        row.task, row.description, row.expire_seconds = task, declared(seconds), int(every)
        row.save()
    PeriodicTask.objects.filter(description__startswith=DECLARED).exclude(name__in=BEAT).delete()


DECLARED = "Declared in config/celery.py:"
