"""Asking for a Generation."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from accounts.models import LedgerEntry, Wallet
from generations.models import Event, Generation
from tests.factories import (
    PASSWORD,
    AssetFactory,
    GenerationFactory,
    PriceFactory,
    SubmissionFactory,
    UserCapFactory,
    UserFactory,
    WalletFactory,
    completed_generation,
)
from tests.generations.api.conftest import ClientOf
from tests.generations.api.helpers import GENERATIONS, assert_problem

Body = dict[str, Any]


def test_accepts_the_seed_request(api: APIClient, user: User, body: Body) -> None:
    reply = api.post(GENERATIONS, body, format="json")

    assert reply.status_code == 202
    told = reply.json()
    row = Generation.objects.get()
    assert row.user_id == user.pk
    assert told["id"] == str(row.pk)
    assert told["status"] == "pending"
    assert told["reused"] is False
    assert told["raw_params"] == body["params"]
    assert told["params"]["quality"] == "720p"
    assert told["params"]["duration"]  # a default that was filled in
    assert told["created_at"].endswith("Z")
    assert (told["outputs"], told["attempts"], told["retries"]) == ([], [], [])
    assert (told["error_code"], told["price"], told["retry_of"], told["progress"]) == (None, None, None, None)
    assert reply.headers["Location"] == told["links"]["self"] == f"http://testserver{GENERATIONS}/{row.pk}"
    assert told["links"]["cancel"]
    assert told["links"]["retry"] is None
    assert api.get(reply.headers["Location"]).json()["id"] == told["id"]


def test_accepts_in_few_queries(
    api: APIClient, body: Body, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_max_num_queries(10):
        assert api.post(GENERATIONS, body, format="json").status_code == 202


def test_keeps_everything_that_was_said(api: APIClient, user: User, body: Body) -> None:
    parent = GenerationFactory.create(user=user)
    at = (timezone.now() + timedelta(hours=1)).replace(microsecond=0)
    said = {
        **body,
        "context": {"take": [1, 2.5, None, "ä😀"]},
        "metadata": {"shot": "7b"},
        "priority": 9,
        "scheduled_at": at.isoformat(),
        "parent": str(parent.pk),
    }

    told = api.post(GENERATIONS, said, format="json").json()

    assert told["context"] == said["context"]
    assert told["metadata"] == said["metadata"]
    assert (told["priority"], told["parent"], told["wait_reason"]) == (9, str(parent.pk), "scheduled")
    assert Generation.objects.get(pk=told["id"]).scheduled_at == at


def test_takes_an_upload_as_an_input(api: APIClient, user: User, body: Body) -> None:
    asset = AssetFactory.create(role="input", user=user)
    inputs = [{"role": "image", "asset_id": str(asset.pk)}]

    reply = api.post(GENERATIONS, {**body, "operation_type": "image_to_video", "inputs": inputs}, format="json")

    assert reply.status_code == 202, reply.content
    told = reply.json()["inputs"]
    assert [(one["role"], one["asset"]["id"], one["asset"]["sha256"]) for one in told] == [
        ("image", str(asset.pk), asset.sha256)
    ]


def test_holds_the_price(api: APIClient, user: User, body: Body) -> None:
    PriceFactory.create(provider_id="pixverse", operation_type="text_to_video", credits=7)
    WalletFactory.create(user=user, available=10)

    told = api.post(GENERATIONS, body, format="json").json()

    assert told["price"] == 7
    wallet = Wallet.objects.get(user=user)
    assert (wallet.available, wallet.held) == (3, 7)


def test_is_refused_without_enough_credits(api: APIClient, user: User, body: Body) -> None:
    PriceFactory.create(provider_id="pixverse", operation_type="text_to_video", credits=7)
    WalletFactory.create(user=user, available=3)

    told = assert_problem(api.post(GENERATIONS, body, format="json"), 402, "insufficient_credits")

    assert {key: told[key] for key in ("balance", "required", "operation_type")} == {
        "balance": 3,
        "required": 7,
        "operation_type": "text_to_video",
    }
    assert "costs 7 credits and you have 3" in told["detail"]
    assert not Generation.objects.exists()
    assert not Event.objects.exists()
    assert not LedgerEntry.objects.exclude(kind="grant").exists()
    wallet = Wallet.objects.get(user=user)
    assert (wallet.available, wallet.held) == (3, 0)


def test_is_refused_above_a_cap_of_the_day_until_the_next_one(api: APIClient, user: User, body: Body) -> None:
    UserCapFactory.create(user=user, max_per_day=1)
    api.post(GENERATIONS, body, format="json")

    reply = api.post(GENERATIONS, {**body, "reuse": "none"}, format="json")

    told = assert_problem(reply, 429, "user_cap_reached")
    assert (told["cap"], told["limit"], told["used"]) == ("max_per_day", 1, 1)
    assert told["resets_at"].endswith("T00:00:00Z")
    assert 0 < int(reply.headers["Retry-After"]) <= 86400
    assert api.post(GENERATIONS, body, format="json").status_code == 200, "what is there answers all the same"


def test_is_refused_while_too_many_wait(api: APIClient, user: User, body: Body) -> None:
    UserCapFactory.create(user=user, max_queued=1)
    api.post(GENERATIONS, body, format="json")

    reply = api.post(GENERATIONS, {**body, "reuse": "none"}, format="json")

    told = assert_problem(reply, 429, "user_cap_reached")
    assert (told["cap"], told["limit"], told["used"]) == ("max_queued", 1, 1)
    assert "resets_at" not in told
    assert "Retry-After" not in reply.headers
    assert api.post(f"{GENERATIONS}/quote", {**body, "reuse": "none"}, format="json").json()["cap_reached"]


def test_answers_the_same_request_with_the_same_generation(api: APIClient, body: Body) -> None:
    first = api.post(GENERATIONS, body, format="json")
    again = api.post(GENERATIONS, body, format="json")

    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["reused"] is True
    assert Generation.objects.count() == 1


@pytest.mark.parametrize(
    "other",
    [
        '{"provider_id":%s,"params":{"quality":"720p","prompt":"test video"},"operation_type":%s}',
        '{"params":{"prompt":"test video","quality":"720p","duration":5},"provider_id":%s,"operation_type":%s}',
        '{"params":{"prompt":"test video","quality":"720p","duration":5.0},"provider_id":%s,"operation_type":%s}',
        '{"params":{"prompt":" test video ","quality":"720p"},"provider_id":%s,"operation_type":%s,"metadata":{"a":1}}',
        '{"params":{"prompt":"test video","quality":"720p"},"provider_id":%s,"operation_type":%s,"priority":9}',
    ],
    ids=["key order", "defaults given", "5.0 for 5", "spaces and metadata", "priority"],
)
def test_sees_that_it_is_the_same_request(other: str, api: APIClient, body: Body) -> None:
    first = api.post(GENERATIONS, body, format="json").json()

    raw = other % ('"pixverse"', '"text_to_video"')
    reply = api.post(GENERATIONS, data=raw.encode(), content_type="application/json")

    assert (reply.status_code, reply.json()["id"]) == (200, first["id"])


def test_takes_composed_and_decomposed_text_for_the_same(api: APIClient, body: Body) -> None:
    one = {**body, "params": {"prompt": "caf\u00e9"}}
    two = {**body, "params": {"prompt": "cafe\u0301"}}

    first = api.post(GENERATIONS, one, format="json").json()

    assert api.post(GENERATIONS, two, format="json").json()["id"] == first["id"]


@pytest.mark.parametrize(
    "change",
    [{"context": {"scene": 2}}, {"params": {"prompt": "another"}}, {"reuse": "none"}],
    ids=["context", "params", "reuse=none"],
)
def test_makes_another_for_another_request(change: Body, api: APIClient, body: Body) -> None:
    first = api.post(GENERATIONS, body, format="json").json()

    reply = api.post(GENERATIONS, {**body, **change}, format="json")

    assert reply.status_code == 202
    assert reply.json()["id"] != first["id"]


def test_shows_the_outputs_of_a_completed_one_that_is_reused(api: APIClient, user: User) -> None:
    row = completed_generation(user=user)
    # The same request, as its fingerprint sees it.
    api_made = api.post(
        GENERATIONS,
        {"provider_id": row.provider_id, "operation_type": row.operation_type, "params": row.raw_params},
        format="json",
    )
    made = Generation.objects.get(pk=api_made.json()["id"])
    fingerprint, params = made.fingerprint, made.params
    Event.objects.filter(generation=made).delete()
    made.delete()
    Generation.objects.filter(pk=row.pk).update(fingerprint=fingerprint, active_fingerprint=fingerprint, params=params)

    reply = api.post(
        GENERATIONS,
        {"provider_id": row.provider_id, "operation_type": row.operation_type, "params": row.raw_params},
        format="json",
    )

    assert (reply.status_code, reply.json()["id"], reply.json()["reused"]) == (200, str(row.pk), True)
    assert len(reply.json()["outputs"]) == 1


def test_is_refused_while_an_ended_one_may_still_be_billed(api: APIClient, user: User, body: Body) -> None:
    first = api.post(GENERATIONS, body, format="json").json()
    row = Generation.objects.get(pk=first["id"])
    Generation.objects.filter(pk=row.pk).update(status="failed", completed_at=timezone.now())
    SubmissionFactory.create(generation=row, state="unknown", abandoned=True)

    told = assert_problem(api.post(GENERATIONS, body, format="json"), 409, "possibly_billed")

    assert told["generation"] == str(row.pk)
    assert Generation.objects.count() == 1


def test_gives_each_user_his_own(api: APIClient, client_of: ClientOf, body: Body) -> None:
    mine = api.post(GENERATIONS, body, format="json")
    theirs = client_of(UserFactory.create()).post(GENERATIONS, body, format="json")

    assert (mine.status_code, theirs.status_code) == (202, 202)
    assert mine.json()["id"] != theirs.json()["id"]


def test_replays_the_answer_to_an_idempotency_key(api: APIClient, body: Body) -> None:
    body = {**body, "reuse": "none"}
    first = api.post(GENERATIONS, body, format="json", HTTP_IDEMPOTENCY_KEY="k" * 255)
    again = api.post(GENERATIONS, body, format="json", HTTP_IDEMPOTENCY_KEY="k" * 255)

    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert Generation.objects.count() == 1


def test_replays_a_reused_answer_as_a_reused_one(api: APIClient, body: Body) -> None:
    api.post(GENERATIONS, body, format="json")
    first = api.post(GENERATIONS, body, format="json", HTTP_IDEMPOTENCY_KEY="again")
    again = api.post(GENERATIONS, body, format="json", HTTP_IDEMPOTENCY_KEY="again")

    assert (first.status_code, again.status_code) == (200, 200)
    assert (first.json()["reused"], again.json()["reused"]) == (True, True)


def test_does_not_mind_spaces_in_a_replayed_body(api: APIClient, body: Body) -> None:
    one, two = json.dumps(body), json.dumps(dict(reversed(body.items())), indent=2)
    options: dict[str, Any] = {"content_type": "application/json", "HTTP_IDEMPOTENCY_KEY": "one"}
    first = api.post(GENERATIONS, data=one.encode(), **options)
    again = api.post(GENERATIONS, data=two.encode(), **options)

    assert again.status_code == 202
    assert again.json()["id"] == first.json()["id"]


def test_refuses_the_same_key_for_another_body(api: APIClient, body: Body) -> None:
    api.post(GENERATIONS, body, format="json", HTTP_IDEMPOTENCY_KEY="one")

    reply = api.post(GENERATIONS, {**body, "priority": 6}, format="json", HTTP_IDEMPOTENCY_KEY="one")

    assert_problem(reply, 422, "idempotency_key_reused")
    assert Generation.objects.count() == 1


def test_keeps_users_keys_apart(api: APIClient, client_of: ClientOf, body: Body) -> None:
    mine = api.post(GENERATIONS, body, format="json", HTTP_IDEMPOTENCY_KEY="one").json()
    theirs = client_of(UserFactory.create()).post(GENERATIONS, body, format="json", HTTP_IDEMPOTENCY_KEY="one").json()

    assert mine["id"] != theirs["id"]


def test_remembers_no_key_of_a_refused_request(api: APIClient, body: Body) -> None:
    wrong = {**body, "provider_id": "nobody"}
    assert api.post(GENERATIONS, wrong, format="json", HTTP_IDEMPOTENCY_KEY="one").status_code == 400

    assert api.post(GENERATIONS, body, format="json", HTTP_IDEMPOTENCY_KEY="one").status_code == 202


def test_quotes_without_keeping_anything(api: APIClient, body: Body) -> None:
    PriceFactory.create(provider_id="pixverse", operation_type="text_to_video", credits=7)

    told = api.post(f"{GENERATIONS}/quote", body, format="json").json()

    assert (told["price"], told["would_reuse"], told["conflict"], told["eta_seconds"]) == (7, None, None, None)
    assert not Generation.objects.exists()


def test_quotes_what_would_be_reused(api: APIClient, body: Body) -> None:
    first = api.post(GENERATIONS, body, format="json").json()

    assert api.post(f"{GENERATIONS}/quote", body, format="json").json()["would_reuse"] == first["id"]


def test_takes_a_session_only_with_its_csrf_token(db: None, body: Body) -> None:
    user = UserFactory.create(password=PASSWORD)
    client = Client(enforce_csrf_checks=True)
    assert client.login(username=user.username, password=PASSWORD)

    refused = client.post(GENERATIONS, body, content_type="application/json")
    assert_problem(refused, 403, "permission_denied")
    assert not Generation.objects.exists()

    token = "a" * 32
    client.cookies["csrftoken"] = token
    taken = client.post(GENERATIONS, body, content_type="application/json", headers={"X-CSRFToken": token})
    assert taken.status_code == 202
