"""The database goes away, at the worst moments, and comes back: over real HTTP, through a wire that is really cut."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import requests
from django.contrib.auth.models import User
from django.test import Client
from knox.models import AuthToken

from accounts.models import LedgerEntry, Wallet
from generations.models import Generation, IdempotencyKey
from generations.reports import audit
from tests.factories import PASSWORD, PriceFactory, UserFactory, WalletFactory
from tests.generations.api.helpers import GENERATIONS
from tests.web import Web
from tests.wire import Wire, url_of, wire_to_the_database

pytestmark = pytest.mark.django_db(transaction=True)

NOBODY = "redis://127.0.0.1:1/0"
COMMIT = b"COMMIT"
WAITS = (0.01, 0.05, 0.02, 0.3, 0.03, 0.1, 0.6, 0.02)
"""Seconds between two cuts: some fall into a request wherever it is, and now and then there is time for a whole one."""


@pytest.fixture(scope="module")
def wire(django_db_setup: None) -> Iterator[Wire]:
    """Between the web process and the database."""
    with wire_to_the_database() as made:
        yield made


@pytest.fixture(scope="module")
def web(wire: Wire, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """A web process at the end of the wire."""
    folder = tmp_path_factory.mktemp("web")
    with Web(folder, DATABASE_URL=url_of(wire.port), REDIS_URL=NOBODY, MEDIA_ROOT=str(folder / "media")) as made:
        yield made


@pytest.fixture
def person() -> User:
    """Somebody with 100 credits, of which a picture costs 10."""
    user = UserFactory.create()
    WalletFactory.create(user=user, available=100)
    PriceFactory.create(credits=10)
    return user


@pytest.fixture
def ask(web: Web, person: User) -> Any:
    """Asks for the one picture, with a key or without."""
    token = AuthToken.objects.create(person)[1]

    def post(key: str = "", prompt: str = "a lighthouse") -> requests.Response:
        headers = {"Authorization": f"Bearer {token}", **({"Idempotency-Key": key} if key else {})}
        body = {"provider_id": "modelslab", "operation_type": "text_to_image", "params": {"prompt": prompt}}
        return web.call("POST", GENERATIONS, json=body, headers=headers)

    return post


def refused(reply: requests.Response) -> None:
    """For now, and in words that a client and a person understand."""
    told = reply.json()
    assert (reply.status_code, told["code"]) == (503, "database_unavailable"), told
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert int(reply.headers["Retry-After"]) > 0
    assert "try again" in told["detail"]


def nothing_exists() -> None:
    assert not Generation.objects.exists()
    assert not IdempotencyKey.objects.exists()
    assert not LedgerEntry.objects.filter(kind="hold").exists()
    assert list(Wallet.objects.values_list("available", "held")) == [(100, 0)]


def one_exists(generation_id: str) -> None:
    assert str(Generation.objects.get().pk) == generation_id
    assert LedgerEntry.objects.filter(kind="hold").count() == 1
    assert list(Wallet.objects.values_list("available", "held")) == [(90, 10)]
    assert audit.run() == []


# --- accepting -------------------------------------------------------------------------------------


def test_accepts_nothing_while_there_is_no_database(wire: Wire, ask: Any) -> None:
    with wire.down():
        for _ in range(3):
            refused(ask("key"))
    nothing_exists()
    reply = ask("key")
    assert reply.status_code == 202, reply.text
    one_exists(reply.json()["id"])


@pytest.mark.parametrize("words", [b"generations_generation", b"accounts_ledgerentry", b"generations_event"])
def test_keeps_nothing_of_a_request_whose_connection_is_lost_before_the_commit(
    words: bytes, wire: Wire, ask: Any
) -> None:
    """Cut in the middle of the transaction: after the INSERT of the Generation, of the hold, of the Event."""
    ask(prompt="so that everything is warm")
    Generation.objects.all().delete()
    LedgerEntry.objects.filter(kind="hold").delete()
    Wallet.objects.update(available=100, held=0)
    wire.cut_after(b'INSERT INTO "' + words)
    refused(ask("key"))
    assert wire.sprung.is_set()
    nothing_exists()
    assert ask("key").status_code == 202


def test_answers_with_the_same_generation_when_the_answer_to_the_commit_was_lost(wire: Wire, ask: Any) -> None:
    key = uuid4().hex
    wire.cut_after(COMMIT)
    refused(ask(key))
    assert wire.sprung.is_set()
    made = str(Generation.objects.get().pk)  # it was done, and nobody knows
    reply = ask(key)
    assert (reply.status_code, reply.json()["id"]) == (202, made), reply.text
    assert reply.headers["Idempotent-Replayed"] == "true"
    one_exists(made)


def test_answers_with_the_same_generation_without_a_key_too(wire: Wire, ask: Any) -> None:
    wire.cut_after(COMMIT)
    refused(ask())
    reply = ask()
    assert (reply.status_code, reply.json()["reused"]) == (200, True), reply.text
    one_exists(reply.json()["id"])


def test_needs_no_second_try_when_the_database_was_away_between_two_requests(wire: Wire, ask: Any) -> None:
    assert ask(prompt="before").status_code == 202
    wire.cut()
    assert ask(prompt="after").status_code == 202


def test_answers_everybody_while_connections_are_cut_all_the_time(wire: Wire, ask: Any) -> None:
    """Whoever gets no answer asks again with the same key: each request is one Generation in the end."""
    over = threading.Event()

    def saw() -> None:
        for wait in itertools.cycle(WAITS):
            if over.wait(wait):
                return
            wire.cut()

    sawing = threading.Thread(target=saw)
    sawing.start()
    try:
        ids = {}
        for number in range(8):
            while (reply := ask(f"key {number}", prompt=f"picture {number}")).status_code != 202:
                refused(reply)
            ids[number] = reply.json()["id"]
    finally:
        over.set()
        sawing.join()
    assert {str(pk) for pk in Generation.objects.values_list("pk", flat=True)} == set(ids.values())
    assert Generation.objects.count() == 8
    assert list(Wallet.objects.values_list("available", "held")) == [(20, 80)]
    assert audit.run() == []


# --- everything else -------------------------------------------------------------------------------


def test_shows_a_page_for_people_and_no_stack_trace(wire: Wire, web: Web, person: User) -> None:
    browser = Client()
    person.is_staff = person.is_superuser = True
    person.set_password(PASSWORD)
    person.save()
    assert browser.login(username=person.username, password=PASSWORD)
    cookies = {"sessionid": browser.cookies["sessionid"].value}
    pages = ["/", "/newest/", "/admin/", "/admin/generations/generation/", "/admin/generations/incident/"]
    assert [web.call("GET", path, cookies=cookies).status_code for path in pages] == [200] * len(pages)
    with wire.down():
        for path in pages:
            reply = web.call("GET", path, cookies=cookies)
            assert (reply.status_code, reply.headers["Content-Type"]) == (503, "text/html; charset=utf-8"), path
            assert int(reply.headers["Retry-After"]) > 0
            assert "Nothing is lost" in reply.text
            assert "tries again by itself" in reply.text
            assert "Traceback" not in reply.text
        login = web.call("GET", "/login/")
        form = {"username": person.username, "password": PASSWORD, "csrfmiddlewaretoken": login.cookies["csrftoken"]}
        reply = web.call("POST", "/login/", data=form, cookies=login.cookies.get_dict())
        assert reply.status_code == 503
        assert "send it again if it was not" in reply.text
        assert "http-equiv" not in reply.text, "a POST is not repeated by itself"
    assert [web.call("GET", path, cookies=cookies).status_code for path in pages] == [200] * len(pages)


def test_answers_machines_with_problems(wire: Wire, web: Web, ask: Any) -> None:
    ask()
    with wire.down():
        for path in ("/api/v1/generations", "/content/some-token:1:2", f"/api/v1/generations/{uuid4()}"):
            reply = web.call("GET", path, headers={"Authorization": "Bearer " + "x" * 64})
            assert reply.headers["Content-Type"] == "application/problem+json", (path, reply.text)
            assert reply.status_code in {503, 404}, path
        refused(web.call("GET", "/api/v1/generations", headers={"Authorization": "Bearer " + "x" * 64}))
        callback = web.call("POST", "/hooks/pixverse/some-token", json={"a": 1})
        assert (callback.status_code, callback.headers["Retry-After"]) == (503, "5")
        ready = web.call("GET", "/readyz")
        assert ready.status_code == 503
        assert [one["ok"] for one in ready.json()["checks"] if one["name"] == "database"] == [False]
        assert web.call("GET", "/healthz").status_code == 200
