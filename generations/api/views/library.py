"""The library: one's own items and the shared ones, favourites, and the upload of several pictures at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO, cast

from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet
from django.http import QueryDict
from django.shortcuts import get_object_or_404
from rest_framework.parsers import JSONParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from generations.api import body, docs_library, query, requests, upload
from generations.api.answers_library import LibraryItemAnswer, LibraryPage, UploadAnswer, UploadError, UploadResult
from generations.api.problems import Problem
from generations.api.requests_library import LibraryItemChange, LibraryItemRequest, UploadFields
from generations.api.views.base import ApiView, answer, caller, here, plain
from generations.conf import limits
from generations.intake import library
from generations.intake.errors import Invalid, Refusal
from generations.intake.library import LONGEST_CATEGORY, LONGEST_TAG
from generations.models import LibraryItem
from generations.reports import representation
from generations.reports.library import Counts, counts
from generations.signing import content_url

PATH = "/api/v1/library"
MOST_FILES = 50
LONGEST_FILE_NAME = 200


class LibraryListView(ApiView):
    """Keep an item; list what one may use."""

    query_names = query.PAGING | {"q", "category", "tag", "owner", "favourite"}

    @docs_library.list_library
    def get(self, given: Request) -> Response:
        """A page of the caller's items and shared ones, newest first."""
        http, user = plain(given), caller(given)
        found, links = query.page(http, _filtered(http.GET, user.pk), scope=f"library of {user.pk}")
        return answer(LibraryPage.of(results=_items(given, found), **links))

    @docs_library.create_library_item
    def post(self, given: Request) -> Response:
        """201 with the item."""
        wanted = requests.read(LibraryItemRequest, body.json_object(plain(given)))
        user = caller(given)
        row = library.add(user.pk, wanted.to_intake(), by=user.pk)
        return _told(given, row.pk, 201, Location=f"{here(given)}{PATH}/{row.pk}")


class LibraryUploadView(ApiView):
    """Several pictures at once."""

    parser_classes = [MultiPartParser]

    @docs_library.upload_library
    def post(self, given: Request) -> Response:
        """201 with what became of each file.

        Raises:
            Problem: no file became an item.
            Refusal: no file did, as our own storage could not take them.
        """
        files, wanted = _form(given)
        user = caller(given)
        made: dict[int, int] = {}
        refused: dict[int, Refusal] = {}
        for index, file in enumerate(files):
            try:
                row = library.upload(
                    user.pk,
                    cast("BinaryIO", file),
                    file_name=_name(file),
                    category=wanted.category,
                    tags=wanted.tags,
                    by=user.pk,
                )
                made[index] = row.pk
            except Refusal as error:
                refused[index] = error
        if not made:
            raise _nothing_made(list(refused.values()))
        rows = LibraryItem.objects.of_user(user.pk).filter(pk__in=made.values()).select_related("picture")
        told = {item.id: item for item in _items(given, list(rows))}
        results = [
            UploadResult.of(file=_name(file), item=told.get(made.get(index, 0)), error=_error(refused.get(index)))
            for index, file in enumerate(files)
        ]
        return answer(UploadAnswer.of(created=len(made), results=results), 201)


class LibraryItemView(ApiView):
    """One item."""

    @docs_library.get_library_item
    def get(self, given: Request, item_id: int) -> Response:
        """As it is."""
        return _told(given, item_id)

    @docs_library.change_library_item
    def patch(self, given: Request, item_id: int) -> Response:
        """As it is now."""
        wanted = requests.read(LibraryItemChange, body.json_object(plain(given)))
        user = caller(given)
        row = _own(given, item_id)
        library.change(row.pk, user.pk, wanted.to_intake(), by=user.pk)
        return _told(given, row.pk)

    @docs_library.remove_library_item
    def delete(self, given: Request, item_id: int) -> Response:
        """204: it is gone; batches that used it stay."""
        library.remove(_own(given, item_id).pk, caller(given).pk)
        return Response(status=204)


class FavouriteView(ApiView):
    """One's liking of an item."""

    parser_classes = [JSONParser]

    @docs_library.like_library_item
    def put(self, given: Request, item_id: int) -> Response:
        """200 with the item, which is a favourite now."""
        requests.read(requests.Body, body.json_object(plain(given), optional=True))
        return self._liked(given, item_id, liked=True)

    @docs_library.unlike_library_item
    def delete(self, given: Request, item_id: int) -> Response:
        """200 with the item, which is none any more."""
        return self._liked(given, item_id, liked=False)

    def _liked(self, given: Request, item_id: int, *, liked: bool) -> Response:
        row = _visible(given, item_id)
        library.like(caller(given).pk, row.pk, liked=liked)
        return _told(given, row.pk)


class DownloadView(ApiView):
    """An item's picture, taken away."""

    @docs_library.download_library_item
    def get(self, given: Request, item_id: int) -> Response:
        """302 to its bytes, and counted."""
        picture = library.downloaded(caller(given).pk, _visible(given, item_id).pk)
        where = here(given) + content_url(picture)
        return Response(status=302, headers={"Location": where, "Cache-Control": "no-store"})


def _filtered(given: QueryDict, user_id: int) -> QuerySet[LibraryItem]:
    rows = LibraryItem.objects.visible_to(user_id)
    owners = set(query.choices(given, "owner", ["mine", "shared"]))
    if owners == {"mine"}:
        rows = rows.of_user(user_id)
    elif owners == {"shared"}:
        rows = rows.shared()
    if query.choices(given, "favourite", ["true"]):
        rows = rows.liked_by(user_id)
    if category := query.text(given, "category", longest=LONGEST_CATEGORY):
        rows = rows.filter(category=category)
    if tags := library.clean_tags(query.texts(given, "tag", longest=LONGEST_TAG)):
        rows = rows.tagged(tags)
    if words := query.text(given, "q"):
        rows = rows.matching(words)
    return rows.select_related("picture")


def _visible(given: Request, item_id: int) -> LibraryItem:
    """An item that the caller may use; another is as good as none."""
    return get_object_or_404(LibraryItem.objects.visible_to(caller(given).pk).select_related("picture"), pk=item_id)


def _own(given: Request, item_id: int) -> LibraryItem:
    """An item that the caller may change.

    Raises:
        Problem: 403, it is shared.
    """
    row = _visible(given, item_id)
    if row.owner_id is None:
        raise Problem(403, "shared_item", "It is shared by all users: the operators change it, in the console.")
    return row


def _told(given: Request, item_id: int, status: int = 200, **headers: str) -> Response:
    [told] = _items(given, [_visible(given, item_id)])
    return answer(told, status, **headers)


def _items(given: Request, rows: Sequence[LibraryItem]) -> list[LibraryItemAnswer]:
    """Two queries beside their own."""
    numbers = counts([row.pk for row in rows], caller(given).pk)
    return [_item(here(given), row, numbers[row.pk]) for row in rows]


def _item(where: str, row: LibraryItem, numbers: Counts) -> LibraryItemAnswer:
    return LibraryItemAnswer.of(
        id=row.pk,
        shared=row.owner_id is None,
        name=row.name,
        category=row.category,
        prompt=row.prompt,
        tags=row.tags,
        picture=representation.asset(where, row.picture) if row.picture else None,
        favourite=numbers.favourite,
        favourites=numbers.favourites,
        uses=numbers.uses,
        downloads=row.downloads,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _form(given: Request) -> tuple[list[UploadedFile[bytes]], UploadFields]:
    """The parts named ``files``, and what they have in common.

    Raises:
        Problem: 413, 415, or 400 for any other form.
    """
    known = frozenset({"files", "category", "tags"})
    hint = "send parts named files, a category and tags"
    form = upload.form(given, most_bytes=limits().library_upload_bytes, known=known, hint=hint)
    files = form.get("files", [])
    if not 1 <= len(files) <= MOST_FILES or not all(isinstance(file, UploadedFile) for file in files):
        raise upload.malformed(f"Send 1 to {MOST_FILES} pictures, each as a part named files.", field="files")
    texts: dict[str, list[Any]] = {name: form[name] for name in ("category", "tags") if name in form}
    if any(not isinstance(text, str) or "\x00" in text for given in texts.values() for text in given):
        raise upload.malformed("Category and tags must be texts.", field="category")
    if len(texts.get("category", [])) != 1:
        raise upload.malformed("Send one category.", field="category")
    tags = [tag for text in texts.get("tags", []) for tag in text.split(",") if tag.strip()]
    return files, requests.read(UploadFields, {"category": texts["category"][0], "tags": tags})


def _name(file: UploadedFile[bytes]) -> str:
    return (file.name or "")[-LONGEST_FILE_NAME:]


def _error(refusal: Refusal | None) -> UploadError | None:
    return None if refusal is None else UploadError.of(code=refusal.code, detail=refusal.detail)


def _nothing_made(refused: list[Refusal]) -> Exception:
    """What is not the files' fault is worth another try, and told as such."""
    ours = next((error for error in refused if not isinstance(error, Invalid)), None)
    if ours is not None:
        return ours
    errors = [{"field": f"files.{index}", "message": error.detail} for index, error in enumerate(refused)]
    return Problem(400, "nothing_uploaded", "None of the files became an item.", errors=errors)
