"""Users' caps in the console: it"""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import UserCap
from generations.lifecycle import Status
from tests.factories import GenerationFactory, UserCapFactory, UserFactory

LIST = reverse("admin:accounts_usercap_changelist")


def user_form(user: User, **caps: str) -> dict[str, str]:
    """A user's page as a person sends it."""
    given = {f"cap-0-{name}": caps.get(name, "") for name in ("max_in_flight", "max_queued", "max_per_day")}
    had = UserCap.objects.filter(pk=user.pk).exists()
    return {
        "username": user.username,
        "date_joined_0": "2026-01-01",
        "date_joined_1": "12:00:00",
        "is_active": "on",
        "cap-TOTAL_FORMS": "1",
        "cap-INITIAL_FORMS": "1" if had else "0",
        "cap-0-user": str(user.pk),
        **given,
    }


def test_edits_caps_on_the_users_own_page(console: Client) -> None:
    user = UserFactory.create()
    url = reverse("admin:auth_user_change", args=[user.pk])
    page = console.get(url).content.decode()
    assert "Most that wait at once; more of them are refused." in page

    assert console.post(url, user_form(user, max_in_flight="3", max_per_day="100")).status_code == 302
    cap = UserCap.objects.get(pk=user.pk)
    assert (cap.max_in_flight, cap.max_queued, cap.max_per_day) == (3, None, 100)

    assert console.post(url, user_form(user, max_queued="7")).status_code == 302
    cap.refresh_from_db()
    assert (cap.max_in_flight, cap.max_queued, cap.max_per_day) == (None, 7, None)
    assert console.get(reverse("admin:auth_user_add")).status_code == 200


def test_lists_what_is_used_in_a_constant_number_of_queries(console: Client) -> None:
    first = UserCapFactory.create(max_in_flight=1, max_queued=2, max_per_day=1500)
    GenerationFactory.create(user=first.user, status=Status.PROCESSING)
    GenerationFactory.create(user=first.user)
    with CaptureQueriesContext(connection) as few:
        page = console.get(LIST).content.decode()
    assert "1 of 1<" in page
    assert "1 of 2<" in page
    assert "2 of 1,500<" in page
    for _ in range(4):
        UserCapFactory.create(max_queued=3)
    with CaptureQueriesContext(connection) as many:
        console.get(LIST)
    assert len(many) == len(few)


def test_never_changes_whose_cap_it_is(console: Client) -> None:
    cap, other = UserCapFactory.create(max_queued=1), UserFactory.create()
    url = reverse("admin:accounts_usercap_change", args=[cap.pk])
    assert console.post(url, {"user": other.pk, "max_queued": "5"}).status_code == 302
    assert UserCap.objects.get().pk == cap.pk
    assert UserCap.objects.get().max_queued == 5
