"""What all console pages have in common.

``HistoryAdmin`` is for rows that nobody may change: they can be read, in pages that cost the same
whether the table has a thousand rows or a million.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from django.contrib.admin import ShowFacets
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest

_M = TypeVar("_M", bound=Model)

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin
    from django.contrib.admin.views.main import ChangeList as BaseChangeList

    class _Base(ModelAdmin[_M], Generic[_M]):
        """For the type checker: unfold ships no types and Django's admin is not generic at run time."""
else:
    from unfold.admin import ModelAdmin
    from unfold.views import ChangeList as BaseChangeList

    class _Base(ModelAdmin):
        def __class_getitem__(cls, _model: object) -> type:
            return cls


BEFORE, AFTER = "before", "after"


def actor_of(request: HttpRequest) -> str:
    """The console user as timelines and ledgers name him: ``admin:<id>``."""
    return f"admin:{request.user.pk}"


class ConsoleAdmin(_Base[_M]):
    """Base of all console pages."""

    list_per_page = 50
    list_filter_submit = True
    list_fullwidth = True
    list_disable_select_all = False
    compressed_fields = True
    warn_unsaved_form = True
    # Deleting is decided row by row; none of our tables wants a mass deletion.
    actions: Any = ()

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Without Django's "delete selected"."""
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def decorate(self, rows: list[_M]) -> None:
        """Give a page of rows, in a constant number of queries, what its columns show."""


class DecoratedAdmin(ConsoleAdmin[_M]):
    """Base of pages with few rows: Django's own pages, decorated."""

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """With what its columns show."""
        changelist = super().get_changelist_instance(request)
        rows = list(changelist.result_list)
        self.decorate(rows)
        changelist.result_list = rows
        return changelist


class KeysetPaginator(Paginator):  # type: ignore[type-arg]
    """Names the template of the page links; the pages themselves are cut by ``KeysetChangeList``."""

    template_name = "admin/keyset_pagination.html"


class KeysetChangeList(BaseChangeList):
    """Newest first, a page is found by the id at its edge: no count(*), no offset, any page costs the same."""

    edge: dict[str, str]
    newer_url: str | None = None
    older_url: str | None = None

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        """Filtered, without the page's edges: bulk actions on "all that match" mean all pages."""
        found = {name: self.params.pop(name, "") for name in (BEFORE, AFTER)}
        if not hasattr(self, "edge"):
            self.edge = found
        for name in found:
            self.filter_params.pop(name, None)
        return super().get_queryset(request, *args, **kwargs)

    def get_filters_params(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The filters in the query string; the page's edges are none."""
        params = super().get_filters_params(*args, **kwargs)
        return {name: value for name, value in params.items() if name not in (BEFORE, AFTER)}

    def get_results(self, request: HttpRequest) -> None:
        """Cut one page and give its rows what the columns show.

        Raises:
            IncorrectLookupParameters: an edge is no id.
        """
        try:
            rows, newer, older = self._page()
        except (ValidationError, ValueError) as error:
            raise IncorrectLookupParameters(error) from error
        assert isinstance(self.model_admin, ConsoleAdmin)
        self.model_admin.decorate(rows)
        self.result_list = rows
        self.result_count = self.full_result_count = len(rows)
        self.can_show_all, self.multi_page, self.show_all = False, False, False
        self.paginator = KeysetPaginator(rows, self.list_per_page)
        self.page_num = 1
        if newer and rows:
            self.newer_url = self.get_query_string({AFTER: str(rows[0].pk)})
        if older and rows:
            self.older_url = self.get_query_string({BEFORE: str(rows[-1].pk)})

    def _page(self) -> tuple[list[Any], bool, bool]:
        """The rows, and whether there are newer and older ones."""
        size = self.list_per_page
        if after := self.edge[AFTER]:
            rows = list(self.queryset.filter(pk__gt=self._key(after)).order_by("pk")[: size + 1])
            return rows[:size][::-1], len(rows) > size, True
        queryset = self.queryset
        if before := self.edge[BEFORE]:
            queryset = queryset.filter(pk__lt=self._key(before))
        rows = list(queryset[: size + 1])
        return rows[:size], bool(before), len(rows) > size

    def _key(self, text: str) -> Any:
        pk = self.lookup_opts.pk
        assert pk is not None
        return pk.to_python(text)


class HistoryAdmin(ConsoleAdmin[_M]):
    """What happened, to be read: no adding, no changing, no deleting."""

    show_full_result_count = False
    ordering: ClassVar[Any] = ("-pk",)
    # Ordering by anything but the key would sort the whole table.
    sortable_by: ClassVar[Any] = ()
    paginator = KeysetPaginator
    # Counts beside each filter would count the whole table.
    show_facets = ShowFacets.NEVER

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[BaseChangeList]:
        """The one that pages by key."""
        return KeysetChangeList

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        """Never."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: _M | None = None) -> bool:
        """Never: rows are shown read-only."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: _M | None = None) -> bool:
        """Never; ``manage.py cleanup`` removes what is too old."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: _M | None = None) -> bool:
        """Whoever may view or change this model."""
        name = self.opts.model_name
        return any(request.user.has_perm(f"{self.opts.app_label}.{verb}_{name}") for verb in ("view", "change"))

    def visible(self, request: HttpRequest, object_id: str) -> _M:
        """The row whose page is asked for.

        Raises:
            Http404, PermissionDenied: it is not there, or not to be seen by this person.
        """
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        return row
