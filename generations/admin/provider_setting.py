"""What an operator decides about a provider as a whole."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminSelectWidget

from accounts.admin.base import ConsoleAdmin
from accounts.admin.prices import provider_choices
from generations.models import ProviderSetting


class ProviderSettingForm(forms.ModelForm):  # type: ignore[type-arg]
    """Offers only what the registry knows."""

    provider_id = forms.ChoiceField(label="Provider", choices=provider_choices, widget=UnfoldAdminSelectWidget)

    class Meta:
        model = ProviderSetting
        fields = ("provider_id", "on_unknown")


@admin.register(ProviderSetting)
class ProviderSettingAdmin(ConsoleAdmin[ProviderSetting]):
    """Editable; read anew at each decision."""

    form = ProviderSettingForm
    list_display = ("provider_id", "on_unknown")
    ordering = ("provider_id",)
    sortable_by = ()

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Which provider it is stays."""
        return ("provider_id",) if obj else ()
