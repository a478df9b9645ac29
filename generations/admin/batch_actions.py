"""What an operator may do to a batch: a page that says what will happen, then a POST that does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from accounts.admin.base import actor_of
from accounts.models import Wallet
from generations.intake import batch_changes
from generations.intake.errors import Refusal
from generations.lifecycle import LIVE, Status
from generations.models import Batch
from generations.reports.batches import Standing, standings

PERMISSION = "generations.change_batch"


@dataclass(frozen=True, slots=True)
class BatchAction:
    """``name`` in URLs, ``title`` on buttons; ``carry_out`` gives what is said when it is done."""

    name: str
    title: str
    icon: str
    explanation: str
    carry_out: Callable[[UUID, str], str]
    possible: Callable[[Batch, Standing], bool]


def _cancel(pk: UUID, actor: str) -> str:
    batch_changes.cancel(pk, actor=actor)
    return "It is cancelled; what is at the provider is asked to stop."


def _pause(pk: UUID, _actor: str) -> str:
    batch_changes.pause(pk)
    return "It is paused: nothing more of it is sent until it is resumed."


def _resume(pk: UUID, actor: str) -> str:
    batch_changes.resume(pk, actor=actor)
    return "It goes on."


def _retry(pk: UUID, actor: str) -> str:
    done = batch_changes.retry_failed(pk, actor=actor)
    left = len(done.possibly_billed)
    more = f" {left} may still be billed and were left as they are." if left else ""
    return f"{done.retried} {'item is' if done.retried == 1 else 'items are'} made anew.{more}"


def _live(batch: Batch, standing: Standing) -> bool:
    return any(standing.counts.get(status, 0) for status in LIVE) and batch.cancelled_at is None


ACTIONS = (
    BatchAction(
        "retry",
        "Retry what failed",
        "replay",
        "A new generation is made for each item that failed, at today's price, all in one hold. What completed is not "
        "touched. Items of which an attempt may still be billed are left as they are.",
        _retry,
        lambda batch, standing: bool(standing.counts.get(Status.FAILED)) and batch.cancelled_at is None,
    ),
    BatchAction(
        "pause",
        "Pause",
        "pause",
        "Nothing more of it is sent; what is at the provider goes on and is kept. What waits for too long ends as any "
        "other that waits too long.",
        _pause,
        lambda batch, standing: _live(batch, standing) and batch.paused_at is None,
    ),
    BatchAction(
        "resume",
        "Resume",
        "play_arrow",
        "What waits starts as slots come free.",
        _resume,
        lambda batch, standing: _live(batch, standing) and batch.paused_at is not None,
    ),
    BatchAction(
        "cancel",
        "Cancel",
        "cancel",
        "What waits ends at once, and its credits are released. What is under way is stopped at the provider where it "
        "can be; a result that arrives within the grace is kept. What somebody else has asked for too goes on.",
        _cancel,
        _live,
    ),
)


def legal(batch: Batch, standing: Standing, may: Callable[[str], bool]) -> list[BatchAction]:
    """The buttons for somebody who ``may`` do what a permission allows."""
    return [action for action in ACTIONS if may(PERMISSION) and action.possible(batch, standing)]


def confirm(request: HttpRequest, site: AdminSite, batch: Batch, action: BatchAction) -> HttpResponse:
    """GET: what will happen. POST: it happens."""
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied
    back = reverse("admin:generations_batch_change", args=[batch.pk])
    if request.method == "POST":
        try:
            messages.success(request, action.carry_out(batch.pk, actor_of(request)))
        except Refusal as refused:
            messages.error(request, refused.detail)
        return HttpResponseRedirect(back)
    standing = standings([batch])[batch.pk]
    wallet = Wallet.objects.filter(user=batch.user_id).first()
    context: dict[str, Any] = {
        **site.each_context(request),
        "opts": Batch._meta,
        "title": f"{action.title}?",
        "batch": batch,
        "action": action,
        "counts": [(str(status.label), standing.counts.get(status, 0)) for status in Status],
        "held": standing.credits.held,
        "available": wallet.available if wallet else 0,
        "possible": action.possible(batch, standing),
        "back": back,
    }
    return TemplateResponse(request, "admin/generations/batch/confirm.html", context)
