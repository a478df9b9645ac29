"""Replaying a group: the dry run first, then slice by slice, each request short, with a summary at the end.

The page that a slice answers sends the next one by itself (or by its button). What has been done so far travels in a
signed field, bound to the filters and the rate that were looked at; a letter that is replayed is none any more, so a
second click does nothing twice.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django import forms
from django.contrib import messages
from django.core.signing import BadSignature, Signer
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from accounts.admin.base import actor_of
from accounts.admin.words import ago
from generations.admin.dead_letter_filters import Chosen
from generations.intake.replay import FASTEST, MOST, Progress, plan, replay
from generations.reports.spans import span

USUAL = 30
_signer = Signer(salt="darkroom.replay")


class RateForm(forms.Form):
    """How fast."""

    rate = forms.IntegerField(
        label="Start so many a minute",
        min_value=1,
        max_value=FASTEST,
        required=False,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Empty: all are due at once, and start as slots come free.",
    )


def replay_page(request: HttpRequest, choice: Chosen, context: dict[str, Any]) -> HttpResponse:
    """GET: what would happen. POST: it happens."""
    if request.method == "POST":
        return _go_on(request, choice, context)
    form = RateForm(request.GET if "rate" in request.GET else {"rate": USUAL})
    rate = form.cleaned_data["rate"] if form.is_valid() else USUAL
    told = plan(choice.filters, rate)
    context |= {
        "choice": choice,
        "form": form,
        "told": told,
        "refused": [(code, number, told.why[code]) for code, number in told.refused.items()],
        "short": [share for share in told.users if share.short],
        "paying": [share for share in told.users if share.price],
        "takes": span(told.seconds) if told.seconds else "",
        "begins": ago(told.starts_at) if told.starts_at else "",
        "most": MOST,
        "hidden": choice.hidden,
        "token": _sign(choice, rate, Progress(total=told.number)),
        "action": f"{request.path}?{choice.query()}",
        "back": _letters(choice),
    }
    return TemplateResponse(request, "admin/generations/deadletter/replay.html", context)


def _go_on(request: HttpRequest, choice: Chosen, context: dict[str, Any]) -> HttpResponse:
    try:
        given = _signer.unsign_object(request.POST.get("progress", ""))
    except (BadSignature, ValueError):
        given = {}
    if given.pop("query", None) != choice.query():
        messages.error(request, "The page was damaged or is too old. Nothing more was done; begin again.")
        return HttpResponseRedirect(_letters(choice))
    rate, progress = given.pop("rate"), Progress(**given)
    if replay(choice.filters, rate, progress, actor=actor_of(request)):
        context |= {
            "title": f"Replaying: {progress.percent} %",
            "progress": progress,
            "token": _sign(choice, rate, progress),
            "action": request.get_full_path(),
            "back": _letters(choice),
        }
        return TemplateResponse(request, "admin/generations/deadletter/progress.html", context)
    _summarise(request, progress, rate)
    return HttpResponseRedirect(reverse("admin:generations_deadletter_changelist"))


def _sign(choice: Chosen, rate: int | None, progress: Progress) -> str:
    return _signer.sign_object({**asdict(progress), "rate": rate, "query": choice.query()})


def _summarise(request: HttpRequest, progress: Progress, rate: int | None) -> None:
    if progress.done:
        how = f", {rate} a minute" if rate else ""
        messages.success(request, f"{progress.done:,} replayed{how}. They are under Generations now.")
    for code, number in sorted(progress.refused.items(), key=lambda item: -item[1]):
        messages.warning(request, f"{number:,} not replayed ({code}): {progress.why[code]}")
    if not progress.seen:
        messages.info(request, "None of them is left: all were replayed, answered or dismissed meanwhile.")


def _letters(choice: Chosen) -> str:
    return f"{reverse('admin:generations_deadletter_letters')}?{choice.query()}"
