"""An operator's own answer to "does another attempt follow?", code by code."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminSelectWidget

from accounts.admin.base import ConsoleAdmin, actor_of
from accounts.admin.words import ago, label
from generations.execution.verdicts import OVERRULABLE
from generations.models import CodeOverride


def code_choices() -> list[tuple[str, str]]:
    """(code, the code with what it means) of every code that may be overruled."""
    return [(error.code, f"{error.code}: {error().detail}") for error in OVERRULABLE]


class CodeOverrideForm(forms.ModelForm):  # type: ignore[type-arg]
    """Offers only the codes that leave no doubt about what the provider did."""

    code = forms.ChoiceField(
        label="Code",
        choices=code_choices,
        widget=UnfoldAdminSelectWidget,
        help_text="What may have been billed is not among them: it is never asked for again by a rule.",
    )

    class Meta:
        model = CodeOverride
        fields = ("code", "retryable", "reason")


@admin.register(CodeOverride)
class CodeOverrideAdmin(ConsoleAdmin[CodeOverride]):
    """Editable; holds from the next failure on. Deleting one puts the usual rule back in force."""

    form = CodeOverrideForm
    list_display = ("code", "rule", "reason", "actor", "changed")
    ordering = ("code",)
    sortable_by = ()

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Which code it is stays; who decided is written by itself."""
        return ("code", "actor") if obj else ()

    def save_model(self, request: HttpRequest, obj: CodeOverride, form: Any, change: bool) -> None:  # noqa: FBT001
        """With whoever decided it."""
        obj.actor = actor_of(request)
        super().save_model(request, obj, form, change)

    @admin.display(description="Rule")
    def rule(self, row: CodeOverride) -> SafeString:
        """In words."""
        return label("another attempt", "good") if row.retryable else label("fails at once", "bad")

    @admin.display(description="Since")
    def changed(self, row: CodeOverride) -> SafeString | str:
        """How long ago."""
        return ago(row.changed_at)
