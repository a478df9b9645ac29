"""Account: our logins at the providers. It stands here because it shows what is in flight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import URLField
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from accounts.admin.base import DecoratedAdmin
from accounts.admin.prices import operation_title
from accounts.admin.words import ago, label
from accounts.models import Account, BalanceReading
from generations.admin.account_form import (
    CALLBACK_FORM,
    AccountForm,
    account_form,
    callback_names,
    credential_names,
    initial_of,
)
from generations.admin.account_state import balance_age, balance_words, in_flight, slots_in_use, standing, used_today
from generations.admin.balances import chart, days_of, drift_label
from generations.execution import accounts as execution
from generations.reports.balances import newest
from generations.wakeups import wake_dispatch
from providers import registry
from providers.base import Provider
from providers.registry import UnknownProvider


@admin.register(Account)
class AccountAdmin(DecoratedAdmin[Account]):
    """The list tells at a glance who can work; the form is filled in once."""

    list_display = ("name", "state_label", "slots", "balance_shown", "used", "owner", "priority")
    list_select_related = ("owner",)
    ordering = ("provider_id", "label")
    sortable_by = ()
    list_filter = ("enabled",)
    search_fields = ("label", "provider_id")
    autocomplete_fields = ("owner",)
    change_form_template = "admin/accounts/account/change_form.html"
    change_form_outer_before_template = "admin/accounts/account/panel.html"

    # --- the list -------------------------------------------------------------------------------

    def decorate(self, rows: list[Account]) -> None:
        """Slots in use, what is used of daily caps, and the last drift, in three queries for the page."""
        used, today, readings = slots_in_use(rows), used_today(rows), newest([row.pk for row in rows])
        for account in rows:
            account.reading = readings.get(account.pk)  # type: ignore[attr-defined]
            account.slots_used = used.get(account.pk, 0)  # type: ignore[attr-defined]
            account.used_today = today.get(account.pk)  # type: ignore[attr-defined]

    @admin.display(description="Account")
    def name(self, account: Account) -> SafeString:
        """Label and provider."""
        return format_html("<strong>{}</strong><br><small>{}</small>", account.label, _title(account.provider_id))

    @admin.display(description="State")
    def state_label(self, account: Account) -> SafeString:
        """In words."""
        now = standing(account, timezone.now(), account.used_today)  # type: ignore[attr-defined]
        return format_html('<span title="{}">{}</span>', now.detail, label(now.word, now.tone))

    @admin.display(description="Slots in use")
    def slots(self, account: Account) -> SafeString:
        """A bar, and the numbers; below it what is used of a daily cap."""
        used: int = account.slots_used  # type: ignore[attr-defined]
        today: int | None = account.used_today  # type: ignore[attr-defined]
        below = "" if today is None else f"{today:,} of {account.daily_cap:,} today"
        return format_html(
            '<span class="dr-slots"><progress class="dr-gauge" max="{}" value="{}" aria-label="Slots in use">'
            '</progress> {} / {}</span><small class="dr-below">{}</small>',
            account.limit,
            min(used, account.limit),
            used,
            account.limit,
            below,
        )

    @admin.display(description="Balance")
    def balance_shown(self, account: Account) -> SafeString:
        """With its age, and the last day's drift where there is one."""
        reading: BalanceReading | None = account.reading  # type: ignore[attr-defined]
        drift = drift_label(reading) if reading is not None and reading.drift else ""
        return format_html("{} {}<br><small>{}</small>", balance_words(account), drift, balance_age(account))

    @admin.display(description="Last used")
    def used(self, account: Account) -> SafeString | str:
        """How long ago."""
        return ago(account.last_used_at)

    # --- the form -------------------------------------------------------------------------------

    def get_form(self, request: HttpRequest, obj: Account | None = None, change: bool = False, **kwargs: Any) -> Any:  # noqa: FBT001, FBT002
        """The form with the provider's own credential fields."""
        provider = _provider(obj.provider_id if obj else request.GET.get("provider_id", ""))
        if provider is None:
            return super().get_form(request, obj, change=change, fields=AccountForm.Meta.fields, **_without(kwargs))
        form = account_form(
            provider, stored=obj is not None, knows_secret=bool(obj is not None and obj.webhook_secret_encrypted)
        )
        fields = AccountForm.Meta.fields + ((CALLBACK_FORM,) if provider.signs_callbacks else ())
        return super().get_form(request, obj, change=change, form=form, fields=fields, **_without(kwargs))

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """An address typed without scheme is meant as https."""
        if isinstance(db_field, URLField):
            kwargs.setdefault("assume_scheme", "https")
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Account | None = None) -> Any:
        """What a person has at hand first, the fine print after it."""
        provider = _provider(obj.provider_id if obj else request.GET.get("provider_id", ""))
        can_write = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        secrets = credential_names(provider) if provider and can_write else []
        callbacks: tuple[Any, ...] = ()
        if provider and provider.signs_callbacks and can_write:
            names = callback_names(provider, stored=bool(obj is not None and obj.webhook_secret_encrypted))
            callbacks = (("Callbacks", {"fields": names, "description": _callback_address(provider, obj)}),)
        return (
            (
                f"Login at {provider.title}" if provider else "Login",
                {"fields": ("label", *secrets, "enabled")},
            ),
            (
                "How much at once",
                {"fields": ("limit", "priority", "balance_floor", "daily_cap", "owner")},
            ),
            (
                "Where the provider answers",
                {
                    "fields": ("base_url", "allow_private_base_url"),
                    "description": "Filled in for the provider itself. Change it only for a server of your own.",
                },
            ),
            *callbacks,
        )

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Address and concurrency as the registry knows them."""
        return {**super().get_changeform_initial_data(request), **initial_of(request.GET["provider_id"])}

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> Any:
        """First the provider, then its form."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        provider = _provider(request.GET.get("provider_id", ""))
        if provider is None:
            context = {
                **self.admin_site.each_context(request),
                "title": "Which provider is the account at?",
                "opts": self.opts,
                "providers": [(one, [operation_title(name) for name in one.operations]) for one in registry.all()],
            }
            return TemplateResponse(request, "admin/accounts/account/choose_provider.html", context)
        extra = {**(extra_context or {}), "title": f"Add a {provider.title} account", "provider": provider}
        return super().add_view(request, form_url, extra)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        """The form below a panel that tells how the account stands."""
        account = self.get_object(request, object_id)
        extra = dict(extra_context or {})
        if account is not None:
            now = timezone.now()
            today = used_today([account]).get(account.pk)
            days = days_of(account)
            extra |= {
                "account": account,
                "provider": _provider(account.provider_id),
                "standing": standing(account, now, today),
                "used_today": today,
                "days": days,
                "chart": chart([day.reading for day in days]),
                "cooling": bool(account.cooldown_until and account.cooldown_until > now),
                "slots_used": slots_in_use([account]).get(account.pk, 0),
                "balance": balance_words(account),
                "balance_age": balance_age(account),
                "in_flight": in_flight(account),
                "may_act": self.has_change_permission(request, account),
                "subtitle": None,
            }
        return super().change_view(request, object_id, form_url, extra)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """ "Save and test connection": the test is made after the commit, since it talks to the provider."""
        response = super().changeform_view(request, *args, **kwargs)
        saved: Account | None = getattr(request, "saved_account", None)
        if saved is not None:
            wake_dispatch(saved.provider_id)
            if "_test" in request.POST:
                _say(request, execution.test_connection(saved))
                return HttpResponseRedirect(reverse("admin:accounts_account_change", args=[saved.pk]))
        return response

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:  # noqa: FBT001
        """Save what a person may change; the columns that workers write meanwhile are left alone."""
        if change:
            secrets = ("credentials_encrypted", "credentials_digest", "webhook_secret_encrypted")
            obj.save(update_fields=[*AccountForm.Meta.fields, *secrets, CALLBACK_FORM])
        else:
            obj.save()
        request.saved_account = obj  # type: ignore[attr-defined]

    def has_delete_permission(self, request: HttpRequest, obj: Account | None = None) -> bool:
        """Only while it has never been used: its attempts are history. Switch it off instead."""
        used = obj is not None and obj.submissions.exists()
        return super().has_delete_permission(request, obj) and not used

    # --- buttons --------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        """With the panel's buttons."""
        buttons: dict[str, Callable[[HttpRequest, Account], None]] = {
            "test": _test,
            "refresh-balance": _refresh_balance,
            "end-cooldown": _end_cooldown,
            "back-into-rotation": _back_into_rotation,
        }
        own = [
            path(
                f"<uuid:pk>/{name}/",
                self.admin_site.admin_view(require_POST(self._button(act))),
                name=f"accounts_account_{name.replace('-', '_')}",
            )
            for name, act in buttons.items()
        ]
        return [*own, *super().get_urls()]

    def _button(self, act: Callable[[HttpRequest, Account], None]) -> Callable[..., HttpResponse]:
        def view(request: HttpRequest, pk: Any) -> HttpResponse:
            account = get_object_or_404(Account, pk=pk)
            if not self.has_change_permission(request, account):
                raise PermissionDenied
            if _provider(account.provider_id) is None:
                raise Http404(f"Darkroom has no provider {account.provider_id!r} any more.")
            act(request, account)
            return HttpResponseRedirect(reverse("admin:accounts_account_change", args=[pk]))

        return view


def _test(request: HttpRequest, account: Account) -> None:
    _say(request, execution.test_connection(account))


def _refresh_balance(request: HttpRequest, account: Account) -> None:
    if not registry.get(account.provider_id).has_balance:
        messages.info(request, f"{_title(account.provider_id)} has no call that tells a balance.")
        return
    _say(request, execution.refresh_balance(account))


def _end_cooldown(request: HttpRequest, account: Account) -> None:
    ended = Account.objects.filter(pk=account.pk, cooldown_until__isnull=False).update(cooldown_until=None)
    wake_dispatch(account.provider_id)
    text = "The pause is over; waiting work may start on it now." if ended else "It was not cooling down."
    messages.success(request, text)


def _back_into_rotation(request: HttpRequest, account: Account) -> None:
    Account.objects.filter(pk=account.pk).update(
        out_of_rotation_at=None, exhausted_at=None, probe_at=None, cooldown_until=None
    )
    wake_dispatch(account.provider_id)
    messages.success(request, "It is given work again. If the provider refuses it once more, it is taken out again.")


def _say(request: HttpRequest, test: execution.ConnectionTest) -> None:
    messages.add_message(request, messages.SUCCESS if test.ok else messages.ERROR, test.message)


def _provider(slug: str) -> Provider | None:
    try:
        return registry.get(slug)
    except UnknownProvider:
        return None


def _title(slug: str) -> str:
    provider = _provider(slug)
    return provider.title if provider else slug


def _without(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Django passes the fieldsets' names as ``fields``; the credentials are no model fields."""
    return {name: value for name, value in kwargs.items() if name != "fields"}


def _callback_address(provider: Provider, account: Account | None) -> str:
    """What to enter in the provider's console."""
    if not settings.PUBLIC_URL:
        return "This instance has no public address (PUBLIC_URL), so nobody can call it back: everything is polled."
    if account is None:
        return f"The address for {provider.title}'s console is shown here once the account is saved."
    address = f"{settings.PUBLIC_URL}/hooks/{provider.slug}/{account.callback_token}"
    return f"Register this address in {provider.title}'s console: {address}"
