"""Who gets which slot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generations.execution.matching import Assignment, Candidate, Capacity, free_slots, match

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
ANN, BOB, CY = 1, 2, 3


def uid(number: int) -> UUID:
    """The ids of Generations are ordered by time: a smaller one is older."""
    return UUID(int=number)


def wants(number: int, user: int = ANN, priority: int = 5, **more: Any) -> Candidate:
    return Candidate(uid(number), user, priority, **more)


def account(number: int = 900, limit: int = 3, held: Sequence[int] = (), **more: Any) -> Capacity:
    fields: dict[str, Any] = {"owner_id": None, "priority": 0, "last_used_at": None, **more}
    return Capacity(uid(number), limit=limit, held=len(held), free=free_slots(limit, held), **fields)


def order(assignments: Sequence[Assignment]) -> list[int]:
    return [assignment.generation_id.int for assignment in assignments]


def given_to(
    candidates: Sequence[Candidate], capacities: Sequence[Capacity], in_flight: Mapping[int, int] | None = None
) -> dict[int, int]:
    """Generation -> Account, by their numbers."""
    return {one.generation_id.int: one.account_id.int for one in match(candidates, capacities, in_flight or {})}


class TestFreeSlots:
    """A slot is a number."""

    @pytest.mark.parametrize(
        ("limit", "held", "free"),
        [
            (3, [], [3, 2, 1]),
            (3, [1], [3, 2]),
            (3, [2], [3, 1]),
            (3, [1, 2, 3], []),
            (1, [], [1]),
            (2, [3], [1]),  # lowered from 3: one is still held, so one is free, not two
            (2, [3, 4], []),
            (2, [1, 5], []),
            (3, [5, 6], [1]),
            (2, [1, 2, 3, 4], []),
            (5, [4, 5], [3, 2, 1]),
            (0, [], []),
        ],
    )
    def test_are_the_lowest_that_nobody_holds(self, limit: int, held: list[int], free: list[int]) -> None:
        assert free_slots(limit, held) == free

    @pytest.mark.parametrize(("most", "free"), [(None, [3, 2, 1]), (5, [3, 2, 1]), (2, [2, 1]), (0, []), (-4, [])])
    def test_are_no_more_than_the_day_has_left(self, most: int | None, free: list[int]) -> None:
        assert free_slots(3, [], most) == free

    @given(
        limit=st.integers(0, 30),
        held=st.sets(st.integers(1, 40), max_size=30),
        most=st.none() | st.integers(-5, 40),
    )
    def test_never_exceed_the_limit(self, limit: int, held: set[int], most: int | None) -> None:
        free = free_slots(limit, held, most)

        unheld = max(0, limit - len(held))
        assert len(free) == (unheld if most is None else min(unheld, max(0, most)))
        assert not set(free) & held
        assert all(1 <= slot <= limit for slot in free)
        assert free == sorted(free, reverse=True)


class TestOrder:
    """Who is next."""

    def test_takes_the_oldest_of_one_user(self) -> None:
        assert order(match([wants(3), wants(1), wants(2)], [account(limit=2)], {})) == [1, 2]

    def test_takes_the_higher_priority_first(self) -> None:
        candidates = [wants(1, priority=0), wants(2, priority=9), wants(3, priority=5)]

        assert order(match(candidates, [account(limit=3)], {})) == [2, 3, 1]

    def test_takes_priority_before_fairness(self) -> None:
        candidates = [wants(1, ANN, 5), wants(2, BOB, 6)]

        assert order(match(candidates, [account(limit=1)], {BOB: 50})) == [2]

    def test_takes_fairness_before_age(self) -> None:
        assert order(match([wants(1, ANN), wants(2, BOB)], [account(limit=1)], {ANN: 1})) == [2]

    def test_takes_age_where_all_else_is_equal(self) -> None:
        assert order(match([wants(2, ANN), wants(1, BOB)], [account(limit=1)], {ANN: 1, BOB: 1})) == [1]

    def test_counts_what_it_gives_away(self) -> None:
        candidates = [wants(number, ANN) for number in range(1, 5)] + [wants(10, BOB), wants(11, BOB), wants(20, CY)]

        assert order(match(candidates, [account(limit=7)], {})) == [1, 10, 20, 2, 11, 3, 4]

    def test_lets_one_catch_up_who_has_fewer_in_flight(self) -> None:
        candidates = [wants(number, ANN) for number in range(1, 4)] + [wants(number, BOB) for number in range(10, 14)]

        assert order(match(candidates, [account(limit=4)], {ANN: 3})) == [10, 11, 12, 1]

    def test_lets_ten_thousand_of_one_hold_up_another_s_first_by_one_turn(self) -> None:
        candidates = [wants(number, ANN) for number in range(1, 10_001)] + [wants(20_000, BOB)]

        assert order(match(candidates, [account(limit=1)], {ANN: 1})) == [20_000]
        assert order(match(candidates, [account(limit=2)], {})) == [1, 20_000]

    def test_does_not_mix_what_has_another_priority(self) -> None:
        candidates = [wants(1, ANN, 9), wants(2, ANN, 9), wants(3, BOB, 1)]

        assert order(match(candidates, [account(limit=3)], {})) == [1, 2, 3]

    def test_carries_the_count_from_one_priority_to_the_next(self) -> None:
        candidates = [wants(1, ANN, 9), wants(2, ANN, 5), wants(3, BOB, 5)]

        assert order(match(candidates, [account(limit=2)], {})) == [1, 3]


class TestPassingOver:
    """One that cannot run hides nobody."""

    def test_passes_over_one_pinned_to_a_full_account(self) -> None:
        full, free = account(900, limit=1, held=[1]), account(901)

        assert given_to([wants(1, pinned=uid(900)), wants(2)], [full, free]) == {2: 901}

    def test_passes_over_one_pinned_to_an_account_that_is_not_there(self) -> None:
        assert given_to([wants(1, priority=9, pinned=uid(999)), wants(2)], [account()]) == {2: 900}

    def test_passes_over_one_that_every_free_account_refused(self) -> None:
        assert given_to([wants(1, excluded=frozenset({uid(900)})), wants(2)], [account()]) == {2: 900}

    def test_counts_nobody_who_was_passed_over(self) -> None:
        candidates = [wants(1, ANN, pinned=uid(999)), wants(2, ANN), wants(3, BOB)]

        assert order(match(candidates, [account(limit=1)], {})) == [2]

    def test_gives_nothing_without_a_free_slot(self) -> None:
        assert match([wants(1)], [account(limit=1, held=[1])], {}) == []
        assert match([wants(1)], [], {}) == []
        assert match([], [account()], {}) == []


class TestAccounts:
    """Which account."""

    def test_takes_the_pinned_one(self) -> None:
        better = account(901, priority=9)

        assert given_to([wants(1, pinned=uid(900))], [account(900), better]) == {1: 900}

    def test_gives_nobody_another_s_account(self) -> None:
        assert given_to([wants(1, ANN)], [account(owner_id=BOB)]) == {}
        assert given_to([wants(1, ANN, pinned=uid(900))], [account(900, owner_id=BOB)]) == {}

    def test_takes_the_own_one_before_a_shared_one(self) -> None:
        shared = account(900, priority=9)
        own = account(901, limit=2, held=[1], owner_id=ANN)

        assert given_to([wants(1), wants(2)], [shared, own]) == {1: 901, 2: 900}

    def test_takes_another_one_than_that_which_refused(self) -> None:
        candidates = [wants(1, excluded=frozenset({uid(900)}))]

        assert given_to(candidates, [account(900, priority=9), account(901)]) == {1: 901}

    def test_takes_no_pinned_one_that_refused(self) -> None:
        assert given_to([wants(1, pinned=uid(900), excluded=frozenset({uid(900)}))], [account()]) == {}

    def test_takes_the_higher_priority(self) -> None:
        assert given_to([wants(1)], [account(900, priority=1), account(901, limit=9, held=[1, 2], priority=2)]) == {
            1: 901
        }

    def test_takes_the_least_loaded(self) -> None:
        half, third = account(900, limit=2, held=[1]), account(901, limit=3, held=[1])

        assert given_to([wants(1)], [half, third]) == {1: 901}

    def test_spreads_as_it_goes(self) -> None:
        candidates = [wants(number) for number in range(1, 5)]

        found = given_to(candidates, [account(900, limit=4), account(901, limit=4)])

        assert Counter(found.values()) == {900: 2, 901: 2}

    def test_takes_the_least_recently_used(self) -> None:
        fresh = account(900, last_used_at=LONG_AGO + timedelta(days=1))
        stale = account(901, last_used_at=LONG_AGO)
        assert given_to([wants(1)], [fresh, stale]) == {1: 901}

        assert given_to([wants(1)], [account(900, last_used_at=LONG_AGO), account(901)]) == {1: 901}

    def test_takes_the_lowest_slot_and_notes_the_limit(self) -> None:
        (first, second) = match([wants(1), wants(2)], [account(limit=4, held=[2])], {})

        assert (first.slot, first.limit) == (1, 4)
        assert (second.slot, second.limit) == (3, 4)

    def test_tells_why(self) -> None:
        own = account(900, limit=2, held=[2], owner_id=ANN, priority=3)
        (assignment,) = match([wants(1)], [own, account(901)], {})

        assert assignment.choice == {"pinned": False, "own": True, "priority": 3, "held": 1, "limit": 2, "among": 2}

    def test_takes_the_slots_away_from_the_capacities(self) -> None:
        capacity = account(limit=3)
        match([wants(1), wants(2)], [capacity], {})

        assert (capacity.free, capacity.held) == ([3], 2)


class TestUserCaps:
    """Who has as many in flight as he may."""

    def test_gives_no_more_than_is_left(self) -> None:
        candidates = [wants(number, ANN) for number in range(1, 6)]

        assert order(match(candidates, [account(limit=5)], {}, {ANN: 2})) == [1, 2]

    def test_gives_nothing_where_nothing_is_left(self) -> None:
        assert match([wants(1, ANN, 9)], [account()], {}, {ANN: 0}) == []

    def test_leaves_the_slots_to_others(self) -> None:
        candidates = [wants(number, ANN, 9) for number in range(1, 6)] + [wants(10, BOB), wants(11, BOB)]

        assert order(match(candidates, [account(limit=3)], {}, {ANN: 1})) == [1, 10, 11]

    def test_carries_what_is_left_from_one_priority_to_the_next(self) -> None:
        candidates = [wants(1, ANN, 9), wants(2, ANN, 5), wants(3, ANN, 1), wants(4, BOB, 1)]

        assert order(match(candidates, [account(limit=4)], {}, {ANN: 2})) == [1, 2, 4]

    def test_counts_nobody_who_found_no_account(self) -> None:
        candidates = [wants(1, ANN, pinned=uid(999)), wants(2, ANN)]

        assert order(match(candidates, [account()], {}, {ANN: 1})) == [2]

    def test_says_what_is_left(self) -> None:
        allowances = {ANN: 3, BOB: 1}
        match([wants(1, ANN), wants(2, ANN), wants(3, CY)], [account()], {}, allowances)

        assert allowances == {ANN: 1, BOB: 1}

    def test_knows_no_cap_where_none_is_told(self) -> None:
        assert len(match([wants(number, CY) for number in range(1, 4)], [account()], {}, {ANN: 0})) == 3


IDS = st.sampled_from([uid(number) for number in (900, 901, 902)])
CANDIDATES = st.lists(
    st.builds(
        Candidate,
        generation_id=st.integers(1, 500).map(uid),
        user_id=st.sampled_from([ANN, BOB, CY]),
        priority=st.integers(0, 9),
        pinned=st.none() | IDS,
        excluded=st.frozensets(IDS, max_size=2),
    ),
    max_size=30,
    unique_by=lambda one: one.generation_id,
)


@st.composite
def accounts(draw: st.DrawFn) -> list[Capacity]:
    return [
        account(
            number,
            limit=draw(st.integers(1, 6)),
            held=sorted(draw(st.sets(st.integers(1, 8), max_size=6))),
            owner_id=draw(st.sampled_from([None, None, ANN, BOB])),
            priority=draw(st.integers(0, 3)),
        )
        for number in draw(st.sets(st.sampled_from([900, 901, 902])))
    ]


@given(
    candidates=CANDIDATES,
    capacities=accounts(),
    in_flight=st.dictionaries(st.sampled_from([ANN, BOB, CY]), st.integers(0, 9)),
    allowances=st.dictionaries(st.sampled_from([ANN, BOB, CY]), st.integers(0, 4)),
)
def test_keeps_every_promise(
    candidates: list[Candidate], capacities: list[Capacity], in_flight: dict[int, int], allowances: dict[int, int]
) -> None:
    allowed = dict(allowances)
    free = {capacity.account_id: set(capacity.free) for capacity in capacities}
    by_account = {capacity.account_id: capacity for capacity in capacities}
    by_id = {candidate.generation_id: candidate for candidate in candidates}

    assignments = match(candidates, capacities, in_flight, allowances)

    assert len({one.generation_id for one in assignments}) == len(assignments)
    got = Counter(by_id[one.generation_id].user_id for one in assignments)
    assert allowances == {user: most - got[user] for user, most in allowed.items()}
    assert all(left >= 0 for left in allowances.values())
    assert len({(one.account_id, one.slot) for one in assignments}) == len(assignments)
    for one in assignments:
        candidate, capacity = by_id[one.generation_id], by_account[one.account_id]
        assert one.slot in free[one.account_id]
        assert candidate.pinned in {None, one.account_id}
        assert one.account_id not in candidate.excluded
        assert capacity.owner_id in {None, candidate.user_id}
    priorities = [by_id[one.generation_id].priority for one in assignments]
    assert priorities == sorted(priorities, reverse=True)
    # Whoever got nothing could have been served by no slot that is left, or has as many as he may.
    for unserved in by_id.keys() - {one.generation_id for one in assignments}:
        waiting = by_id[unserved]
        assert allowances.get(waiting.user_id) == 0 or not any(
            capacity.free
            and waiting.pinned in {None, capacity.account_id}
            and capacity.account_id not in waiting.excluded
            and capacity.owner_id in {None, waiting.user_id}
            for capacity in capacities
        )


@given(
    waiting=st.dictionaries(st.sampled_from([ANN, BOB, CY]), st.integers(1, 12), min_size=1),
    in_flight=st.dictionaries(st.sampled_from([ANN, BOB, CY]), st.integers(0, 6)),
    limit=st.integers(1, 20),
)
def test_is_fair(waiting: dict[int, int], in_flight: dict[int, int], limit: int) -> None:
    candidates = [wants(user * 1000 + number, user) for user, count in waiting.items() for number in range(count)]

    assignments = match(candidates, [account(limit=limit)], in_flight)

    got = Counter(one.generation_id.int // 1000 for one in assignments)
    running = {user: in_flight.get(user, 0) + got[user] for user in waiting}
    for user, wished in waiting.items():
        if got[user] < wished:  # who still waits has no fewer than anybody that was served, but for one
            assert all(running[other] <= running[user] + 1 for other in waiting if got[other])
