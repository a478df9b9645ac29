"""What every protocol does with a submit: recognise, refuse or accept, spoil the reply where asked to."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from providers.sandbox.faults import PHASE_OF, UnknownFault
from providers.sandbox.state import Draft, Key, State, Work
from providers.sandbox.web import Reply, Request, html_reply, json_reply

SORRY_PAGE = (
    "<!doctype html><title>Error</title><h1>Internal Server Error</h1><p>The sandbox was asked to say this.</p>"
)


@dataclass(slots=True)
class Call:
    """One HTTP call and what becomes known of it; it becomes a row of the record."""

    request: Request
    provider: str = ""
    kind: str = "other"  # submit, poll, upload, balance, media, other
    key: str = ""  # its label
    api_key: str = field(default="", repr=False)  # the key itself: never written down
    operation: str = ""
    trace_id: str = ""
    prompt: str = ""
    remote_id: str = ""
    created: bool = False
    faults: list[str] = field(default_factory=list)
    # The refusal's class when the protocol itself (not a fault) said no.
    error: str = ""

    @property
    def request_id(self) -> str:
        """The caller's own id of the attempt."""
        return self.request.headers.get("x-request-id", "")


class Refusal(Exception):
    """The protocol says no, in its own words; ``kind`` is for the record."""

    def __init__(self, kind: str, reply: Reply) -> None:
        super().__init__(kind)
        self.kind = kind
        self.reply = reply


class Dialect(Protocol):
    """How one provider words what the desk decides."""

    slug: str

    def accepted(self, work: Work, call: Call) -> Reply:
        """The reply to a submit that was accepted."""

    def refusal(self, kind: str, argument: str, call: Call) -> Reply:
        """The reply that refuses, for a fault of the phase ``refuse``; ``argument`` as the marker gave it."""

    def id_field(self) -> tuple[str, ...]:
        """Where the id stands in the reply to a submit."""


def submit(state: State, dialect: Dialect, key: Key, draft: Draft, call: Call) -> Reply:
    """Accept or refuse a valid draft. Nothing awaits in here: decision and consequence are one step."""
    call.prompt = draft.prompt
    try:
        plan = state.plan(key, draft.prompt)
    except UnknownFault as error:
        raise Refusal("invalid_params", dialect.refusal("invalid_params", str(error), call)) from error
    for name, argument in plan:
        if PHASE_OF[name] == "refuse":
            return _refuse(state, dialect, key, call, (name, argument))
    if not key.allowed:
        raise Refusal("forbidden", dialect.refusal("forbidden", "", call))
    now = time.time()
    if key.settings.limit is not None and key.in_flight(now) >= key.settings.limit:
        key.over_limit += 1
        raise Refusal("concurrency", dialect.refusal("concurrency", "", call))
    if key.balance(dialect.slug, now) < draft.cost:
        raise Refusal("no_credits", dialect.refusal("no_credits", "", call))
    previous = key.last_id
    work = state.accept(dialect.slug, key, draft, dict(plan), call.request_id, call.request.origin)
    call.created, call.remote_id = True, str(work.remote_id)
    call.faults = [name for name, _ in plan]
    reply = dialect.accepted(work, call)
    for name, argument in plan:
        if PHASE_OF[name] == "reply":
            state.fire(name, argument, key.label, work.remote_id, draft.prompt)
            reply = _spoil(reply, name, argument, dialect.id_field(), previous)
        elif name in ("job_failed", "moderated_output", "never_finishes", "instant"):
            state.note(work, name)
    return reply


def _refuse(state: State, dialect: Dialect, key: Key, call: Call, fault: tuple[str, str]) -> Reply:
    name, argument = fault
    call.faults = [name]
    state.fire(name, argument, key.label, None, call.prompt)
    if name == "drop_before":
        return Reply(drop=True, status=0)
    if name == "key_echo":
        argument = f"Something about your key {call.api_key} is wrong"
    return dialect.refusal(name, argument, call)


def _spoil(reply: Reply, name: str, argument: str, id_field: tuple[str, ...], previous: int | None) -> Reply:
    if name == "accept_then_drop":
        return Reply(drop=True, status=0, delay=reply.delay)
    if name == "500_after":
        return html_reply(SORRY_PAGE, 500)
    if name == "malformed":
        if argument == "truncated":
            return Reply(body=reply.body[: len(reply.body) // 2])
        return Reply(body=b"") if argument == "empty" else html_reply(SORRY_PAGE)
    if name == "slow_submit":
        reply.delay = min(_number(argument, 5.0), 600.0)
        return reply
    data = json.loads(reply.body)
    place: dict[str, Any] = data
    for step in id_field[:-1]:
        place = place[step]
    if name == "no_id":
        place.pop(id_field[-1], None)
    elif name == "bad_id":
        place[id_field[-1]] = "9" * 10_240 if argument == "long" else {"value": place[id_field[-1]]}
    elif name == "same_id" and previous is not None:
        place[id_field[-1]] = previous
    return json_reply(data)


def spoiled_poll(state: State, work: Work, call: Call, refusals: Mapping[str, Reply]) -> Reply | None:
    """The spoilt answer to a status call, if one is due. ``refusals``: the protocol's own 404, 429, 500, 503."""
    for name in work.faults:
        if not name.startswith("poll_") or name == "poll_unknown_status" or not state.strike(work, name):
            continue
        call.faults.append(name)
        if name == "poll_drop_once":
            return Reply(drop=True, status=0)
        if name == "poll_malformed_once":
            return html_reply(SORRY_PAGE)
        return refusals[name.split("_")[1]]
    if state.note(work, "lost_job"):
        call.faults.append("lost_job")
        return refusals["404"]
    return None


def _number(text: str, default: float) -> float:
    try:
        return float(text)
    except ValueError:
        return default
