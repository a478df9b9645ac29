"""Providers, credits, health, metrics, and the schema."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from unittest.mock import patch

import jsonschema
import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from pytest_django import DjangoAssertNumQueries
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from accounts import credits
from config.celery import sync_beat_schedule
from generations.api import health
from generations.models import Heartbeat, HeldBack
from tests.factories import (
    PASSWORD,
    AccountFactory,
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


def provider(api: APIClient, slug: str = "pixverse") -> dict[str, Any]:
    results = api.get("/api/v1/providers").json()["results"]
    found: dict[str, Any] = next(one for one in results if one["id"] == slug)
    return found


def test_lists_providers_with_valid_schemas(api: APIClient) -> None:
    told = provider(api)

    assert {one["operation_type"] for one in told["operations"]} == {
        "text_to_video",
        "image_to_video",
        "video_extend",
        "video_transition",
        "fusion",
    }
    for operation in told["operations"]:
        jsonschema.Draft202012Validator.check_schema(operation["params_schema"])
        assert operation["makes"] == "video"
    seed = next(one for one in told["operations"] if one["operation_type"] == "text_to_video")
    jsonschema.validate({"prompt": "test video", "quality": "720p"}, seed["params_schema"])
    assert seed["input_roles"] == []
    by_image = next(one for one in told["operations"] if one["operation_type"] == "image_to_video")
    assert by_image["input_roles"][0]["least"] == 1
    assert by_image["input_roles"][0]["media"] == ["image"]


def test_tells_prices(api: APIClient) -> None:
    PriceFactory.create(credits=10)

    [operation] = [one for one in provider(api, "modelslab")["operations"] if one["operation_type"] == "text_to_image"]

    assert operation["prices"] == [{"model": "", "credits": 10}]


def test_tells_how_a_provider_stands(api: APIClient, user: User) -> None:
    assert provider(api)["health"]["state"] == "no_account"

    AccountFactory.create(owner=UserFactory.create())  # somebody else's
    assert provider(api)["health"]["state"] == "no_account"

    account = AccountFactory.create(limit=2)
    own = AccountFactory.create(limit=1, owner=user)
    SubmissionFactory.create(account=account)
    told = provider(api)
    assert told["health"]["state"] == "available"
    assert told["capacity"] == {"accounts": 2, "slots": 3, "in_use": 1, "free": 2}

    SubmissionFactory.create(account=account)
    SubmissionFactory.create(account=own)
    assert provider(api)["health"]["state"] == "busy"

    later = timezone.now() + timedelta(minutes=5)
    for row in (account, own):
        row.cooldown_until = later
        row.save(update_fields=["cooldown_until"])
    assert provider(api)["health"]["state"] == "cooling_down"

    for row in (account, own):
        row.enabled = False
        row.save(update_fields=["enabled"])
    assert provider(api)["health"]["state"] == "unavailable"


def test_lists_providers_in_a_constant_number_of_queries(
    api: APIClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    AccountFactory.create_batch(5)
    AccountFactory.create_batch(5, provider_id="modelslab")
    with django_assert_num_queries(4):  # the token, the accounts, the prices, the pauses
        provider(api)


def test_tells_credits_and_their_ledger(api: APIClient, user: User) -> None:
    WalletFactory.create(user=user, available=100)
    credits.grant(user.pk, 20, reason="for a friend", actor="test")

    assert api.get("/api/v1/credits").json() == {"available": 120, "held": 0, "caps": []}
    page = api.get("/api/v1/credits/ledger?limit=1").json()
    assert [(row["kind"], row["available_change"], row["reason"]) for row in page["results"]] == [
        ("grant", 20, "for a friend")
    ]
    [first] = api.get(page["next"]).json()["results"]
    assert first["available_change"] == 100


def test_tells_caps_and_what_is_used_of_them(api: APIClient, user: User) -> None:
    UserCapFactory.create(user=user, max_in_flight=2, max_queued=5, max_per_day=9)
    GenerationFactory.create(user=user, status="processing")
    GenerationFactory.create(user=user)
    GenerationFactory.create(user=user, not_before=timezone.now() + timedelta(hours=1))
    GenerationFactory.create(user=user, status="failed")
    GenerationFactory.create()

    told = {one["cap"]: one for one in api.get("/api/v1/credits").json()["caps"]}

    assert {name: (one["used"], one["limit"]) for name, one in told.items()} == {
        "max_in_flight": (1, 2),
        "max_queued": (2, 5),
        "max_per_day": (4, 9),
    }
    assert told["max_per_day"]["resets_at"].endswith("T00:00:00Z")
    assert told["max_queued"]["resets_at"] is None


def test_is_alive_without_a_database() -> None:
    assert Client().get("/healthz").json() == {"status": "ok"}


@pytest.fixture
def beating(db: None) -> None:
    """Beat and workers are there."""
    sync_beat_schedule()
    for name in ("tick", "poll"):
        Heartbeat.beat(name, "test")


def checks(status: int) -> dict[str, dict[str, Any]]:
    health.latest.forget()
    reply = Client().get("/readyz")
    assert reply.status_code == status, reply.content
    return {check["name"]: check for check in reply.json()["checks"]}


def test_is_ready(beating: None) -> None:
    found = checks(200)

    assert list(found) == ["database", "schema", "broker", "beat", "worker", "storage", "switches"]
    assert all(check["ok"] and not check["what_to_do"] for check in found.values())
    assert 0 <= found["beat"]["age_seconds"] < 15


def test_is_not_ready_before_anything_runs(db: None) -> None:
    found = checks(503)

    assert not found["beat"]["ok"]
    assert "manage.py up" in found["worker"]["what_to_do"]


@pytest.mark.parametrize(("beat", "check"), [("tick", "beat"), ("poll", "worker")])
def test_is_not_ready_when_a_heartbeat_is_late(beat: str, check: str, beating: None) -> None:
    Heartbeat.objects.filter(name=beat).update(at=timezone.now() - timedelta(seconds=16))

    found = checks(503)

    assert (found[check]["ok"], found[check]["what_to_do"] != "") == (False, True)
    assert 15 < found[check]["age_seconds"] < 20


def test_is_not_ready_when_an_essential_task_is_switched_off(beating: None) -> None:
    PeriodicTask.objects.filter(name="tick").update(enabled=False)

    assert "switched off" in checks(503)["beat"]["detail"]


def test_says_what_is_switched_off_before_it_was_ever_seen(beating: None) -> None:
    Heartbeat.objects.all().delete()
    PeriodicTask.objects.filter(name="poll").update(enabled=False)

    assert "switched off" in checks(503)["worker"]["detail"]


def test_believes_the_interval_that_an_operator_set(beating: None) -> None:
    IntervalSchedule.objects.filter(periodictask__name="tick").update(every=60)
    Heartbeat.objects.filter(name="tick").update(at=timezone.now() - timedelta(seconds=100))

    assert checks(200)["beat"]["ok"]


@pytest.mark.parametrize("reason", ["disk_low", "storage_down"])
def test_is_not_ready_while_results_cannot_be_stored(reason: str, beating: None) -> None:
    HeldBack.objects.create(reason=reason, since=timezone.now(), detail="3 MiB are free.")

    found = checks(503)

    assert "3 MiB are free. Nothing new is sent." in found["storage"]["detail"]
    assert "MEDIA_ROOT" in found["storage"]["what_to_do"]


def test_is_ready_while_results_merely_wait(beating: None) -> None:
    HeldBack.objects.create(reason="backlog", since=timezone.now(), detail="more than 500 wait.")

    assert "too many results wait" in checks(200)["storage"]["detail"]


def test_is_not_ready_without_a_broker(beating: None, settings: Settings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    assert not checks(503)["broker"]["ok"]


def test_is_not_ready_without_a_database(beating: None) -> None:
    lost = OperationalError("gone")
    with patch.object(connection, "ensure_connection", side_effect=lost), patch.object(connection, "close"):
        found = checks(503)

    assert not any(found[name]["ok"] for name in ("database", "schema", "beat", "worker", "storage"))
    assert found["broker"]["ok"]


def test_looks_once_a_second_at_most(beating: None, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    checks(200)
    with django_assert_num_queries(0):
        assert Client().get("/readyz").status_code == 200


def test_shows_metrics_to_staff_and_to_the_token_only(
    user: User, api: APIClient, client_of: ClientOf, settings: Settings
) -> None:
    assert_problem(Client().get("/metrics"), 401, "not_authenticated")
    assert_problem(api.get("/metrics"), 401, "not_authenticated")
    assert Client().get("/metrics", headers={"Authorization": "Bearer "}).status_code == 401

    staff = UserFactory.create(is_staff=True, password=PASSWORD)
    assert client_of(staff).get("/metrics").status_code == 200
    browser = Client()
    browser.login(username=staff.username, password=PASSWORD)
    assert browser.get("/metrics").status_code == 200

    settings.METRICS_TOKEN = "a token for prometheus"
    assert Client().get("/metrics", headers={"Authorization": "Bearer a token for prometheus"}).status_code == 200
    assert Client().get("/metrics", headers={"Authorization": "Bearer ä token"}).status_code == 401


def test_measures_the_house(db: None, client_of: ClientOf) -> None:
    account = AccountFactory.create(label="main", limit=3)
    SubmissionFactory.create(account=account)
    GenerationFactory.create()
    GenerationFactory.create(status="failed")
    SubmissionFactory.create(account=account, state="collecting")
    HeldBack.objects.create(reason="backlog", since=timezone.now(), detail="more than 500 wait.")
    Heartbeat.beat("tick", "test")

    text = client_of(UserFactory.create(is_staff=True)).get("/metrics").content.decode()

    assert 'darkroom_generations{status="pending"} 1.0' in text
    assert 'darkroom_generations{status="processing"} 2.0' in text
    assert "darkroom_collecting 1.0" in text
    assert 'darkroom_held_back{reason="backlog"} 1.0' in text
    assert 'darkroom_held_back{reason="disk_low"} 0.0' in text
    assert 'darkroom_failures_24h{code="provider_failed"} 1.0' in text
    assert 'darkroom_account_slots_in_use{account="main",provider="pixverse"} 1.0' in text
    assert 'darkroom_account_slots{account="main",provider="pixverse"} 3.0' in text
    assert "darkroom_wakeups_swallowed_total" in text
    assert 'darkroom_heartbeat_age_seconds{name="tick"}' in text
    assert "darkroom_database_up 1.0" in text
    assert "django_http_requests_latency" in text


def test_describes_itself_completely(schema: dict[str, Any]) -> None:
    told = schema
    assert {f"{method} {path}" for path, methods in told["paths"].items() for method in methods} == {
        "get /api/v1/generations",
        "post /api/v1/generations",
        "post /api/v1/generations/quote",
        "get /api/v1/generations/{generation_id}",
        "post /api/v1/generations/{generation_id}/cancel",
        "post /api/v1/generations/{generation_id}/retry",
        "get /api/v1/generations/{generation_id}/timeline",
        "get /api/v1/generations/{generation_id}/lineage",
        "get /api/v1/assets",
        "post /api/v1/assets",
        "get /api/v1/assets/{asset_id}",
        "get /api/v1/chapters",
        "post /api/v1/chapters",
        "get /api/v1/chapters/{chapter_id}",
        "patch /api/v1/chapters/{chapter_id}",
        "delete /api/v1/chapters/{chapter_id}",
        "get /api/v1/chapters/{chapter_id}/scenes",
        "get /api/v1/chapters/{chapter_id}/scenes/{scene_number}",
        "put /api/v1/chapters/{chapter_id}/scenes/{scene_number}",
        "delete /api/v1/chapters/{chapter_id}/scenes/{scene_number}",
        "post /api/v1/chapters/{chapter_id}/images/generate-missing",
        "get /api/v1/chapters/{chapter_id}/images/scenes",
        "get /api/v1/chapters/{chapter_id}/images/scenes/{scene_number}",
        "post /api/v1/chapters/{chapter_id}/images/scenes/{scene_number}",
        "get /api/v1/chapters/{chapter_id}/images/scenes/{scene_number}/status",
        "get /api/v1/scene-images/{record_id}",
        "delete /api/v1/scene-images/{record_id}",
        "post /api/v1/scene-images/{record_id}/choose",
        "patch /api/v1/assets/{asset_id}",
        "delete /api/v1/assets/{asset_id}",
        "get /api/v1/exports",
        "post /api/v1/exports",
        "get /api/v1/exports/formats",
        "get /api/v1/exports/{export_id}",
        "post /api/v1/exports/{export_id}/regenerate",
        "get /api/v1/batches/{batch_id}/zip",
        "get /api/v1/providers",
        "get /api/v1/library",
        "post /api/v1/library",
        "post /api/v1/library/upload",
        "get /api/v1/library/{item_id}",
        "patch /api/v1/library/{item_id}",
        "delete /api/v1/library/{item_id}",
        "put /api/v1/library/{item_id}/favourite",
        "delete /api/v1/library/{item_id}/favourite",
        "get /api/v1/library/{item_id}/download",
        "get /api/v1/prompts",
        "post /api/v1/prompts",
        "get /api/v1/prompts/compare",
        "get /api/v1/prompts/{prompt_id}",
        "get /api/v1/prompts/{prompt_id}/versions",
        "get /api/v1/prompts/versions/{version_id}",
        "get /api/v1/prompts/versions/{version_id}/generations",
        "get /api/v1/credits",
        "get /api/v1/credits/ledger",
        "get /api/v1/dead-letters",
        "get /api/v1/dead-letters/generations",
        "post /api/v1/dead-letters/replay",
        "post /api/v1/dead-letters/dismiss",
        "post /api/v1/dead-letters/restore",
        "get /api/v1/unknown-outcomes",
        "post /api/v1/unknown-outcomes/{submission_id}/resolve",
        "get /api/v1/balances",
        "get /api/v1/switches",
        "put /api/v1/switches/{key}",
        "get /api/v1/switches/changes",
        "get /api/v1/wallets",
        "get /api/v1/wallets/{username}",
        "get /api/v1/wallets/{username}/ledger",
        "post /api/v1/wallets/{username}/ledger",
        "post /api/v1/generations/{generation_id}/refund",
        "get /api/v1/batches",
        "post /api/v1/batches",
        "post /api/v1/batches/quote",
        "get /api/v1/batches/{batch_id}",
        "get /api/v1/batches/{batch_id}/items",
        "post /api/v1/batches/{batch_id}/cancel",
        "post /api/v1/batches/{batch_id}/pause",
        "post /api/v1/batches/{batch_id}/resume",
        "post /api/v1/batches/{batch_id}/retry",
        "post /api/v1/batches/{batch_id}/items/{variation_key}/regenerate",
        "get /api/v1/webhooks",
        "post /api/v1/webhooks",
        "post /api/v1/webhooks/secret/rotate",
        "get /api/v1/webhooks/{endpoint_id}",
        "patch /api/v1/webhooks/{endpoint_id}",
        "delete /api/v1/webhooks/{endpoint_id}",
        "post /api/v1/webhooks/{endpoint_id}/rotate",
        "post /api/v1/webhooks/{endpoint_id}/test",
        "get /api/v1/webhooks/deliveries",
        "get /api/v1/webhooks/deliveries/{delivery_id}",
        "post /api/v1/webhooks/deliveries/{delivery_id}/redeliver",
    }
    for methods in told["paths"].values():
        for operation in methods.values():
            assert {"bearer": []} in operation["security"]
            assert "application/problem+json" in operation["responses"]["401"]["content"]
    create = told["paths"]["/api/v1/generations"]["post"]
    assert create["requestBody"]["content"]["application/json"]["examples"]
    required = told["components"]["schemas"]["GenerationRequest"]["required"]
    assert sorted(required) == ["operation_type", "params", "provider_id"]


def test_answers_as_it_describes(schema: dict[str, Any], api: APIClient, user: User, body: dict[str, Any]) -> None:
    told = schema
    completed_generation(user=user)
    answers = {
        "GenerationPage": api.get(GENERATIONS),
        "GenerationAnswer": api.post(GENERATIONS, body, format="json"),
        "AssetPage": api.get("/api/v1/assets"),
        "ProviderList": api.get("/api/v1/providers"),
        "CreditsAnswer": api.get("/api/v1/credits"),
        "QuoteAnswer": api.post(f"{GENERATIONS}/quote", body, format="json"),
        "ProblemAnswer": api.get("/api/v1/credits?x=1"),
    }

    for name, reply in answers.items():
        wanted = {"$ref": f"#/components/schemas/{name}", "components": told["components"]}
        jsonschema.validate(reply.json(), wanted, format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize("path", ["/api/schema/", "/api/docs/"])
def test_shows_its_documentation_without_a_login(path: str, db: None) -> None:
    assert Client().get(path).status_code == 200


def test_needs_nothing_from_outside_for_its_documentation(db: None) -> None:
    page = Client().get("/api/docs/").content.decode()

    assert "https://" not in page
    assert "/static/drf_spectacular_sidecar/" in page
