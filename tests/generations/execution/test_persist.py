"""Writing down what happened outside goes on whatever the database says."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from django.db import IntegrityError, InterfaceError, OperationalError

from generations.execution import persist
from generations.execution.persist import apart, patiently


def test_writes_all_together_when_nothing_is_wrong() -> None:
    written: list[list[int]] = []
    assert apart(lambda some: written.append(list(some)), [1, 2, 3]) == []
    assert written == [[1, 2, 3]]


def test_writes_nothing_for_nothing() -> None:
    written: list[list[int]] = []
    assert apart(lambda some: written.append(list(some)), []) == []
    assert written == []


def test_writes_the_others_and_names_the_bad_one() -> None:
    written: list[int] = []

    def write(some: Sequence[int]) -> None:
        if 2 in some:
            raise IntegrityError("twice")
        written.extend(some)

    [(bad, reason)] = apart(write, [1, 2, 3])
    assert (bad, type(reason), written) == (2, IntegrityError, [1, 3])


def test_blames_no_row_for_a_database_that_is_away() -> None:
    def write(some: Sequence[int]) -> None:
        raise OperationalError("gone")

    with pytest.raises(OperationalError):
        apart(write, [1, 2])


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_waits_for_a_database_that_comes_back(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(persist, "close_old_connections", lambda: None)
    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    tries: list[int] = []

    @patiently
    def write() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise error("gone")
        return "written"

    assert write() == "written"
    assert len(slept) == 2


def test_does_not_repeat_what_is_wrong_in_itself() -> None:
    tries: list[int] = []

    @patiently
    def write() -> None:
        tries.append(1)
        raise IntegrityError("twice")

    with pytest.raises(IntegrityError):
        write()
    assert len(tries) == 1
