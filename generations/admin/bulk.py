"""Many Generations, one action: ten thousand are done in slices, each request short, with a summary at the end.

The page that a slice answers sends the next one by itself (or by its button). What has been done so far travels in a
signed field; the rows still to do are found by the list's own filter, from a cursor up to the newest row that was
there when the operator confirmed, so that what a retry makes is not retried.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.signing import BadSignature, Signer
from django.db.models import Count, QuerySet, Sum
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse

from accounts.admin.base import actor_of
from generations.admin.actions import RETRY, Action, carry_out
from generations.lifecycle import Status
from generations.models import Generation, Submission

MOST = 10_000
SLICE = 200
SLICE_SECONDS = 4.0
_signer = Signer(salt="darkroom.bulk")


@dataclass(slots=True)
class Progress:
    """How far a bulk action has come. ``refused`` counts by code, ``why`` holds one sentence for each."""

    until: str
    total: int
    insist: bool
    cursor: str = ""
    seen: int = 0
    done: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)

    @property
    def percent(self) -> int:
        """Of the rows to look at, how many have been."""
        return min(100, self.seen * 100 // max(1, self.total))


def bulk(request: HttpRequest, site: AdminSite, action: Action, queryset: QuerySet[Generation]) -> HttpResponse:
    """The action of the list: ask, then do it slice by slice."""
    token = request.POST.get("progress")
    if token is None:
        return _ask(request, site, action, queryset)
    try:
        progress = Progress(**_signer.unsign_object(token))
    except (BadSignature, TypeError):
        messages.error(request, "The page was damaged or is too old. Nothing more was done; begin again.")
        return HttpResponseRedirect(request.get_full_path())
    if progress.seen == 0:
        progress.insist = "insist" in request.POST
    more = _slice(queryset, action, progress, actor=actor_of(request))
    if more:
        context = _context(request, site, action, progress) | {"title": f"{action.title}: {progress.percent} %"}
        return TemplateResponse(request, "admin/generations/generation/bulk_progress.html", context)
    _summarise(request, action, progress)
    return HttpResponseRedirect(request.get_full_path())


def _ask(request: HttpRequest, site: AdminSite, action: Action, queryset: QuerySet[Generation]) -> HttpResponse:
    newest = queryset.order_by("-pk").values_list("pk", flat=True).first()
    chosen = Generation.objects.filter(pk__in=queryset.order_by("pk").values("pk")[:MOST])
    by_status: dict[str, int] = dict(chosen.order_by().values_list("status").annotate(Count("pk")))
    total = sum(by_status.values())
    progress = Progress(until=str(newest), total=total, insist=False)
    context = _context(request, site, action, progress) | {
        "title": f"{action.title}: {total:,} selected",
        "total": total,
        "capped": total == MOST,
        "most": MOST,
        "by_status": [(Status(status).label, number) for status, number in sorted(by_status.items())],
    }
    if action is RETRY:
        retried = chosen.filter(status__in=[Status.FAILED, Status.CANCELLED])
        context |= {
            "price": retried.aggregate(Sum("price"))["price__sum"],
            "risky": Submission.objects.billable().filter(generation__in=retried.values("pk")).count(),
        }
    return TemplateResponse(request, "admin/generations/generation/bulk_confirm.html", context)


def _context(request: HttpRequest, site: AdminSite, action: Action, progress: Progress) -> dict[str, Any]:
    across = request.POST.get("select_across") == "1"
    return {
        **site.each_context(request),
        "opts": Generation._meta,
        "action": action,
        "progress": progress,
        "token": _signer.sign_object(asdict(progress)),
        "action_name": request.POST.get("action", ""),
        "select_across": "1" if across else "0",
        "checkbox_name": ACTION_CHECKBOX_NAME,
        # With "all that match", one id says that something is selected; the filter says what.
        "selected": request.POST.getlist(ACTION_CHECKBOX_NAME)[: 1 if across else None],
        "back": request.get_full_path(),
    }


def _slice(queryset: QuerySet[Generation], action: Action, progress: Progress, *, actor: str) -> bool:
    """Do the next rows, for a few seconds at most. Returns whether there are more."""
    stop = time.monotonic() + SLICE_SECONDS
    rows = queryset.order_by("pk").filter(pk__lte=UUID(progress.until))
    if progress.cursor:
        rows = rows.filter(pk__gt=UUID(progress.cursor))
    ids = list(rows.values_list("pk", flat=True)[: min(SLICE, MOST - progress.seen)])
    refused = Counter(progress.refused)
    for number, pk in enumerate(ids, start=1):
        outcome = carry_out(action, pk, actor=actor, insist=progress.insist)
        progress.cursor, progress.seen = str(pk), progress.seen + 1
        if outcome.done:
            progress.done += 1
        else:
            refused[outcome.code] += 1
            progress.why.setdefault(outcome.code, outcome.detail)
        if time.monotonic() > stop and number < len(ids):
            progress.refused = dict(refused)
            return True
    progress.refused = dict(refused)
    return len(ids) == SLICE and progress.seen < MOST


def _summarise(request: HttpRequest, action: Action, progress: Progress) -> None:
    if progress.done:
        messages.success(request, f"{_number(progress.done)} {action.done}.")
    for code, number in sorted(progress.refused.items(), key=lambda item: -item[1]):
        messages.warning(request, f"{_number(number)} not {action.done} ({code}): {progress.why[code]}")
    if not progress.seen:
        messages.info(request, "None of them is left that the filter finds.")


def _number(count: int) -> str:
    return "1 generation" if count == 1 else f"{count:,} generations"
