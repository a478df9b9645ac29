"""Which dead letters a page is about: read from its query string, and written into the links that it gives."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.contrib.auth import get_user_model
from django.http import QueryDict
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts.admin.prices import provider_choices
from accounts.models import Account
from generations.models.clock import database_now
from generations.reports.deadletters import LONGEST, Filters

SPANS = {
    "24h": ("Last 24 hours", timedelta(hours=24)),
    "7d": ("Last 7 days", timedelta(days=7)),
    "30d": ("Last 30 days", timedelta(days=30)),
}


def account_choices() -> list[tuple[str, str]]:
    """Every account, and "none"."""
    rows = Account.objects.order_by("provider_id", "label")
    return [("", "All accounts"), ("none", "Never tried"), *((str(row.pk), str(row)) for row in rows)]


class FilterForm(forms.Form):
    """Filters as they stand in a URL. ``since`` and ``until`` (a bar that was clicked) win over ``last``."""

    last = forms.ChoiceField(
        label="Failed in the",
        required=False,
        choices=[(name, title) for name, (title, _) in SPANS.items()],
        widget=UnfoldAdminSelectWidget,
    )
    code = forms.CharField(label="Code", required=False, max_length=40, widget=UnfoldAdminTextInputWidget)
    provider = forms.ChoiceField(
        label="Provider",
        required=False,
        choices=lambda: [("", "All providers"), *provider_choices()],
        widget=UnfoldAdminSelectWidget,
    )
    account = forms.ChoiceField(
        label="Last account", required=False, choices=account_choices, widget=UnfoldAdminSelectWidget
    )
    user = forms.CharField(label="User", required=False, max_length=150, widget=UnfoldAdminTextInputWidget)
    since = forms.DateTimeField(required=False, widget=forms.HiddenInput)
    until = forms.DateTimeField(required=False, widget=forms.HiddenInput)

    def clean_user(self) -> Any:
        """The user of that name; a misspelt one would look as if nothing had failed."""
        name = self.cleaned_data["user"]
        user = get_user_model().objects.filter(username=name).first() if name else None
        if name and user is None:
            raise forms.ValidationError("There is no user of this name.")
        return user

    def clean(self) -> dict[str, Any]:
        """A time that one look can cover."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not self.errors:
            now = database_now()
            until: datetime = min(cleaned["until"] or now, now)
            cleaned["until"] = until
            cleaned["since"] = cleaned["since"] or until - SPANS[cleaned["last"] or "24h"][1]
            if until - cleaned["since"] > LONGEST:
                self.add_error("last", f"At most {LONGEST.days} days at once.")
        return cleaned


@dataclass(frozen=True, slots=True)
class Chosen:
    """Valid filters, and how they are said: in a URL, and to people."""

    filters: Filters
    username: str = ""
    account_name: str = ""

    @property
    def hidden(self) -> dict[str, str]:
        """As parameters, with the times fixed."""
        one = self.filters
        given = {
            "since": one.since.isoformat(),
            "until": one.until.isoformat(),
            "code": one.codes[0] if one.codes else "",
            "provider": one.provider_id,
            "account": str(one.account or ""),
            "user": self.username,
        }
        return {name: text for name, text in given.items() if text}

    def query(self, **changes: str) -> str:
        """As a query string, with the times fixed; ``changes`` replace or add parameters."""
        return urlencode({**self.hidden, **changes})

    @property
    def words(self) -> list[tuple[str, str]]:
        """What is chosen, by name."""
        one = self.filters
        told = (
            ("Failed", f"{one.since:%Y-%m-%d %H:%M} to {one.until:%Y-%m-%d %H:%M} UTC"),
            ("Code", one.codes[0] if one.codes else ""),
            ("Provider", one.provider_id),
            ("Last account", self.account_name),
            ("User", self.username),
        )
        return [(name, text) for name, text in told if text]


def chosen(query: QueryDict) -> tuple[FilterForm, Chosen | None]:
    """The form, and what it means; None: it says what is wrong."""
    form = FilterForm(query if query.get("last") or query.get("until") else _with(query, last="24h"))
    if not form.is_valid():
        return form, None
    cleaned = form.cleaned_data
    user, account = cleaned["user"], cleaned["account"]
    filters = Filters(
        since=cleaned["since"],
        until=cleaned["until"],
        codes=(cleaned["code"],) if cleaned["code"] else (),
        provider_id=cleaned["provider"],
        account=_account(account),
        user_id=user.pk if user else None,
    )
    names = dict(form.fields["account"].choices)  # type: ignore[attr-defined]
    return form, Chosen(filters, user.get_username() if user else "", names[account] if account else "")


def _account(text: str) -> UUID | Literal["none"] | None:
    if not text:
        return None
    return "none" if text == "none" else UUID(text)


def _with(query: QueryDict, **changes: str) -> QueryDict:
    changed = query.copy()
    for name, text in changes.items():
        changed[name] = text
    return changed
