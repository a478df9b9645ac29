"""UserCap: what users may ask for at most. It stands here because it shows what they have."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.admin.base import DecoratedAdmin
from accounts.admin.words import NOTHING
from accounts.models import UserCap
from generations.reports.usage import Name, Use, usages


@admin.register(UserCap)
class UserCapAdmin(DecoratedAdmin[UserCap]):
    """Editable: a cap holds from the next request and the next claim on."""

    list_display = ("user", "in_flight", "queued", "per_day")
    list_select_related = ("user",)
    autocomplete_fields = ("user",)
    search_fields = ("user__username__istartswith",)
    search_help_text = "The beginning of a user's name"
    ordering = ("user__username",)

    def get_readonly_fields(self, request: HttpRequest, obj: UserCap | None = None) -> tuple[str, ...]:
        """Whose it is stays."""
        return ("user",) if obj else ()

    def decorate(self, rows: list[UserCap]) -> None:
        """What is used of each cap, in a constant number of queries for the page."""
        used = usages(rows)
        for row in rows:
            row.uses = {use.cap: use for use in used[row.pk]}  # type: ignore[attr-defined]

    @admin.display(description="In flight")
    def in_flight(self, row: UserCap) -> SafeString | str:
        """With a link to them."""
        return _shown(row, "max_in_flight", "processing")

    @admin.display(description="Waiting")
    def queued(self, row: UserCap) -> SafeString | str:
        """With a link to them."""
        return _shown(row, "max_queued", "pending")

    @admin.display(description="Accepted today (UTC)")
    def per_day(self, row: UserCap) -> SafeString | str:
        """With a link to all of the user's."""
        return _shown(row, "max_per_day", "")


def _shown(row: UserCap, cap: Name, status: str) -> SafeString | str:
    use: Use | None = row.uses.get(cap)  # type: ignore[attr-defined]
    if use is None:
        return NOTHING
    url = reverse("admin:generations_generation_changelist")
    query = f"user__id__exact={row.pk}" + (f"&status={status}" if status else "")
    return format_html(
        '<a class="dr-link{}" href="{}?{}">{} of {}</a>',
        " dr-risk" if use.is_full else "",
        url,
        query,
        f"{use.used:,}",
        f"{use.limit:,}",
    )
