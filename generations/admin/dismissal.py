"""Dismissing one dead letter, and taking that back: a page that asks why, then a POST that does it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts.admin.base import actor_of
from generations.admin.actions import DISMISS, RESTORE, Action
from generations.admin.confirm import page_of
from generations.intake.dismiss import LONGEST_REASON, dismiss_one, restore_one
from generations.intake.errors import Refusal
from generations.lifecycle import Status
from generations.models import Event, Generation


class ReasonForm(forms.Form):
    """Why nothing is to be done."""

    reason = forms.CharField(
        max_length=LONGEST_REASON,
        widget=UnfoldAdminTextInputWidget,
        help_text="The timeline keeps it, with your name.",
    )


def dismissal(request: HttpRequest, site: AdminSite, generation: Generation) -> HttpResponse:
    """Whichever of the two is possible: dismiss it, or take that back."""
    action = DISMISS if generation.dismissed_at is None else RESTORE
    form = ReasonForm(request.POST or None) if action is DISMISS else None
    back = _back(request, generation)
    if request.method == "POST" and (form is None or form.is_valid()):
        return _carry_out(request, generation, action, form, back)
    context: dict[str, Any] = {
        **site.each_context(request),
        "title": f"{action.title}?",
        "opts": Generation._meta,
        "generation": generation,
        "action": action,
        "form": form,
        "back": back,
        "refusal": "" if generation.status == Status.FAILED else "Only what failed can be dismissed.",
        "before": generation.events.filter(kind=Event.Kind.DISMISSED).order_by("-id").first(),
    }
    return TemplateResponse(request, "admin/generations/generation/dismiss.html", context)


def _carry_out(
    request: HttpRequest, generation: Generation, action: Action, form: ReasonForm | None, back: str
) -> HttpResponse:
    try:
        if form is not None:
            dismiss_one(generation, reason=form.cleaned_data["reason"], actor=actor_of(request))
        else:
            restore_one(generation, actor=actor_of(request))
    except Refusal as refusal:
        messages.error(request, refusal.detail)
    else:
        messages.success(request, "Dismissed." if action is DISMISS else "It is a dead letter again.")
    return HttpResponseRedirect(back)


def _back(request: HttpRequest, generation: Generation) -> str:
    """The list of letters that one came from, else the Generation's page."""
    came_from = request.GET.get("back", "")
    return (
        came_from if came_from.startswith(reverse("admin:generations_deadletter_letters")) else page_of(generation.pk)
    )
