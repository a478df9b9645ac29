"""The API as a client sees it: real tokens, real PostgreSQL, files in a folder of the test's own."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.contrib.auth.models import User
from django.core.management import call_command
from knox.models import AuthToken
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from generations.api import health, throttling
from tests.factories import UserFactory

ClientOf = Callable[[User], APIClient]


@pytest.fixture(autouse=True)
def _own_world(settings: Settings, tmp_path: Path) -> None:
    """Nothing of another test: files, throttles, the last look at health."""
    folder = {"OPTIONS": {"location": str(tmp_path / "media")}}
    settings.STORAGES = {**settings.STORAGES, "default": {**settings.STORAGES["default"], **folder}}
    settings.STATIC_ROOT = str(tmp_path)  # whitenoise warns of one that is missing
    throttling.bucket.cache_clear()
    health.latest.forget()


@pytest.fixture(scope="session")
def schema() -> dict[str, Any]:
    """What the API says of itself. Made once, and before a test's transaction, which must not idle for so long."""
    out = io.StringIO()
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=out)
    loaded: dict[str, Any] = yaml.safe_load(out.getvalue())
    return loaded


@pytest.fixture
def user(db: None) -> User:
    """A person."""
    return UserFactory.create()


@pytest.fixture
def client_of() -> ClientOf:
    """Makes a client with an API token of the user's own."""

    def make(user: User) -> APIClient:
        _, token = AuthToken.objects.create(user)
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
        return client

    return make


@pytest.fixture
def api(user: User, client_of: ClientOf) -> APIClient:
    """The user's client."""
    return client_of(user)


@pytest.fixture
def body() -> dict[str, Any]:
    """A request that is enough."""
    return {
        "operation_type": "text_to_video",
        "provider_id": "pixverse",
        "params": {"prompt": "test video", "quality": "720p"},
    }
