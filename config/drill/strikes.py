"""The faults of processes and servers, each struck in a thread of its own and watched until the house goes on."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import psutil
import psycopg
import redis

from config.drill.forms import Form, Kind
from config.drill.house import House, NotInTime, alive
from config.drill.plan import Strike
from config.drill.recovery import AWAITED, LOOK_SECONDS, Stand, Watch, missing
from config.drill.servers import GivenPostgres, GivenValkey
from config.stack import responds

BAIT_SECONDS = 10
TARGET_SECONDS = 40
GAVE_UP_SECONDS = 120
RETURN_SECONDS = 60
PAST = 1.5
"""Seconds past the lease, after which what was stopped goes on."""
TERMINATE = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@dataclass(slots=True)
class Struck:
    """A strike that was made: when (seconds after the beginning), on whom, and how long until the house went on."""

    kind: Kind
    at: float
    target: str
    detail: str = ""
    recovered_in: float | None = None
    awaited: dict[str, float] = field(default_factory=dict)
    """Seconds until each thing that belongs to a recovery was last missed."""
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


class Striker:
    """Strikes a house. ``bait`` asks for a picture whose submit takes long; it gives the words in its prompt."""

    def __init__(self, house: House, form: Form, bait: Callable[[], str]) -> None:
        self.house, self.form = house, form
        self.watch = Watch(house.postgres.url, house.addresses.web_url)
        self.made: list[Struck] = []
        self._bait = bait
        self._started = time.monotonic()
        self._threads: list[threading.Thread] = []
        self._stopped: list[psutil.Process] = []

    def begin(self) -> None:
        """Times count from now."""
        self.watch.start()
        self._started = time.monotonic()

    def launch(self, strike: Strike) -> None:
        """Make a strike in a thread of its own; returns at once."""
        thread = threading.Thread(target=self._run, args=(strike,), name=f"strike-{strike.kind}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def under_way(self) -> int:
        """How many strikes the house has not recovered from, or is still under."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        return len(self._threads)

    def close(self) -> None:
        """Nobody is left standing still."""
        for process in self._stopped:
            _signal(process, signal.SIGCONT)
        self.watch.stop()

    def _run(self, strike: Strike) -> None:
        struck = Struck(strike.kind, 0, strike.target)
        try:
            blow = self._prepared(strike, struck)
            before = self._until(partial(self.watch.since, time.monotonic()), "the database", RETURN_SECONDS)
            started = time.monotonic()
            struck.at = round(started - self._started, 1)
            self.made.append(struck)
            self._see_through(struck, before, started, blow())
        except Exception as error:  # noqa: BLE001  the judge shows it
            struck.error = f"{type(error).__name__}: {error}".partition("\n")[0]
            if struck not in self.made:
                self.made.append(struck)

    def _see_through(self, struck: Struck, before: Stand, started: float, follow: Follow) -> None:
        """Do what has to follow, and look until the house has recovered, or for as long as that may take."""
        over_at = None
        while over_at is None or (struck.recovered_in is None and time.monotonic() - over_at < GAVE_UP_SECONDS):
            if over_at is None and follow(time.monotonic() - started):
                over_at = time.monotonic()
            now = self.watch.since(started)
            awaited = set(AWAITED) if now is None else missing(before, now)
            if struck.kind == Kind.ROLLING_RESTART and over_at is None:
                awaited.add("return")
            gone = round(time.monotonic() - started, 2)
            if awaited:
                struck.awaited.update(dict.fromkeys(awaited, gone))
            elif struck.recovered_in is None:
                struck.recovered_in = gone
            time.sleep(LOOK_SECONDS)

    # --- what a strike needs before it falls ------------------------------------------------

    def _prepared(self, strike: Strike, struck: Struck) -> Callable[[], Follow]:
        """Find the victims. What comes back strikes, and gives what has to follow."""
        match strike.kind:
            case Kind.WORKER_KILLED | Kind.CHILD_KILLED | Kind.CHILDREN_STOPPED:
                main, children = self._victims(strike, struck)
                if strike.kind == Kind.CHILDREN_STOPPED:
                    return partial(self._stop, strike, children)
                return partial(_kill, main if strike.kind == Kind.WORKER_KILLED else children[0])
            case Kind.WEB_KILLED | Kind.BEAT_KILLED:
                return partial(_kill, self._process(strike.target or "web"))
            case Kind.DATABASE_RESTARTED:  # SIGQUIT is its immediate shutdown
                return partial(_kill, self._process(self.house.postgres.name), signal.SIGQUIT)
            case Kind.BROKER_KILLED:
                return partial(_kill, self._process(self.house.valkey.name))
            case Kind.CONNECTIONS_CUT:
                return partial(self._cut, struck)
            case Kind.BROKER_FLUSHED:
                return self._flush
            case Kind.ROLLING_RESTART:
                return self._roll

    def _victims(self, strike: Strike, struck: Struck) -> tuple[psutil.Process, list[psutil.Process]]:
        """A worker's main process and its children; of a dispatcher the one that is just sending, that child first."""
        if strike.target == "worker-dispatch":
            struck.detail = "nothing was being sent"
            sender = self._sender()
            main = sender.parent() if sender is not None else None
            if sender is not None and main is not None:
                struck.detail = "while it was sending"
                return main, [sender, *(child for child in main.children() if child != sender)]

        def look() -> tuple[psutil.Process, list[psutil.Process]] | None:
            main = _process(self.house.pids().get(strike.target))
            children = _children(main) if main is not None else []
            return (main, children) if main is not None and children else None

        found: tuple[psutil.Process, list[psutil.Process]] = self._until(
            look, f"the children of {strike.target}", TARGET_SECONDS
        )
        return found

    def _sender(self) -> psutil.Process | None:
        """The dispatcher's child that waits for the answer to a submit; None when none could be caught at it."""
        words = self._bait()
        end = time.monotonic() + BAIT_SECONDS
        last = max((call["id"] for call in self.house.sandbox.record(kind="submit")), default=0)
        while time.monotonic() < end:
            for call in self.house.sandbox.record(kind="submit", since=last):
                last = call["id"]
                if words in call["prompt"]:
                    return _process(self.watch.holder(call["request_id"]))
            time.sleep(LOOK_SECONDS)
        return None

    def _process(self, name: str) -> psutil.Process:
        """A program's main process, once it runs."""

        def look() -> psutil.Process | None:
            return _process(self.house.pids().get(name))

        found: psutil.Process = self._until(look, f"a process of {name}", TARGET_SECONDS)
        return found

    def _until(self, look: Callable[[], Any], what: str, seconds: float) -> Any:
        """What ``look`` gives, once it gives something. Raises NotInTime."""
        end = time.monotonic() + seconds
        while not (found := look()):
            if time.monotonic() > end:
                raise NotInTime(f"not within {seconds:g} s: {what}")
            time.sleep(LOOK_SECONDS)
        return found

    # --- the strikes themselves -------------------------------------------------------------

    def _stop(self, strike: Strike, children: list[psutil.Process]) -> Follow:
        times = self.form.times
        self._stopped += children
        lasts = PAST + (self.form.sending_lease if strike.target == "worker-dispatch" else times["lease"])
        for child in children:
            _signal(child, signal.SIGSTOP)

        def go_on(seconds: float) -> bool:
            if seconds < lasts:
                return False
            for child in children:
                _signal(child, signal.SIGCONT)
            return True

        return go_on

    def _cut(self, struck: Struck) -> Follow:
        url = self.house.postgres.url.replace("postgres://", "postgresql://", 1)

        def cut() -> int:
            with suppress(psycopg.OperationalError), psycopg.connect(url, autocommit=True) as connection:
                return int((connection.execute(TERMINATE).fetchone() or [0])[0])
            return 0

        struck.detail = f"{self._until(cut, 'connections to cut', RETURN_SECONDS)} of them"
        return _nothing

    def _flush(self) -> Follow:
        def flush() -> bool:
            with suppress(redis.RedisError), redis.Redis.from_url(self.house.valkey.url) as client:
                # The other databases of a given server are not ours.
                return bool(client.flushdb() if isinstance(self.house.valkey, GivenValkey) else client.flushall())
            return False

        self._until(flush, "the broker", RETURN_SECONDS)
        return _nothing

    def _roll(self) -> Follow:
        steps = self._rolling()
        return lambda _seconds: next(steps, True)

    def _rolling(self) -> Iterator[bool]:
        """One program after the other is asked to stop, and waited for until it is back; says False meanwhile."""
        for name in self.form.rolled:
            old, since = None, time.monotonic()
            while not self._is_back(name, old):
                if old is None and (old := _process(self.house.pids().get(name))) is not None:
                    _signal(old, signal.SIGTERM)
                if time.monotonic() - since > RETURN_SECONDS:
                    raise NotInTime(f"{name} was not back within {RETURN_SECONDS} s")
                yield False

    def _is_back(self, name: str, old: psutil.Process | None) -> bool:
        """Whether another process does the work of the one that was asked to stop."""
        new = _process(self.house.pids().get(name))
        if old is None or new is None or new == old:
            return False
        if name == "web":
            return responds(f"{self.house.addresses.web_url}/healthz")
        return name.startswith("beat") or bool(_children(new))


Follow = Callable[[float], bool]
"""What has to be done later, given the seconds since the strike; True once it is done."""


def not_possible(house: House) -> dict[Kind, str]:
    """The kinds that cannot be struck on given servers, and why; sparing what is not ours."""
    left: dict[Kind, str] = {}
    if isinstance(house.postgres, GivenPostgres):
        left[Kind.DATABASE_RESTARTED] = "the PostgreSQL was given; its connections are cut instead"
    if isinstance(house.valkey, GivenValkey):
        left[Kind.BROKER_KILLED] = "the Redis was given; its database is flushed instead"
    return left


def _nothing(_seconds: float) -> bool:
    return True


def _kill(process: psutil.Process, number: signal.Signals = signal.SIGKILL) -> Follow:
    _signal(process, number)
    return lambda _seconds: not alive(process.pid)


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    """To this very process: psutil knows it by its start, so that a pid that was given again is left alone."""
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children())
    except psutil.NoSuchProcess:
        return []


def _process(pid: int | None) -> psutil.Process | None:
    if pid is None:
        return None
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None
