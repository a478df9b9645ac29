"""Giving back what a Generation has cost: a page that says what will happen and asks why, then a POST that does it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextInputWidget

from accounts.admin.base import actor_of
from accounts.models import LedgerEntry, Wallet
from generations.admin.actions import REFUND
from generations.intake import ledger
from generations.intake.errors import Refusal
from generations.models import Generation
from generations.reports.partial import partials

Kind = LedgerEntry.Kind


class RefundForm(forms.Form):
    """How much, and why."""

    amount = forms.IntegerField(
        help_text="Whole credits, at most what it has cost.", widget=UnfoldAdminIntegerFieldWidget
    )
    reason = forms.CharField(
        max_length=200, help_text="The user reads it, and the ledger keeps it.", widget=UnfoldAdminTextInputWidget
    )


def refund(request: HttpRequest, site: AdminSite, generation: Generation) -> HttpResponse:
    """GET: what will happen. POST: it happens, once, however often the button is pressed."""
    entries = ledger.movements(generation.pk)
    spent = -entries[Kind.CAPTURE].held_change if Kind.CAPTURE in entries else 0
    form = RefundForm(request.POST or None, initial={"amount": spent})
    if request.method == "POST" and form.is_valid() and (answer := _carry_out(request, generation.pk, form)):
        return answer
    before = entries.get(Kind.REFUND)
    wallet = Wallet.objects.filter(user=generation.user_id).first()
    context: dict[str, Any] = {
        **site.each_context(request),
        "title": "Refund this generation?",
        "opts": Generation._meta,
        "generation": generation,
        "action": REFUND,
        "refusal": ledger.not_refundable(generation),
        "before": before,
        "spent": spent,
        "available": wallet.available if wallet else 0,
        "partial": partials([generation.pk]).get(generation.pk),
        "form": form,
        "back": _page(generation.pk),
    }
    return TemplateResponse(request, "admin/generations/generation/refund.html", context)


def _carry_out(request: HttpRequest, generation_id: UUID, form: RefundForm) -> HttpResponse | None:
    """None: the form is to be corrected."""
    reason, amount = form.cleaned_data["reason"], form.cleaned_data["amount"]
    try:
        ledger.refund(generation_id, reason=reason, amount=amount, actor=actor_of(request))
    except Generation.DoesNotExist:
        messages.error(request, "It has been removed meanwhile. Adjust the wallet instead.")
        return HttpResponseRedirect(reverse("admin:generations_generation_changelist"))
    except Refusal as error:
        if error.field:
            form.add_error(error.field, error.detail)
            return None
        messages.error(request, error.detail)
    else:
        messages.success(request, f"{amount:,} credits were given back.")
    return HttpResponseRedirect(_page(generation_id))


def _page(generation_id: UUID) -> str:
    return reverse("admin:generations_generation_change", args=[generation_id])
