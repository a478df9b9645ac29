"""The form in which a person enters a provider account once: address, credentials, limits."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db import models
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldBooleanSwitchWidget

from accounts.encryption import UndecryptableCredentials, digest
from accounts.models import Account
from providers import registry
from providers.addresses import parse
from providers.base import Provider
from providers.errors import ProviderError

PREFIX = "credential_"
KEPT = "Stored. Leave empty to keep it."
WEBHOOK_SECRET, FORGET_SECRET, CALLBACK_FORM = "webhook_secret", "forget_webhook_secret", "callback_form"


def credential_names(provider: Provider) -> list[str]:
    """The form's names of a provider's credential fields."""
    return [PREFIX + field.name for field in provider.credential_fields]


def callback_names(provider: Provider, *, stored: bool) -> list[str]:
    """The form's names of what verifies callbacks; none where the provider does not sign them."""
    if not provider.signs_callbacks:
        return []
    return [WEBHOOK_SECRET, *([FORGET_SECRET] if stored else []), CALLBACK_FORM]


def form_field(db_field: models.Field[Any, Any], **kwargs: Any) -> forms.Field | None:
    """A model field's form field; an address typed without scheme is meant as https (Django 6's default)."""
    if isinstance(db_field, models.URLField):
        kwargs.setdefault("assume_scheme", "https")
    return db_field.formfield(**kwargs)


class AccountForm(forms.ModelForm):  # type: ignore[type-arg]
    """Base of the forms that ``account_form`` makes; ``provider`` is the account's."""

    provider: Provider

    class Meta:
        model = Account
        formfield_callback = form_field
        fields = (
            "label",
            "owner",
            "base_url",
            "allow_private_base_url",
            "enabled",
            "limit",
            "priority",
            "balance_floor",
            "daily_cap",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if CALLBACK_FORM in self.fields:
            self.fields[CALLBACK_FORM].required = False  # it has a default

    def clean_label(self) -> str:
        """Unique at this provider: the model's constraint, said in words."""
        value: str = self.cleaned_data["label"].strip()
        twins = Account.objects.filter(provider_id=self.provider.slug, label=value).exclude(pk=self.instance.pk)
        if twins.exists():
            raise forms.ValidationError(f"There already is a {self.provider.title} account of this name.")
        return value

    def clean(self) -> dict[str, Any]:
        """Judge the address and put the credentials together."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        self.instance.provider_id = self.provider.slug
        self._check_address(cleaned)
        self._take_credentials(cleaned)
        self._take_webhook_secret(cleaned)
        return cleaned

    def _take_webhook_secret(self, cleaned: dict[str, Any]) -> None:
        """Set the one that was typed in; an empty field keeps the stored one."""
        typed = str(cleaned.get(WEBHOOK_SECRET) or "").strip()
        if typed or cleaned.get(FORGET_SECRET):
            self.instance.set_webhook_secret(typed)

    def _check_address(self, cleaned: dict[str, Any]) -> None:
        url = cleaned.get("base_url")
        if not url:
            return
        if "?" in url or "#" in url:
            self.add_error("base_url", "The address must not have a query (?) or fragment (#) part.")
            return
        try:
            parse(url, allowed_origin=url if cleaned.get("allow_private_base_url") else None)
        except ProviderError as error:
            self.add_error(
                "base_url",
                f"{error.detail} If it really is a server of your own network (the sandbox, a local model), "
                "tick “Private address allowed”.",
            )
            return
        cleaned["base_url"] = url.rstrip("/")

    def _take_credentials(self, cleaned: dict[str, Any]) -> None:
        """Set the instance's credentials: those typed in, and for empty fields the stored ones."""
        names = {field.name: PREFIX + field.name for field in self.provider.credential_fields}
        typed = {name: str(cleaned.get(key) or "").strip() for name, key in names.items()}
        if any(key in self.errors for key in names.values()) or (self._has_stored and not any(typed.values())):
            return
        stored = self._stored() if self._has_stored and not all(typed.values()) else {}
        credentials = {name: text or stored.get(name, "") for name, text in typed.items()}
        for name, text in credentials.items():
            if not text:
                self.add_error(names[name], "This is needed to log in at the provider.")
        if not all(credentials.values()):
            return
        twins = Account.objects.filter(provider_id=self.provider.slug, credentials_digest=digest(credentials))
        twin = twins.exclude(pk=self.instance.pk).first()
        if twin is not None:
            self.add_error(
                next(iter(names.values())),
                f"The account “{twin.label}” already uses these credentials. One login is one account here: two "
                "would send the provider twice as much at once as your plan allows.",
            )
            return
        self.instance.set_credentials(credentials)

    @property
    def _has_stored(self) -> bool:
        return bool(self.instance.credentials_digest)

    def _stored(self) -> dict[str, str]:
        try:
            return dict(self.instance.credentials)
        except UndecryptableCredentials as error:
            raise forms.ValidationError(f"{error} Or enter all credentials anew.") from error


def account_form(provider: Provider, *, stored: bool, knows_secret: bool = False) -> type[AccountForm]:
    """The form class for an account at ``provider``.

    ``stored``: it already has credentials; ``knows_secret``: it knows what callbacks are signed with.
    """
    fields: dict[str, Any] = {}
    for field in provider.credential_fields:
        help_text = " ".join(part for part in (KEPT if stored else "", field.help_text) if part)
        fields[PREFIX + field.name] = forms.CharField(
            label=field.label,
            required=not stored,
            max_length=1000,
            strip=True,
            help_text=help_text,
            widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password", "spellcheck": "false"}),
        )
    if provider.signs_callbacks:
        help_text = "With it, only callbacks that are signed with it are taken. Without it they are a reason to look."
        fields[WEBHOOK_SECRET] = forms.CharField(
            label="Secret key of callbacks",
            required=False,
            max_length=1000,
            help_text=f"{KEPT} {help_text}" if knows_secret else help_text,
            widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password", "spellcheck": "false"}),
        )
        if knows_secret:
            fields[FORGET_SECRET] = forms.BooleanField(
                label="Forget the secret key", required=False, widget=UnfoldBooleanSwitchWidget
            )
    return type("AccountForm", (AccountForm,), {**fields, "provider": provider, "__module__": __name__})


def initial_of(slug: str) -> dict[str, Any]:
    """What the registry knows about a new account at this provider."""
    provider = registry.get(slug)
    return {
        "base_url": provider.default_base_url,
        "limit": provider.default_concurrency,
        "label": "main",
    }
