"""The console's switches: a banner on every page, a page with all of them, and one that asks why."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from generations.intake.switches import turn_off, turn_on
from generations.models import Switch, SwitchChange
from tests.factories import GenerationFactory

SWITCHES = reverse("admin:generations_switch_changelist")
WHY = "<b>They bill twice</b> & more"
ESCAPED = "&lt;b&gt;They bill twice&lt;/b&gt; &amp; more"
LIFT = "Let it go on</a>"


def url(key: str = "dispatch") -> str:
    return reverse("admin:generations_switch_turn", args=[key])


def text(client: Client, address: str) -> str:
    reply = client.get(address)
    assert reply.status_code == 200
    return reply.content.decode()


def press(client: Client, turn: str, reason: str = WHY, key: str = "dispatch") -> list[str]:
    """Press the button; the messages of where it leads."""
    reply = client.post(url(key), {"turn": turn, "reason": reason}, follow=True)
    assert reply.status_code == 200
    return [str(message) for message in reply.context["messages"]]


def pages() -> list[str]:
    row = GenerationFactory.create()
    return [
        reverse("admin:index"),
        reverse("admin:generations_generation_changelist"),
        reverse("admin:generations_generation_change", args=[row.pk]),
        reverse("admin:generations_generation_cancel", args=[row.pk]),
        reverse("admin:accounts_account_add"),
        reverse("admin:accounts_wallet_grant"),
        reverse("admin:auth_user_add"),
        SWITCHES,
    ]


def test_shows_on_every_page_what_is_stopped_by_whom_since_when_and_why(console: Client, admin: User) -> None:
    addresses = pages()
    assert not any("dr-stopped" in text(console, address) for address in addresses)
    turn_on("dispatch:provider:pixverse", reason=WHY, actor=f"admin:{admin.pk}")
    turn_on("intake", reason="closed", actor="command:switch/ops")
    for address in addresses:
        page = text(console, address)
        assert "Dispatch to Pixverse is paused" in page
        assert ESCAPED in page
        assert WHY not in page
        assert "By root, <time" in page
        assert "Intake is stopped:</strong> closed" in page
        assert "By ops (manage.py switch)" in page
        assert page.count(url("dispatch:provider:pixverse")) >= 1
    turn_off("intake", reason="open", actor="test")
    assert "Intake is stopped" not in text(console, addresses[0])


def test_offers_to_lift_it_only_to_whoever_may(staff: Callable[..., Client]) -> None:
    turn_on("dispatch", reason=WHY, actor="admin:1")
    looker = staff("view_generation", "view_switch")
    for address in (reverse("admin:generations_generation_changelist"), SWITCHES):
        page = text(looker, address)
        assert "Dispatch is paused" in page
        assert LIFT not in page
    assert looker.get(url()).status_code == 403
    assert looker.post(url(), {"turn": "off", "reason": "x"}).status_code == 403
    assert Switch.objects.exists()
    assert LIFT in text(staff("change_switch"), SWITCHES)


def test_tells_nobody_outside(client: Client, db: None) -> None:
    turn_on("dispatch", reason=WHY, actor="admin:1")
    page = client.get(reverse("admin:login")).content.decode()
    assert "paused" not in page
    assert client.get(SWITCHES).status_code == 302


def test_lists_every_switch_and_what_was_turned_lately(console: Client) -> None:
    turn_on("dispatch", reason=WHY, actor="admin:99")
    page = text(console, SWITCHES)
    for key in ("intake", "dispatch", "dispatch:provider:modelslab", "dispatch:operation:fusion"):
        assert url(key) in page
    assert page.count("stopped</span>") == 2, "its state, and its turn"
    turn_off("dispatch", reason="mended", actor="admin:99")
    assert "mended" in text(console, SWITCHES)


def test_asks_before_it_stops_anything_and_keeps_who_and_why(console: Client, admin: User) -> None:
    page = text(console, url())
    assert "Stop dispatch?" in page
    assert "Nothing is sent to any provider" in page
    assert not Switch.objects.exists()
    assert press(console, "on") == ["Dispatch is stopped."]
    row = Switch.objects.get()
    assert (row.key, row.reason, row.actor) == ("dispatch", WHY, f"admin:{admin.pk}")
    page = text(console, url())
    assert "Let dispatch go on?" in page
    assert "was stopped by root" in page
    assert press(console, "off", "mended") == ["Dispatch goes on."]
    changes = SwitchChange.objects.order_by("pk").values_list("turned_on", "reason", "actor")
    assert list(changes) == [(True, WHY, f"admin:{admin.pk}"), (False, "mended", f"admin:{admin.pk}")]


def test_turns_it_once_for_two_clicks_and_not_back(console: Client) -> None:
    press(console, "on")
    assert "somebody was quicker" in press(console, "on", "again")[0]
    assert Switch.objects.get().reason == WHY
    press(console, "off", "mended")
    assert "somebody was quicker" in press(console, "off", "again")[0]
    assert SwitchChange.objects.count() == 2


@pytest.mark.parametrize("data", [{"turn": "on", "reason": " "}, {"turn": "on", "reason": "x" * 301}, {"turn": "on"}])
def test_wants_a_reason(console: Client, data: dict[str, str]) -> None:
    page = console.post(url(), data).content.decode()
    assert "errorlist" in page
    assert "Stop dispatch?" in page
    assert not Switch.objects.exists()


def test_wants_a_direction_that_there_is(console: Client) -> None:
    assert console.post(url(), {"turn": "sideways", "reason": WHY}).status_code == 200
    assert not Switch.objects.exists()


def test_wants_the_csrf_token(admin: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin)
    assert client.post(url(), {"turn": "on", "reason": WHY}).status_code == 403


def test_knows_no_other_switch(console: Client) -> None:
    assert console.get(url("dispatch:provider:nobody")).status_code == 404
    assert console.post(url("nothing"), {"turn": "on", "reason": WHY}).status_code == 404


def test_shows_why_a_generation_waits(console: Client, admin: User) -> None:
    row = GenerationFactory.create()
    turn_on("dispatch:operation:text_to_video", reason="too dear", actor=f"admin:{admin.pk}")
    listed = text(console, reverse("admin:generations_generation_changelist"))
    assert "paused by an operator" in listed
    page = text(console, reverse("admin:generations_generation_change", args=[row.pk]))
    assert "paused by root since" in page
    assert "manage.py switch off dispatch:operation:text_to_video" in page


def test_costs_every_page_one_query(console: Client) -> None:
    counts = []
    for number in range(3):
        with CaptureQueriesContext(connection) as caught:
            console.get(reverse("admin:accounts_price_changelist"))
        counts.append(len([query for query in caught.captured_queries if "generations_switch" in query["sql"]]))
        turn_on(["dispatch", "intake", "dispatch:operation:fusion"][number], reason="x", actor="admin:1")
    assert counts == [1, 1, 1]
