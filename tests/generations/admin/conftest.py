"""The console's users, each with a logged-in client, and a storage of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from pytest_django import Settings

from tests.factories import UserFactory


@pytest.fixture(autouse=True)
def own_storage(settings: Settings, tmp_path: Path) -> None:
    """Files go to the test's folder; pages are served without collecting static files."""
    settings.STATIC_ROOT = str(tmp_path)
    settings.STORAGES = {
        "default": {
            "BACKEND": "generations.storage.DurableFileSystemStorage",
            "OPTIONS": {"location": str(tmp_path)},
        },
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


@pytest.fixture
def admin(db: None) -> User:
    """A superuser."""
    return UserFactory.create(username="root", is_staff=True, is_superuser=True)


@pytest.fixture
def console(admin: User) -> Client:
    """The superuser's browser. CSRF is checked as in life only where a test asks for it."""
    client = Client()
    client.force_login(admin)
    return client


@pytest.fixture
def staff(db: None) -> Callable[..., Client]:
    """``staff("view_generation")``: the browser of a staff member who may only that."""

    def make(*codenames: str) -> Client:
        user = UserFactory.create(is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client = Client()
        client.force_login(user)
        return client

    return make
