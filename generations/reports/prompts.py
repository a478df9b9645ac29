"""Prompts: how often their versions were used and how that went, counted from Generations; and two side by side."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal
from uuid import UUID

from django.db.models import Count, Q

from generations.lifecycle import LIVE, Status
from generations.models import Generation, PromptVersion

_WORD = re.compile(r"\w+|\s+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Counts:
    """Of Generations: how many were made from a text, and how they ended."""

    uses: int = 0
    completed: int = 0
    failed: int = 0
    live: int = 0

    @property
    def success_rate(self) -> float | None:
        """How many of those that completed or failed have completed, 0 to 1; None before one has."""
        ended = self.completed + self.failed
        return round(self.completed / ended, 4) if ended else None


@dataclass(frozen=True, slots=True)
class Part:
    """A part of two texts' comparison: in both, or in one of them."""

    change: Literal["same", "removed", "added"]
    text: str


def of_versions(ids: Collection[UUID]) -> dict[UUID, Counts]:
    """The counts of each version, in one query."""
    return _counts("prompt_version", ids)


def of_prompts(ids: Collection[UUID]) -> dict[UUID, Counts]:
    """The counts of all versions of each prompt together, in one query."""
    return _counts("prompt_version__prompt", ids)


def newest_versions(ids: Collection[UUID]) -> dict[UUID, PromptVersion]:
    """The newest version of each prompt, in one query."""
    rows = PromptVersion.objects.filter(prompt__in=ids).select_related("prompt")
    return {row.prompt_id: row for row in rows.order_by("prompt", "-number").distinct("prompt")}


def newest_results(version_id: UUID, number: int) -> list[Generation]:
    """The newest completed Generations of a version."""
    rows = Generation.objects.filter(prompt_version=version_id, status=Status.COMPLETED)
    return list(rows.order_by("-pk")[:number])


def word_diff(before: str, after: str) -> list[Part]:
    """What was taken out of a text, and what was put in, word by word, in order."""
    old, new = _WORD.findall(before), _WORD.findall(after)
    parts: list[Part] = []
    for change, first, last, begin, end in SequenceMatcher(None, old, new).get_opcodes():
        if change == "equal":
            parts.append(Part("same", "".join(old[first:last])))
            continue
        if last > first:
            parts.append(Part("removed", "".join(old[first:last])))
        if end > begin:
            parts.append(Part("added", "".join(new[begin:end])))
    return parts


def _counts(by: str, ids: Collection[UUID]) -> dict[UUID, Counts]:
    found = {pk: Counts() for pk in ids}
    if not found:
        return found
    rows: Any = Generation.objects.filter(**{f"{by}__in": list(found)}).order_by().values_list(by)
    rows = rows.annotate(
        uses=Count("pk"),
        completed=Count("pk", filter=Q(status=Status.COMPLETED)),
        failed=Count("pk", filter=Q(status=Status.FAILED)),
        live=Count("pk", filter=Q(status__in=LIVE)),
    )
    return found | {pk: Counts(*numbers) for pk, *numbers in rows}
