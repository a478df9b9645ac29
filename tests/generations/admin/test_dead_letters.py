"""Dead letters in the console: it"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.models import Account
from generations.intake import replay as replaying
from generations.lifecycle import State, Status
from generations.models import Generation
from tests.factories import (
    AccountFactory,
    GenerationFactory,
    GenerationInputFactory,
    PriceFactory,
    SubmissionFactory,
    UserFactory,
    WalletFactory,
)

GROUPS = reverse("admin:generations_deadletter_changelist")
LETTERS = reverse("admin:generations_deadletter_letters")
REPLAY = reverse("admin:generations_deadletter_replay")
DISMISS = reverse("admin:generations_deadletter_dismiss")


@pytest.fixture
def account(db: None) -> Account:
    """One that may serve everybody."""
    return AccountFactory.create(label="main")


def failed(**fields: Any) -> Generation:
    return GenerationFactory.create(status=Status.FAILED, **fields)


def tried(account: Account, **fields: Any) -> Generation:
    """One that failed at this account."""
    letter = failed(**fields)
    SubmissionFactory.create(generation=letter, account=account, state=State.FAILED)
    return letter


def possibly_billed() -> Generation:
    letter = failed()
    SubmissionFactory.create(generation=letter, state=State.UNKNOWN, abandoned_at=timezone.now())
    return letter


def press(client: Client, url: str, **data: str) -> list[str]:
    """Confirm a replay, and follow the slices to the end; the messages."""
    page = client.get(url)
    action, token = page.context["action"], page.context["token"]
    for _ in range(20):
        answer = client.post(action, {"progress": token, **data})
        if answer.status_code == 302:
            return [str(message) for message in client.get(answer["Location"]).context["messages"]]
        action, token = answer.context["action"], answer.context["token"]
    raise AssertionError("the replay never ends")


class TestTheGroups:
    """Looked at first."""

    def test_shows_each_with_its_bars(self, console: Client, account: Account) -> None:
        for number in range(3):
            tried(account, price=10, error_message=f"no. {number}")
        failed(error_code="queue_timeout")

        response = console.get(GROUPS)
        page = response.content.decode()

        assert [(row["group"].code, row["group"].number) for row in response.context["rows"]] == [
            ("queue_timeout", 1),
            ("provider_failed", 3),
        ]
        assert "no. 2" in page
        assert "pixverse/main" in page
        assert page.count("<svg") == 2
        bar = re.search(r'<a href="(letters/\?[^"]+)"><title>[^<]+: 3</title>', page)
        assert bar
        of_bar = console.get(GROUPS + bar[1].replace("&amp;", "&"))
        assert len(of_bar.context["members"]) == 3

    def test_says_when_there_are_none(self, console: Client) -> None:
        assert "No dead letters." in console.get(GROUPS).content.decode()

    def test_filters(self, console: Client, account: Account) -> None:
        tried(account, error_code="no_output", user=UserFactory.create(username="mina"))
        old = failed()
        Generation.objects.filter(pk=old.pk).update(completed_at=timezone.now() - timedelta(days=3))

        def codes(**query: str) -> list[str]:
            return [row["group"].code for row in console.get(GROUPS, query).context["rows"]]

        assert codes() == ["no_output"]
        assert codes(last="7d") == ["no_output", "provider_failed"]
        for only in ({"code": "no_output"}, {"user": "mina"}, {"account": str(account.pk)}):
            assert codes(last="30d", **only) == ["no_output"], only
        assert codes(last="30d", account="none") == ["provider_failed"]
        assert codes(last="30d", provider="modelslab") == []

    @pytest.mark.parametrize(
        "query",
        [
            {"last": "9y"},
            {"account": "x"},
            {"account": "00000000-0000-0000-0000-000000000000"},
            {"provider": "nobody"},
            {"user": "nobody"},
            {"since": "yesterday"},
            {"since": "0001-01-01T00:00:00"},
            {"until": "9999-12-31T23:59:59.999999+00:00"},
            {"until": "2026-13-45"},
            {"since": "2020-01-01T00:00:00Z", "until": "2020-12-01T00:00:00Z"},
            {"code": "x" * 5000},
            {"code": "\x00"},
            {"code": "'; DROP TABLE x; --"},
            {"before": "x"},
            {"rate": "-1"},
            {"rate": "x"},
        ],
    )
    @pytest.mark.parametrize("url", [GROUPS, LETTERS, REPLAY, DISMISS])
    def test_survives_nonsense(self, console: Client, url: str, query: dict[str, str]) -> None:
        letter = failed()

        assert console.get(url, query).status_code in {200, 302}
        assert console.post(f"{url}?code=x", query).status_code in {200, 302}
        assert Generation.objects.get() == letter

    def test_says_what_is_wrong_with_a_filter_and_shows_nothing(self, console: Client) -> None:
        failed()

        response = console.get(GROUPS, {"user": "nobody"})

        assert "There is no user of this name." in response.content.decode()
        assert response.context["rows"] == []

    def test_costs_the_same_number_of_queries_for_many_as_for_few(self, console: Client, account: Account) -> None:
        def cost(url: str) -> int:
            with CaptureQueriesContext(connection) as caught:
                assert console.get(url).status_code == 200
            return len(caught)

        tried(account)
        few = [cost(url) for url in (GROUPS, LETTERS, REPLAY)]
        for number in range(8):
            GenerationInputFactory.create(generation=tried(account, error_code=f"code_{number}"))

        assert [cost(url) for url in (GROUPS, LETTERS, REPLAY)] == few

    def test_counts_beside_its_name_in_the_navigation(self, console: Client) -> None:
        failed(), failed(), possibly_billed()

        items = [
            item
            for group in console.get(reverse("admin:index")).context["sidebar_navigation"]
            for item in group["items"]
            if item["title"] == "Dead letters"
        ]

        assert [item["badge"] for item in items] == ["3"]

    def test_leads_from_a_letter_to_its_generation(self, console: Client) -> None:
        letter = failed()

        url = reverse("admin:generations_deadletter_change", args=[letter.pk])

        assert console.get(url)["Location"] == reverse("admin:generations_generation_change", args=[letter.pk])


class TestTheLetters:
    """The members of a group."""

    def test_shows_what_went_wrong_and_what_can_be_done(self, console: Client, account: Account) -> None:
        letter = tried(account, prompt="a quiet harbour", error_message="<b>no</b>")
        GenerationInputFactory.create(generation=letter)

        page = console.get(LETTERS).content.decode()

        assert "a quiet harbour" in page
        assert "&lt;b&gt;no&lt;/b&gt;" in page
        assert '<img src="/content/' in page
        for name in ("change", "edit", "retry", "dismiss"):
            assert reverse(f"admin:generations_generation_{name}", args=[letter.pk]) in page

    def test_is_read_page_by_page(self, console: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("generations.admin.dead_letter.PAGE", 2)
        rows = [failed() for _ in range(3)]

        first = console.get(LETTERS)
        second = console.get(f"{LETTERS}?{first.context['older']}")

        assert [member["row"] for member in first.context["members"]] == [rows[2], rows[1]]
        assert [member["row"] for member in second.context["members"]] == [rows[0]]
        assert second.context["older"] == ""

    def test_shows_what_was_dismissed_by_whom_and_why(self, console: Client, admin: User) -> None:
        letter = failed()
        url = reverse("admin:generations_generation_dismiss", args=[letter.pk])
        back = f"{LETTERS}?last=24h"

        assert console.post(f"{url}?back={back}", {"reason": ""}).status_code == 200
        assert console.post(f"{url}?back={back}", {"reason": "known"})["Location"] == back

        assert console.get(LETTERS).context["members"] == []
        page = console.get(f"{LETTERS}?show=dismissed").content.decode()
        assert "known" in page
        assert f"admin:{admin.pk}" in page
        console.post(reverse("admin:generations_generation_restore", args=[letter.pk]))
        assert len(console.get(LETTERS).context["members"]) == 1

    def test_goes_nowhere_else_afterwards(self, console: Client) -> None:
        letter = failed()
        url = reverse("admin:generations_generation_dismiss", args=[letter.pk])

        answer = console.post(f"{url}?back=https://evil.example/", {"reason": "r"})

        assert answer["Location"] == reverse("admin:generations_generation_change", args=[letter.pk])

    def test_dismisses_only_what_failed(self, console: Client) -> None:
        row = GenerationFactory.create()
        url = reverse("admin:generations_generation_dismiss", args=[row.pk])

        assert "Only what failed" in console.get(url).content.decode()
        messages = console.post(url, {"reason": "r"}, follow=True).context["messages"]

        assert [str(message) for message in messages] == ["It has not failed, or was dismissed already."]

    def test_dismisses_a_whole_group(self, console: Client) -> None:
        letter, other = failed(), failed(error_code="no_output")

        assert console.get(f"{DISMISS}?code=provider_failed").context["number"] == 1
        console.post(f"{DISMISS}?code=provider_failed", {"reason": "known"})

        letter.refresh_from_db()
        other.refresh_from_db()
        assert (letter.dismissed_at is None, other.dismissed_at is None) == (False, True)


class TestAReplay:
    """All of a group."""

    def test_is_looked_at_first(self, console: Client, account: Account) -> None:
        PriceFactory.create(provider_id="pixverse", operation_type="text_to_video", credits=10)
        poor = WalletFactory.create(available=15, user__username="mina").user
        failed(user=poor), failed(user=poor), possibly_billed()

        response = console.get(f"{REPLAY}?rate=30")
        page = response.content.decode()

        assert response.context["told"].replayable == 1
        assert "1 of 3 letters would be replayed" in page
        assert "for 10 credits" in page
        for words in ("possibly_billed", "insufficient_credits", "mina", "1 would be short"):
            assert words in page
        assert Generation.objects.count() == 3

    def test_says_how_long_it_takes_at_the_rate(self, console: Client, account: Account) -> None:
        for _ in range(5):
            failed()

        assert "the last 8 s after it, at 30 a minute" in console.get(REPLAY).content.decode()
        assert "the last 4 min after it, at 1 a minute" in console.get(f"{REPLAY}?rate=1").content.decode()
        assert "and so do all others" in console.get(f"{REPLAY}?rate=").content.decode()
        button = re.search(r"<button[^>]*dr-main[^>]*>", console.get(f"{REPLAY}?rate=0").content.decode())
        assert button is not None
        assert "disabled" in button[0]

    def test_plans_them_at_the_rate_and_sums_up(self, console: Client, account: Account, admin: User) -> None:
        rows = [failed() for _ in range(3)]
        possibly_billed()

        messages = press(console, f"{REPLAY}?rate=60")

        assert messages[0] == "3 replayed, 60 a minute. They are under Generations now."
        assert messages[1].startswith("1 not replayed (possibly_billed)")
        times = [row.retries.get().scheduled_at for row in rows]
        assert times[2] - times[0] == timedelta(seconds=2)  # type: ignore[operator]
        assert rows[0].events.get(kind="retried").actor == f"admin:{admin.pk}"

    def test_goes_on_slice_by_slice(self, console: Client, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(replaying, "SLICE_SECONDS", 0)
        for _ in range(4):
            failed()

        page = console.get(REPLAY)
        first = console.post(page.context["action"], {"progress": page.context["token"]})

        assert "1 of 4" in first.content.decode()
        assert "data-continue" in first.content.decode()
        assert press(console, REPLAY)[0].startswith("3 replayed")

    def test_does_nothing_twice_for_two_clicks(self, console: Client, account: Account) -> None:
        rows = [failed() for _ in range(3)]
        page = console.get(REPLAY)
        form = {"progress": page.context["token"]}

        console.post(page.context["action"], form)
        answer = console.post(page.context["action"], form, follow=True)

        assert "None of them is left" in answer.content.decode()
        assert [row.retries.count() for row in rows] == [1] * 3

    def test_leaves_out_what_failed_after_it_was_looked_at(self, console: Client, account: Account) -> None:
        failed()
        page = console.get(REPLAY)
        later = failed()

        console.post(page.context["action"], {"progress": page.context["token"]})

        assert not later.retries.exists()

    @pytest.mark.parametrize("progress", ["", "forged", "eyJ1bnRpbCI6IngifQ:forged"])
    def test_believes_no_forged_progress(self, console: Client, account: Account, progress: str) -> None:
        failed()

        assert console.post(REPLAY, {"progress": progress}).status_code == 302
        assert Generation.objects.count() == 1

    def test_believes_no_progress_of_other_filters(self, console: Client, account: Account) -> None:
        failed(error_code="a"), failed(error_code="b")
        looked_at = console.get(f"{REPLAY}?code=a").context
        other = console.get(f"{REPLAY}?code=b").context

        console.post(other["action"], {"progress": looked_at["token"]})

        assert Generation.objects.count() == 2

    def test_wants_the_csrf_token(self, admin: User, account: Account) -> None:
        failed()
        client = Client(enforce_csrf_checks=True)
        client.force_login(admin)
        page = client.get(REPLAY)

        assert client.post(page.context["action"], {"progress": page.context["token"]}).status_code == 403
        assert Generation.objects.count() == 1


def test_shows_and_does_only_what_somebody_may(staff: Callable[..., Client], account: Account) -> None:
    letter = failed()
    nobody, looker = staff("view_generation"), staff("view_deadletter", "view_generation")

    assert {nobody.get(url).status_code for url in (GROUPS, LETTERS, REPLAY, DISMISS)} == {403}
    assert [looker.get(url).status_code for url in (GROUPS, LETTERS, REPLAY, DISMISS)] == [200, 200, 403, 403]
    assert "Replay" not in looker.get(LETTERS).content.decode()
    assert looker.post(f"{DISMISS}?code=provider_failed", {"reason": "r"}).status_code == 403
    assert looker.post(REPLAY, {"progress": "x"}).status_code == 403
    letter.refresh_from_db()
    assert letter.dismissed_at is None
