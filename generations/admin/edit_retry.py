"""Edit and replay: the params of one that ended without a result, changed, checked, priced, and asked for anew."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.html import format_html

from accounts.admin.base import actor_of
from accounts.admin.words import NOTHING
from accounts.models import Wallet
from generations.admin.actions import EDIT, RETRY, carry_out, may_be_billed, refusal
from generations.admin.confirm import page_of
from generations.admin.history import generation_link
from generations.admin.params_form import ParamsForm, initial_of, params_form
from generations.intake.errors import Invalid
from generations.intake.retry import again, changes
from generations.models import Generation
from providers import registry
from providers.registry import UnknownProvider


def edit(request: HttpRequest, site: AdminSite, generation: Generation) -> HttpResponse:
    """GET: the form. POST: what changes and what that costs; with ``replay``, and nothing typed since, it is made."""
    attempts = list(generation.submissions.order_by("number"))
    retries = generation.retries.count()
    refused = refusal(RETRY, generation, attempts)
    form = None if refused else _form(request, generation)
    if form is None:
        refused = refused or f"{generation.provider_id} has no {generation.operation_type} any more."
    context: dict[str, Any] = {
        **site.each_context(request),
        "title": EDIT.title,
        "opts": Generation._meta,
        "generation": generation,
        "action": EDIT,
        "refusal": refused,
        "form": form,
        "back": page_of(generation.pk),
        "retries": retries,
        "risky": may_be_billed(attempts),
    }
    if form is not None and request.method == "POST" and (checked := _check(form, generation)):
        insist = "insist" in request.POST
        if "replay" in request.POST and request.POST.get("checked") == checked["token"]:
            if request.POST.get("retries") != str(retries):
                messages.info(request, "It was retried since that page was opened; nothing more was done.")
                return HttpResponseRedirect(page_of(generation.pk))
            outcome = carry_out(RETRY, generation.pk, actor=actor_of(request), insist=insist, params=checked["params"])
            if outcome.done and outcome.generation_id:
                messages.success(request, "A new generation was made; this is it.")
                return HttpResponseRedirect(page_of(outcome.generation_id))
            named = outcome.generation_id
            other = format_html(" See {}.", generation_link(named)) if named and named != generation.pk else ""
            context |= {"trouble": format_html("{}{}", outcome.detail, other), "answered": outcome.code}
        context |= checked
    return TemplateResponse(request, "admin/generations/generation/edit.html", context)


def _form(request: HttpRequest, generation: Generation) -> ParamsForm | None:
    try:
        model = registry.get(generation.provider_id).operations.get(generation.operation_type)
    except UnknownProvider:
        return None
    if model is None:
        return None
    kind = params_form(model)
    form = kind(request.POST or None, initial=initial_of(kind, generation.params))
    form.before = generation.params
    return form


def _check(form: ParamsForm, generation: Generation) -> dict[str, Any] | None:
    """What would be made: the changes, the price, and a token of both; None: the form says what is wrong."""
    if not form.is_valid():
        return None
    raw = form.raw()
    try:
        new = again(generation, raw).generation
    except Invalid as error:
        form.refuse(error)
        return None
    wallet = Wallet.objects.filter(user=generation.user_id).first()
    available = wallet.available if wallet else 0
    titles = {name: field.label for name, field in form.fields.items()}
    return {
        "params": raw,
        "changes": [
            (titles.get(name, name), _said(before), _said(after))
            for name, (before, after) in changes(generation, new.params).items()
        ],
        "price": new.price,
        "available": available,
        "too_poor": (new.price or 0) > available,
        "token": hashlib.sha256(json.dumps([raw, new.price], sort_keys=True).encode()).hexdigest(),
    }


def _said(value: Any) -> str:
    if value in (None, ""):
        return NOTHING
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
