"""What a row of the bench says."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One goal and what was seen. ``ratio`` is the median over interleaved pairs; ``figures`` are of the last pair."""

    id: str
    what: str
    goal: str
    reached: bool
    ratio: float | None
    figures: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def median_ratio(pairs: list[tuple[float, float]]) -> float:
    """The median of ours / theirs over the pairs."""
    return median(ours / theirs for ours, theirs in pairs)
