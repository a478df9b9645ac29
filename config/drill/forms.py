"""The two forms of the drill: how long, how many, which times. Pure.

The times are those of ``generations.conf`` scaled, in the order of the defaults: a lease is shorter than a submit's
lease, that shorter than a deadline, that shorter than the sandbox's longest job, and with the time that a submit may
take that is shorter than our limit, after which a slot is given back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

BAD_DAY: Mapping[str, float] = {
    "slow_drip": 0.01,
    "never_finishes": 0.01,
    "huge": 0.01,
    "404_url": 0.02,
    "no_url": 0.02,
    "accept_then_drop": 0.05,
    "500_before": 0.03,
    "429": 0.03,
    "500_after": 0.02,
    "malformed": 0.02,
}
"""How often the sandbox misbehaves, of all submits; those that last longest first."""


BATCH = (2, 4)
"""Library items of a batch, and variations of each: eight together."""


class Kind(StrEnum):
    """A fault of our own processes and servers."""

    WORKER_KILLED = "worker_killed"
    CHILD_KILLED = "child_killed"
    CHILDREN_STOPPED = "children_stopped"
    WEB_KILLED = "web_killed"
    BEAT_KILLED = "beat_killed"
    CONNECTIONS_CUT = "connections_cut"
    DATABASE_RESTARTED = "database_restarted"
    BROKER_KILLED = "broker_killed"
    BROKER_FLUSHED = "broker_flushed"
    ROLLING_RESTART = "rolling_restart"


WORDS: Mapping[Kind, str] = {
    Kind.WORKER_KILLED: "kill -9 of a worker with all its children",
    Kind.CHILD_KILLED: "kill -9 of a worker's child",
    Kind.CHILDREN_STOPPED: "SIGSTOP of a worker's children past the lease, then SIGCONT",
    Kind.WEB_KILLED: "kill -9 of the web process",
    Kind.BEAT_KILLED: "kill -9 of one of two beats",
    Kind.CONNECTIONS_CUT: "every database connection terminated",
    Kind.DATABASE_RESTARTED: "immediate restart of PostgreSQL",
    Kind.BROKER_KILLED: "kill -9 of Valkey",
    Kind.BROKER_FLUSHED: "FLUSHALL",
    Kind.ROLLING_RESTART: "rolling restart of web, workers and beats",
}


@dataclass(frozen=True, slots=True)
class Login:
    """An account: so many may be in flight, ours and the sandbox's limit alike."""

    provider_id: str
    label: str
    limit: int


@dataclass(frozen=True, slots=True)
class Form:
    """One form. Times in seconds; ``seconds`` is over how long requests are posted, evenly.

    Beside the ``generations`` there are ``batches`` of ``BATCH`` items each.
    ``lost_for_good`` requests are accepted by the sandbox, never answered, and never called back about. A strike
    falls between ``first_strike`` and ``last_strike``; what is not over ``patience`` after the last request has not
    ended.
    """

    name: str
    generations: int
    duplicates: int
    batches: int
    people: int
    seconds: float
    lost_for_good: int
    strikes: Mapping[Kind, int]
    first_strike: float
    last_strike: float
    patience: float
    logins: tuple[Login, ...]
    doubles: tuple[str, ...]
    rolled: tuple[str, ...]
    tick_seconds: int
    speed: float
    never_seconds: float
    slow_submit: float
    times: Mapping[str, float]

    @property
    def sending_lease(self) -> float:
        """How long a dispatcher owns what it is sending."""
        return self.times["submit_timeout"] + self.times["sending_grace"]


SHORT = Form(
    name="short",
    generations=60,
    duplicates=15,
    batches=2,
    people=3,
    seconds=26,
    lost_for_good=1,
    strikes={
        Kind.WORKER_KILLED: 2,
        Kind.CHILD_KILLED: 2,
        **dict.fromkeys(set(Kind) - {Kind.WORKER_KILLED, Kind.CHILD_KILLED}, 1),
    },
    first_strike=2,
    last_strike=26,
    patience=90,
    logins=(
        Login("modelslab", "first", 4),
        Login("modelslab", "second", 3),
        Login("pixverse", "third", 2),
        Login("pixverse", "fourth", 2),
    ),
    doubles=("beat", "worker-dispatch"),
    rolled=("web", "beat", "worker-dispatch", "worker-poll"),
    tick_seconds=1,
    speed=0.5,
    never_seconds=7.5,
    slow_submit=2,
    times={
        "lease": 3,
        "submit_timeout": 4,
        "sending_grace": 1,
        "image_deadline": 6,
        "video_deadline": 7,
        "submission_limit": 12,
        "last_look_interval": 0.5,
        "poll_timeout": 4,
        "image_poll_interval": 0.2,
        "video_poll_interval": 0.4,
        "max_poll_interval": 0.5,
        "missing_grace": 2,
        "empty_grace": 2,
        "backoff_base": 0.3,
        "backoff_cap": 1,
        "retry_after_cap": 1,
        "collect_ttl": 30,
        "download_timeout": 10,
        "download_idle": 8,
        "busy_slow_interval": 3,
        "poll_linger": 0.8,
    },
)

LONG = Form(
    name="long",
    generations=1200,
    duplicates=300,
    batches=20,
    people=8,
    seconds=405,
    lost_for_good=6,
    strikes={
        Kind.WORKER_KILLED: 8,
        Kind.CHILD_KILLED: 10,
        Kind.CHILDREN_STOPPED: 4,
        Kind.WEB_KILLED: 4,
        Kind.BEAT_KILLED: 4,
        Kind.CONNECTIONS_CUT: 6,
        Kind.DATABASE_RESTARTED: 4,
        Kind.BROKER_KILLED: 4,
        Kind.BROKER_FLUSHED: 4,
        Kind.ROLLING_RESTART: 2,
    },
    first_strike=15,
    last_strike=400,
    patience=240,
    logins=(
        Login("modelslab", "first", 12),
        Login("modelslab", "second", 8),
        Login("modelslab", "third", 6),
        Login("pixverse", "fourth", 8),
        Login("pixverse", "fifth", 6),
    ),
    doubles=("beat", "worker-dispatch", "worker-poll", "worker-collect"),
    rolled=(
        *("web", "worker-dispatch", "worker-poll", "worker-collect", "worker-maintenance", "beat"),
        *("worker-dispatch-2", "worker-poll-2", "worker-collect-2", "beat-2"),
    ),
    tick_seconds=2,
    speed=1,
    never_seconds=28,
    slow_submit=3,
    times={
        "lease": 6,
        "submit_timeout": 7,
        "sending_grace": 3,
        "image_deadline": 20,
        "video_deadline": 25,
        "submission_limit": 40,
        "last_look_interval": 2,
        "poll_timeout": 6,
        "image_poll_interval": 0.5,
        "video_poll_interval": 1,
        "max_poll_interval": 3,
        "missing_grace": 6,
        "empty_grace": 6,
        "backoff_base": 1,
        "backoff_cap": 5,
        "retry_after_cap": 10,
        "collect_ttl": 60,
        "download_timeout": 14,
        "download_idle": 10,
        "busy_slow_interval": 20,
    },
)
