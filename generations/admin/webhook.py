"""Webhooks: whom users want to be told, what was told, every try; and what an operator may do about it."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.admin.base import HistoryAdmin
from accounts.admin.words import NOTHING, ago, label
from generations.admin.filters import StateFilter
from generations.admin.history import OfGenerationAdmin, generation_link
from generations.intake import webhooks
from generations.intake.errors import Conflict
from generations.intake.webhooks import Change
from generations.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookSecret

State = WebhookDelivery.State
STATE_TONES = {State.PENDING: "wait", State.DELIVERED: "good", State.FAILED: "bad"}


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(OfGenerationAdmin):
    """Newest first. Users make and change them by the API; an operator may switch them off and on again."""

    list_display = ("url_shown", "user", "told_of", "state_label", "age")
    list_select_related = ("user",)
    actions = ("switch_off", "switch_on")
    exclude = ("secret",)

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Whoever may change endpoints."""
        return request.user.has_perm("generations.change_webhookendpoint")

    @admin.action(description="Switch off", permissions=["act"])
    def switch_off(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        """They are told nothing any more, what waits for them included; their owners cannot switch them on."""
        self._switch(request, queryset, enabled=False)

    @admin.action(description="Switch on", permissions=["act"])
    def switch_on(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        """They are told what happens from now on."""
        self._switch(request, queryset, enabled=True)

    def _switch(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint], *, enabled: bool) -> None:
        rows = queryset.order_by().filter(removed_at=None, disabled_at__isnull=enabled is False)
        number = 0
        for pk in list(rows.values_list("pk", flat=True)):
            try:
                webhooks.change(pk, Change(enabled=enabled), by=WebhookEndpoint.Reason.OPERATOR)
            except WebhookEndpoint.DoesNotExist:
                continue  # its owner has removed it meanwhile
            number += 1
        words = "1 endpoint is" if number == 1 else f"{number:,} endpoints are"
        messages.success(request, f"{words} switched {'on' if enabled else 'off'}.")

    @admin.display(description="Endpoint")
    def url_shown(self, row: WebhookEndpoint) -> SafeString:
        """Its URL, cut where it is long."""
        return format_html('<span class="dr-what" title="{}">{}</span>', row.url, row.url[:80])

    @admin.display(description="Is told")
    def told_of(self, row: WebhookEndpoint) -> SafeString | str:
        """Of one generation, or which events of all."""
        return generation_link(row.generation_id) if row.generation_id else ", ".join(row.events)

    @admin.display(description="State")
    def state_label(self, row: WebhookEndpoint) -> SafeString:
        """Coloured, with the reason."""
        if row.removed_at:
            return label("removed", "plain")
        return label("on", "good") if row.enabled else label(row.get_disabled_reason_display(), "bad")

    @admin.display(description="Made")
    def age(self, row: WebhookEndpoint) -> SafeString | str:
        """How long ago."""
        return ago(row.created_at)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(OfGenerationAdmin):
    """Newest first; each page shows its tries, and sends it again."""

    list_display = ("what", "generation_shown", "host", "state_label", "tries", "next_try", "error_shown", "age")
    list_select_related = ("endpoint",)
    list_filter = (StateFilter,)
    actions = ("redeliver_selected",)
    exclude = ("token", "generation", "endpoint")
    readonly_fields = ("endpoint_link", "generation_shown")
    change_form_outer_before_template = "admin/generations/webhookdelivery/panel.html"

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Whoever may change deliveries."""
        return request.user.has_perm("generations.change_webhookdelivery")

    @admin.action(description="Send again", permissions=["act"])
    def redeliver_selected(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> None:
        """With the same ``webhook-id``; not those whose endpoint is off, or that are being sent at this moment."""
        try:
            number = webhooks.redeliver(queryset.order_by())
        except Conflict as refused:
            messages.error(request, refused.detail)
            return
        messages.success(request, f"{number:,} {'is' if number == 1 else 'are'} sent again now.")

    @admin.display(description="Webhook")
    def what(self, row: WebhookDelivery) -> SafeString:
        """What is told, and its id."""
        return format_html("{}<small class='dr-below'>{}</small>", row.event, row.pk)

    @admin.display(description="Generation")
    def generation_shown(self, row: WebhookDelivery) -> SafeString | str:
        """The way to it; a test tells of none."""
        return generation_link(row.generation_id) if row.generation_id else NOTHING

    @admin.display(description="Endpoint")
    def endpoint_link(self, row: WebhookDelivery) -> SafeString:
        """The way to it."""
        url = reverse("admin:generations_webhookendpoint_change", args=[row.endpoint_id])
        return format_html('<a class="dr-link" href="{}">{}</a>', url, row.endpoint.url)

    @admin.display(description="State")
    def state_label(self, row: WebhookDelivery) -> SafeString:
        """Coloured."""
        return label(row.get_state_display(), STATE_TONES[State(row.state)])

    @admin.display(description="Next try")
    def next_try(self, row: WebhookDelivery) -> SafeString | str:
        """When."""
        return ago(row.next_try_at)

    @admin.display(description="Error")
    def error_shown(self, row: WebhookDelivery) -> SafeString | str:
        """Of the newest try."""
        if not row.error_code:
            return NOTHING
        return format_html('<span title="{}">{}</span>', row.error_message, row.error_code.replace("_", " "))

    @admin.display(description="Made")
    def age(self, row: WebhookDelivery) -> SafeString | str:
        """How long ago."""
        return ago(row.created_at)


@admin.register(WebhookAttempt)
class WebhookAttemptAdmin(HistoryAdmin[WebhookAttempt]):
    """Every try, newest first."""

    list_display = ("delivery_link", "number", "status", "error_code", "elapsed", "age")
    list_select_related = ("delivery",)
    exclude = ("delivery",)
    readonly_fields = ("delivery_link",)

    @admin.display(description="Webhook")
    def delivery_link(self, row: WebhookAttempt) -> SafeString:
        """The way to it."""
        url = reverse("admin:generations_webhookdelivery_change", args=[row.delivery_id])
        return format_html('<a class="dr-link" href="{}">{}</a>', url, row.delivery)

    @admin.display(description="When")
    def age(self, row: WebhookAttempt) -> SafeString | str:
        """How long ago."""
        return ago(row.started_at)


@admin.register(WebhookSecret)
class WebhookSecretAdmin(HistoryAdmin[WebhookSecret]):
    """Which there are. What they are is told to their owners, once."""

    list_display = ("user", "for_requests", "previous_until", "created_at")
    list_select_related = ("user",)
