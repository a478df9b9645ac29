"""What people say about their files: keep it, remove it."""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from generations.intake.errors import Conflict
from generations.models import Asset


def keep(asset: Asset, *, favourite: bool) -> None:
    """Keep a file, however old it gets, or keep it no longer.

    Raises:
        Conflict: ``asset_expired``: there is nothing to be kept any more.
    """
    rows = Asset.objects.filter(pk=asset.pk)
    if not (rows.kept() if favourite else rows).update(favourite=favourite):
        raise Conflict("asset_expired", "Its file has expired and was removed; there is nothing to keep.")
    asset.favourite = favourite


def remove_upload(asset: Asset) -> None:
    """Remove an upload that nothing is made from; cleanup removes its bytes, unless another Asset has the same.

    Raises:
        Conflict: ``not_an_upload``; ``asset_used``: a generation was made from it, or it is in the library.
    """
    if asset.role != Asset.Role.INPUT:
        raise Conflict("not_an_upload", "Only uploads can be removed; this is a result or an export.")
    used = Conflict("asset_used", "Generations were made from it, or it is a picture of the library; it stays.")
    try:
        with transaction.atomic():
            # Who begins to use it at this moment is waited for.
            Asset.objects.select_for_update().filter(pk=asset.pk).delete()
    except (ProtectedError, IntegrityError):
        raise used from None
