"""Which states exist, and what may follow what."""

from __future__ import annotations

import inspect
from itertools import pairwise

import pytest

from generations.lifecycle import (
    BILLABLE,
    ENDED,
    HOLDS_SLOT,
    LIVE,
    MAKES_IMAGE,
    OPEN,
    TERMINAL,
    TRANSITIONS,
    Operation,
    State,
    Status,
)


def reachable(start: State) -> set[State]:
    found: set[State] = set()
    front = {start}
    while front:
        front = {later for state in front for later in TRANSITIONS.get(state, frozenset())} - found
        found |= front
    return found


def test_divides_statuses_in_two() -> None:
    assert set(Status) == LIVE | ENDED
    assert not LIVE & ENDED


def test_divides_states_in_two() -> None:
    assert set(State) == OPEN | TERMINAL
    assert not OPEN & TERMINAL


def test_holds_a_slot_until_the_provider_is_done() -> None:
    assert {State.RESERVED, State.SENDING, State.UNKNOWN, State.ACCEPTED} == HOLDS_SLOT


def test_may_be_billed_from_the_call_until_the_end() -> None:
    assert OPEN - {State.RESERVED} == BILLABLE


def test_leaves_no_terminal_state() -> None:
    assert set(TRANSITIONS) == OPEN


@pytest.mark.parametrize("state", sorted(OPEN))
def test_ends_from_every_open_state(state: State) -> None:
    assert reachable(state) >= TERMINAL


def test_reaches_every_state_from_the_first() -> None:
    assert reachable(State.RESERVED) == set(State) - {State.RESERVED}


@pytest.mark.parametrize("state", sorted(OPEN))
def test_never_comes_back(state: State) -> None:
    assert state not in reachable(state)


@pytest.mark.parametrize("state", sorted(OPEN))
def test_can_fail_and_be_cancelled_whenever_open(state: State) -> None:
    assert {State.FAILED, State.CANCELLED} <= TRANSITIONS[state]


def test_succeeds_only_when_the_result_was_collected() -> None:
    assert {state for state, next_ones in TRANSITIONS.items() if State.SUCCEEDED in next_ones} == {State.COLLECTING}


def test_sends_nothing_but_what_was_reserved() -> None:
    assert {state for state, next_ones in TRANSITIONS.items() if State.SENDING in next_ones} == {State.RESERVED}


def test_walks_the_ordinary_way() -> None:
    way = [State.RESERVED, State.SENDING, State.ACCEPTED, State.COLLECTING, State.SUCCEEDED]

    assert all(later in TRANSITIONS[earlier] for earlier, later in pairwise(way))


def test_never_takes_a_slot_back_once_it_was_given_back() -> None:
    for state in set(State) - HOLDS_SLOT:
        assert not reachable(state) & HOLDS_SLOT


@pytest.mark.parametrize(("choices", "words"), [(Status, Status), (State, State)])
def test_says_of_each_what_it_means(choices: type[Status | State], words: type[Status | State]) -> None:
    text = inspect.getdoc(choices) or ""

    assert [word.value for word in words if f"``{word.value}``" not in text] == []


def test_knows_which_operations_make_pictures() -> None:
    assert {operation for operation in Operation if operation.value.endswith("_to_image")} == MAKES_IMAGE
