"""Rows that only tell what happened: attempts, events, files, keys, heartbeats. All read-only."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.admin.base import HistoryAdmin
from accounts.admin.words import NOTHING, ago, amount, label, pretty_json
from generations.lifecycle import HOLDS_SLOT, State
from generations.models import (
    AccountExclusion,
    Asset,
    CallbackNonce,
    Event,
    GenerationInput,
    Heartbeat,
    HeldBack,
    IdempotencyKey,
    Submission,
)
from generations.signing import content_url

if TYPE_CHECKING:
    Dropdown = admin.SimpleListFilter
    RelatedDropdown = admin.RelatedFieldListFilter
else:
    from unfold.contrib.filters.admin import DropdownFilter as Dropdown
    from unfold.contrib.filters.admin import RelatedDropdownFilter as RelatedDropdown

# In two parts, each of which has a partial index: a million ended attempts are not walked through.
IS_OPEN = Q(state__in=HOLDS_SLOT) | Q(state=State.COLLECTING)

STATE_TONES = {
    State.RESERVED: "wait",
    State.SENDING: "busy",
    State.UNKNOWN: "warn",
    State.ACCEPTED: "busy",
    State.COLLECTING: "busy",
    State.SUCCEEDED: "good",
    State.FAILED: "bad",
    State.CANCELLED: "plain",
}


def short(pk: uuid.UUID) -> str:
    """An id for people: its beginning (time) and its end (chance)."""
    text = pk.hex
    return f"{text[:8]}…{text[-6:]}"


def generation_link(pk: uuid.UUID) -> SafeString:
    """A link to a Generation's page."""
    url = reverse("admin:generations_generation_change", args=[pk])
    return format_html('<a class="dr-link dr-mono" href="{}" title="{}">{}</a>', url, pk, short(pk))


def picture_of(asset: Asset, css: str = "dr-thumb") -> SafeString:
    """The asset's thumbnail; for a video with a mark, for a file without thumbnail only its kind."""
    if asset.expired_at:
        at = f"{asset.expired_at:%Y-%m-%d %H:%M} UTC"
        return format_html('<span class="{} dr-blank" title="{}">expired</span>', css, at)
    mark = SafeString('<span class="dr-play" aria-hidden="true">▶</span>') if asset.kind == "video" else ""
    if not asset.thumbnail_key:
        return format_html('<span class="{} dr-blank">{}{}</span>', css, asset.kind, mark)
    return format_html(
        '<span class="{}"><img src="{}" alt="" loading="lazy">{}</span>', css, content_url(asset, thumbnail=True), mark
    )


def by_generation(queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Rows of one Generation, by its whole id."""
    try:
        return queryset.filter(generation_id=uuid.UUID(term.strip()))
    except ValueError:
        return queryset.none()


class OfGenerationAdmin(HistoryAdmin[Any]):
    """Rows that belong to a Generation and are found by its id."""

    search_fields = ("generation__id",)
    search_help_text = "A generation's whole id"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """One index look-up."""
        return (by_generation(queryset, search_term) if search_term else queryset), False

    @admin.display(description="Generation")
    def generation_id_link(self, row: Any) -> SafeString:
        """The way to its page."""
        return generation_link(row.generation_id)


class OpenFilter(Dropdown):
    """Attempts that are open."""

    title = "under way"
    parameter_name = "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """One choice."""
        return [("yes", "Open attempts only")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Submission]) -> QuerySet[Submission]:
        """By the partial indexes on open states."""
        return queryset.filter(IS_OPEN) if self.value() else queryset


@admin.register(Submission)
class SubmissionAdmin(OfGenerationAdmin):
    """Attempts, newest first."""

    list_display = ("attempt", "generation_id_link", "state_label", "account", "slot", "cost_shown", "code", "age")
    list_select_related = ("account",)
    list_filter = (OpenFilter, ("account", RelatedDropdown))
    exclude = ("token", "poll_token", "callback_token", "request", "response", "choice", "job_handle", "outputs")
    readonly_fields = ("choice_shown", "request_shown", "response_shown", "outputs_shown")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Submission]:
        """Without what was sent and received, which can be long; the detail page fetches it."""
        queryset = super().get_queryset(request)
        if getattr(request.resolver_match, "url_name", "") == "generations_submission_changelist":
            return queryset.defer("request", "response", "outputs", "job_handle", "choice")
        return queryset

    @admin.display(description="Attempt")
    def attempt(self, row: Submission) -> str:
        """Which one of its Generation."""
        return f"No. {row.number}"

    @admin.display(description="State")
    def state_label(self, row: Submission) -> SafeString:
        """Coloured."""
        return label(row.get_state_display(), STATE_TONES[State(row.state)])

    @admin.display(description="Cost")
    def cost_shown(self, row: Submission) -> str:
        """What the provider says it took."""
        return "unknown" if row.cost_at_risk else amount(row.cost)

    @admin.display(description="Error")
    def code(self, row: Submission) -> str:
        """Its code."""
        return row.error_code or NOTHING

    @admin.display(description="Began")
    def age(self, row: Submission) -> SafeString | str:
        """How long ago."""
        return ago(row.created_at)

    @admin.display(description="Why this account")
    def choice_shown(self, row: Submission) -> SafeString:
        """As JSON."""
        return _json(row.choice)

    @admin.display(description="Request (without secrets)")
    def request_shown(self, row: Submission) -> SafeString:
        """As JSON."""
        return _json(row.request)

    @admin.display(description="Response")
    def response_shown(self, row: Submission) -> SafeString:
        """As JSON."""
        return _json(row.response)

    @admin.display(description="Outputs at the provider")
    def outputs_shown(self, row: Submission) -> SafeString:
        """As JSON."""
        return _json(row.outputs)


def _json(value: Any) -> SafeString:
    return format_html('<pre class="dr-json">{}</pre>', pretty_json(value))


@admin.register(Event)
class EventAdmin(OfGenerationAdmin):
    """Lines of timelines, newest first."""

    list_display = ("age", "generation_id_link", "kind", "attempt", "actor")

    @admin.display(description="When")
    def age(self, row: Event) -> SafeString | str:
        """How long ago."""
        return ago(row.at)


@admin.register(AccountExclusion)
class AccountExclusionAdmin(OfGenerationAdmin):
    """Which accounts refused which generation."""

    list_display = ("age", "generation_id_link", "account", "code")
    list_select_related = ("account",)

    @admin.display(description="When")
    def age(self, row: AccountExclusion) -> SafeString | str:
        """How long ago."""
        return ago(row.created_at)


@admin.register(GenerationInput)
class GenerationInputAdmin(OfGenerationAdmin):
    """Which file plays which role in a request."""

    list_display = ("picture", "generation_id_link", "role", "index")
    list_select_related = ("asset",)

    @admin.display(description="")
    def picture(self, row: GenerationInput) -> SafeString:
        """The file's thumbnail."""
        return picture_of(row.asset)


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(OfGenerationAdmin):
    """Which keys are remembered, and what they answer."""

    list_display = ("key", "user", "generation_id_link", "reused", "expires_at")
    list_select_related = ("user",)


class RoleFilter(Dropdown):
    """What a file is."""

    title = "role"
    parameter_name = "role"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """All."""
        return [(str(role), str(role.label)) for role in Asset.Role]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Asset]) -> QuerySet[Asset]:
        """One of them, or nothing for what is none."""
        return queryset if self.value() is None else queryset.filter(role=self.value())


@admin.register(Asset)
class AssetAdmin(HistoryAdmin[Asset]):
    """Stored files, newest first."""

    list_display = ("picture", "role", "mime_type", "dimensions", "bytes", "user", "kept", "downloads", "age")
    list_select_related = ("user",)
    list_filter = (RoleFilter,)
    list_display_links = ("picture", "role")
    search_fields = ("id",)
    search_help_text = "A file's whole id"
    readonly_fields = ("view", "generation")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Asset], search_term: str
    ) -> tuple[QuerySet[Asset], bool]:
        """By the key."""
        if not search_term:
            return queryset, False
        try:
            return queryset.filter(pk=uuid.UUID(search_term.strip())), False
        except ValueError:
            return queryset.none(), False

    @admin.display(description="")
    def picture(self, asset: Asset) -> SafeString:
        """Its thumbnail."""
        return picture_of(asset)

    @admin.display(description="Content")
    def view(self, asset: Asset) -> SafeString:
        """Its thumbnail, as a link to the bytes."""
        return format_html('<a href="{}">{}</a>', content_url(asset), picture_of(asset, "dr-tile"))

    @admin.display(description="Made by")
    def generation(self, asset: Asset) -> SafeString | str:
        """The Generation that it is a result of."""
        return generation_link(asset.submission.generation_id) if asset.submission else NOTHING

    @admin.display(description="Size")
    def dimensions(self, asset: Asset) -> str:
        """In pixels, and seconds of a video."""
        pixels = f"{asset.width} x {asset.height}" if asset.width else NOTHING
        return f"{pixels}, {asset.duration:.1f} s" if asset.duration else pixels

    @admin.display(description="Bytes")
    def bytes(self, asset: Asset) -> str:
        """With thousands separators."""
        return f"{asset.size:,}"

    @admin.display(description="Kept")
    def kept(self, asset: Asset) -> SafeString | str:
        """Whether it is a favourite, or has expired."""
        if asset.expired_at:
            return label("expired", "plain")
        return label("favourite", "good") if asset.favourite else NOTHING

    @admin.display(description="Stored")
    def age(self, asset: Asset) -> SafeString | str:
        """How long ago."""
        return ago(asset.created_at)


@admin.register(Heartbeat)
class HeartbeatAdmin(HistoryAdmin[Heartbeat]):
    """When each periodic thing was last seen alive."""

    list_display = ("name", "age", "process")
    ordering = ("-pk",)

    @admin.display(description="Last seen")
    def age(self, row: Heartbeat) -> SafeString | str:
        """How long ago."""
        return ago(row.at)


@admin.register(HeldBack)
class HeldBackAdmin(HistoryAdmin[HeldBack]):
    """When nothing new was sent for a reason of the house's own, the last time of each."""

    list_display = ("__str__", "detail", "since", "ended_at")
    ordering = ("-pk",)


@admin.register(CallbackNonce)
class CallbackNonceAdmin(HistoryAdmin[CallbackNonce]):
    """Signed callbacks that were taken lately."""

    list_display = ("nonce", "account", "expires_at")
    list_select_related = ("account",)
