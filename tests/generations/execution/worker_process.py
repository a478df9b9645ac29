"""The parent of workers that tests let do things: forks one for each order, as Celery does, and tells how it ended.

Run as a program by ``workers.Workers``: an order is a line of JSON on standard input, the answer a line on standard
output. The children work on the database that DATABASE_URL names; where an order says so, they die at the work of
one Generation, or their clock is wrong.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import django
import time_machine

django.setup()

from django.conf import settings  # noqa: E402

from generations import conf  # noqa: E402
from generations.execution import (  # noqa: E402
    accounts,
    collect,
    dispatch,
    export_work,
    failures,
    orders,
    poll,
    process,
    recording,
    recover,
)
from generations.models import Generation  # noqa: E402
from providers.transport import Conversation  # noqa: E402


def everything() -> None:
    """Be every kind of worker in turn, until all has ended (or a minute is over: then something stays behind)."""
    end = time.monotonic() + 60
    while Generation.objects.live().exists() and time.monotonic() < end:
        for work in ("dispatch", "poll", "collect", "tick"):
            WORKS[work]()


WORKS: dict[str, Callable[[], object]] = {
    "dispatch": lambda: dispatch.dispatch("modelslab"),
    "poll": poll.poll,
    "collect": collect.collect,
    "export": export_work.run,
    "tick": recover.tick,
    "refresh": accounts.refresh_due,
    "everything": everything,
}
# The functions that begin the work of one Submission; what two of them give is called in a thread.
PLACES: dict[str, tuple[Any, str]] = {
    "claimed": (orders, "conversation"),
    "polling": (poll, "_question"),
    "collecting": (collect, "_work"),
}
# Those that stand between two commits, or between a commit and a call.
STEPS: dict[str, tuple[Any, str]] = {
    "sending": (Conversation, "finish"),
    "answered": (recording, "_record"),
    "polled": (poll, "_write"),
    "stored": (collect, "_finish"),
    "exported": (export_work, "_finish"),
    "refreshed": (accounts, "_conclude"),
    "recovering": (failures, "_back_to_queue"),
}


def die() -> None:
    """As if it were killed: nothing is cleaned up, nobody is told."""
    os.kill(os.getpid(), signal.SIGKILL)


def deadly(place: str, generation: str | None) -> None:
    """From now on who comes to this place dies there; with ``generation`` only at its work."""
    if place in STEPS:
        owner, name = STEPS[place]
        setattr(owner, name, lambda *_, **__: die())
        return
    owner, name = PLACES[place]
    real = getattr(owner, name)

    def begin(submission: Any, *arguments: Any) -> Any:
        if generation is not None and str(submission.generation_id) != generation:
            return real(submission, *arguments)
        return die() if place == "claimed" else die

    setattr(owner, name, begin)


def obey(order: dict[str, Any]) -> None:
    """Be the worker that the order asks for."""
    settings.DARKROOM = {**settings.DARKROOM, **order["limits"]}
    conf.limits.cache_clear()
    settings.STORAGES["default"]["OPTIONS"]["location"] = order["media"]
    if order["clock"]:
        time_machine.travel(datetime.now(UTC) + timedelta(seconds=order["clock"])).start()
    if order["die"]:
        deadly(order["die"], order["generation"])
    for work in order["works"]:
        WORKS[work]()


def main() -> None:
    """Until standard input ends."""
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                obey(order)
            except BaseException:  # noqa: BLE001  the child must end here, whatever it was
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps({"code": code, "actor": process.actor().rpartition("/")[0] + f"/{pid}"}), flush=True)


main()
