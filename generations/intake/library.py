"""The library: items that people keep to make Generations from, their own or shared ones, and their liking of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import PurePosixPath
from typing import BinaryIO, TypedDict
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from generations.intake.errors import Invalid, NotFound
from generations.intake.inputs import store_upload
from generations.intake.prompts import LONGEST_TEXT
from generations.models import Asset, LibraryFavourite, LibraryItem

LONGEST_NAME = 120
LONGEST_CATEGORY = 60
LONGEST_TAG = 40
MOST_TAGS = 20


class Fields(TypedDict, total=False):
    """What an item is to be; what is left out stays as it is. ``picture_id``: an Asset of whoever says so, or none."""

    name: str
    category: str
    prompt: str
    tags: Sequence[str]
    picture_id: UUID | None


def usable(user_id: int, ids: Collection[int], *, lock: bool = False) -> dict[int, LibraryItem]:
    """Of these items those that the user may use, his own and shared ones, with their pictures; one query.

    A shared item's picture is another user's Asset; it may be an input of this user's Generations all the same.

    Args:
        lock: inside the caller's transaction: until its end they stay as they are, and are not deleted.
    """
    rows = LibraryItem.objects.visible_to(user_id).filter(pk__in=ids).select_related("picture").order_by("pk")
    if lock:
        rows = rows.select_for_update(of=("self",), no_key=True)
    return {row.pk: row for row in rows}


def add(owner_id: int | None, fields: Fields, *, by: int) -> LibraryItem:
    """A new item of this user's, or with None a shared one. ``by``: whose Assets may be its picture.

    Raises:
        Invalid, NotFound: nothing was kept.
    """
    with transaction.atomic():
        row = LibraryItem(owner_id=owner_id)
        _apply(row, fields, by)
        row.save()
    return row


def change(item_id: int, owner_id: int | None, fields: Fields, *, by: int) -> LibraryItem:
    """Change an item of this user's, or with None a shared one; batches that used it stay as they are.

    Raises:
        Invalid, NotFound: nothing was changed.
    """
    with transaction.atomic():
        row = _locked(item_id, owner_id)
        _apply(row, fields, by)
        row.updated_at = Now()
        row.save(update_fields=["name", "category", "prompt", "tags", "picture", "updated_at"])
    row.refresh_from_db()
    return row


def remove(item_id: int, owner_id: int | None) -> None:
    """Delete an item. Batches that used it stay, and its picture stays an Asset of whoever uploaded it.

    Raises:
        NotFound: there is none.
    """
    with transaction.atomic():
        _locked(item_id, owner_id).delete()


def upload(
    owner_id: int | None, file: BinaryIO, *, file_name: str, category: str, tags: Sequence[str], by: int
) -> LibraryItem:
    """A new item of an uploaded picture, named as the file is.

    Raises:
        Invalid: it is no picture that can be used.
        Conflict, Unavailable: as ``store_upload``.
    """
    asset = store_upload(by, file, name=file_name, only="image")
    name = PurePosixPath(file_name).stem.replace("_", " ").strip()[:LONGEST_NAME].strip()
    fields: Fields = {"name": name or "picture", "category": category, "tags": tags, "picture_id": asset.pk}
    return add(owner_id, fields, by=by)


def like(user_id: int, item_id: int, *, liked: bool) -> LibraryItem:
    """Make an item this user's favourite, or no longer; doing so twice changes nothing.

    Raises:
        NotFound: there is none that he may use.
    """
    with transaction.atomic():
        # Nobody deletes it meanwhile.
        item = usable(user_id, [item_id], lock=True).get(item_id)
        if item is None:
            raise _gone()
        if liked:
            LibraryFavourite.objects.bulk_create([LibraryFavourite(user_id=user_id, item=item)], ignore_conflicts=True)
        else:
            LibraryFavourite.objects.filter(user_id=user_id, item=item).delete()
    return item


def downloaded(user_id: int, item_id: int) -> Asset:
    """The picture of an item, for somebody who takes it away: counted.

    Raises:
        NotFound: there is no such item that he may use, or it has no picture.
    """
    item = usable(user_id, [item_id]).get(item_id)
    if item is None:
        raise _gone()
    if item.picture is None:
        raise NotFound("no_picture", "This item has no picture.")
    LibraryItem.objects.filter(pk=item_id).update(downloads=F("downloads") + 1)
    return item.picture


def clean_tags(given: Sequence[str]) -> list[str]:
    """Tags as they are kept: in small letters, each once, in the given order.

    Raises:
        Invalid: too many, or one is too long.
    """
    tags = list(dict.fromkeys(tag for text in given if (tag := " ".join(text.lower().split()))))
    if len(tags) > MOST_TAGS or any(len(tag) > LONGEST_TAG for tag in tags):
        raise Invalid("invalid_tags", f"At most {MOST_TAGS} tags of at most {LONGEST_TAG} characters.", field="tags")
    return tags


def _apply(row: LibraryItem, fields: Fields, by: int) -> None:
    """Check the fields and put them into the row; inside a transaction, which keeps the picture from being deleted."""
    if "name" in fields:
        row.name = _words(fields["name"], LONGEST_NAME, "name")
    if "category" in fields:
        row.category = _words(fields["category"], LONGEST_CATEGORY, "category")
    if "prompt" in fields:
        row.prompt = fields["prompt"].strip()
        if len(row.prompt) > LONGEST_TEXT:
            raise Invalid("invalid_prompt", f"A prompt has at most {LONGEST_TEXT} characters.", field="prompt")
    if "tags" in fields:
        row.tags = clean_tags(fields["tags"])
    if "picture_id" in fields:
        row.picture = _picture(fields["picture_id"], by)
    if row.picture_id is None and not row.prompt:
        raise Invalid("nothing_to_use", "An item needs a picture, a prompt, or both.", field="prompt")


def _words(text: str, longest: int, field: str) -> str:
    words = " ".join(text.split())
    if not 1 <= len(words) <= longest:
        raise Invalid(f"invalid_{field}", f"The {field} must have 1 to {longest} characters.", field=field)
    return words


def _picture(asset_id: UUID | None, by: int) -> Asset | None:
    if asset_id is None:
        return None
    asset = Asset.objects.of_user(by).filter(pk=asset_id).select_for_update(no_key=True).first()
    if asset is None:
        raise NotFound("unknown_asset", f"There is no asset {asset_id} of yours.", field="picture")
    if asset.expired_at:
        raise Invalid("asset_expired", f"The file of asset {asset_id} has expired and was removed.", field="picture")
    if asset.kind != "image":
        raise Invalid("not_a_picture", f"It must be a picture; this is {asset.mime_type}.", field="picture")
    return asset


def _locked(item_id: int, owner_id: int | None) -> LibraryItem:
    own = LibraryItem.objects.shared() if owner_id is None else LibraryItem.objects.of_user(owner_id)
    row = own.filter(pk=item_id).select_for_update(no_key=True).first()
    if row is None:
        raise _gone()
    return row


def _gone() -> NotFound:
    return NotFound("unknown_library_item", "There is no such library item that you may use.")
