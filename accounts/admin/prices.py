"""What operations cost, as a table that an operator edits."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from unfold.widgets import UnfoldAdminSelectWidget

from accounts.admin.base import ConsoleAdmin
from accounts.models import Price
from providers import registry


def provider_choices() -> list[tuple[str, str]]:
    """(slug, title) of every provider that we speak."""
    return [(provider.slug, provider.title) for provider in registry.all()]


def operation_title(operation_type: str) -> str:
    """``text_to_video`` as people read it."""
    return operation_type.replace("_", " ").capitalize()


_NONE = ("", "Select value")


class PriceForm(forms.ModelForm):  # type: ignore[type-arg]
    """Offers only what the registry knows."""

    provider_id = forms.ChoiceField(label="Provider", widget=UnfoldAdminSelectWidget)
    operation_type = forms.ChoiceField(label="Operation", widget=UnfoldAdminSelectWidget)

    class Meta:
        model = Price
        fields = ("provider_id", "operation_type", "model", "credits")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        operations = {operation for provider in registry.all() for operation in provider.operations}
        self.fields["provider_id"].choices = [_NONE, *provider_choices()]  # type: ignore[attr-defined]
        self.fields["operation_type"].choices = [  # type: ignore[attr-defined]
            _NONE,
            *((operation, operation_title(operation)) for operation in sorted(operations)),
        ]

    def clean(self) -> dict[str, Any]:
        """Refuse a price for what the provider does not do.

        Raises:
            ValidationError: on ``operation_type``, naming what the provider offers.
        """
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        slug, operation = cleaned.get("provider_id"), cleaned.get("operation_type")
        if slug and operation:
            provider = registry.get(slug)
            if operation not in provider.operations:
                offered = ", ".join(operation_title(name) for name in provider.operations)
                self.add_error("operation_type", f"{provider.title} does not do this. It offers: {offered}.")
        return cleaned


@admin.register(Price)
class PriceAdmin(ConsoleAdmin[Price]):
    """Editable: a new price holds for requests from now on; accepted ones keep theirs."""

    form = PriceForm
    list_display = ("operation", "provider", "model_or_any", "credits", "updated_at")
    ordering = ("provider_id", "operation_type", "model")
    sortable_by = ()

    @admin.display(description="Operation")
    def operation(self, price: Price) -> str:
        """In words."""
        return operation_title(price.operation_type)

    @admin.display(description="Provider")
    def provider(self, price: Price) -> str:
        """Its title, or the bare slug of one that is no longer shipped."""
        return dict(provider_choices()).get(price.provider_id, price.provider_id)

    @admin.display(description="Model")
    def model_or_any(self, price: Price) -> str:
        """The model, or that it holds for all others."""
        return price.model or "any other"
