"""The console's page for accounts: it"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_httpserver import HTTPServer

from accounts.models import Account
from generations.lifecycle import State
from tests.factories import AccountFactory, SubmissionFactory, UserFactory

LIST = reverse("admin:accounts_account_changelist")
ADD = reverse("admin:accounts_account_add")
BALANCE = {"ErrCode": 0, "ErrMsg": "Success", "Resp": {"account_id": 1, "credit_monthly": 100, "credit_package": 25}}


def page_of(account: Account, button: str = "change") -> str:
    """Its page, or what one of its buttons posts to."""
    return reverse(f"admin:accounts_account_{button}", args=[account.pk])


def filled(**fields: Any) -> dict[str, Any]:
    """The form as a person sends it."""
    return {
        "label": "studio",
        "credential_api_key": "key-1",
        "enabled": "on",
        "limit": "3",
        "priority": "0",
        "balance_floor": "0",
        "owner": "",
        "base_url": "https://app-api.pixverse.ai/openapi/v2",
        **fields,
    }


def errors(response: Any) -> dict[str, list[str]]:
    """What the form complains about."""
    assert response.status_code == 200
    return {name: list(found) for name, found in response.context["adminform"].form.errors.items()}


def test_asks_for_the_provider_first(console: Client) -> None:
    page = console.get(ADD).content.decode()
    assert "?provider_id=pixverse" in page
    assert "?provider_id=modelslab" in page


def test_fills_in_what_the_registry_knows(console: Client) -> None:
    form = console.get(ADD, {"provider_id": "pixverse"}).context["adminform"].form
    assert form["base_url"].value() == "https://app-api.pixverse.ai/openapi/v2"
    assert form["limit"].value() >= 1
    assert form["credential_api_key"].field.widget.input_type == "password"


def test_stores_an_account_with_its_credentials_encrypted(console: Client) -> None:
    response = console.post(f"{ADD}?provider_id=pixverse", filled(credential_api_key=" key-1 "))
    assert response.status_code == 302
    account = Account.objects.get()
    assert (account.provider_id, account.label, account.owner) == ("pixverse", "studio", None)
    assert account.credentials == {"api_key": "key-1"}
    assert b"key-1" not in bytes(account.credentials_encrypted)


def test_never_shows_stored_credentials_and_keeps_them_when_left_empty(console: Client) -> None:
    account = AccountFactory.create(credentials={"api_key": "very-secret"}, base_url="https://app-api.pixverse.ai/x")
    page = console.get(page_of(account)).content.decode()
    assert "very-secret" not in page
    assert "Leave empty to keep it" in page
    assert console.post(page_of(account), filled(credential_api_key="", limit="7")).status_code == 302
    account.refresh_from_db()
    assert account.credentials == {"api_key": "very-secret"}
    assert account.limit == 7
    assert console.post(page_of(account), filled(credential_api_key="newer")).status_code == 302
    account.refresh_from_db()
    assert account.credentials == {"api_key": "newer"}


def test_leaves_alone_what_workers_write(console: Client) -> None:
    account = AccountFactory.create()
    until = timezone.now() + timedelta(minutes=5)
    Account.objects.filter(pk=account.pk).update(cooldown_until=until, balance=Decimal(7))
    console.post(page_of(account), filled())
    account.refresh_from_db()
    assert (account.cooldown_until, account.balance) == (until, Decimal(7))


def test_says_what_is_wrong_with_the_form(console: Client) -> None:
    AccountFactory.create(label="studio", credentials={"api_key": "key-1"})
    url = f"{ADD}?provider_id=pixverse"
    twice = errors(console.post(url, filled()))
    assert "already is a Pixverse account of this name" in twice["label"][0]
    assert "already uses these credentials" in twice["credential_api_key"][0]
    missing = errors(console.post(url, filled(label="b", credential_api_key=" ")))
    assert "credential_api_key" in missing
    private = errors(console.post(url, filled(label="b", credential_api_key="k", base_url="http://127.0.0.1:9/x")))
    assert "Private address allowed" in private["base_url"][0]
    nonsense = errors(console.post(url, filled(label="b", credential_api_key="k", base_url="file:///etc", limit="0")))
    assert set(nonsense) == {"base_url", "limit"}
    assert Account.objects.count() == 1


def test_takes_a_private_address_that_is_meant(console: Client) -> None:
    url = f"{ADD}?provider_id=pixverse"
    fields = filled(base_url="http://127.0.0.1:9100/pixverse/", allow_private_base_url="on")
    assert console.post(url, fields).status_code == 302
    assert Account.objects.get().base_url == "http://127.0.0.1:9100/pixverse"


def test_tests_the_connection_of_a_saved_account(console: Client, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/account/balance", headers={"API-KEY": "key-1"}).respond_with_json(BALANCE)
    fields = filled(base_url=httpserver.url_for(""), allow_private_base_url="on", _test="yes")
    response = console.post(f"{ADD}?provider_id=pixverse", fields, follow=True)
    messages = [str(message) for message in response.context["messages"]]
    assert any("It works. Balance: 125" in message for message in messages)


def test_says_when_the_provider_refuses_the_key(console: Client, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/account/balance").respond_with_json({"error": "invalid key"}, status=401)
    account = AccountFactory.create(base_url=httpserver.url_for(""), credentials={"api_key": "hush"})
    response = console.post(page_of(account, "test"), follow=True)
    (message,) = response.context["messages"]
    assert message.level_tag == "error"
    assert "hush" not in str(message)


def test_refreshes_the_balance(console: Client, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/account/balance").respond_with_json(BALANCE)
    account = AccountFactory.create(base_url=httpserver.url_for(""))
    page = console.post(page_of(account, "refresh_balance"), follow=True).content.decode()
    account.refresh_from_db()
    assert account.balance == 125
    assert "125 credits" in page


def test_ends_a_cooldown_and_puts_back_into_rotation(console: Client) -> None:
    now = timezone.now()
    account = AccountFactory.create(
        cooldown_until=now + timedelta(minutes=9), out_of_rotation_at=now, exhausted_at=now, probe_at=now
    )
    page = console.get(page_of(account)).content.decode()
    assert "End cooldown" in page
    assert "Put back into rotation" in page
    console.post(page_of(account, "end_cooldown"))
    account.refresh_from_db()
    assert account.cooldown_until is None
    assert account.out_of_rotation_at is not None
    console.post(page_of(account, "back_into_rotation"))
    account.refresh_from_db()
    assert Account.objects.usable().get() == account


def test_acts_on_post_only_and_for_whoever_may_change_accounts(console: Client, staff: Callable[..., Client]) -> None:
    account = AccountFactory.create(cooldown_until=timezone.now() + timedelta(minutes=9))
    assert console.get(page_of(account, "end_cooldown")).status_code == 405
    looker = staff("view_account")
    page = looker.get(page_of(account))
    assert page.status_code == 200
    assert "credential_" not in page.content.decode()
    for button in ("test", "refresh_balance", "end_cooldown", "back_into_rotation"):
        assert looker.post(page_of(account, button)).status_code == 403
    assert looker.get(ADD).status_code == 403
    account.refresh_from_db()
    assert account.cooldown_until is not None


def test_lists_slots_and_states_in_words_with_a_constant_number_of_queries(console: Client) -> None:
    now = timezone.now()
    AccountFactory.create(label="fine", limit=3, balance=Decimal("12.50"), balance_checked_at=now)
    console.get(LIST)
    with CaptureQueriesContext(connection) as few:
        console.get(LIST)
    SubmissionFactory.create(state=State.ACCEPTED, account=AccountFactory.create(label="busy", limit=2))
    AccountFactory.create(label="cold", cooldown_until=now + timedelta(minutes=4))
    AccountFactory.create(label="empty", exhausted_at=now - timedelta(hours=2))
    AccountFactory.create(label="refused", out_of_rotation_at=now)
    AccountFactory.create(label="off", enabled=False, owner=UserFactory.create())
    with CaptureQueriesContext(connection) as many:
        page = console.get(LIST).content.decode()
    assert len(many) == len(few)
    for words in (
        "12.5 credits",
        "1 / 2",
        "cooling down, 3 min left",
        "exhausted for 2 h",
        "refused by provider",
        "off",
    ):
        assert words in page


def test_shows_how_much_of_the_daily_cap_is_used(console: Client) -> None:
    account = AccountFactory.create(limit=5, daily_cap=1200)
    SubmissionFactory.create(account=account, state=State.SUCCEEDED)
    assert "1 / 1,200" in console.get(page_of(account)).content.decode()
    assert "1 of 1,200 today" in console.get(LIST).content.decode()
    Account.objects.update(daily_cap=1)
    page = console.get(page_of(account)).content.decode()
    assert "today&#x27;s cap reached" in page
    assert "goes on at midnight UTC" in page


def test_takes_a_daily_cap_and_none(console: Client) -> None:
    account = AccountFactory.create(base_url="https://app-api.pixverse.ai/x")
    console.post(page_of(account), filled(daily_cap="50"))
    assert Account.objects.get().daily_cap == 50
    console.post(page_of(account), filled(daily_cap=""))
    assert Account.objects.get().daily_cap is None
    assert "daily_cap" in errors(console.post(page_of(account), filled(daily_cap="-1")))


def test_says_below_its_floor_also_of_one_that_is_noted_as_exhausted(console: Client) -> None:
    account = AccountFactory.create(balance=Decimal(5), balance_floor=Decimal(9), exhausted_at=timezone.now())
    page = console.get(page_of(account)).content.decode()
    assert "below its floor" in page
    assert "It has 5 left and is kept at 9 or more" in page


def test_lists_what_is_in_flight_on_it(console: Client) -> None:
    attempt = SubmissionFactory.create(state=State.ACCEPTED)
    page = console.get(page_of(attempt.account)).content.decode()
    assert str(attempt.generation_id) in page
    assert str(attempt.provider_job_id) in page


def test_deletes_only_what_was_never_used(console: Client) -> None:
    used, unused = SubmissionFactory.create(state=State.SUCCEEDED).account, AccountFactory.create()
    assert console.post(page_of(used, "delete"), {"post": "yes"}).status_code == 403
    assert console.post(page_of(unused, "delete"), {"post": "yes"}).status_code == 302
    assert list(Account.objects.all()) == [used]


@pytest.mark.parametrize("slug", ["nonsense", ""])
def test_asks_again_for_a_provider_that_is_none(console: Client, slug: str) -> None:
    assert "Which provider" in console.get(ADD, {"provider_id": slug}).content.decode()


def test_keeps_the_secret_of_callbacks_encrypted_and_forgets_it_when_asked(console: Client, settings: Any) -> None:
    settings.PUBLIC_URL = "https://studio.example"
    account = AccountFactory.create(provider_id="pixverse", base_url="https://app-api.pixverse.ai/x")
    send = filled(credential_api_key="", webhook_secret="hush-hush", callback_form="raw")
    assert console.post(page_of(account), send).status_code == 302
    account.refresh_from_db()
    assert (account.webhook_secret, account.callback_form) == ("hush-hush", "raw")
    assert b"hush-hush" not in bytes(account.webhook_secret_encrypted or b"")
    page = console.get(page_of(account)).content.decode()
    assert "hush-hush" not in page
    assert f"https://studio.example/hooks/pixverse/{account.callback_token}" in page
    assert console.post(page_of(account), filled(credential_api_key="", callback_form="raw")).status_code == 302
    account.refresh_from_db()
    assert account.webhook_secret == "hush-hush"
    forget = filled(credential_api_key="", callback_form="raw", forget_webhook_secret="on")
    assert console.post(page_of(account), forget).status_code == 302
    account.refresh_from_db()
    assert account.webhook_secret == ""


def test_asks_for_no_secret_where_callbacks_are_not_signed(console: Client) -> None:
    assert "webhook_secret" not in console.get(ADD, {"provider_id": "modelslab"}).content.decode()
    assert "webhook_secret" in console.get(ADD, {"provider_id": "pixverse"}).content.decode()
