"""Switches: what is stopped, by whom and why, the hand that turns them, and every turn that was made."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts.admin.base import HistoryAdmin, actor_of
from accounts.admin.words import ago, label
from generations.intake.switches import LONGEST_REASON, turn_off, turn_on
from generations.models import Switch, SwitchChange
from generations.reports.switches import SwitchTold, everyone, history, told, turned_on, who, with_names

LATEST = 20


def stopped(request: HttpRequest) -> dict[str, Any]:
    """unfold's callback for every page: what its banner tells, and whether this person may lift it."""
    if not request.user.is_staff:  # the console's own login page
        return {}
    return {"stopped": turned_on(), "may_turn": may_turn(request)}


def may_turn(request: HttpRequest) -> bool:
    """Whoever may change switches."""
    return request.user.has_perm("generations.change_switch")


class TurnForm(forms.Form):
    """Why."""

    reason = forms.CharField(
        max_length=LONGEST_REASON,
        widget=UnfoldAdminTextInputWidget(attrs={"autofocus": True}),
        help_text="Everybody who wonders reads it; the history keeps it.",
    )


@admin.register(Switch)
class SwitchAdmin(HistoryAdmin[Switch]):
    """One page with all of them, and one that asks before it turns one."""

    ordering = ("pk",)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Every switch that there is, on or off, and what was turned lately."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Switches",
            "switches": everyone(),
            "changes": [_line(row) for row in history()[:LATEST]],
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/generations/switch/switches.html", context)

    def get_urls(self) -> list[URLPattern]:
        """With the page that turns one."""
        own = path("<str:key>/turn/", self.admin_site.admin_view(self.turn_view), name="generations_switch_turn")
        return [own, *super().get_urls()]

    def turn_view(self, request: HttpRequest, key: str) -> HttpResponse:
        """GET: what will happen. POST: it happens; one that somebody else has turned meanwhile is left as it is."""
        if not may_turn(request):
            raise PermissionDenied
        switch = next((one for one in everyone() if one.key == key), None)
        if switch is None:
            raise Http404
        turn = request.POST.get("turn", "off" if switch.on else "on")
        form = TurnForm(request.POST or None)
        if form.is_valid() and turn in {"on", "off"}:
            self._turn(request, switch, turn, form.cleaned_data["reason"])
            return HttpResponseRedirect(reverse("admin:generations_switch_changelist"))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Stop {switch.title.lower()}?" if turn == "on" else f"Let {switch.title.lower()} go on?",
            "switch": switch,
            "turn": turn,
            "form": form,
        }
        return TemplateResponse(request, "admin/generations/switch/turn.html", context)

    def _turn(self, request: HttpRequest, switch: SwitchTold, turn: str, reason: str) -> None:
        turned = (turn_on if turn == "on" else turn_off)(switch.key, reason=reason, actor=actor_of(request))
        state = "is stopped" if turn == "on" else "goes on"
        if turned:
            messages.success(request, f"{switch.title} {state}.")
        else:
            messages.info(request, f"{switch.title} {state} already; somebody was quicker, and nothing was changed.")


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
        return _turned(row)

    @admin.display(description="By")
    def by(self, row: SwitchChange) -> str:
        """Whoever did it."""
        return who(row)


def _turned(row: SwitchChange) -> SafeString:
    return label("stopped", "warn") if row.turned_on else label("let go on", "good")


def _line(row: SwitchChange) -> dict[str, Any]:
    return {
        "age": ago(row.at),
        "title": told(None, row.key).title,
        "turned": _turned(row),
        "reason": row.reason,
        "who": who(row),
    }
