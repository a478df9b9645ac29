"""Exports: what was made of outputs, in which formats; made anew by an operator where that is needed."""

from __future__ import annotations

from uuid import UUID

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.admin.base import HistoryAdmin
from accounts.admin.words import NOTHING, ago, label
from generations.admin.filters import StateFilter
from generations.admin.history import generation_link, picture_of
from generations.execution.exports import again
from generations.formats import FORMATS
from generations.models import Asset, Export

State = Export.State
STATE_TONES = {State.PENDING: "wait", State.DONE: "good", State.FAILED: "bad"}


@admin.register(Export)
class ExportAdmin(HistoryAdmin[Export]):
    """Newest first, the original beside what was made of it."""

    list_display = ("from_to", "format_shown", "state_label", "generation_shown", "user", "error_shown", "age")
    list_select_related = ("user", "asset__submission", "result", "poster")
    list_filter = (StateFilter,)
    search_fields = ("id",)
    search_help_text = "A generation's, an original's or an export's whole id"
    actions = ("regenerate_selected",)
    exclude = ("token", "asset", "result", "poster")
    readonly_fields = ("original_shown", "result_shown", "poster_shown", "generation_shown")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Export], search_term: str
    ) -> tuple[QuerySet[Export], bool]:
        """One index look-up for each kind of id."""
        if not search_term:
            return queryset, False
        try:
            pk = UUID(search_term.strip())
        except ValueError:
            return queryset.none(), False
        assets = Asset.objects.filter(submission__generation=pk).values_list("pk", flat=True)
        exports = Export.objects.filter(asset__in=[pk, *assets]).values_list("pk", flat=True)
        return queryset.filter(pk__in=[pk, *exports]), False

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Whoever may change exports."""
        return request.user.has_perm("generations.change_export")

    @admin.action(description="Make again", permissions=["act"])
    def regenerate_selected(self, request: HttpRequest, queryset: QuerySet[Export]) -> None:
        """Not those that wait to be made, or whose original has expired."""
        number = again(Export.objects.filter(pk__in=queryset.order_by().values("pk"), asset__expired_at=None))
        words = "1 export is" if number == 1 else f"{number:,} exports are"
        messages.success(request, f"{words} made again.")

    @admin.display(description="Original, export")
    def from_to(self, row: Export) -> SafeString:
        """Both as pictures."""
        made = picture_of(row.result) if row.result else format_html('<span class="dr-thumb dr-blank">{}</span>', "")
        return format_html('<span class="dr-pair">{} {}</span>', picture_of(row.asset), made)

    @admin.display(description="Format")
    def format_shown(self, row: Export) -> SafeString:
        """Its title, and how the original came into it."""
        found = FORMATS.get(row.format)
        how = "" if found is None or found.as_it_is else f"{found.width} x {found.height}, {row.fit}"
        if row.fit == Export.Fit.PAD:
            how += f" {row.colour}"
        return format_html("{}<small class='dr-below'>{}</small>", found.title if found else row.format, how)

    @admin.display(description="State")
    def state_label(self, row: Export) -> SafeString:
        """Coloured."""
        return label(row.get_state_display(), STATE_TONES[State(row.state)])

    @admin.display(description="Generation")
    def generation_shown(self, row: Export) -> SafeString | str:
        """Of which it is a result."""
        return generation_link(row.asset.submission.generation_id) if row.asset.submission else NOTHING

    @admin.display(description="Error")
    def error_shown(self, row: Export) -> SafeString | str:
        """Of the newest try."""
        if not row.error_code:
            return NOTHING
        return format_html('<span title="{}">{}</span>', row.error_message, row.error_code.replace("_", " "))

    @admin.display(description="Asked for")
    def age(self, row: Export) -> SafeString | str:
        """How long ago."""
        return ago(row.asked_at)

    @admin.display(description="Original")
    def original_shown(self, row: Export) -> SafeString | str:
        """As a picture."""
        return _tile(row.asset)

    @admin.display(description="Export")
    def result_shown(self, row: Export) -> SafeString | str:
        """As a picture."""
        return _tile(row.result)

    @admin.display(description="Poster")
    def poster_shown(self, row: Export) -> SafeString | str:
        """As a picture."""
        return _tile(row.poster)


def _tile(asset: Asset | None) -> SafeString | str:
    if asset is None:
        return NOTHING
    url = reverse("admin:generations_asset_change", args=[asset.pk])
    return format_html('<a href="{}">{}</a>', url, picture_of(asset, "dr-tile"))
