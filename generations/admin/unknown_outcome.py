"""The inbox of unknown outcomes: evidence and exposure side by side, and three buttons with a note."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from accounts.admin.base import HistoryAdmin, actor_of
from accounts.admin.words import NOTHING, ago, amount, label
from generations.admin.confirm import page_of
from generations.admin.history import STATE_TONES, by_generation, generation_link
from generations.intake.errors import Refusal
from generations.intake.resolve import LONGEST_NOTE, Answer, Resolution, resolve
from generations.lifecycle import State
from generations.models import UnknownOutcome
from generations.reports.unknowns import AtStake, described

RELATED = ("account", "generation", "generation__user")


class ResolveForm(forms.Form):
    """What a person found out."""

    note = forms.CharField(
        max_length=LONGEST_NOTE,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="On what grounds? The timeline keeps it.",
    )
    job_id = forms.CharField(
        label="Job id at the provider",
        max_length=255,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="Only with “It was billed”: then the job is followed on, and its result is kept.",
    )
    cost = forms.DecimalField(
        label="What it cost",
        required=False,
        min_value=0,
        max_digits=14,
        decimal_places=4,
        widget=UnfoldAdminDecimalFieldWidget,
        help_text="Only with “It was billed”, in the provider's unit.",
    )

    def answer(self, decision: Resolution) -> Answer:
        """As intake wants it."""
        given = self.cleaned_data
        return Answer(decision, given["note"], given["job_id"].strip(), given["cost"])


@admin.register(UnknownOutcome)
class UnknownOutcomeAdmin(HistoryAdmin[UnknownOutcome]):
    """What nobody knows, newest first."""

    list_display = ("what", "state_label", "account_used", "evidence_shown", "at_stake", "sent", "until")
    list_display_links = ("what",)
    list_select_related = RELATED
    search_fields = ("id",)
    search_help_text = "A generation's whole id"

    def get_queryset(self, request: HttpRequest) -> QuerySet[UnknownOutcome]:
        """Without what can be long."""
        return super().get_queryset(request).defer("request", "response", "outputs")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[UnknownOutcome], search_term: str
    ) -> tuple[QuerySet[UnknownOutcome], bool]:
        """By the Generation's id."""
        return (by_generation(queryset, search_term) if search_term else queryset), False

    def decorate(self, rows: list[UnknownOutcome]) -> None:
        """What is at stake, in one query for the page."""
        for row, told in zip(rows, described(rows), strict=True):
            row.told = told  # type: ignore[attr-defined]

    @admin.display(description="Attempt")
    def what(self, row: UnknownOutcome) -> SafeString:
        """Prompt and number."""
        prompt = row.generation.prompt or "(no prompt)"
        return format_html(
            '<span class="dr-what"><strong title="{}">{}</strong><small>{} · attempt {} · {}</small></span>',
            prompt[:1000],
            prompt[:80],
            row.generation.get_operation_type_display(),
            row.number,
            row.generation.user,
        )

    @admin.display(description="State")
    def state_label(self, row: UnknownOutcome) -> SafeString:
        """Coloured, with why."""
        text = "unknown" if row.state == State.UNKNOWN else "cost at risk"
        return format_html(
            '{}<small class="dr-below" title="{}">{}</small>',
            label(text, STATE_TONES[State(row.state)]),
            row.error_message[:500],
            row.error_message[:60],
        )

    @admin.display(description="Account")
    def account_used(self, row: UnknownOutcome) -> str:
        """Which login."""
        return str(row.account)

    @admin.display(description="What the provider's list says")
    def evidence_shown(self, row: UnknownOutcome) -> SafeString:
        """In words."""
        return format_html('<span class="dr-what"><small>{}</small></span>', _told(row).evidence)

    @admin.display(description="At stake")
    def at_stake(self, row: UnknownOutcome) -> SafeString:
        """Money and slots."""
        return format_html("{}", ", ".join(stakes(_told(row))) or NOTHING)

    @admin.display(description="Sent")
    def sent(self, row: UnknownOutcome) -> SafeString | str:
        """How long ago."""
        return ago(row.sent_at)

    @admin.display(description="Given up")
    def until(self, row: UnknownOutcome) -> SafeString | str:
        """When it is given up by itself."""
        return ago(row.limit_at) if row.state == State.UNKNOWN else "has ended"

    # --- one --------------------------------------------------------------------------------------

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Whoever may change attempts."""
        return bool(request.user.has_perm("generations.change_submission"))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Evidence, exposure, and the decision."""
        row = self._row(request, object_id)
        if row is None:
            messages.info(request, "That one waits for nobody any more: its outcome is known, or a person has said it.")
            return HttpResponseRedirect(reverse("admin:generations_unknownoutcome_changelist"))
        form = ResolveForm(request.POST or None)
        if request.method == "POST":
            if not self.has_act_permission(request):
                raise PermissionDenied
            if form.is_valid() and (answered := self._resolve(request, row, form)) is not None:
                return answered
        [told] = described([row])
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Was attempt {row.number} taken by {row.account}?",
            "row": row,
            "told": told,
            "stakes": stakes(told),
            "generation_link": generation_link(row.generation_id),
            "candidates": (row.evidence or {}).get("candidates", []),
            "form": form,
            "may_act": self.has_act_permission(request),
            "is_live": row.generation.is_live and row.abandoned_at is None,
            "back": reverse("admin:generations_unknownoutcome_changelist"),
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/generations/unknownoutcome/resolve.html", context)

    def _row(self, request: HttpRequest, object_id: str) -> UnknownOutcome | None:
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            pk = UUID(object_id)
        except ValueError:
            raise Http404 from None
        return self.get_queryset(request).select_related(*RELATED).filter(pk=pk).first()

    def _resolve(self, request: HttpRequest, row: UnknownOutcome, form: ResolveForm) -> HttpResponse | None:
        """Do it; None: it is refused, and the form says why."""
        try:
            decision = Resolution(request.POST.get("decision", ""))
        except ValueError:
            form.add_error(None, "Choose one of the three answers.")
            return None
        if decision == Resolution.RESUBMIT and "insist" not in request.POST:
            form.add_error(None, "Tick the box to say that it may be paid for twice.")
            return None
        try:
            done = resolve(row.pk, form.answer(decision), actor=actor_of(request))
        except Refusal as refusal:
            form.add_error(refusal.field if refusal.field in form.fields else None, refusal.detail)
            return None
        messages.success(request, f"Noted: {decision.label}. This is the generation that it is about.")
        return HttpResponseRedirect(page_of(done.generation.pk))


def stakes(told: AtStake) -> list[str]:
    """What is at stake, in words."""
    found = [] if told.usual_cost is None else [f"about {amount(round(told.usual_cost, 4))} {told.unit}"]
    found += [f"{told.held:,} credits of {told.submission.generation.user} held"] if told.held else []
    return found + (["a slot of the account"] if told.keeps_slot else [])


def _told(row: UnknownOutcome) -> AtStake:
    told: AtStake = row.told  # type: ignore[attr-defined]
    return told
