"""Prompts: families, their versions with what these led to, and two of them side by side."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.admin.base import HistoryAdmin
from accounts.admin.words import NOTHING, ago
from generations.admin.tiles import tiles
from generations.models import Prompt, PromptVersion
from generations.reports import prompts
from generations.reports.prompts import Counts
from generations.templating import variables

EXCERPT = 110
RESULTS = 12
COMPARE = "admin:generations_promptversion_compare"


class CountedAdmin(HistoryAdmin[Any]):
    """Base of both: rows with ``counts``."""

    @admin.display(description="Uses")
    def uses(self, row: Any) -> str:
        """How many generations were made from it."""
        return f"{row.counts.uses:,}" if row.counts.uses else NOTHING

    @admin.display(description="Success")
    def success(self, row: Any) -> SafeString:
        """How many of those that have ended have completed."""
        return success_words(row.counts)

    @admin.display(description="Made")
    def age(self, row: Any) -> SafeString | str:
        """How long ago."""
        return ago(row.created_at)


@admin.register(Prompt)
class PromptAdmin(CountedAdmin):
    """Families, newest first. Their owners make them by the API."""

    list_display = ("what", "user", "versions", "uses", "success", "age")
    list_select_related = ("user",)
    search_fields = ("name__istartswith",)
    search_help_text = "The beginning of a prompt's name"
    change_form_outer_before_template = "admin/generations/prompt/panel.html"

    def decorate(self, rows: list[Prompt]) -> None:
        """Newest versions and counts of a page, in two queries."""
        ids = [row.pk for row in rows]
        newest, counts = prompts.newest_versions(ids), prompts.of_prompts(ids)
        for row in rows:
            row.newest, row.counts = newest.get(row.pk), counts[row.pk]  # type: ignore[attr-defined]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """With its versions, of which two can be compared."""
        versions = list(_of(PromptVersion.objects.all(), object_id, "prompt").order_by("-number")[:100])
        counts = prompts.of_versions([row.pk for row in versions])
        told = [(row, counts[row.pk], success_words(counts[row.pk])) for row in versions]
        extra = {**(extra_context or {}), "versions": told}
        return super().change_view(request, object_id, form_url, extra)

    @admin.display(description="Prompt")
    def what(self, row: Any) -> SafeString:
        """Its name and newest text."""
        return _what(row.name, row.newest.text if row.newest else "")

    @admin.display(description="Versions")
    def versions(self, row: Any) -> str:
        """How many. Their numbers have no gaps."""
        return str(row.newest.number if row.newest else 0)


@admin.register(PromptVersion)
class PromptVersionAdmin(CountedAdmin):
    """Versions, newest first; they never change."""

    list_display = ("what", "number_shown", "user", "uses", "success", "age")
    list_select_related = ("prompt__user",)
    search_fields = ("prompt__name__istartswith",)
    search_help_text = "The beginning of a prompt's name"
    actions = ("compare_selected",)
    fields = ("created_at",)
    readonly_fields = ("created_at",)
    change_form_outer_before_template = "admin/generations/promptversion/panel.html"

    def decorate(self, rows: list[PromptVersion]) -> None:
        """Counts of a page, in one query."""
        counts = prompts.of_versions([row.pk for row in rows])
        for row in rows:
            row.counts = counts[row.pk]  # type: ignore[attr-defined]

    def get_urls(self) -> list[URLPattern]:
        """With the page of two."""
        own = path("compare/", self.admin_site.admin_view(self.compare_view), name=COMPARE.removeprefix("admin:"))
        return [own, *super().get_urls()]

    @admin.action(description="Compare two", permissions=["view"])
    def compare_selected(self, request: HttpRequest, queryset: QuerySet[PromptVersion]) -> HttpResponse | None:
        """Side by side, the older one first."""
        ids = list(queryset.order_by("pk").values_list("pk", flat=True)[:3])
        if len(ids) != 2:
            messages.error(request, "Choose two versions.")
            return None
        return HttpResponseRedirect(f"{reverse(COMPARE)}?a={ids[0]}&b={ids[1]}")

    def compare_view(self, request: HttpRequest) -> HttpResponse:
        """Two versions, what differs, and their newest results next to each other."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        found = PromptVersion.objects.select_related("prompt__user")
        pair = [_of(found, request.GET.get(name, ""), "pk").first() for name in ("a", "b")]
        if pair[0] is None or pair[1] is None:
            raise Http404
        counts = prompts.of_versions([row.pk for row in pair if row])
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Two versions",
            "is_fullwidth": "1",
            "sides": [_side(request, row, counts[row.pk]) for row in pair if row],
            "parts": prompts.word_diff(pair[0].text, pair[1].text),
        }
        return TemplateResponse(request, "admin/generations/promptversion/compare.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """With what it led to."""
        row = _of(PromptVersion.objects.select_related("prompt__user"), object_id, "pk").first()
        side = _side(request, row, prompts.of_versions([row.pk])[row.pk]) if row else None
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "side": side})

    @admin.display(description="Prompt")
    def what(self, row: PromptVersion) -> SafeString:
        """Its family's name and the text."""
        return _what(row.prompt.name, row.text)

    @admin.display(description="Version")
    def number_shown(self, row: PromptVersion) -> str:
        """Its number."""
        return str(row.number)

    @admin.display(description="User")
    def user(self, row: PromptVersion) -> str:
        """Whose."""
        return str(row.prompt.user)


def success_words(counts: Counts) -> SafeString:
    """``67 %``, and below it of how many."""
    if counts.success_rate is None:
        return format_html("{}", NOTHING)
    below = f"{counts.completed:,} completed, {counts.failed:,} failed"
    return format_html('{} %<small class="dr-below">{}</small>', round(counts.success_rate * 100), below)


def version_link(row: PromptVersion) -> SafeString:
    """A link to its page."""
    url = reverse("admin:generations_promptversion_change", args=[row.pk])
    return format_html('<a class="dr-link" href="{}">{}, {}</a>', url, row.prompt.name, row)


def _side(request: HttpRequest, row: PromptVersion, counts: Counts) -> dict[str, Any]:
    may_see = request.user.has_perm("generations.view_generation")
    return {
        "version": row,
        "counts": counts,
        "success": success_words(counts),
        "variables": variables(row.text),
        "results": tiles(prompts.newest_results(row.pk, RESULTS)) if may_see else [],
    }


def _of(rows: QuerySet[PromptVersion], text: str, field: str) -> QuerySet[PromptVersion]:
    """The rows that an id names; none where it is no id."""
    try:
        return rows.filter(**{field: UUID(text)})
    except ValueError:
        return rows.none()


def _what(name: str, text: str) -> SafeString:
    excerpt = text if len(text) <= EXCERPT else f"{text[:EXCERPT].rstrip()}…"
    return format_html(
        '<span class="dr-what"><strong>{}</strong><small title="{}">{}</small></span>', name, text[:1000], excerpt
    )
