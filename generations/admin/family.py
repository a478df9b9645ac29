"""A Generation's family as a tree to look at: what it was made from, and what came of it, with pictures."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.urls import reverse
from django.utils.safestring import SafeString

from accounts.admin.words import label
from generations.admin.history import picture_of, short
from generations.admin.rows import STATUS_TONES
from generations.lifecycle import Status
from generations.models import Generation
from generations.reports.lineage import Relative, lineage

DEEPEST_INDENT = 12


@dataclass(frozen=True, slots=True)
class Branch:
    """One line of the tree. ``indent``: how far to the right it stands; ``how``: what it is of the one above it."""

    url: str
    indent: int
    picture: SafeString | str
    words: str
    how: str
    status: SafeString
    id: str
    is_this: bool


def family(generation: Generation) -> dict[str, Any] | None:
    """``branches`` from the root on, and whether the family is larger; None: it has none."""
    found = lineage(generation)
    if len(found.relatives) == 1:
        return None
    below: dict[UUID | None, list[Relative]] = defaultdict(list)
    for one in found.relatives:
        below[one.came_from].append(one)
    branches = []
    left = [(one, 0) for one in reversed(below[None])]
    while left:
        one, indent = left.pop()
        branches.append(_branch(one, indent, generation))
        left += [(child, indent + 1) for child in reversed(below[one.generation.pk])]
    return {"branches": branches, "truncated": found.truncated}


def _branch(one: Relative, indent: int, here: Generation) -> Branch:
    row = one.generation
    status = Status(row.status)
    return Branch(
        url=reverse("admin:generations_generation_change", args=[row.pk]),
        indent=min(indent, DEEPEST_INDENT),
        picture=picture_of(one.picture) if one.picture else "",
        words=row.prompt or "(no prompt)",
        how=_how(one),
        status=label(row.get_status_display(), STATUS_TONES[status]),
        id=short(row.pk),
        is_this=row.pk == here.pk,
    )


def _how(one: Relative) -> str:
    row = one.generation
    retried = row.retry_of_id is not None and row.retry_of_id == one.came_from
    return "retry" if retried else row.get_operation_type_display()
