"""Results that are past their age: their bytes are given up, their rows stay and say so.

What people want to keep, or something still needs, stays: favourites, pictures of the library, takes that scenes
show, inputs of what has not ended, and originals of exports that wait to be made. An expired file is out of
reach at once; cleanup removes its bytes unless another row has the same.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef, ProtectedError, QuerySet
from django.db.models.functions import Now

from generations.conf import limits
from generations.execution import process, settle
from generations.lifecycle import LIVE, Status
from generations.models import Asset, Event, Export, Generation, GenerationInput, LibraryItem
from generations.models.clock import database_now

CHUNK = 200


def expire(age: timedelta, *, dry_run: bool) -> int:
    """Expire results and exports older than ``age``; how many."""
    rows = _past(age)
    if dry_run:
        return rows.count()
    total = 0
    while True:
        found = _of(rows.order_by("created_at")[:CHUNK])
        number = _expire(rows, found) if found else 0
        total += number
        if not number:
            return total  # or somebody holds all of them at this moment: they are the next run's


def remove_lone_exports(*, dry_run: bool) -> int:
    """Remove exports' files of which no export knows any more (it was made anew, or went with its original).

    Links to them may have been given out lately, so that they stay for ``limits().orphan_hours``.
    """
    rows = _lone_exports()
    if dry_run:
        return rows.count()
    total, held = 0, set[UUID]()
    while ids := list(rows.exclude(pk__in=held).values_list("pk", flat=True)[:CHUNK]):
        for pk in ids:
            try:
                with transaction.atomic():
                    total += bool(rows.filter(pk=pk).delete()[0])
            except ProtectedError:  # it has been put to use
                pass
            held.add(pk)
    return total


def _past(age: timedelta) -> QuerySet[Asset]:
    me = OuterRef("pk")
    return (
        Asset.objects.kept()
        .filter(role__in=[Asset.Role.OUTPUT, Asset.Role.EXPORT], favourite=False, created_at__lt=database_now() - age)
        .exclude(Exists(GenerationInput.objects.filter(asset=me, generation__status__in=LIVE)))
        .exclude(Exists(LibraryItem.objects.filter(picture=me)))
        .exclude(Exists(Generation.objects.shown_in_scenes().filter(pk=OuterRef("submission__generation"))))
        .exclude(Exists(Export.objects.filter(asset=me, state=Export.State.PENDING)))
    )


@transaction.atomic
def _expire(rows: QuerySet[Asset], candidates: dict[UUID, UUID | None]) -> int:
    """Those of the candidates that nobody holds, with what follows for the Generations that they are results of."""
    settle.lock(pk for pk in candidates.values() if pk is not None)
    found = _of(rows.select_for_update(skip_locked=True, no_key=True, of=("self",)).filter(pk__in=candidates))
    Asset.objects.filter(pk__in=found).update(expired_at=Now())
    results_of = {pk for pk in found.values() if pk is not None}
    # A request whose answer has no files is made anew when it comes again.
    Generation.objects.filter(pk__in=results_of, status=Status.COMPLETED).update(active_fingerprint=None)
    told = Event.objects.filter(generation__in=results_of, kind=Event.Kind.FILES_REMOVED)
    Event.objects.bulk_create(
        Event(generation_id=pk, kind=Event.Kind.FILES_REMOVED, actor=process.actor())
        for pk in results_of - set(told.values_list("generation", flat=True))
    )
    return len(found)


def _of(rows: QuerySet[Asset]) -> dict[UUID, UUID | None]:
    """The Generations that these are results of, by their ids; None for an export."""
    return dict(rows.values_list("pk", "submission__generation"))


def _lone_exports() -> QuerySet[Asset]:
    me = OuterRef("pk")
    return (
        Asset.objects.filter(
            role=Asset.Role.EXPORT,
            favourite=False,
            created_at__lt=database_now() - timedelta(hours=limits().orphan_hours),
        )
        .exclude(Exists(Export.objects.filter(result=me)))
        .exclude(Exists(Export.objects.filter(poster=me)))
        .exclude(Exists(GenerationInput.objects.filter(asset=me)))
        .exclude(Exists(LibraryItem.objects.filter(picture=me)))
    )
