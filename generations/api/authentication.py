"""Who is asking: a Bearer token (knox's, stored hashed), or the browser's session with its CSRF token."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import structlog
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone
from knox.crypto import hash_token
from knox.models import AuthToken
from rest_framework import authentication, exceptions
from rest_framework.request import Request

from generations.api.throttling import failed_logins

_TOKEN = re.compile(r"[\x21-\x7e]{16,256}")
_NEEDED = {"id", "username", "is_active", "is_staff", "is_superuser"}
# In the model's order, as from_db wants them; the other fields are read only if somebody asks for them.
_FIELDS = tuple(field.attname for field in User._meta.concrete_fields if field.attname in _NEEDED)
_QUERY = (
    f"SELECT token.expiry, {', '.join(f'person.{name}' for name in _FIELDS)} "  # noqa: S608  constants of ours
    f'FROM "{AuthToken._meta.db_table}" token JOIN "{User._meta.db_table}" person ON person.id = token.user_id '
    "WHERE token.digest = %s"
)


class BearerAuthentication(authentication.BaseAuthentication):
    """``Authorization: Bearer <token>``, in one query by the token's hash.

    Knox's own class reads all of a user's tokens for each request and answers a token that is no UTF-8 with a 500.
    """

    def authenticate(self, request: Request) -> tuple[User, str] | None:
        """The token's user, who must be active; None when the header is missing or of another scheme."""
        scheme, _, token = str(request.META.get("HTTP_AUTHORIZATION", "")).strip().partition(" ")
        if scheme.lower() != "bearer":
            return None
        token = token.strip()
        digest = hash_token(token) if _TOKEN.fullmatch(token) else ""
        user = _user_of(digest) if digest else None
        if user is None:
            failed_logins.check(str(request.META.get("REMOTE_ADDR", "")))
            raise exceptions.AuthenticationFailed("The token is wrong, expired or was revoked.")
        structlog.contextvars.bind_contextvars(user_id=user.pk)
        return user, digest

    def authenticate_header(self, request: Request) -> str:
        """What a 401 says in WWW-Authenticate."""
        return 'Bearer realm="darkroom"'


class SessionAuthentication(authentication.SessionAuthentication):
    """The browser's session: Swagger and the studio pages. Writes need the CSRF token."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        """The logged-in user, or None."""
        found = super().authenticate(request)
        if found is not None:
            structlog.contextvars.bind_contextvars(user_id=found[0].pk)
        return found


def _user_of(digest: str) -> User | None:
    with connection.cursor() as cursor:
        cursor.execute(_QUERY, [digest])
        row = cursor.fetchone()
    if row is None:
        return None
    expiry: datetime | None = row[0]
    user = User.from_db(connection.alias, _FIELDS, row[1:])
    return user if user.is_active and (expiry is None or expiry > timezone.now()) else None
