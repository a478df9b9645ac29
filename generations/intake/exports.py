"""What people ask of exports: outputs in other formats, and one of them made anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from generations import formats
from generations.execution import exports
from generations.formats import Wanted
from generations.intake.errors import Conflict, Invalid, NotFound
from generations.models import Asset, Export

MOST_FORMATS = 30
MOST_EXPORTS = 1000
"""Of one request."""


def canonical_formats(given: Sequence[Any], *, field: str = "export_formats") -> list[dict[str, str]]:
    """Formats as they are stored: ``[{"format": ..., "fit": ..., "colour": ...}]``, each once, in their order.

    Each is given as a name, or as an object in which ``fit`` and ``colour`` may be left out.

    Raises:
        Invalid: ``invalid_format``; the field says which one.
    """
    return [wanted.as_dict() for wanted in _wanted(given, field)]


def ask(user_id: int, asset_ids: Sequence[UUID], given: Sequence[Any]) -> list[Export]:
    """Exports of these outputs in these formats, newest first. What is there already is not made again, unless it
    failed or its file has expired.

    Raises:
        Invalid: ``invalid_format``, ``too_many``; ``not_an_output``: an upload, or an export.
        NotFound: ``unknown_asset``: no such Asset of this user.
        Conflict: ``asset_expired``: the file was removed.
    """
    wanted = _wanted(given, "formats")
    ids = list(dict.fromkeys(asset_ids))
    if len(ids) * len(wanted) > MOST_EXPORTS:
        raise Invalid("too_many", f"At most {MOST_EXPORTS} exports are asked for at once.", field="assets")
    assets = {asset.pk: asset for asset in Asset.objects.of_user(user_id).filter(pk__in=ids)}
    for pk in ids:
        if pk not in assets:
            raise NotFound("unknown_asset", f"There is no asset {pk} of yours.", field="assets")
        if assets[pk].role != Asset.Role.OUTPUT:
            raise Invalid("not_an_output", f"{pk} is no result of a generation; only those can be.", field="assets")
        if assets[pk].expired_at:
            raise _expired(pk)
    rows = Export.objects.filter(asset__in=ids).filter(
        Q(*(Q(format=one.format, fit=one.fit, colour=one.colour) for one in wanted), _connector=Q.OR)
    )
    with transaction.atomic():
        exports.order((assets[pk], wanted) for pk in ids)
        exports.again(rows.filter(Q(state=Export.State.FAILED) | Q(result=None) | Q(result__expired_at__isnull=False)))
    return list(rows.with_files().order_by("-pk"))


def regenerate(export: Export) -> None:
    """Make it anew. What it gave before is given until then.

    Raises:
        Conflict: ``under_way``; ``asset_expired``: the original was removed.
    """
    if export.asset.expired_at:
        raise _expired(export.asset_id)
    if not exports.again(Export.objects.filter(pk=export.pk)):
        raise Conflict("under_way", "It is waiting to be made already.")


def _wanted(given: Sequence[Any], field: str) -> list[Wanted]:
    if len(given) > MOST_FORMATS:
        raise Invalid("invalid_format", f"At most {MOST_FORMATS} formats are taken at once.", field=field)
    found = []
    for index, one in enumerate(given):
        try:
            found.append(formats.canonical(one))
        except ValueError as error:
            message = str(error)
            raise Invalid("invalid_format", f"{message[:1].upper()}{message[1:]}.", field=f"{field}.{index}") from None
    return formats.distinct(found)


def _expired(asset_id: UUID) -> Conflict:
    return Conflict("asset_expired", f"The file of asset {asset_id} has expired and was removed.")
