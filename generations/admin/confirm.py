"""One Generation, one action: a page that says what will happen, then a POST that does it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html

from accounts.admin.base import actor_of
from accounts.models import Wallet
from generations.admin.actions import CANCEL, RETRY, Action, Outcome, carry_out, may_be_billed, refusal
from generations.admin.history import generation_link
from generations.admin.price import price_today
from generations.models import Generation, Submission


def page_of(generation_id: UUID) -> str:
    """Where a Generation's page is."""
    return reverse("admin:generations_generation_change", args=[generation_id])


def confirm(request: HttpRequest, site: AdminSite, generation: Generation, action: Action) -> HttpResponse:
    """GET: what will happen. POST: it happens, once, however often the button is pressed."""
    attempts = list(generation.submissions.order_by("number").select_related("account"))
    retries = generation.retries.count()
    if request.method == "POST":
        if action is RETRY and request.POST.get("retries") != str(retries):
            messages.info(request, "It was retried since that page was opened; nothing more was done.")
            return HttpResponseRedirect(page_of(generation.pk))
        risky = action is RETRY and may_be_billed(attempts)
        if risky and "insist" not in request.POST:
            messages.error(request, "Nothing was done: tick the box to say that it may be paid for twice.")
            return HttpResponseRedirect(request.path)
        return _answer(
            request,
            generation,
            action,
            carry_out(action, generation.pk, actor=actor_of(request), insist="insist" in request.POST),
        )
    context: dict[str, Any] = {
        **site.each_context(request),
        "title": f"{action.title} this generation?",
        "opts": Generation._meta,
        "generation": generation,
        "action": action,
        "refusal": refusal(action, generation, attempts),
        "back": page_of(generation.pk),
        "retries": retries,
    }
    if action is RETRY:
        context |= _costs(generation, attempts)
    if action is CANCEL:
        context["running"] = [attempt for attempt in attempts if attempt.is_open]
    return TemplateResponse(request, "admin/generations/generation/confirm.html", context)


def _costs(generation: Generation, attempts: list[Submission]) -> dict[str, Any]:
    twin = (
        Generation.objects.of_user(generation.user_id)
        .filter(active_fingerprint=generation.fingerprint)
        .exclude(pk=generation.pk)
        .first()
    )
    wallet = Wallet.objects.filter(user=generation.user_id).first()
    price = price_today(generation)
    return {
        "price": price,
        "available": wallet.available if wallet else 0,
        "too_poor": bool(price) and (wallet is None or wallet.available < (price or 0)),
        "risky": may_be_billed(attempts),
        "risks": [attempt for attempt in attempts if attempt.cost_at_risk],
        "twin": twin,
        "twin_link": generation_link(twin.pk) if twin else "",
    }


def _answer(request: HttpRequest, generation: Generation, action: Action, outcome: Outcome) -> HttpResponse:
    if outcome.done and outcome.generation_id:
        words = {"retry": "A new generation was made; this is it.", "cancel": "Cancelled, or asked to be."}
        messages.success(request, words.get(action.name, "It starts as soon as a slot is free."))
        return HttpResponseRedirect(page_of(outcome.generation_id))
    if outcome.generation_id and outcome.generation_id != generation.pk:
        text = format_html("{} See {}.", outcome.detail, generation_link(outcome.generation_id))
    else:
        text = format_html("{}", outcome.detail)
    messages.error(request, text)
    return HttpResponseRedirect(page_of(generation.pk))
