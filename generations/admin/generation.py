"""Generation: the list that an operator lives in, and the page that tells one's whole story."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter

from accounts.admin.base import HistoryAdmin
from accounts.admin.words import NOTHING, ago, amount, label
from generations.admin.actions import ACTIONS, CANCEL, DISMISS, EDIT, REFUND, RESTORE, RETRY, WAKE, Action
from generations.admin.bulk import bulk
from generations.admin.confirm import confirm
from generations.admin.detail import detail
from generations.admin.dismissal import dismissal
from generations.admin.edit_retry import edit
from generations.admin.filters import (
    PROMPT_WINDOW,
    CreatedFilter,
    OperationFilter,
    ProviderFilter,
    StatusFilter,
    search,
)
from generations.admin.history import picture_of, short
from generations.admin.refund import refund
from generations.admin.rows import STATUS_TONES, Facts, facts_of
from generations.lifecycle import Status
from generations.models import Generation

PROMPT_LENGTH = 110
PAGES: dict[str, Callable[[HttpRequest, AdminSite, Generation], HttpResponse]] = {
    REFUND.name: refund,
    EDIT.name: edit,
    DISMISS.name: dismissal,
    RESTORE.name: dismissal,
}
"""Actions that ask for more than a yes."""
_MARKS = {
    Status.PENDING: "hourglass_top",
    Status.PROCESSING: "progress_activity",
    Status.COMPLETED: "check",
    Status.FAILED: "error",
    Status.CANCELLED: "block",
}


@admin.register(Generation)
class GenerationAdmin(HistoryAdmin[Generation]):
    """Nothing here is edited: what an operator may do, he does with the actions."""

    list_display = ("picture", "what", "status_label", "account_used", "attempts", "costs", "user_name", "age")
    list_display_links = ("picture", "what")
    list_select_related = ("user",)
    list_filter = (
        StatusFilter,
        ProviderFilter,
        OperationFilter,
        ("user", AutocompleteSelectFilter),
        ("created_at", CreatedFilter),
    )
    search_fields = ("id",)
    search_help_text = (
        f"An id or its beginning, a provider's job id, or words of a prompt (in the newest {PROMPT_WINDOW:,})"
    )
    actions = ("retry_selected", "cancel_selected", "wake_selected")

    # --- the list -------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Generation]:
        """Without what only the detail page shows."""
        return super().get_queryset(request).defer("raw_params", "context", "metadata")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Generation], search_term: str
    ) -> tuple[QuerySet[Generation], bool]:
        """By id, job id or prompt; never a walk through the whole table."""
        return (search(queryset, search_term) if search_term else queryset), False

    def decorate(self, rows: list[Generation]) -> None:
        """Attempts, accounts, results and reasons of a page: a constant number of queries."""
        found = facts_of(rows)
        for row in rows:
            row.facts = found[row.pk]  # type: ignore[attr-defined]

    @admin.display(description="")
    def picture(self, row: Generation) -> SafeString:
        """Its first result, or a mark of where it stands."""
        facts = _facts(row)
        if facts.asset is not None:
            return picture_of(facts.asset)
        return format_html(
            '<span class="dr-thumb dr-{}"><span class="material-symbols-outlined" aria-hidden="true">{}</span></span>',
            STATUS_TONES[Status(row.status)],
            _MARKS[Status(row.status)],
        )

    @admin.display(description="Generation")
    def what(self, row: Generation) -> SafeString:
        """Prompt, operation, provider and the id's two ends."""
        prompt = row.prompt or "(no prompt)"
        excerpt = prompt if len(prompt) <= PROMPT_LENGTH else f"{prompt[:PROMPT_LENGTH].rstrip()}…"
        return format_html(
            '<span class="dr-what"><strong title="{}">{}</strong>'
            '<small>{} · {} · <code title="{}">{}</code></small></span>',
            prompt[:1000],
            excerpt,
            row.get_operation_type_display(),
            row.provider_id,
            row.pk,
            short(row.pk),
        )

    @admin.display(description="Status")
    def status_label(self, row: Generation) -> SafeString:
        """Coloured, with the reason below."""
        facts = _facts(row)
        text = row.get_status_display()
        if row.status == Status.PROCESSING and facts.progress is not None:
            text = f"{text} {facts.progress} %"
        below = facts.reason or (facts.state if row.status == Status.PROCESSING else "")
        return format_html(
            '{}<small class="dr-below" title="{}">{}</small>',
            label(text, STATUS_TONES[Status(row.status)]),
            row.error_message[:500],
            below,
        )

    @admin.display(description="Account")
    def account_used(self, row: Generation) -> str:
        """The newest attempt's."""
        return _facts(row).account or NOTHING

    @admin.display(description="Attempts")
    def attempts(self, row: Generation) -> str:
        """How many there were."""
        return str(_facts(row).attempts or NOTHING)

    @admin.display(description="Price / cost")
    def costs(self, row: Generation) -> SafeString:
        """What the user pays, and what the provider says it took."""
        facts = _facts(row)
        price = "free" if row.price is None else f"{row.price:,} credits"
        cost = "cost unknown" if facts.cost_at_risk else "" if facts.cost is None else f"cost {amount(facts.cost)}"
        css = "dr-below dr-risk" if facts.cost_at_risk else "dr-below"
        return format_html('{}<small class="{}">{}</small>', price, css, cost)

    @admin.display(description="User")
    def user_name(self, row: Generation) -> str:
        """Who asked."""
        return str(row.user)

    @admin.display(description="Age")
    def age(self, row: Generation) -> SafeString | str:
        """Since it was accepted."""
        return ago(row.created_at)

    # --- one --------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Its story, for reading."""
        generation = self._get(request, object_id)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": short(generation.pk),
            "subtitle": generation.prompt[:60] or None,
            "is_fullwidth": "1",
            **detail(generation, may=request.user.has_perm),
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/generations/generation/detail.html", context)

    def get_urls(self) -> list[URLPattern]:
        """With a confirmation page for each action."""
        own = [
            path(
                f"<uuid:object_id>/{action.name}/",
                self.admin_site.admin_view(self._confirmation(action)),
                name=f"generations_generation_{action.name}",
            )
            for action in (*ACTIONS.values(), REFUND, EDIT, DISMISS, RESTORE)
        ]
        return [*own, *super().get_urls()]

    def _confirmation(self, action: Action) -> Callable[..., HttpResponse]:
        def view(request: HttpRequest, object_id: UUID) -> HttpResponse:
            if not request.user.has_perm(action.permission):
                raise PermissionDenied
            generation = self._get(request, str(object_id))
            if action.name in PAGES:
                return PAGES[action.name](request, self.admin_site, generation)
            return confirm(request, self.admin_site, generation, action)

        return view

    def _get(self, request: HttpRequest, object_id: str) -> Generation:
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            pk = UUID(object_id)
        except ValueError:
            pk = UUID(int=0)
        related = ("user", "account", "retry_of", "parent", "prompt_version__prompt", "scene__chapter")
        return get_object_or_404(Generation.objects.select_related(*related), pk=pk)

    # --- many -------------------------------------------------------------------------------------

    def has_act_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever may change generations; looking needs only the view permission."""
        return request.user.has_perm("generations.change_generation")

    @admin.action(description="Retry", permissions=["act"])
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Generation]) -> HttpResponse:
        """Failed and cancelled ones get a successor."""
        return bulk(request, self.admin_site, RETRY, queryset)

    @admin.action(description="Cancel", permissions=["act"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Generation]) -> HttpResponse:
        """Those that are not through yet."""
        return bulk(request, self.admin_site, CANCEL, queryset)

    @admin.action(description="Start now", permissions=["act"])
    def wake_selected(self, request: HttpRequest, queryset: QuerySet[Generation]) -> HttpResponse:
        """Those that wait for a time."""
        return bulk(request, self.admin_site, WAKE, queryset)


def _facts(row: Generation) -> Facts:
    facts: Facts = row.facts  # type: ignore[attr-defined]
    return facts
