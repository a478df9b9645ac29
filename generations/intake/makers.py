"""Which Generation a file came of: the parent of what is made from it, where a request names none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from generations.intake.inputs import ResolvedInput
from generations.models import Asset, Export, Submission


def makers(user_id: int, inputs: Iterable[ResolvedInput]) -> dict[UUID, UUID]:
    """The Generation of this user's that each of these files is a result of, or an export of one: ids by the Asset's.

    At most two queries, and none for uploads.
    """
    results: dict[UUID, UUID] = {}
    exports: set[UUID] = set()
    for one in inputs:
        if one.asset.submission_id is not None:
            results[one.asset.pk] = one.asset.submission_id
        elif one.asset.role == Asset.Role.EXPORT:
            exports.add(one.asset.pk)
    found: dict[UUID, UUID] = {}
    if results:
        own = Submission.objects.filter(pk__in=results.values(), generation__user_id=user_id)
        made_by = dict(own.values_list("pk", "generation_id"))
        found = {asset: made_by[submission] for asset, submission in results.items() if submission in made_by}
    if exports:
        made = Export.objects.of_user(user_id).filter(result__in=exports, asset__submission__isnull=False)
        found.update(made.values_list("result", "asset__submission__generation"))
    return found


def parent_of(inputs: Sequence[ResolvedInput], made_by: Mapping[UUID, UUID]) -> UUID | None:
    """What the first of these inputs that is a result came of."""
    return next((made_by[one.asset.pk] for one in inputs if one.asset.pk in made_by), None)
