"""The one plain page: a user's newest results, what is under way, and the way to everything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import conditional_page, require_safe

from accounts.models import Wallet
from generations.lifecycle import LIVE, Status
from generations.models import Asset, Generation, Submission, Switch
from generations.models.switch import INTAKE
from generations.reports.partial import partials
from generations.reports.switches import SwitchTold, told, with_names
from generations.reports.waiting import wait_reasons
from generations.signing import content_url

NEWEST = 24
WAITS = {
    "scheduled": "scheduled for later",
    "backing_off": "trying again soon",
    "no_capacity": "waiting for a free slot",
    "cooling_down": "waiting for the provider",
    "user_cap": "waiting for one of yours to finish",
    "daily_cap": "waiting for tomorrow",
    "held_back": "waiting until finished ones are stored",
    "paused": "paused",
    "no_account": "waiting for an account",
}


@dataclass(frozen=True, slots=True)
class Card:
    """One Generation as the page shows it."""

    generation: Generation
    words: str
    url: str = ""
    thumbnail: str = ""
    kind: str = ""
    more: int = 0
    progress: int | None = None

    @property
    def prompt(self) -> str:
        """What it is of."""
        return self.generation.prompt or self.generation.get_operation_type_display()


class Login(LoginView):
    """For everybody; the console has its own for staff."""

    template_name = "pages/login.html"
    redirect_authenticated_user = True


@require_safe
@login_required
def home(request: HttpRequest) -> HttpResponse:
    """The page, with the list in it."""
    wallet = Wallet.objects.filter(user=_user_id(request)).first()
    context = {**_list(request), "wallet": wallet, "links": _links(request), "stopped": _intake_stopped()}
    return render(request, "pages/home.html", context)


@require_safe
@conditional_page
@login_required
def newest(request: HttpRequest) -> HttpResponse:
    """Only the list, for the page's own refreshing. Unchanged since last time: 304, by its ETag."""
    response = render(request, "pages/newest.html", _list(request))
    response["Cache-Control"] = "private, no-cache"
    return response


def cards(user_id: int) -> list[Card]:
    """A user's newest Generations, with their first results; a few queries, however many they are."""
    rows = list(Generation.objects.of_user(user_id).defer("raw_params", "context", "metadata").order_by("-pk")[:NEWEST])
    reasons = wait_reasons(rows)
    files = _files([row.pk for row in rows])
    progress = dict(
        Submission.objects.open()
        .filter(generation__in=[row.pk for row in rows], abandoned_at=None)
        .values_list("generation", "progress")
    )
    partial = partials([row.pk for row in rows if row.status == Status.COMPLETED])
    words = {row.pk: partial.get(row.pk) or _words(row, reasons[row.pk]) for row in rows}
    return [_card(row, words[row.pk], files.get(row.pk, []), progress.get(row.pk)) for row in rows]


def _files(generation_ids: list[Any]) -> dict[Any, list[Asset]]:
    found: dict[Any, list[Asset]] = {}
    assets = (
        Asset.objects.kept()
        .filter(submission__generation__in=generation_ids, role=Asset.Role.OUTPUT)
        .select_related("submission")
        .only("mime_type", "thumbnail_key", "index", "submission__generation_id")
        .order_by("submission", "index")
    )
    for asset in assets:
        assert asset.submission is not None
        found.setdefault(asset.submission.generation_id, []).append(asset)
    return found


def _card(row: Generation, words: str, files: list[Asset], progress: int | None) -> Card:
    if files:
        first = files[0]
        thumbnail = content_url(first, thumbnail=True) if first.thumbnail_key else ""
        return Card(row, words, content_url(first), thumbnail, first.kind, len(files) - 1)
    return Card(row, words, progress=progress)


def _words(row: Generation, reason: str | None) -> str:
    match row.status:
        case Status.PENDING:
            return WAITS.get(str(reason), "about to start")
        case Status.PROCESSING:
            return "cancel asked for" if row.cancel_requested_at else "being made"
        case Status.FAILED:
            return row.error_message or row.error_code.replace("_", " ") or "failed"
        case _:
            return row.get_status_display().lower()


def _list(request: HttpRequest) -> dict[str, Any]:
    shown = cards(_user_id(request))
    return {"cards": shown, "live": any(card.generation.status in LIVE for card in shown)}


def _intake_stopped() -> SwitchTold | None:
    """Why nothing new is accepted; what is paused is told at each result that waits for it."""
    switch = with_names(Switch.objects.filter(key=INTAKE)).first()
    return told(switch) if switch else None


def _user_id(request: HttpRequest) -> int:
    return cast("int", request.user.pk)


def _links(request: HttpRequest) -> list[tuple[str, str]]:
    """The ways out that exist for this user."""
    found = []
    if getattr(request.user, "is_staff", False):
        found.append(("Console", reverse("admin:index")))
    found.append(("API documentation", reverse("api:docs")))
    if settings.FLOWER_URL and getattr(request.user, "is_staff", False):
        found.append(("Flower", settings.FLOWER_URL))
    return found
