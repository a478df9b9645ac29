"""What the sandbox knows: keys, work, uploads. Kept in memory, rebuilt from the record at the start.

Everything here runs on the event loop's thread, so that a decision (is there room? is there credit?)
and its consequence (the work exists) cannot be separated by another call.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import random
import secrets
import time
from collections import Counter, OrderedDict
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from providers.sandbox import faults
from providers.sandbox.record import Record

Medium = Literal["picture", "video"]
SECONDS: dict[Medium, float] = {"picture": 1.0, "video": 3.0}
TRACE_IDS_REMEMBERED = 200_000
START_BALANCE = {"pixverse": 1_000_000.0, "modelslab": 10_000.0}


def key_label(provider: str, key: str) -> str:
    """How a key appears in the record: ``pixverse:1a2b3c4d5e6f``, never the key itself."""
    return f"{provider}:{hashlib.sha256(key.encode('utf-8', 'replace')).hexdigest()[:12]}"


def any_seed() -> int:
    """A seed for a request that names none."""
    return secrets.randbelow(2**31)


@dataclass(frozen=True, slots=True)
class KeySettings:
    """What the control endpoint may set for a key."""

    limit: int | None = None
    balance: float | None = None
    enabled: bool = True
    callback_url: str = ""
    callback_secret: str = ""
    # "query": the JSON as a URL-encoded query string; "raw": the percent-encoded body (both are documented).
    signature_form: str = "query"
    # When ``balance`` was set: what was spent before does not lessen it.
    balance_set_at: float = 0.0


@dataclass(slots=True)
class Key:
    """One login at one provider."""

    label: str
    settings: KeySettings
    spent: float = 0.0
    accepted: int = 0
    last_id: int | None = None
    running: list[float] = field(default_factory=list)  # heap of finish times
    refunds: list[tuple[float, float]] = field(default_factory=list)  # heap of (time, amount)
    most_in_flight: int = 0
    over_limit: int = 0
    allowed: bool = True
    broke: bool = False

    def in_flight(self, now: float) -> int:
        """Work accepted and not finished at ``now``."""
        while self.running and self.running[0] <= now:
            heapq.heappop(self.running)
        return len(self.running)

    def balance(self, provider: str, now: float) -> float:
        """Credits left: what was there, less what was taken, plus what failed work gave back."""
        while self.refunds and self.refunds[0][0] <= now:
            self.spent -= heapq.heappop(self.refunds)[1]
        start = self.settings.balance
        if start is None:
            start = 0.0 if self.broke else START_BALANCE[provider]
        return max(0.0, start - self.spent)


@dataclass(slots=True)
class Work:
    """One accepted piece of work. ``echo`` is what the protocol repeats of the request."""

    remote_id: int
    provider: str
    key: str
    operation: str
    prompt: str
    spec: dict[str, Any]
    outputs: int
    cost: float
    request_id: str
    accepted_at: float
    finish_at: float
    outcome: Literal["done", "failed", "moderated"]
    faults: dict[str, str]
    echo: dict[str, Any]
    webhook: str
    track_id: Any
    origin: str
    in_flight: int = 0

    @property
    def medium(self) -> Medium:
        """Whether it makes a picture or a video."""
        return "video" if self.spec["medium"] == "video" else "picture"


@dataclass(frozen=True, slots=True)
class Draft:
    """A valid request, before it becomes work."""

    operation: str
    prompt: str
    spec: dict[str, Any]
    cost: float
    outputs: int = 1
    echo: dict[str, Any] = field(default_factory=dict)
    webhook: str = ""
    track_id: Any = None
    instant: bool = False


class State:
    """All of it."""

    def __init__(self, record: Record, *, seed: int, speed: float, never_seconds: float) -> None:
        self.record = record
        self.seed = seed
        self.speed = speed
        self.never_seconds = never_seconds
        self.rates: dict[str, float] = {}
        self.works: dict[int, Work] = {}
        self.keys: dict[str, Key] = {}
        self.uploads: dict[int, dict[str, Any]] = {}
        self.fired: Counter[tuple[int, str]] = Counter()  # (remote id, fault) -> how often
        self.marked: Counter[tuple[str, str, str]] = Counter()  # (key, prompt digest, fault) -> how often
        self.draws = 0
        self._traces: OrderedDict[str, None] = OrderedDict()
        self._settings: dict[str, KeySettings] = {}
        self._last_id = 0
        self._load()

    # -- keys ---------------------------------------------------------------------------------

    def login(self, provider: str, key: object) -> Key | None:
        """The account behind a key, or None when the provider does not know it."""
        if not isinstance(key, str) or not key:
            return None
        label = key_label(provider, key)
        found = self.keys.get(label)
        if found is None:
            if not key.startswith("sandbox") and label not in self._settings:
                return None
            found = self._open(label)
        found.allowed, found.broke = "forbidden" not in key, "broke" in key
        return found if found.settings.enabled else None

    def configure(self, provider: str, key: str, changes: dict[str, Any]) -> Key:
        """Register a key, or change its settings; fields left out stay. Raises TypeError for unknown ones."""
        label = key_label(provider, key)
        if "balance" in changes:
            changes = {**changes, "balance_set_at": time.time()}
        settings = replace(self._settings.get(label, KeySettings()), **changes)
        self._settings[label] = settings
        self.record.add("INSERT OR REPLACE INTO keys VALUES (?, ?)", (label, json.dumps(asdict(settings))))
        found = self._open(label)
        found.settings = settings
        if "balance" in changes:
            found.spent, found.refunds = 0.0, []
        return found

    def _open(self, label: str) -> Key:
        return self.keys.setdefault(label, Key(label, self._settings.get(label, KeySettings())))

    # -- work ---------------------------------------------------------------------------------

    def plan(self, key: Key, prompt: str) -> list[tuple[str, str]]:
        """The faults of this submit, as (name, argument): its markers, else one draw by the rates."""
        marked = faults.markers(prompt)
        if marked:
            digest = faults.prompt_digest(prompt)
            chosen = []
            for marker in marked:
                slot = (key.label, digest, marker.name)
                self.marked[slot] += 1
                if marker.name != faults.NONE and (marker.times is None or self.marked[slot] <= marker.times):
                    chosen.append((marker.name, marker.argument))
            return chosen
        self.draws += 1
        name = faults.draw(self.rates, self.seed, self.draws)
        return [(name, "")] if name else []

    def accept(self, provider: str, key: Key, draft: Draft, plan: dict[str, str], request_id: str, origin: str) -> Work:
        """Create the work and count it in flight, in one step; durable after the record's next commit."""
        now = time.time()
        remote_id = self._new_id(provider)
        medium: Medium = "video" if draft.spec["medium"] == "video" else "picture"
        lasts = SECONDS[medium] * self.speed * random.Random(remote_id).uniform(0.8, 1.2)
        outcome: Literal["done", "failed", "moderated"] = "done"
        if "never_finishes" in plan:
            lasts, outcome = self.never_seconds, "failed"
        elif "job_failed" in plan:
            outcome = "failed"
        elif "moderated_output" in plan:
            outcome = "moderated"
        elif draft.instant or "instant" in plan:
            lasts = 0.0
        work = Work(
            remote_id, provider, key.label, draft.operation, draft.prompt, draft.spec, draft.outputs, draft.cost,
            request_id, now, now + lasts, outcome, plan, draft.echo, draft.webhook, draft.track_id, origin,
        )  # fmt: skip
        self._enter(work, key)
        work.in_flight = key.in_flight(now)
        self.record.add(
            "INSERT INTO works VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                remote_id, provider, key.label, work.operation, work.prompt, json.dumps(work.spec), work.outputs,
                work.cost, request_id, now, work.finish_at, outcome, json.dumps(plan), json.dumps(work.echo),
                work.webhook, json.dumps(work.track_id), origin, work.in_flight,
            ),
        )  # fmt: skip
        if work.in_flight > key.most_in_flight:
            key.most_in_flight = work.in_flight
            self.record.add("INSERT OR REPLACE INTO peaks VALUES (?, ?, ?)", (key.label, work.in_flight, now))
        return work

    def _enter(self, work: Work, key: Key) -> None:
        self.works[work.remote_id] = work
        heapq.heappush(key.running, work.finish_at)
        key.accepted += 1
        key.last_id = work.remote_id
        if work.accepted_at < key.settings.balance_set_at:
            return
        key.spent += work.cost
        if work.outcome != "done":
            heapq.heappush(key.refunds, (work.finish_at, work.cost))

    def find(self, provider: str, key: Key | None, remote_id: int) -> Work | None:
        """A work by its id, if it is this provider's and (when given) this key's."""
        work = self.works.get(remote_id)
        if work is None or work.provider != provider or (key is not None and work.key != key.label):
            return None
        return work

    def fire(self, fault: str, argument: str, key: str, remote_id: int | None, prompt: str = "") -> int:
        """Write down that a fault struck; returns how often it has struck this work."""
        self.record.add(
            "INSERT INTO firings (at, fault, argument, phase, key, remote_id, prompt_sha256) VALUES (?,?,?,?,?,?,?)",
            (
                time.time(), fault, argument, faults.PHASE_OF[fault], key, remote_id,
                faults.prompt_digest(prompt) if prompt else None,
            ),
        )  # fmt: skip
        if remote_id is None:
            return 1
        self.fired[(remote_id, fault)] += 1
        return self.fired[(remote_id, fault)]

    def strike(self, work: Work, fault: str, default_times: int = 1) -> bool:
        """Whether a fault of a work strikes now; one whose argument is a number strikes that often."""
        if fault not in work.faults:
            return False
        argument = work.faults[fault]
        times = int(argument) if argument.isdigit() else default_times
        if self.fired[(work.remote_id, fault)] >= times:
            return False
        self.fire(fault, argument, work.key, work.remote_id)
        return True

    def note(self, work: Work, fault: str) -> bool:
        """Whether a work has a lasting fault; written down the first time that it shows."""
        if fault not in work.faults:
            return False
        if not self.fired[(work.remote_id, fault)]:
            self.fire(fault, work.faults[fault], work.key, work.remote_id)
        return True

    # -- the rest -----------------------------------------------------------------------------

    def first_use(self, trace_id: str) -> bool:
        """Whether a trace id is new; it is remembered from now on."""
        if trace_id in self._traces:
            return False
        self._traces[trace_id] = None
        if len(self._traces) > TRACE_IDS_REMEMBERED:
            self._traces.popitem(last=False)
        return True

    def add_upload(self, provider: str, key: Key, mime: str, file: str) -> int:
        """Remember an uploaded file of the data folder; returns its id."""
        upload_id = self._new_id(provider)
        self.uploads[upload_id] = {"provider": provider, "key": key.label, "mime": mime, "file": file}
        self.record.add(
            "INSERT INTO uploads VALUES (?,?,?,?,?,?)", (upload_id, time.time(), provider, key.label, mime, file)
        )
        return upload_id

    def remember(self, name: str, value: Any) -> None:
        """Keep a setting over a restart."""
        self.record.add("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(value)))

    def remembered(self) -> dict[str, Any]:
        """The settings that were kept."""
        return {row["name"]: json.loads(row["value"]) for row in self.record.rows("SELECT * FROM meta")}

    def reset(self, *, with_keys: bool) -> None:
        """Forget calls, work, faults fired and peaks; keys too if asked. Ids are never given again."""
        for table in ("calls", "works", "firings", "callbacks", "peaks"):
            self.record.add(f"DELETE FROM {table}")  # noqa: S608 - names of our own
        self.remember("last_id", self._last_id)
        if with_keys:
            self.record.add("DELETE FROM keys")
            self._settings.clear()
        self.works.clear()
        self.keys.clear()
        self.fired.clear()
        self.marked.clear()
        self._traces.clear()
        self.draws = 0

    def _new_id(self, provider: str) -> int:
        """Never the same twice, not even after a reset. Pixverse's exceed 2**53 and are odd: no float holds them."""
        self._last_id = max(time.time_ns() // 1000, self._last_id + 1)
        return self._last_id * 64 + 2 * secrets.randbelow(32) + 1 if provider == "pixverse" else self._last_id

    def _load(self) -> None:
        for row in self.record.rows("SELECT * FROM keys"):
            self._settings[row["key"]] = KeySettings(**json.loads(row["settings"]))
        for row in self.record.rows("SELECT * FROM works ORDER BY accepted_at, remote_id"):
            row["spec"], row["faults"] = json.loads(row["spec"]), json.loads(row["faults"])
            row["echo"], row["track_id"] = json.loads(row["echo"]), json.loads(row["track_id"])
            work = Work(**row)
            self._enter(work, self._open(work.key))
        for row in self.record.rows("SELECT * FROM peaks"):
            self._open(row["key"]).most_in_flight = row["most"]
        for row in self.record.rows("SELECT * FROM uploads"):
            self.uploads[row["id"]] = {name: row[name] for name in ("provider", "key", "mime", "file")}
        for row in self.record.rows("SELECT * FROM firings"):
            if row["remote_id"] is not None:
                self.fired[(row["remote_id"], row["fault"])] += 1
        marked = "SELECT key, prompt FROM calls WHERE kind = 'submit' AND error IS NULL AND prompt LIKE '%[[fault:%'"
        for row in self.record.rows(marked):
            for marker in faults.markers(row["prompt"]):
                self.marked[(row["key"], faults.prompt_digest(row["prompt"]), marker.name)] += 1
        drawn = (
            "SELECT count(*) AS n FROM calls WHERE kind = 'submit' AND error IS NULL AND prompt NOT LIKE '%[[fault:%'"
        )
        self.draws = self.record.rows(drawn)[0]["n"]
        recent = "SELECT trace_id FROM calls WHERE trace_id IS NOT NULL ORDER BY id DESC LIMIT ?"
        for row in reversed(self.record.rows(recent, (TRACE_IDS_REMEMBERED,))):
            self._traces[row["trace_id"]] = None
        self._last_id = max(self.remembered().get("last_id", 0), time.time_ns() // 1000)
