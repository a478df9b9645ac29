"""What people ask for: a person, a request, files in a folder of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django.fixtures import Settings

from generations.conf import Limits, limits
from generations.intake.request import Accepted, Request, accept
from tests.factories import UserFactory

Scale = Callable[..., Limits]
Ask = Callable[..., Accepted]


@pytest.fixture(autouse=True)
def _own_files(settings: Settings, tmp_path: Path) -> None:
    folder = {"OPTIONS": {"location": str(tmp_path / "media")}}
    settings.STORAGES = {**settings.STORAGES, "default": {**settings.STORAGES["default"], **folder}}


@pytest.fixture
def scale(settings: Settings) -> Iterator[Scale]:
    """Sets limits for this test."""

    def to(**values: float) -> Limits:
        settings.DARKROOM = {name: str(value) for name, value in values.items()}
        limits.cache_clear()
        return limits()

    yield to
    limits.cache_clear()


@pytest.fixture
def user(db: None) -> User:
    """A person."""
    return UserFactory.create()


@pytest.fixture
def ask(user: User) -> Ask:
    """Accepts a request of the user (``by`` another); it differs from the usual one in what is given."""

    def accepted(
        *, by: User | None = None, idempotency: Any = None, prompt: str = "a lighthouse", **fields: Any
    ) -> Accepted:
        who = by or user
        given = {"provider_id": "modelslab", "operation_type": "text_to_image", "params": {"prompt": prompt}, **fields}
        return accept(who.pk, Request(**given), idempotency=idempotency, actor=f"user:{who.pk}")

    return accepted
