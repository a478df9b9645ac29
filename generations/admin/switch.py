"""Switches: what is stopped, by whom and why, and every turn that was made."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from accounts.admin.base import HistoryAdmin
from accounts.admin.words import ago, label
from generations.models import Switch, SwitchChange
from generations.reports.switches import told, who, with_names


@admin.register(Switch)
class SwitchAdmin(HistoryAdmin[Switch]):
    """What is on."""

    list_display = ("key", "reason", "actor", "created_at")
    ordering = ("pk",)


@admin.register(SwitchChange)
class SwitchChangeAdmin(HistoryAdmin[SwitchChange]):
    """Every turn, newest first."""

    list_display = ("age", "switch", "turned", "reason", "by")

    def get_queryset(self, request: HttpRequest) -> QuerySet[SwitchChange]:
        """With the names of whoever did it."""
        return with_names(super().get_queryset(request))

    @admin.display(description="When")
    def age(self, row: SwitchChange) -> SafeString | str:
        """How long ago."""
        return ago(row.at)

    @admin.display(description="Switch")
    def switch(self, row: SwitchChange) -> str:
        """Its title."""
        return told(None, row.key).title

    @admin.display(description="Turned")
    def turned(self, row: SwitchChange) -> SafeString:
        """On or off."""
        return label("on" if row.turned_on else "off", "warn" if row.turned_on else "good")

    @admin.display(description="By")
    def by(self, row: SwitchChange) -> str:
        """Whoever did it."""
        return who(row)
