"""A stopped intake and a paused dispatch, as callers see them; and the switches, as staff turn them."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from generations.intake.switches import turn_on
from generations.lifecycle import Status
from generations.models import Generation
from tests.factories import AccountFactory, GenerationFactory, completed_generation
from tests.generations.api.helpers import GENERATIONS, assert_problem

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
