"""The library as pictures: everybody's items to be seen, and the shared ones to be kept."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString

from accounts.admin.base import HistoryAdmin
from accounts.admin.words import ago
from generations.admin.history import picture_of
from generations.admin.library_form import ItemForm, UploadForm
from generations.intake import library
from generations.intake.errors import NotFound, Refusal
from generations.intake.inputs import store_upload
from generations.models import LibraryFavourite, LibraryItem
from generations.reports.library import Counts, counts
from generations.signing import content_url

if TYPE_CHECKING:
    Dropdown = admin.SimpleListFilter
else:
    from unfold.contrib.filters.admin import DropdownFilter as Dropdown

LIST = "admin:generations_libraryitem_changelist"
MOST_CATEGORIES = 200
LONGEST_FILE_NAME = 200


class CategoryFilter(Dropdown):
    """By category."""

    title = "category"
    parameter_name = "category"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Those that there are."""
        rows = LibraryItem.objects.order_by("category").values_list("category", flat=True).distinct()
        return [(name, name) for name in rows[:MOST_CATEGORIES]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[LibraryItem]) -> QuerySet[LibraryItem]:
        """One of them."""
        return queryset if self.value() is None else queryset.filter(category=self.value())


class OwnerFilter(Dropdown):
    """Shared items, or users' own."""

    title = "owner"
    parameter_name = "of"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Both."""
        return [("all", "Shared by all"), ("users", "Users' own")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[LibraryItem]) -> QuerySet[LibraryItem]:
        """By the index on the owner."""
        return queryset if self.value() is None else queryset.filter(owner__isnull=self.value() == "all")


@admin.register(LibraryItem)
class LibraryItemAdmin(HistoryAdmin[LibraryItem]):
    """Newest first. What is shared is changed here; what is a user's is changed by the user."""

    list_display = ("name", "category", "owner")
    list_select_related = ("owner", "picture")
    list_filter = (CategoryFilter, OwnerFilter)
    list_per_page = 60
    search_fields = ("name",)
    search_help_text = "Words, or their beginnings, of name, category, prompt and tags"
    change_list_template = "admin/generations/libraryitem/gallery.html"

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        """Whoever may add items."""
        return request.user.has_perm("generations.add_libraryitem")

    def has_change_permission(self, request: HttpRequest, obj: LibraryItem | None = None) -> bool:
        """Shared ones only."""
        return request.user.has_perm("generations.change_libraryitem") and (obj is None or obj.owner_id is None)

    def has_delete_permission(self, request: HttpRequest, obj: LibraryItem | None = None) -> bool:
        """Shared ones only."""
        return request.user.has_perm("generations.delete_libraryitem") and (obj is None or obj.owner_id is None)

    # --- the gallery ------------------------------------------------------------------------------

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[LibraryItem], search_term: str
    ) -> tuple[QuerySet[LibraryItem], bool]:
        """By the index on the words."""
        found = LibraryItem.objects.matching(search_term).values("pk")
        return (queryset.filter(pk__in=found) if search_term else queryset), False

    def decorate(self, rows: list[LibraryItem]) -> None:
        """Counts of a page, in two queries."""
        found = counts([row.pk for row in rows])
        for row in rows:
            row.counts = found[row.pk]  # type: ignore[attr-defined]
            row.tile = _tile(row)  # type: ignore[attr-defined]

    # --- one, and several ---------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        """With the upload of several."""
        view = self.admin_site.admin_view(self.upload_view)
        return [path("upload/", view, name="generations_libraryitem_upload"), *super().get_urls()]

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """A new shared item."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        return self._form_view(request, None)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """An item, large, with the form where it is shared."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        pk = int(object_id) if object_id.isdecimal() and len(object_id) < 19 else 0
        item = get_object_or_404(LibraryItem.objects.select_related("owner", "picture"), pk=pk)
        if request.method == "POST" and not self.has_change_permission(request, item):
            raise PermissionDenied
        return self._form_view(request, item)

    def _form_view(self, request: HttpRequest, item: LibraryItem | None) -> HttpResponse:
        may_change = item is None or self.has_change_permission(request, item)
        form = ItemForm(request.POST or None, request.FILES or None, item=item) if may_change else None
        if form is not None and form.is_valid() and (kept := _keep(request, item, form)):
            messages.success(request, f"{kept.name} is kept.")
            return HttpResponseRedirect(reverse(LIST))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": item.name if item else "A new shared item",
            "item": item,
            "form": form,
            "facts": _facts(item) if item else [],
            "picture": content_url(item.picture) if item and item.picture else "",
            "may_delete": item is not None and self.has_delete_permission(request, item),
        }
        return TemplateResponse(request, "admin/generations/libraryitem/form.html", context)

    def upload_view(self, request: HttpRequest) -> HttpResponse:
        """Several pictures, a shared item of each; what is wrong with one is told, and the others are kept."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = UploadForm(request.POST or None, request.FILES or None)
        if form.is_valid():
            kept = sum(_upload(request, file, form) for file in form.cleaned_data["pictures"])
            if kept:
                messages.success(request, f"{kept} {'item is' if kept == 1 else 'items are'} kept.")
                return HttpResponseRedirect(reverse(LIST))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Upload several pictures",
            "form": form,
        }
        return TemplateResponse(request, "admin/generations/libraryitem/upload.html", context)

    # --- deleting -----------------------------------------------------------------------------------

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Favourites go along, whatever may be done to them by hand; batches stay."""
        rows = list(objs)
        return [str(row) for row in rows], {"library items": len(rows)}, set(), []

    def delete_model(self, request: HttpRequest, obj: LibraryItem) -> None:
        """As everybody deletes one."""
        with suppress(NotFound):  # somebody else was quicker
            library.remove(obj.pk, None)


@admin.register(LibraryFavourite)
class LibraryFavouriteAdmin(HistoryAdmin[LibraryFavourite]):
    """Who likes what, newest first."""

    list_display = ("item", "user", "age")
    list_select_related = ("item", "user")

    @admin.display(description="Since")
    def age(self, row: LibraryFavourite) -> SafeString | str:
        """How long ago."""
        return ago(row.created_at)


def _keep(request: HttpRequest, item: LibraryItem | None, form: ItemForm) -> LibraryItem | None:
    """None: the form is to be corrected."""
    by = request.user.pk
    assert by is not None
    fields = form.fields_given()
    try:
        if (file := form.cleaned_data["file"]) is not None:
            asset = store_upload(by, cast("BinaryIO", file), name=_name(file), only="image")
            fields["picture_id"] = asset.pk
        if item is None:
            return library.add(None, fields, by=by)
        return library.change(item.pk, None, fields, by=by)
    except Refusal as error:
        form.add_error(error.field if error.field in form.fields else None, error.detail)
        return None


def _upload(request: HttpRequest, file: UploadedFile[bytes], form: UploadForm) -> bool:
    """False: it was told why not."""
    by = request.user.pk
    assert by is not None
    category, tags = form.cleaned_data["category"], form.cleaned_data["tags"]
    try:
        library.upload(None, cast("BinaryIO", file), file_name=_name(file), category=category, tags=tags, by=by)
    except Refusal as error:
        messages.error(request, f"{_name(file)}: {error.detail}")
        return False
    return True


def _name(file: UploadedFile[bytes]) -> str:
    return (file.name or "")[-LONGEST_FILE_NAME:]


def _tile(row: LibraryItem) -> SafeString | None:
    return picture_of(row.picture, "dr-tile") if row.picture else None


def _facts(item: LibraryItem) -> list[tuple[str, Any]]:
    numbers = counts([item.pk]).get(item.pk, Counts())
    return [
        ("Owner", item.owner or "shared by all"),
        ("Category", item.category),
        ("Tags", ", ".join(item.tags) or "none"),
        ("Uses in batches", f"{numbers.uses:,}"),
        ("Favourites", f"{numbers.favourites:,}"),
        ("Downloads", f"{item.downloads:,}"),
        ("Made", ago(item.created_at)),
        ("Changed", ago(item.updated_at)),
    ]
