"""Users, groups and API tokens, in the console's look."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as BaseGroupAdmin
from django.contrib.auth.admin import UserAdmin as BaseUserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from knox.admin import AuthTokenAdmin as BaseAuthTokenAdmin
from knox.models import AuthToken
from unfold.admin import StackedInline
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounts.admin.base import ConsoleAdmin
from accounts.models import UserCap

for model in (User, Group, AuthToken):
    admin.site.unregister(model)


class UserCapInline(StackedInline):  # type: ignore[misc]
    """How much this user may ask for, on his own page."""

    model = UserCap
    verbose_name_plural = "caps: how much this user may ask for"
    tab = True


@admin.register(User)
class UserAdmin(BaseUserAdmin, ConsoleAdmin[User]):  # type: ignore[type-arg]
    """People who ask for generations, and those who operate."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "is_active", "is_staff", "is_superuser", "last_login")
    list_filter = ("is_staff", "is_active")
    list_fullwidth = False

    def get_inlines(self, request: HttpRequest, obj: User | None) -> list[Any]:
        """His caps, once he is there."""
        return [UserCapInline] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Never: his generations and ledger stay; a person is switched off with "Active"."""
        return False


@admin.register(Group)
class GroupAdmin(BaseGroupAdmin, ConsoleAdmin[Group]):
    """Roles: what a staff member may see and do."""


@admin.register(AuthToken)
class AuthTokenAdmin(BaseAuthTokenAdmin, ConsoleAdmin[AuthToken]):  # type: ignore[misc]
    """API tokens. A token is shown once, when it is made; only its digest is stored."""

    list_display = ("token_key", "user", "created", "expiry")
    list_select_related = ("user",)
    search_fields = ("token_key", "user__username")
    raw_id_fields = ()
    exclude = ("digest",)
    autocomplete_fields = ("user",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never: a token is made or revoked."""
        return False
