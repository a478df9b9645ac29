"""Who gets which slot. Pure: rows in, assignments out."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A Generation that is due."""

    generation_id: UUID
    user_id: int
    priority: int
    pinned: UUID | None = None
    excluded: frozenset[UUID] = frozenset()


@dataclass(slots=True)
class Capacity:
    """An Account with its free slots, lowest numbers last (they are popped)."""

    account_id: UUID
    owner_id: int | None
    priority: int
    limit: int
    held: int
    last_used_at: datetime | None
    free: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Assignment:
    """A Generation gets a slot of an Account; ``choice`` tells people why this one."""

    generation_id: UUID
    account_id: UUID
    slot: int
    limit: int
    choice: dict[str, Any]


def free_slots(limit: int, held: Iterable[int], most: int | None = None) -> list[int]:
    """The free slot numbers, lowest last. Free = max(0, limit - held), also after the limit was lowered.

    ``most``: no more of them, whatever is free (what is left of a daily cap).
    """
    taken = set(held)
    count = max(0, limit - len(taken))
    if most is not None:
        count = min(count, max(0, most))
    return [slot for slot in range(1, limit + 1) if slot not in taken][:count][::-1]


def match(
    candidates: Sequence[Candidate],
    capacities: Sequence[Capacity],
    in_flight: Mapping[int, int],
    allowances: MutableMapping[int, int] | None = None,
) -> list[Assignment]:
    """Assign free slots: higher priority first, then whoever has the fewest in flight, then the oldest.

    ``candidates`` of one user and priority are taken in the order of their ids (time-ordered). One that no free
    account may serve is passed over and hides nobody, and so are those of a user who has as many as he may:
    ``allowances`` tells how many more that are, of those users that have a cap. ``capacities`` lose the slots, and
    ``allowances`` the numbers, that are given away.
    """
    running = defaultdict(int, in_flight)
    left: MutableMapping[int, int] = {} if allowances is None else allowances
    by_priority: dict[int, dict[int, list[Candidate]]] = defaultdict(lambda: defaultdict(list))
    for candidate in sorted(candidates, key=lambda one: one.generation_id, reverse=True):
        by_priority[candidate.priority][candidate.user_id].append(candidate)
    assignments: list[Assignment] = []
    for priority in sorted(by_priority, reverse=True):
        queues = by_priority[priority]
        turns = [(running[user], queue[-1].generation_id, user) for user, queue in queues.items()]
        heapq.heapify(turns)
        while turns and any(capacity.free for capacity in capacities):
            _, _, user = heapq.heappop(turns)
            if left.get(user, 1) <= 0:
                continue
            queue = queues[user]
            assigned = _assign(queue.pop(), capacities)
            if assigned:
                assignments.append(assigned)
                running[user] += 1
                if user in left:
                    left[user] -= 1
            if queue:
                heapq.heappush(turns, (running[user], queue[-1].generation_id, user))
    return assignments


def _assign(candidate: Candidate, capacities: Sequence[Capacity]) -> Assignment | None:
    fit = [capacity for capacity in capacities if capacity.free and _may_serve(capacity, candidate)]
    if not fit:
        return None
    best = min(fit, key=_preference)
    slot = best.free.pop()
    choice = {
        "pinned": candidate.pinned is not None,
        "own": best.owner_id is not None,
        "priority": best.priority,
        "held": best.held,
        "limit": best.limit,
        "among": len(fit),
    }
    best.held += 1
    return Assignment(candidate.generation_id, best.account_id, slot, best.limit, choice)


def _may_serve(capacity: Capacity, candidate: Candidate) -> bool:
    if candidate.pinned is not None and candidate.pinned != capacity.account_id:
        return False
    return capacity.owner_id in {None, candidate.user_id} and capacity.account_id not in candidate.excluded


def _preference(capacity: Capacity) -> tuple[bool, int, float, datetime]:
    """Own before shared, higher priority, least loaded, least recently used."""
    return (
        capacity.owner_id is None,
        -capacity.priority,
        capacity.held / capacity.limit,
        capacity.last_used_at or NEVER,
    )
