"""Where a Generation comes from and what came of it: its ancestors and descendants by ``parent`` and ``retry_of``.

A retry comes from what it is a retry of (whose parent it has too), all else from its parent: a tree. One recursive
query walks it in both directions, breadth first. It ends whatever the rows say (a circle included), as it goes no
further than ``DEEPEST`` steps, and it reads no more than ``LARGEST`` of them in either direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db import connection

from generations.models import Asset, Generation
from generations.reports.pictures import first_results

DEEPEST = 50
LARGEST = 200

WALK = """
WITH RECURSIVE up (id, origin, depth) AS (
    SELECT id, coalesce(retry_of_id, parent_id), 0 FROM generations_generation
     WHERE id = %(id)s AND user_id = %(user)s
     UNION ALL
    SELECT g.id, coalesce(g.retry_of_id, g.parent_id), up.depth + 1
      FROM up JOIN generations_generation g ON g.id = up.origin
     WHERE g.user_id = %(user)s AND up.depth < %(deepest)s
), down (id, depth) AS (
    SELECT id, 0 FROM generations_generation WHERE id = %(id)s AND user_id = %(user)s
     UNION ALL
    SELECT made.id, down.depth + 1
      FROM down CROSS JOIN LATERAL (
               SELECT id FROM generations_generation WHERE retry_of_id = down.id AND user_id = %(user)s
                UNION ALL
               SELECT id FROM generations_generation
                WHERE parent_id = down.id AND retry_of_id IS NULL AND user_id = %(user)s
           ) made
     WHERE down.depth < %(deepest)s
)
(SELECT id, -depth FROM up WHERE depth > 0 LIMIT %(most)s)
 UNION ALL
(SELECT id, depth FROM down WHERE depth > 0 LIMIT %(most)s)
"""


@dataclass(frozen=True, slots=True)
class Relative:
    """One of a family. ``depth``: steps from the one that was asked about; below 0 an ancestor, above a descendant.

    ``came_from``: what it is a retry of, else its parent; None where that is not told of. ``picture``: its first
    result.
    """

    generation: Generation
    depth: int
    came_from: UUID | None
    picture: Asset | None


@dataclass(frozen=True, slots=True)
class Lineage:
    """``relatives`` with the one itself, oldest first. ``truncated``: there may be more than is told."""

    relatives: list[Relative]
    truncated: bool


def lineage(generation: Generation) -> Lineage:
    """The family of a Generation: own rows of its user only. Three queries."""
    found, truncated = _walk(generation)
    depths = {generation.pk: 0}
    for pk, depth in sorted(found, key=lambda row: abs(row[1])):
        depths.setdefault(pk, depth)
    rows = Generation.objects.filter(pk__in=depths).defer("raw_params", "context", "metadata").order_by("pk")
    pictures = first_results(depths)
    return Lineage(
        [Relative(row, depths[row.pk], _came_from(row, depths), pictures.get(row.pk)) for row in rows],
        truncated,
    )


def _walk(generation: Generation) -> tuple[list[tuple[UUID, int]], bool]:
    """(id, depth) of each relative, and whether there may be more."""
    values: dict[str, UUID | int] = {
        "id": generation.pk,
        "user": generation.user_id,
        "deepest": DEEPEST,
        "most": LARGEST + 1,
    }
    with connection.cursor() as cursor:
        cursor.execute(WALK, values)
        found: list[tuple[UUID, int]] = cursor.fetchall()
    ups, downs = [row for row in found if row[1] < 0], [row for row in found if row[1] > 0]
    truncated = any(len(rows) > LARGEST or any(abs(depth) == DEEPEST for _, depth in rows) for rows in (ups, downs))
    return ups[:LARGEST] + downs[:LARGEST], truncated


def _came_from(row: Generation, told: dict[UUID, int]) -> UUID | None:
    origin = row.retry_of_id or row.parent_id
    return origin if origin in told else None
