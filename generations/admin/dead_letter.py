"""Dead letters in the console: groups to look at, their members, and what can be done to all of them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from accounts.admin.base import HistoryAdmin, actor_of
from generations.admin import sparkline
from generations.admin.confirm import page_of
from generations.admin.dead_letter_filters import Chosen, chosen
from generations.admin.dead_letter_replay import replay_page
from generations.admin.dismissal import ReasonForm
from generations.admin.history import picture_of
from generations.admin.rows import Facts, facts_of
from generations.intake.dismiss import dismiss
from generations.intake.replay import MOST
from generations.models import DeadLetter, Event, Generation, GenerationInput
from generations.reports.deadletters import Group, dismissed, groups, letters

PAGE = 50


@admin.register(DeadLetter)
class DeadLetterAdmin(HistoryAdmin[DeadLetter]):
    """Its list is the groups; one letter is its Generation's page."""

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Whoever may change generations."""
        return bool(request.user.has_perm("generations.change_generation"))

    def get_urls(self) -> list[URLPattern]:
        """With the pages of a group."""
        own = [
            path(f"{name}/", self.admin_site.admin_view(view), name=f"generations_deadletter_{name}")
            for name, view in (("letters", self.letters), ("replay", self.replay), ("dismiss", self.dismiss))
        ]
        return [*own, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The groups of a time, as bars."""
        self._check(request)
        form, choice = chosen(request.GET)
        told = groups(choice.filters) if choice else None
        context = {
            **self._context(request, "Dead letters"),
            "form": form,
            "told": told,
            "rows": _rows(told.groups, choice) if told and choice else [],
            "all_query": choice.query() if choice else "",
            "dismissed_query": choice.query(show="dismissed") if choice else "",
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/generations/deadletter/groups.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """A letter is a Generation."""
        self._check(request)
        return HttpResponseRedirect(reverse("admin:generations_generation_change", args=[object_id]))

    def letters(self, request: HttpRequest) -> HttpResponse:
        """The members of a group, newest first; or what was dismissed of it."""
        self._check(request)
        choice = self._chosen(request)
        if choice is None:
            return self._back(request)
        gone = request.GET.get("show") == "dismissed"
        queryset: QuerySet[Any] = dismissed(choice.filters) if gone else letters(choice.filters)
        rows, older = _page(queryset, request.GET.get("before", ""))
        show = {"show": "dismissed"} if gone else {}
        context = {
            **self._context(request, "Dismissed letters" if gone else "Dead letters of a group"),
            "choice": choice,
            "gone": gone,
            "members": _members(rows, dismissed=gone),
            "older": choice.query(**show, before=str(rows[-1].pk)) if older else "",
            "query": choice.query(),
            "here": request.get_full_path(),
        }
        return TemplateResponse(request, "admin/generations/deadletter/letters.html", context)

    def replay(self, request: HttpRequest) -> HttpResponse:
        """All that the filters mean, at a rate: looked at first, then done."""
        self._check(request, act=True)
        choice = self._chosen(request)
        if choice is None:
            return self._back(request)
        return replay_page(request, choice, self._context(request, "Replay dead letters"))

    def dismiss(self, request: HttpRequest) -> HttpResponse:
        """Nothing is to be done about all that the filters mean."""
        self._check(request, act=True)
        choice = self._chosen(request)
        if choice is None:
            return self._back(request)
        form = ReasonForm(request.POST or None)
        ids = letters(choice.filters).order_by("pk").values_list("pk", flat=True)[:MOST]
        if request.method == "POST" and form.is_valid():
            number = dismiss(list(ids), reason=form.cleaned_data["reason"], actor=actor_of(request))
            messages.success(request, f"{number:,} dismissed.")
            return self._back(request)
        context = {
            **self._context(request, "Dismiss dead letters?"),
            "choice": choice,
            "number": ids.count(),
            "most": MOST,
            "form": form,
            "back": f"{reverse('admin:generations_deadletter_letters')}?{choice.query()}",
        }
        return TemplateResponse(request, "admin/generations/deadletter/dismiss.html", context)

    def _check(self, request: HttpRequest, *, act: bool = False) -> None:
        if not self.has_view_permission(request) or (act and not self.has_act_permission(request)):
            raise PermissionDenied

    def _chosen(self, request: HttpRequest) -> Chosen | None:
        form, choice = chosen(request.GET)
        if choice is None:
            errors = [f"{name}: {text}" for name, texts in form.errors.items() for text in texts]
            messages.error(request, f"These filters mean nothing. {' '.join(errors)}")
        return choice

    def _back(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:generations_deadletter_changelist"))

    def _context(self, request: HttpRequest, title: str) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": title,
            "may_act": self.has_act_permission(request),
        }


def _rows(found: list[Group], choice: Chosen) -> list[dict[str, Any]]:
    """What the page shows of each group: its bars and where they lead."""
    since, until = choice.filters.since, choice.filters.until
    highest = sparkline.highest([group.hours for group in found], sparkline.width_of(since, until))
    rows = []
    for group in found:
        of_group = {
            "code": group.code,
            "provider": group.provider_id,
            "account": str(group.account or "none"),
        }
        drawn = sparkline.bars(group.hours, since, until, highest)
        rows.append(
            {
                "group": group,
                "query": choice.query(**of_group),
                "bars": [
                    (bar, choice.query(**of_group, since=bar.since.isoformat(), until=bar.until.isoformat()))
                    for bar in drawn
                ],
                "width": len(drawn) * sparkline.STEP,
                "height": sparkline.HEIGHT,
                "bar_width": sparkline.STEP - 2,
                "step": sparkline.STEP,
            }
        )
    return rows


def _page(queryset: QuerySet[Any], before: str) -> tuple[list[Any], bool]:
    """One page, and whether there are older ones."""
    try:
        queryset = queryset.filter(pk__lt=UUID(before)) if before else queryset
    except ValueError:
        queryset = queryset.none()
    rows = list(queryset.select_related("user").order_by("-pk")[: PAGE + 1])
    return rows[:PAGE], len(rows) > PAGE


def _members(rows: list[Generation], *, dismissed: bool) -> list[dict[str, Any]]:
    """What a row shows beside its columns: a constant number of queries for the page."""
    ids = [row.pk for row in rows]
    facts = facts_of(rows)
    inputs = GenerationInput.objects.filter(generation__in=ids, index=0).select_related("asset")
    pictures = {row.generation_id: picture_of(row.asset) for row in inputs}
    said: dict[UUID, Event] = {}
    if dismissed:
        for event in Event.objects.filter(generation__in=ids, kind=Event.Kind.DISMISSED).order_by("id"):
            said[event.generation_id] = event
    return [_member(row, facts[row.pk], pictures.get(row.pk), said.get(row.pk)) for row in rows]


def _member(row: Generation, facts: Facts, picture: Any, said: Event | None) -> dict[str, Any]:
    return {
        "row": row,
        "facts": facts,
        "picture": picture,
        "page": page_of(row.pk),
        "said": said,
    }
