"""What the sandbox saw: it wrote every call down before it answered, and knows nothing of us."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.sandbox.client import SandboxControl

PAGE = 5000


@dataclass(frozen=True, slots=True)
class Seen:
    """One login: the most that was ever in flight, the limit, and how often more was asked for than that."""

    most: int
    limit: int
    refused: int


@dataclass(frozen=True, slots=True)
class Witness:
    """The record, told apart by our attempts' ids (``X-Request-Id``).

    ``posts``: billable calls per attempt; ``anonymous``: those that named none. ``paid``: jobs per attempt that were
    charged and not given back. ``faults``: what struck an attempt's submit, its job or its result. ``fired``: how
    often each fault struck.
    """

    posts: Counter[str] = field(default_factory=Counter)
    anonymous: int = 0
    jobs: Counter[str] = field(default_factory=Counter)
    paid: Counter[str] = field(default_factory=Counter)
    faults: Mapping[str, frozenset[str]] = field(default_factory=dict)
    fired: Mapping[str, int] = field(default_factory=dict)
    logins: Mapping[str, Seen] = field(default_factory=dict)


def ask(sandbox: SandboxControl, labels: Mapping[str, str]) -> Witness:
    """Everything it knows. ``labels``: our names of its keys' labels."""
    calls = _pages(sandbox.record, "id", kind="submit")
    works = _pages(sandbox.works, "remote_id")
    faults: dict[str, set[str]] = defaultdict(set)
    for call in calls:
        faults[call["request_id"]].update(filter(None, (call["fault"] or "").split(",")))
    summary = sandbox.summary()
    return Witness(
        posts=Counter(call["request_id"] for call in calls if call["request_id"]),
        anonymous=sum(not call["request_id"] for call in calls),
        jobs=Counter(work["request_id"] for work in works),
        # What failed was given back.
        paid=Counter(work["request_id"] for work in works if work["outcome"] != "failed"),
        faults={request_id: frozenset(found) for request_id, found in faults.items()},
        fired=summary["faults"],
        logins={
            labels[label]: Seen(key["most_in_flight"], key["limit"], key["refused_over_limit"])
            for label, key in summary["keys"].items()
            if label in labels
        },
    )


def _pages(ask_for: Any, name: str, **filters: Any) -> list[dict[str, Any]]:
    """All rows, a page at a time."""
    rows: list[dict[str, Any]] = []
    while page := ask_for(since=rows[-1][name] if rows else 0, limit=PAGE, **filters):
        rows += page
    return rows
