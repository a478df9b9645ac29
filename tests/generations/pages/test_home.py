"""The one plain page: it"""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django import Settings

from generations.intake.switches import turn_on
from generations.lifecycle import State, Status
from tests.factories import (
    PASSWORD,
    GenerationFactory,
    SubmissionFactory,
    UserFactory,
    WalletFactory,
    completed_generation,
)

HOME, NEWEST, LOGIN = reverse("pages:home"), reverse("pages:newest"), reverse("pages:login")


@pytest.fixture(autouse=True)
def _own_folder(settings: Settings, tmp_path: Path) -> None:
    settings.STATIC_ROOT = str(tmp_path)
    settings.STORAGES = {
        "default": {"BACKEND": "generations.storage.DurableFileSystemStorage", "OPTIONS": {"location": str(tmp_path)}},
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


@pytest.fixture
def user(db: None) -> User:
    return UserFactory.create()


@pytest.fixture
def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_asks_who_it_is(client: Client, db: None) -> None:
    for url in (HOME, NEWEST):
        assert client.get(url)["Location"] == f"{LOGIN}?next={url}"


def test_lets_in_whoever_is_no_staff(client: Client, db: None) -> None:
    user = UserFactory.create(password=PASSWORD)
    wrong = client.post(LOGIN, {"username": user.get_username(), "password": "nonsense"})
    assert "do not belong together" in wrong.content.decode()
    response = client.post(LOGIN, {"username": user.get_username(), "password": PASSWORD, "next": HOME})
    assert response["Location"] == HOME
    assert client.get(HOME).status_code == 200
    client.post(reverse("pages:logout"))
    assert client.get(HOME).status_code == 302


def test_sends_nobody_elsewhere_after_the_login(client: Client, db: None) -> None:
    user = UserFactory.create(password=PASSWORD)
    fields = {"username": user.get_username(), "password": PASSWORD, "next": "https://evil.example/"}
    assert client.post(LOGIN, fields)["Location"] == HOME


def test_shows_my_results_and_nobody_elses(browser: Client, user: User) -> None:
    completed_generation(user=user, prompt="my harbour")
    completed_generation(prompt="somebody's secret")
    WalletFactory.create(user=user, available=1234)
    page = browser.get(HOME).content.decode()
    assert "my harbour" in page
    assert "somebody" not in page
    assert page.count('<img src="/content/') == 1
    assert "<b>1,234</b> credits" in page


def test_tells_how_those_under_way_stand(browser: Client, user: User) -> None:
    SubmissionFactory.create(state=State.ACCEPTED, progress=40, generation__user=user)
    GenerationFactory.create(user=user, provider_id="modelslab")
    GenerationFactory.create(user=user, status=Status.FAILED, error_message="The prompt was refused.")
    page = browser.get(NEWEST).content.decode()
    assert 'data-live="yes"' in page
    assert 'value="40"' in page
    assert "waiting for an account" in page
    assert "The prompt was refused." in page


def test_costs_next_to_nothing_while_nothing_changes(browser: Client, user: User) -> None:
    completed_generation(user=user)
    first = browser.get(NEWEST)
    assert 'data-live="no"' in first.content.decode()
    again = browser.get(NEWEST, headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    GenerationFactory.create(user=user)
    assert browser.get(NEWEST, headers={"If-None-Match": first["ETag"]}).status_code == 200


def test_makes_as_many_queries_for_many_as_for_few(browser: Client, user: User) -> None:
    def more() -> None:
        completed_generation(user=user)
        GenerationFactory.create(user=user)
        SubmissionFactory.create(state=State.ACCEPTED, generation__user=user)

    more()
    with CaptureQueriesContext(connection) as few:
        browser.get(HOME)
    for _ in range(5):
        more()
    with CaptureQueriesContext(connection) as many:
        browser.get(HOME)
    assert len(many) == len(few)


def test_escapes_prompts_and_holds_no_script_of_its_own(browser: Client, user: User) -> None:
    completed_generation(user=user, prompt="<script>alert(1)</script>")
    page = browser.get(HOME).content.decode()
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    # Friendly to a strict Content-Security-Policy: no inline script, no style attribute.
    assert "<script>" not in page
    assert "style=" not in page
    assert "onclick" not in page


def test_shows_the_ways_that_exist_for_this_person(browser: Client, settings: Settings) -> None:
    settings.FLOWER_URL = "http://127.0.0.1:5555/"
    assert "Console" not in browser.get(HOME).content.decode()
    boss = Client()
    boss.force_login(UserFactory.create(is_staff=True))
    page = boss.get(HOME).content.decode()
    assert reverse("admin:index") in page
    assert reverse("api:docs") in page
    assert 'href="http://127.0.0.1:5555/"' in page


def test_only_answers_to_being_looked_at(browser: Client) -> None:
    assert browser.post(HOME).status_code == 405


def test_says_that_nothing_new_is_accepted_and_why(browser: Client, user: User) -> None:
    assert "Nothing new is accepted" not in browser.get(HOME).content.decode()
    boss = UserFactory.create(username="mina", is_staff=True, is_superuser=True)
    turn_on("intake", reason="closed <until> Monday", actor=f"admin:{boss.pk}")
    turn_on("dispatch", reason="not for users", actor=f"admin:{boss.pk}")
    page = browser.get(HOME).content.decode()
    assert "Nothing new is accepted at present:</strong> closed &lt;until&gt; Monday" in page
    assert "by an operator, <time" in page
    assert "mina" not in page, "who it was is for staff"
    assert "not for users" not in page
    assert "Let it go on" not in page
    browser.force_login(boss)
    page = browser.get(HOME).content.decode()
    assert "by mina, <time" in page
    assert reverse("admin:generations_switch_turn", args=["intake"]) in page
