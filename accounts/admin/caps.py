"""What users may ask for at most, and what accounts had left day by day."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest

from accounts.admin.base import ConsoleAdmin, HistoryAdmin
from accounts.models import BalanceReading, UserCap


@admin.register(UserCap)
class UserCapAdmin(ConsoleAdmin[UserCap]):
    """Editable: a cap holds from the next request and the next claim on."""

    list_display = ("user", "max_in_flight", "max_queued", "max_per_day")
    list_select_related = ("user",)
    autocomplete_fields = ("user",)
    search_fields = ("user__username__istartswith",)
    search_help_text = "The beginning of a user's name"
    ordering = ("user__username",)

    def get_readonly_fields(self, request: HttpRequest, obj: UserCap | None = None) -> tuple[str, ...]:
        """Whose it is stays."""
        return ("user",) if obj else ()


@admin.register(BalanceReading)
class BalanceReadingAdmin(HistoryAdmin[BalanceReading]):
    """One a day and account, newest first."""

    list_display = ("day", "account", "balance", "expected", "drift", "spent", "attempts", "unpriced")
    list_select_related = ("account",)
