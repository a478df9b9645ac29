"""A stopped intake and a paused dispatch, as callers see them; and the switches, as staff turn them."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from rest_framework.test import APIClient

from config.celery import sync_beat_schedule
from generations.api import health
from generations.intake.switches import turn_off, turn_on
from generations.lifecycle import Status
from generations.models import Generation, Heartbeat, Switch, SwitchChange
from tests.factories import AccountFactory, GenerationFactory, UserFactory, completed_generation
from tests.generations.api.conftest import ClientOf
from tests.generations.api.helpers import GENERATIONS, assert_problem

SWITCHES = "/api/v1/switches"
WHY = "The studio is closed until Monday."


def stop(key: str = "intake") -> None:
    turn_on(key, reason=WHY, actor="admin:1")


def test_refuses_new_work_with_the_reason_and_when_to_come_back(api: APIClient, body: dict[str, Any]) -> None:
    stop()

    reply = api.post(GENERATIONS, body, format="json", headers={"Idempotency-Key": "a"})

    told = assert_problem(reply, 503, "intake_stopped")
    assert told["reason"] == WHY
    assert told["since"].endswith("Z")
    assert WHY.rstrip(".") in told["detail"]
    assert int(reply.headers["Retry-After"]) > 0
    assert not Generation.objects.exists()


def test_refuses_a_retry_too(api: APIClient, user: Any) -> None:
    failed = GenerationFactory.create(user=user, status=Status.FAILED, raw_params={"prompt": "a boat"})
    stop()

    assert_problem(api.post(f"{GENERATIONS}/{failed.pk}/retry"), 503, "intake_stopped")

    assert Generation.objects.count() == 1


def test_still_says_what_is_wrong_with_a_request(api: APIClient, body: dict[str, Any]) -> None:
    stop()

    reply = api.post(GENERATIONS, {**body, "params": {"prompt": ""}}, format="json")

    assert_problem(reply, 400, "invalid_params")


def test_answers_replays_equal_requests_quotes_reads_and_cancels(api: APIClient, body: dict[str, Any]) -> None:
    first = api.post(GENERATIONS, body, format="json", headers={"Idempotency-Key": "a"}).json()
    stop()

    replay = api.post(GENERATIONS, body, format="json", headers={"Idempotency-Key": "a"})
    equal = api.post(GENERATIONS, body, format="json")

    assert (replay.status_code, replay.json()["id"], replay.headers["Idempotent-Replayed"]) == (
        202,
        first["id"],
        "true",
    )
    assert (equal.status_code, equal.json()["id"], equal.json()["reused"]) == (200, first["id"], True)
    assert api.post(f"{GENERATIONS}/quote", body, format="json").status_code == 200
    assert api.get(GENERATIONS).json()["results"][0]["id"] == first["id"]
    assert api.post(first["links"]["cancel"]).json()["status"] == "cancelled"


def test_says_paused_and_guesses_no_end(api: APIClient, body: dict[str, Any], user: Any) -> None:
    AccountFactory.create()
    completed_generation(user=user, raw_params=body["params"] | {"prompt": "another"})
    stop("dispatch:operation:text_to_video")

    made = api.post(GENERATIONS, body, format="json")

    assert made.status_code == 202
    told = api.get(made.json()["links"]["self"]).json()
    assert (told["status"], told["wait_reason"], told["eta_seconds"]) == ("pending", "paused", None)
    assert api.post(f"{GENERATIONS}/quote", body | {"reuse": "none"}, format="json").json()["eta_seconds"] is None


@pytest.mark.parametrize("key", ["dispatch", "dispatch:provider:pixverse"])
def test_tells_that_a_provider_is_paused(api: APIClient, key: str) -> None:
    AccountFactory.create()
    stop(key)

    [health] = [one["health"] for one in api.get("/api/v1/providers").json()["results"] if one["id"] == "pixverse"]

    assert health["state"] == "paused"
    assert WHY.rstrip(".") in health["detail"]


# --- staff ------------------------------------------------------------------------------------------


@pytest.fixture
def boss(db: None) -> User:
    return UserFactory.create(username="mina", is_staff=True, is_superuser=True)


@pytest.fixture
def operator(boss: User, client_of: ClientOf) -> APIClient:
    return client_of(boss)


def turn(client: APIClient, key: str, on: object = True, reason: object = WHY) -> Any:
    return client.put(f"{SWITCHES}/{key}", {"on": on, "reason": reason}, format="json")


def test_turns_one_on_and_off_and_tells_who_and_why(operator: APIClient, boss: User) -> None:
    told = turn(operator, "dispatch:provider:pixverse").json()
    assert (told["on"], told["reason"], told["actor"], told["who"]) == (True, WHY, f"user:{boss.pk}", "mina")
    assert told["title"] == "Dispatch to Pixverse"
    listed = operator.get(SWITCHES).json()["results"]
    assert [one["key"] for one in listed if one["on"]] == ["dispatch:provider:pixverse"]
    assert next(one for one in listed if one["on"]) == told

    told = turn(operator, "dispatch:provider:pixverse", on=False, reason="mended").json()

    assert (told["on"], told["reason"], told["since"]) == (False, None, None)
    changes = operator.get(f"{SWITCHES}/changes?limit=1").json()
    assert [(one["on"], one["reason"], one["who"]) for one in changes["results"]] == [(False, "mended", "mina")]
    assert operator.get(changes["next"]).json()["results"][0]["on"] is True


def test_turns_a_switch_once(operator: APIClient) -> None:
    assert [turn(operator, "intake").status_code for _ in range(2)] == [200, 200]
    assert turn(operator, "intake", reason="another").json()["reason"] == WHY
    assert [turn(operator, "intake", on=False).status_code for _ in range(2)] == [200, 200]
    assert SwitchChange.objects.count() == 2


def test_turns_off_what_is_on_for_a_provider_that_is_no_more(operator: APIClient) -> None:
    Switch.objects.create(key="dispatch:provider:gone", reason=WHY, actor="admin:1")
    told = turn(operator, "dispatch:provider:gone", on=False).json()
    assert (told["key"], told["on"]) == ("dispatch:provider:gone", False)


@pytest.mark.parametrize("key", ["nothing", "dispatch:provider:nobody", "intake'--", "INTAKE"])
def test_knows_no_other_switches(operator: APIClient, key: str) -> None:
    assert_problem(turn(operator, key), 404, "not_found")
    assert not Switch.objects.exists()


@pytest.mark.parametrize(
    "sent",
    [
        {"on": True},
        {"on": True, "reason": ""},
        {"on": True, "reason": "  "},
        {"on": True, "reason": "x" * 301},
        {"on": "yes", "reason": WHY},
        {"on": 1, "reason": WHY},
        {"reason": WHY},
        {"on": True, "reason": WHY, "actor": "admin:1"},
        {"on": True, "reason": "a\u0000b"},
    ],
)
def test_refuses_what_is_no_turn(operator: APIClient, sent: dict[str, Any]) -> None:
    assert operator.put(f"{SWITCHES}/intake", sent, format="json").status_code == 400
    assert not Switch.objects.exists()


def test_is_for_staff_with_the_permission(api: APIClient, client_of: ClientOf) -> None:
    looker = UserFactory.create(is_staff=True)
    looker.user_permissions.set(Permission.objects.filter(codename__in=["view_switch", "view_switchchange"]))
    no_staff = UserFactory.create()
    no_staff.user_permissions.set(Permission.objects.filter(codename__in=["view_switch", "change_switch"]))
    for client in (api, client_of(no_staff)):
        for reply in (client.get(SWITCHES), client.get(f"{SWITCHES}/changes"), turn(client, "intake")):
            assert_problem(reply, 403, "permission_denied")
    seeing = client_of(looker)
    assert [seeing.get(SWITCHES).status_code, seeing.get(f"{SWITCHES}/changes").status_code] == [200, 200]
    assert_problem(turn(seeing, "intake"), 403, "permission_denied")
    assert not Switch.objects.exists()


def test_stays_ready_and_says_what_is_stopped_but_not_why(api: APIClient) -> None:
    sync_beat_schedule()
    for name in ("tick", "poll"):
        Heartbeat.beat(name, "test")

    def check() -> dict[str, Any]:
        health.latest.forget()
        reply = api.get("/readyz")
        assert reply.status_code == 200, reply.content
        [found] = [one for one in reply.json()["checks"] if one["name"] == "switches"]
        return dict(found)

    assert (check()["ok"], check()["detail"], check()["what_to_do"]) == (True, "Nothing is stopped.", "")
    stop("intake")
    stop("dispatch")
    told = check()
    assert (told["ok"], told["detail"]) == (True, "Stopped by an operator: dispatch, intake.")
    assert "Switches" in told["what_to_do"]
    assert WHY not in str(told)


def test_measures_what_is_stopped(operator: APIClient) -> None:
    stop("dispatch:operation:fusion")
    text = operator.get("/metrics").content.decode()
    assert 'darkroom_switch_on{switch="dispatch:operation:fusion"} 1.0' in text
    assert 'darkroom_switch_on{switch="intake"} 0.0' in text
    turn_off("dispatch:operation:fusion", reason="over", actor="test")
    assert 'darkroom_switch_on{switch="dispatch:operation:fusion"} 0.0' in operator.get("/metrics").content.decode()
