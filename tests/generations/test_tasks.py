"""The Celery tasks: names and ids in, one call into ``execution``."""

from __future__ import annotations

import inspect
from typing import Any
from unittest.mock import Mock

import pytest
import redis
from celery import current_app
from django.conf import settings as django_settings

from generations import tasks, wakeups
from generations.execution import dispatch
from generations.models import Heartbeat

pytestmark = pytest.mark.django_db

ARGUMENTS: dict[str, dict[str, str]] = {"dispatch": {"provider_id": "pixverse"}, "canary": {"name": "canary-1"}}
NAMES = ["dispatch", "poll", "collect", "deliver", "tick", "refresh_credits", "compare_balances", "cleanup", "canary"]


@pytest.mark.parametrize("name", NAMES)
def test_is_registered_under_the_name_that_hints_carry(name: str) -> None:
    assert f"generations.tasks.{name}" in current_app.tasks


@pytest.mark.parametrize("name", NAMES)
def test_takes_named_arguments_only_and_those_of_a_newer_version_too(name: str) -> None:
    parameters = inspect.signature(getattr(tasks, name)).parameters.values()
    assert {one.kind for one in parameters} <= {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}
    assert inspect.Parameter.VAR_KEYWORD in {one.kind for one in parameters}


@pytest.mark.parametrize(
    ("name", "module", "function"),
    [
        ("dispatch", "dispatching", "dispatch"),
        ("poll", "polling", "poll"),
        ("collect", "collecting", "collect"),
        ("deliver", "delivering", "deliver"),
        ("tick", "recover", "tick"),
        ("refresh_credits", "account_care", "refresh_due"),
        ("compare_balances", "balances", "compare"),
        ("cleanup", "cleaning", "run"),
    ],
)
def test_makes_one_call(monkeypatch: pytest.MonkeyPatch, name: str, module: str, function: str) -> None:
    call = Mock()
    monkeypatch.setattr(getattr(tasks, module), function, call)
    getattr(tasks, name)(**ARGUMENTS.get(name, {}), from_a_newer_version=1)
    assert call.call_count == 1


@pytest.mark.parametrize("name", ["poll", "tick"])
def test_leaves_a_heartbeat(name: str) -> None:
    getattr(tasks, name)()
    assert Heartbeat.objects.filter(name=name).exists()


def test_tells_that_a_worker_was_there() -> None:
    tasks.canary(name="canary-1")
    assert Heartbeat.objects.filter(name="canary-1").exists()


def test_makes_room_for_the_next_hint_before_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    with redis.Redis.from_url(django_settings.REDIS_URL) as client:
        marker = wakeups._marker(wakeups.DISPATCH, {"provider_id": "pixverse"})
        client.set(marker, "1", ex=60)
        monkeypatch.setattr(dispatch, "dispatch", lambda _: seen.append(client.exists(marker)))
        tasks.dispatch(provider_id="pixverse")
    assert seen == [0]
