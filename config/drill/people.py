"""Users of a house: the API as each of them sees it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import requests
from django.contrib.auth import get_user_model
from knox.models import AuthToken


class Person:
    """A new user with a token. Made where Django's connection leads to the house; its calls need none."""

    def __init__(self, url: str) -> None:
        self.user = get_user_model().objects.create_user(f"person-{secrets.token_hex(6)}")
        self.token: str = AuthToken.objects.create(self.user, expiry=None)[1]
        self._url = url

    def call(self, method: str, path: str, *, key: str = "", **options: Any) -> requests.Response:
        """One request on a connection of its own; may be made in any thread. ``key`` is an Idempotency-Key."""
        with requests.Session() as session:
            session.trust_env = False  # a proxy has no business between us and our own house
            headers = {"Authorization": f"Bearer {self.token}"}
            if key:
                headers["Idempotency-Key"] = key
            return session.request(method, self._url + path, headers=headers, timeout=30, **options)

    def post(self, body: Mapping[str, Any], *, key: str = "") -> requests.Response:
        """Ask for one Generation."""
        return self.call("POST", "/api/v1/generations", key=key, json=body)
