"""Wallets and their ledger. Credits move through ``accounts.credits`` only; here is the operator's hand."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.core.signing import BadSignature, Signer
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextInputWidget

from accounts.admin.base import HistoryAdmin, actor_of
from accounts.admin.words import NOTHING, ago, label, signed
from accounts.credits import KeyTaken, NotEnoughCredits, grant_once
from accounts.models import LedgerEntry, Wallet

Kind = LedgerEntry.Kind
_signer = Signer(salt="darkroom.grant")
_TONES = {
    Kind.GRANT: "good",
    Kind.ADJUSTMENT: "warn",
    Kind.HOLD: "wait",
    Kind.CAPTURE: "busy",
    Kind.RELEASE: "plain",
    Kind.REFUND: "good",
}


class GrantForm(forms.Form):
    """Credits to add (or, negative, to take), with the reason that the ledger keeps."""

    username = forms.CharField(label="User", max_length=150, widget=UnfoldAdminTextInputWidget)
    amount = forms.IntegerField(
        help_text="Whole credits. A negative number takes credits away.", widget=UnfoldAdminIntegerFieldWidget
    )
    reason = forms.CharField(
        max_length=200, help_text="The ledger keeps it for ever.", widget=UnfoldAdminTextInputWidget
    )
    opened = forms.CharField(widget=forms.HiddenInput)

    def clean_amount(self) -> int:
        """A movement of nothing is a mistake, and one of more than a bigint cannot be stored."""
        value: int = self.cleaned_data["amount"]
        if value == 0:
            raise forms.ValidationError("Say how many credits to add or to take; 0 changes nothing.")
        if abs(value) > 10**12:
            raise forms.ValidationError("That is more than a wallet can hold.")
        return value

    def clean_username(self) -> Any:
        """The user of that name."""
        user = get_user_model().objects.filter(username=self.cleaned_data["username"]).first()
        if user is None:
            raise forms.ValidationError("There is no user of this name. Check the spelling under Users.")
        return user

    def clean_opened(self) -> str:
        """Which form it is: the same one sent twice moves credits once."""
        try:
            return _signer.unsign(self.cleaned_data["opened"])
        except BadSignature as error:
            raise forms.ValidationError("The form is damaged. Open it anew.") from error


def opened_now() -> str:
    """The hidden field of a form that is shown now: a name of its own."""
    return _signer.sign(f"form:{uuid.uuid4()}")


@admin.register(Wallet)
class WalletAdmin(HistoryAdmin[Wallet]):
    """What each user has; changed by granting, never by editing."""

    list_display = ("user", "available_credits", "held_credits", "way_to_ledger", "way_to_grant")
    list_select_related = ("user",)
    list_before_template = "admin/accounts/wallet/before.html"
    search_fields = ("user__username__istartswith",)
    search_help_text = "The beginning of a user's name"
    fields = ("user", "available", "held", "way_to_ledger")
    readonly_fields = ("way_to_ledger",)

    def get_urls(self) -> list[URLPattern]:
        """With the page that grants."""
        own = path("grant/", self.admin_site.admin_view(self.grant_view), name="accounts_wallet_grant")
        return [own, *super().get_urls()]

    @admin.display(description="Available")
    def available_credits(self, wallet: Wallet) -> str:
        """With thousands separators."""
        return f"{wallet.available:,}"

    @admin.display(description="Held for work under way")
    def held_credits(self, wallet: Wallet) -> str:
        """With thousands separators."""
        return f"{wallet.held:,}"

    @admin.display(description="Ledger")
    def way_to_ledger(self, wallet: Wallet) -> SafeString:
        """Its entries."""
        url = reverse("admin:accounts_ledgerentry_changelist")
        return format_html('<a class="dr-link" href="{}?wallet__user__id__exact={}">entries</a>', url, wallet.pk)

    @admin.display(description="")
    def way_to_grant(self, wallet: Wallet) -> SafeString:
        """The page that grants, filled in for this user."""
        url = reverse("admin:accounts_wallet_grant")
        return format_html(
            '<a class="dr-link" href="{}?username={}">grant or adjust</a>', url, wallet.user.get_username()
        )

    def grant_view(self, request: HttpRequest) -> HttpResponse:
        """Ask for user, amount and reason, then move the credits."""
        if not request.user.has_perm("accounts.change_wallet"):
            raise PermissionDenied
        if request.method == "POST":
            form = GrantForm(request.POST)
            if form.is_valid() and self._grant(request, form):
                return HttpResponseRedirect(reverse("admin:accounts_wallet_changelist"))
        else:
            form = GrantForm(initial={"username": request.GET.get("username", ""), "opened": opened_now()})
        context = {
            **self.admin_site.each_context(request),
            "title": "Grant or adjust credits",
            "opts": self.opts,
            "form": form,
        }
        return TemplateResponse(request, "admin/accounts/wallet/grant.html", context)

    def _grant(self, request: HttpRequest, form: GrantForm) -> bool:
        user, amount = form.cleaned_data["username"], form.cleaned_data["amount"]
        try:
            _, moved = grant_once(
                user.pk,
                amount,
                reason=form.cleaned_data["reason"],
                actor=actor_of(request),
                key=form.cleaned_data["opened"],
            )
        except NotEnoughCredits as error:
            form.add_error("amount", f"{user} has only {error.balance:,} available, so {-amount:,} cannot be taken.")
            return False
        except KeyTaken:
            form.add_error(None, "This form has moved other credits already. Open it anew for these.")
            return False
        wallet = Wallet.objects.get(user_id=user.pk)
        if moved:
            messages.success(request, f"{signed(amount)} credits for {user}; {wallet.available:,} are available now.")
        else:
            messages.info(request, "This form had already been carried out; the credits moved once.")
        return True


@admin.register(LedgerEntry)
class LedgerEntryAdmin(HistoryAdmin[LedgerEntry]):
    """Every movement of credits, newest first."""

    list_display = ("age", "user", "kind_label", "available_moved", "held_moved", "why", "actor", "way_to_refund")
    list_select_related = ("wallet__user",)
    list_filter = (("wallet__user", AutocompleteSelectFilter),)
    search_fields = ("reference",)
    search_help_text = "A generation's id"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[LedgerEntry], search_term: str
    ) -> tuple[QuerySet[LedgerEntry], bool]:
        """By the whole id of a generation, which an index answers."""
        if not search_term:
            return queryset, False
        try:
            reference = uuid.UUID(search_term.strip())
        except ValueError:
            return queryset.none(), False
        # The kinds make the unique index on (reference, kind) usable.
        kinds = [Kind.HOLD, Kind.CAPTURE, Kind.RELEASE, Kind.REFUND]
        return queryset.filter(reference=reference, kind__in=kinds), False

    def get_list_display(self, request: HttpRequest) -> Any:
        """The way to a refund only for who may go it."""
        shown = super().get_list_display(request)
        may = request.user.has_perm("accounts.change_wallet") and request.user.has_perm("generations.view_generation")
        return shown if may else [name for name in shown if name != "way_to_refund"]

    def decorate(self, rows: list[LedgerEntry]) -> None:
        """Which of a page's captures were refunded, in one query."""
        captured = [row.reference for row in rows if row.kind == Kind.CAPTURE]
        refunds = LedgerEntry.objects.filter(reference__in=captured, kind=Kind.REFUND) if captured else []
        done = {entry.reference for entry in refunds}
        for row in rows:
            row.refunded = row.reference in done  # type: ignore[attr-defined]

    @admin.display(description="")
    def way_to_refund(self, entry: LedgerEntry) -> SafeString | str:
        """Of what was spent, once."""
        if entry.kind != Kind.CAPTURE:
            return ""
        if entry.refunded:  # type: ignore[attr-defined]
            return "refunded"
        url = f"{reverse('admin:index')}generations/generation/{entry.reference}/refund/"
        return format_html('<a class="dr-link" href="{}">refund</a>', url)

    @admin.display(description="When")
    def age(self, entry: LedgerEntry) -> SafeString | str:
        """How long ago."""
        return ago(entry.created_at)

    @admin.display(description="User")
    def user(self, entry: LedgerEntry) -> str:
        """Whose wallet."""
        return str(entry.wallet.user)

    @admin.display(description="Kind")
    def kind_label(self, entry: LedgerEntry) -> SafeString:
        """Coloured."""
        return label(entry.get_kind_display(), _TONES[Kind(entry.kind)])

    @admin.display(description="Available")
    def available_moved(self, entry: LedgerEntry) -> str:
        """By how much the available credits changed."""
        return signed(entry.available_change)

    @admin.display(description="Held")
    def held_moved(self, entry: LedgerEntry) -> str:
        """By how much the held credits changed."""
        return signed(entry.held_change)

    @admin.display(description="For")
    def why(self, entry: LedgerEntry) -> SafeString | str:
        """The generation, and the operator's reason."""
        if entry.reference is None:
            return entry.reason or NOTHING
        url = f"{reverse('admin:index')}generations/generation/{entry.reference}/change/"
        return format_html(
            '<a class="dr-link dr-mono" href="{}">{}</a><small class="dr-below">{}</small>',
            url,
            entry.reference,
            entry.reason,
        )
