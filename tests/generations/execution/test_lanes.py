"""Which deliveries go next: it ..."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from generations.execution.lanes import Due, choose

START = datetime(2026, 1, 1, tzinfo=UTC)


def due(user: int, host: str, since: int = 0) -> Due:
    return Due(uuid4(), user, host, START + timedelta(seconds=since))


def chosen(
    rows: list[Due], under_way: list[tuple[int, str]] | None = None, *, room: int = 16, lane: int = 4, user: int = 8
) -> list[tuple[int, str]]:
    by_id = {row.id: row for row in rows}
    ids = choose(rows, under_way or [], room=room, per_lane=lane, per_user=user)
    assert len(set(ids)) == len(ids)
    return [by_id[pk].lane for pk in ids]


def test_takes_the_oldest_first() -> None:
    rows = [due(1, "b", 5), due(1, "a", 9), due(1, "c", 1)]
    assert [host for _, host in chosen(rows)] == ["c", "b", "a"]


def test_takes_no_more_of_a_lane_than_it_may_those_under_way_included() -> None:
    rows = [due(1, "a", number) for number in range(9)]
    assert len(chosen(rows)) == 4
    assert len(chosen(rows, [(1, "a")] * 3)) == 1
    assert chosen(rows, [(1, "a")] * 4) == []
    assert len(chosen(rows, [(2, "a")] * 4)) == 4, "somebody else's at the same host do not count"


def test_takes_no_more_of_a_user_than_he_may() -> None:
    rows = [due(1, f"host {number}") for number in range(20)]
    assert len(chosen(rows)) == 8
    assert len(chosen(rows, [(1, "another")] * 5)) == 3


def test_begins_with_whoever_has_the_fewest_under_way() -> None:
    rows = [due(1, "a", 0), due(1, "b", 1), due(2, "a", 50), due(3, "a", 99)]
    assert chosen(rows, [(1, "c"), (2, "c"), (2, "d")], room=2) == [(3, "a"), (1, "a")]
    assert chosen(rows, room=3) == [(1, "a"), (2, "a"), (3, "a")]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(
    rows=st.lists(st.tuples(st.integers(1, 4), st.sampled_from("abc"), st.integers(0, 50)), max_size=60),
    under_way=st.lists(st.tuples(st.integers(1, 4), st.sampled_from("abc")), max_size=10),
    room=st.integers(1, 16),
)
def test_keeps_every_cap_and_leaves_no_connection_unused(
    rows: list[tuple[int, str, int]], under_way: list[tuple[int, str]], room: int
) -> None:
    made = [due(*row) for row in rows]
    taken = chosen(made, under_way, room=room, lane=2, user=3)
    lanes, users = Counter(under_way) + Counter(taken), Counter(user for user, _ in [*under_way, *taken])
    assert len(taken) <= room
    assert all(lanes[lane] <= max(2, Counter(under_way)[lane]) for lane in lanes)
    if len(taken) < room:
        left = Counter(row.lane for row in made) - Counter(taken)
        assert all(lanes[lane] >= 2 or users[lane[0]] >= 3 for lane in left)


def test_takes_nothing_of_nothing() -> None:
    assert choose([], [], room=3, per_lane=1, per_user=1) == []
    assert isinstance(due(1, "a").id, UUID)
