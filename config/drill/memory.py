"""Whether the processes grow: the largest process of each program, after it has warmed up and at the end."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import psutil

MEGABYTE = 2**20
WATCHED = ("web", "worker-")


@dataclass(slots=True)
class Size:
    """MiB of the largest process of one program: after the warm-up, at the end, and the most ever seen."""

    warm: float
    end: float
    most: float

    @property
    def growth(self) -> float:
        """MiB from the warm-up to the end."""
        return self.end - self.warm

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {name: round(value, 1) for name, value in {**asdict(self), "growth": self.growth}.items()}


class Scales:
    """Weighs the programs again and again."""

    def __init__(self) -> None:
        self.sizes: dict[str, Size] = {}

    def weigh(self, pids: Mapping[str, int], *, warming_up: bool) -> None:
        """Once; a program that is just being started again is left out."""
        for name, pid in pids.items():
            if not name.startswith(WATCHED):
                continue
            found = _largest(pid)
            if not found:
                continue
            size = self.sizes.setdefault(name, Size(found, found, found))
            size.warm = max(size.warm, found) if warming_up else size.warm
            size.end, size.most = found, max(size.most, found)


def _largest(pid: int) -> float:
    sizes = [0.0]
    with suppress(psutil.NoSuchProcess):
        main = psutil.Process(pid)
        for process in [main, *main.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                sizes.append(process.memory_info().rss / MEGABYTE)
    return max(sizes)
