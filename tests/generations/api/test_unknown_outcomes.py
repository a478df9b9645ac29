"""The operators' inbox by API."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.utils import timezone
from rest_framework.test import APIClient

from generations.lifecycle import State
from generations.models import Submission
from tests.factories import GenerationFactory, SubmissionFactory, UserFactory
from tests.generations.api.conftest import ClientOf
from tests.generations.api.helpers import assert_problem

INBOX = "/api/v1/unknown-outcomes"


@pytest.fixture
def operator(db: None, client_of: ClientOf) -> APIClient:
    return client_of(UserFactory.create(is_staff=True, is_superuser=True))


def unknown(**fields: Any) -> Submission:
    return SubmissionFactory.create(state=State.UNKNOWN, error_message="The answer was lost.", **fields)


def test_lists_what_waits_for_a_person(operator: APIClient) -> None:
    one = unknown()
    SubmissionFactory.create(state=State.SUCCEEDED, account=one.account, cost=4, generation__price=3)
    risky = SubmissionFactory.create(state=State.FAILED, cost_at_risk=True)
    for state in (State.ACCEPTED, State.FAILED):
        SubmissionFactory.create(state=state)

    told = operator.get(INBOX).json()

    assert [row["id"] for row in told["results"]] == [str(risky.pk), str(one.pk)]
    row = told["results"][1]
    assert (row["why"], row["state"], row["keeps_slot"]) == ("The answer was lost.", "unknown", True)
    assert (row["user"], row["prompt"]) == (one.generation.user.username, one.generation.prompt)
    assert (float(row["usual_cost"]), row["unit"]) == (4, "credits")
    assert row["evidence_text"] == "Pixverse's own list has not been read yet."
    assert told["results"][0]["limit_at"] is None


def test_costs_the_same_for_many(operator: APIClient, django_assert_max_num_queries: Any) -> None:
    for _ in range(12):
        unknown()
    with django_assert_max_num_queries(5):
        assert len(operator.get(INBOX, {"limit": "10"}).json()["results"]) == 10


def test_settles_one(operator: APIClient) -> None:
    one = unknown()

    told = operator.post(f"{INBOX}/{one.pk}/resolve", {"decision": "not_billed", "note": "Not there."}, format="json")

    assert told.status_code == 200
    assert told.json() == {
        "id": str(one.pk), "state": "failed", "resolution": "not_billed",
        "generation": str(one.generation_id), "status": "pending",
    }  # fmt: skip
    again = operator.post(f"{INBOX}/{one.pk}/resolve", {"decision": "not_billed", "note": "Not there."}, format="json")
    assert_problem(again, 409, "already_resolved")


def test_takes_the_job_id_and_the_cost(operator: APIClient) -> None:
    one = unknown()
    body = {"decision": "billed", "note": "It is there.", "job_id": "4711", "cost": "0.25"}

    assert operator.post(f"{INBOX}/{one.pk}/resolve", body, format="json").json()["state"] == "accepted"

    one.refresh_from_db()
    assert (one.provider_job_id, str(one.cost)) == ("4711", "0.2500")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"decision": "billed"},
        {"decision": "perhaps", "note": "n"},
        {"decision": "billed", "note": ""},
        {"decision": "billed", "note": "   "},
        {"decision": "billed", "note": "x" * 501},
        {"decision": "billed", "note": 5},
        {"decision": "billed", "note": "n", "cost": 1.5},
        {"decision": "billed", "note": "n", "cost": "-1"},
        {"decision": "billed", "note": "n", "cost": "1e999"},
        {"decision": "billed", "note": "n", "job_id": "x" * 256},
        {"decision": "not_billed", "note": "n", "job_id": "4711"},
        {"decision": "billed", "note": "n", "more": 1},
    ],
    ids=str,
)
def test_says_what_is_wrong(operator: APIClient, body: dict[str, Any]) -> None:
    one = unknown()
    reply = operator.post(f"{INBOX}/{one.pk}/resolve", body, format="json")
    assert reply.status_code == 400
    assert reply.headers["Content-Type"] == "application/problem+json"
    one.refresh_from_db()
    assert (one.state, one.resolution) == (State.UNKNOWN, "")


def test_knows_no_other_attempt(operator: APIClient) -> None:
    body = {"decision": "not_billed", "note": "n"}
    assert_problem(operator.post(f"{INBOX}/{uuid4()}/resolve", body, format="json"), 404, "unknown_attempt")


def test_is_for_operators(user: User, api: APIClient, client_of: ClientOf) -> None:
    one = unknown(generation=GenerationFactory.create(user=user, status="processing"))
    body = {"decision": "not_billed", "note": "n"}
    staff = UserFactory.create(is_staff=True)
    for client in (api, client_of(staff)):
        assert_problem(client.get(INBOX), 403, "permission_denied")
        assert_problem(client.post(f"{INBOX}/{one.pk}/resolve", body, format="json"), 403, "permission_denied")
    assert_problem(APIClient().get(INBOX), 401, "not_authenticated")

    staff.user_permissions.add(Permission.objects.get(codename="view_submission"))
    assert client_of(staff).get(INBOX).status_code == 200
    refused = client_of(staff).post(f"{INBOX}/{one.pk}/resolve", body, format="json")
    assert_problem(refused, 403, "permission_denied")
    one.refresh_from_db()
    assert one.resolution == ""
    assert one.created_at <= timezone.now()
