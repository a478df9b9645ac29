"""Incidents: what a person must see, until a person has said that he saw it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.admin.base import HistoryAdmin, actor_of
from accounts.admin.words import NOTHING, ago, label
from generations.admin.history import generation_link
from generations.models import Incident

if TYPE_CHECKING:
    Dropdown = admin.SimpleListFilter
else:
    from unfold.contrib.filters.admin import DropdownFilter as Dropdown


class SeenFilter(Dropdown):
    """Unseen ones, by their partial index."""

    title = "seen"
    parameter_name = "seen"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Two."""
        return [("no", "Not seen yet"), ("yes", "Seen")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Incident]) -> QuerySet[Incident]:
        """By ``seen_at``."""
        return queryset if self.value() is None else queryset.filter(seen_at__isnull=self.value() == "no")


@admin.register(Incident)
class IncidentAdmin(HistoryAdmin[Incident]):
    """Newest first; "mark as seen" is all that can be done to one."""

    list_display = ("kind_label", "detail_excerpt", "about", "account", "age", "seen")
    list_select_related = ("account",)
    list_filter = (SeenFilter,)
    actions = ("mark_seen",)
    change_form_outer_before_template = "admin/generations/incident/panel.html"
    readonly_fields = ("generation_link",)
    fields = ("kind", "detail", "generation_link", "submission", "account", "created_at", "seen_at", "seen_by")

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Whoever may change incidents."""
        return request.user.has_perm("generations.change_incident")

    @admin.action(description="Mark as seen", permissions=["act"])
    def mark_seen(self, request: HttpRequest, queryset: QuerySet[Incident]) -> None:
        """One guarded UPDATE: the first who saw it stays noted."""
        number = queryset.order_by().filter(seen_at=None).update(seen_at=Now(), seen_by=actor_of(request))
        words = "1 incident is" if number == 1 else f"{number:,} incidents are"
        messages.success(request, f"{words} marked as seen.")

    @admin.display(description="What happened")
    def kind_label(self, row: Incident) -> SafeString:
        """Red until somebody has seen it."""
        return label(row.get_kind_display(), "plain" if row.seen_at else "bad")

    @admin.display(description="Detail")
    def detail_excerpt(self, row: Incident) -> SafeString:
        """Its beginning."""
        return format_html('<span class="dr-what" title="{}">{}</span>', row.detail, row.detail[:120] or NOTHING)

    @admin.display(description="Generation")
    def about(self, row: Incident) -> SafeString | str:
        """The way to it."""
        return generation_link(row.generation_id) if row.generation_id else NOTHING

    @admin.display(description="Generation")
    def generation_link(self, row: Incident) -> SafeString | str:
        """The way to it."""
        return self.about(row)

    @admin.display(description="When")
    def age(self, row: Incident) -> SafeString | str:
        """How long ago."""
        return ago(row.created_at)

    @admin.display(description="Seen")
    def seen(self, row: Incident) -> str:
        """By whom."""
        return row.seen_by if row.seen_at else "not yet"


def unseen(most: int = 100) -> int:
    """How many nobody has seen yet; stops counting at ``most``."""
    return Incident.objects.filter(seen_at=None).order_by("-pk").values("pk")[:most].count()
