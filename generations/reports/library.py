"""The library: how often items are used and liked, counted from rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from django.db.models import Count, Q

from generations.models import BatchItem, LibraryFavourite


@dataclass(frozen=True, slots=True)
class Counts:
    """In how many items of batches it was used, how many users like it, and whether this one does."""

    uses: int = 0
    favourites: int = 0
    favourite: bool = False


def counts(ids: Collection[int], user_id: int | None = None) -> dict[int, Counts]:
    """The counts of each item, in two queries. Everybody's uses and likings count."""
    found = {pk: Counts() for pk in ids}
    if not found:
        return found
    used = BatchItem.objects.filter(library_item__in=list(found)).order_by().values_list("library_item")
    for pk, uses in used.annotate(uses=Count("pk")):
        if pk is not None:
            found[pk] = replace(found[pk], uses=uses)
    liked = LibraryFavourite.objects.filter(item__in=list(found)).order_by().values_list("item")
    of_all, of_this = Count("pk"), Count("pk", filter=Q(user_id=user_id))
    for pk, number, own in liked.annotate(number=of_all, own=of_this):
        found[pk] = replace(found[pk], favourites=number, favourite=own > 0)
    return found
