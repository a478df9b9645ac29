"""Batches: how far each is, its pictures side by side, and what an operator may do to all of it at once."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.admin.base import HistoryAdmin
from accounts.admin.words import NOTHING, ago, label
from generations.admin import batch_actions
from generations.admin.history import generation_link, picture_of
from generations.admin.rows import STATUS_TONES, facts_of
from generations.lifecycle import Status
from generations.models import Batch, BatchItem
from generations.reports import batches
from generations.reports.batches import BatchStatus, Standing

SHOWN = 200
"""So many items are on a batch's page; the API has all of them."""
TONES = {
    BatchStatus.PENDING: "wait",
    BatchStatus.PROCESSING: "busy",
    BatchStatus.COMPLETED: "good",
    BatchStatus.PARTIAL: "warn",
    BatchStatus.FAILED: "bad",
    BatchStatus.CANCELLED: "plain",
}
BAR = (Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.PROCESSING, Status.PENDING)


@admin.register(Batch)
class BatchAdmin(HistoryAdmin[Batch]):
    """Newest first, each with a bar of how far it is."""

    list_display = ("what", "status_label", "bar", "spent", "user", "age")
    list_display_links = ("what",)
    list_select_related = ("user",)

    def decorate(self, rows: list[Batch]) -> None:
        """How the batches of a page stand: a constant number of queries."""
        found = batches.standings(rows)
        for row in rows:
            row.standing = found[row.pk]  # type: ignore[attr-defined]

    @admin.display(description="Batch")
    def what(self, row: Batch) -> SafeString:
        """Name or prompt, mode, operation and provider."""
        return format_html(
            '<span class="dr-what"><strong>{}</strong><small>{} · {} · {}</small></span>',
            title_of(row),
            row.get_mode_display(),
            row.get_operation_type_display(),
            row.provider_id,
        )

    @admin.display(description="Status")
    def status_label(self, row: Batch) -> SafeString:
        """Coloured; below, whether it is paused."""
        standing = _standing(row)
        below = "paused" if row.paused_at and row.closed_at is None else ""
        return format_html('{}<small class="dr-below">{}</small>', _label(standing), below)

    @admin.display(description="Items")
    def bar(self, row: Batch) -> SafeString:
        """How many have completed, of how many."""
        standing = _standing(row)
        return format_html(
            '<span class="dr-slots"><progress class="dr-gauge" value="{}" max="{}"></progress>{} of {}</span>',
            standing.counts.get(Status.COMPLETED, 0),
            max(1, standing.total),
            standing.counts.get(Status.COMPLETED, 0),
            standing.total,
        )

    @admin.display(description="Credits")
    def spent(self, row: Batch) -> SafeString | str:
        """Charged; below, held."""
        credits = _standing(row).credits
        if not any((credits.charged, credits.held, credits.released)):
            return NOTHING
        below = f"{credits.held:,} held" if credits.held else ""
        return format_html('{} charged<small class="dr-below">{}</small>', f"{credits.charged:,}", below)

    @admin.display(description="Age")
    def age(self, row: Batch) -> SafeString | str:
        """Since it was accepted."""
        return ago(row.created_at)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Its items as pictures, and its buttons."""
        batch = self.visible(request, object_id)
        standing = batches.standings([batch])[batch.pk]
        items = list(batch.items.select_related("generation", "library_item").order_by("position")[: SHOWN + 1])
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": title_of(batch),
            "is_fullwidth": "1",
            "batch": batch,
            "standing": standing,
            "label": _label(standing),
            "parts": [(status, standing.counts.get(status, 0), STATUS_TONES[status]) for status in BAR],
            "tiles": tiles(items[:SHOWN]),
            "more": max(0, standing.total - SHOWN),
            "actions": batch_actions.legal(batch, standing, request.user.has_perm),
            "list_url": reverse("admin:generations_generation_changelist"),
        }
        return TemplateResponse(request, "admin/generations/batch/detail.html", context)

    def get_urls(self) -> list[URLPattern]:
        """With a confirmation page for each action."""
        own = [
            path(
                f"<uuid:object_id>/{action.name}/",
                self.admin_site.admin_view(self._confirmation(action)),
                name=f"generations_batch_{action.name}",
            )
            for action in batch_actions.ACTIONS
        ]
        return [*own, *super().get_urls()]

    def _confirmation(self, action: batch_actions.BatchAction) -> Any:
        def view(request: HttpRequest, object_id: Any) -> HttpResponse:
            return batch_actions.confirm(request, self.admin_site, self.visible(request, str(object_id)), action)

        return view


@admin.register(BatchItem)
class BatchItemAdmin(HistoryAdmin[BatchItem]):
    """Which Generation answers which item, newest first."""

    list_display = ("variation_key", "batch_shown", "generation_shown", "reused", "detached_at")
    list_select_related = ("batch", "generation")
    exclude = ("generation", "batch")
    readonly_fields = ("batch_shown", "generation_shown")

    @admin.display(description="Batch")
    def batch_shown(self, row: BatchItem) -> SafeString:
        """The way to it."""
        return batch_link(row)

    @admin.display(description="Generation")
    def generation_shown(self, row: BatchItem) -> SafeString:
        """The way to it."""
        return generation_link(row.generation_id)


def batch_link(item: BatchItem) -> SafeString:
    """The way to an item's batch, and which of it the item is."""
    url = reverse("admin:generations_batch_change", args=[item.batch_id])
    return format_html('<a class="dr-link" href="{}">{}</a> {}', url, title_of(item.batch), item.variation_key)


def title_of(batch: Batch) -> str:
    """Its name, or the common prompt."""
    return batch.name or str(batch.params.get("prompt") or "")[:110] or batch.get_mode_display()


def tiles(items: list[BatchItem]) -> list[dict[str, Any]]:
    """What a grid shows of each item: its picture or a mark, its key, where it stands and leads."""
    facts = facts_of([item.generation for item in items])
    found = []
    for item in items:
        status = Status.CANCELLED if item.detached_at else Status(item.generation.status)
        fact = facts[item.generation_id]
        found.append(
            {
                "key": item.variation_key,
                "name": item.library_item.name if item.library_item else "",
                "picture": picture_of(fact.asset) if fact.asset and status == Status.COMPLETED else None,
                "label": label(status.label, STATUS_TONES[status]),
                "reason": fact.reason,
                "reused": item.reused,
                "url": reverse("admin:generations_generation_change", args=[item.generation_id]),
            }
        )
    return found


def _standing(row: Batch) -> Standing:
    standing: Standing = row.standing  # type: ignore[attr-defined]
    return standing


def _label(standing: Standing) -> SafeString:
    return label(standing.status.value.capitalize(), TONES[standing.status])
