"""What accounts had left day by day."""

from __future__ import annotations

from django.contrib import admin

from accounts.admin.base import HistoryAdmin
from accounts.models import BalanceReading


@admin.register(BalanceReading)
class BalanceReadingAdmin(HistoryAdmin[BalanceReading]):
    """One a day and account, newest first."""

    list_display = ("day", "account", "balance", "expected", "drift", "spent", "attempts", "unpriced")
    list_select_related = ("account",)
