"""An operator's own rules for errors: the console"""

from __future__ import annotations

from collections.abc import Callable

from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from generations.models import CodeOverride

LIST = reverse("admin:generations_codeoverride_changelist")
ADD = reverse("admin:generations_codeoverride_add")


def test_keeps_who_decided_and_why(console: Client, admin: User) -> None:
    console.post(ADD, {"code": "provider_failed", "reason": "their queue drops jobs"})
    rule = CodeOverride.objects.get()
    assert (rule.code, rule.retryable, rule.actor) == ("provider_failed", False, f"admin:{admin.pk}")
    page = console.get(LIST).content.decode()
    assert "their queue drops jobs" in page
    assert "fails at once" in page


def test_changes_a_rule_but_not_its_code(console: Client, staff: Callable[..., Client]) -> None:
    console.post(ADD, {"code": "provider_failed", "reason": "before"})
    other = staff("view_codeoverride", "change_codeoverride")
    url = reverse("admin:generations_codeoverride_change", args=["provider_failed"])
    other.post(url, {"code": "invalid_params", "retryable": "on", "reason": "after"})
    rule = CodeOverride.objects.get()
    assert (rule.code, rule.retryable, rule.reason) == ("provider_failed", True, "after")
    assert rule.actor == f"admin:{User.objects.latest('pk').pk}"


def test_wants_a_reason_and_a_code_that_leaves_no_doubt(console: Client) -> None:
    for form in (
        {"code": "provider_failed", "reason": ""},
        {"code": "outcome_unknown", "reason": "r"},
        {"code": "asset_unusable", "retryable": "on", "reason": "r"},
        {"code": "nonsense", "reason": "r"},
    ):
        assert console.post(ADD, form).status_code == 200
    assert not CodeOverride.objects.exists()


def test_refuses_whoever_may_only_look(staff: Callable[..., Client]) -> None:
    looker = staff("view_codeoverride")
    assert looker.get(LIST).status_code == 200
    assert looker.post(ADD, {"code": "provider_failed", "reason": "r"}).status_code == 403
    assert not CodeOverride.objects.exists()
