"""Which due deliveries go next: a lane is a user's deliveries to one host. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that is due since ``since``."""

    id: UUID
    user_id: int
    host: str
    since: datetime

    @property
    def lane(self) -> tuple[int, str]:
        """Whose, and to where."""
        return self.user_id, self.host


def choose(
    due: Iterable[Due], under_way: Sequence[tuple[int, str]], *, room: int, per_lane: int, per_user: int
) -> list[UUID]:
    """The ids of at most ``room`` of them: first whose user has the fewest under way, then the oldest.

    At most ``per_lane`` of a lane and ``per_user`` of a user are under way at once, ``under_way`` (a lane each)
    included: an endpoint that hangs, or a user with many that do, holds up nobody else.
    """
    lanes, users = Counter(under_way), Counter(user for user, _ in under_way)
    waiting: dict[int, list[Due]] = {}
    for one in sorted(due, key=lambda one: one.since, reverse=True):
        waiting.setdefault(one.user_id, []).append(one)
    chosen: list[UUID] = []
    while waiting and len(chosen) < room:
        user = min(waiting, key=lambda user: (users[user], waiting[user][-1].since))
        one = waiting[user].pop()
        if users[user] >= per_user:
            del waiting[user]
            continue
        if not waiting[user]:
            del waiting[user]
        if lanes[one.lane] < per_lane:
            lanes[one.lane] += 1
            users[user] += 1
            chosen.append(one.id)
    return chosen
