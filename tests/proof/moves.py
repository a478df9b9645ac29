"""Choosing the next move: among those that are possible now, by their weights.

Hypothesis' own choice among rules switches about half of them off in each example, which is good for finding what one
actor does alone, and hopeless where seven must move one after the other before there is anything to break. So there
is one rule, and the moves are its argument; an example still prints, and shrinks, move by move.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st


@dataclass(frozen=True, repr=False)
class Move:
    """A move with all that was drawn for it."""

    name: str
    arguments: dict[str, Any]

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in self.arguments.items())})"


CANDIDATES = 5


@dataclass(frozen=True)
class Kind:
    """What may be drawn for a move, when it is possible, and how often it comes beside the others."""

    name: str
    weight: int
    possible: Callable[[Any], object]
    drawn: st.SearchStrategy[Move]


def move(
    weight: int = 1, *, when: Callable[[Any], object] = lambda _: True, **arguments: st.SearchStrategy[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorates a method that is a move; ``arguments`` are drawn for it, ``when`` says whether it is possible."""

    def decorate(method: Callable[..., None]) -> Callable[..., None]:
        name = method.__name__
        drawn = st.fixed_dictionaries(arguments).map(lambda values: Move(name, values))
        method.kind = Kind(name, weight, when, drawn)  # type: ignore[attr-defined]
        return method

    return decorate


def kinds_of(machine: type) -> list[Kind]:
    """The moves of a machine, in the order of their names."""
    methods = (getattr(machine, name) for name in dir(machine))
    return [method.kind for method in methods if isinstance(getattr(method, "kind", None), Kind)]


def candidates(machine: type) -> st.SearchStrategy[list[Move]]:
    """Some moves, of which the first that is possible is made.

    What is drawn depends on nothing that has happened: ids and threads differ from one run to the next, and Hypothesis
    must be able to draw the same again.
    """
    weighted: Sequence[Kind] = [kind for kind in kinds_of(machine) for _ in range(kind.weight)]
    one: st.SearchStrategy[Move] = st.sampled_from(weighted).flatmap(lambda kind: kind.drawn)
    return st.lists(one, min_size=CANDIDATES, max_size=CANDIDATES)
