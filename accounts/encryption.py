"""Credentials at rest: Fernet with rotating keys (``CREDENTIAL_KEYS``, newest first)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class UndecryptableCredentials(Exception):
    """The stored credentials cannot be decrypted with any of CREDENTIAL_KEYS: add the key they were stored with."""


def encrypt(credentials: Mapping[str, str]) -> bytes:
    """``credentials`` as an encrypted token."""
    return _fernet(tuple(settings.CREDENTIAL_KEYS)).encrypt(_canonical(credentials))


def decrypt(token: bytes) -> dict[str, str]:
    """What was encrypted.

    Raises:
        UndecryptableCredentials: by none of the keys.
    """
    try:
        plain = _fernet(tuple(settings.CREDENTIAL_KEYS)).decrypt(token)
    except InvalidToken as error:
        raise UndecryptableCredentials(UndecryptableCredentials.__doc__) from error
    loaded: dict[str, str] = json.loads(plain)
    return loaded


def digest(credentials: Mapping[str, str]) -> str:
    """The HMAC that tells equal credentials without revealing them.

    Keyed with the *oldest* key, which a rotation keeps until last: two labels for one login would double its limit.
    """
    key = hashlib.sha256(b"digest:" + settings.CREDENTIAL_KEYS[-1].encode()).digest()
    return hmac.new(key, _canonical(credentials), hashlib.sha256).hexdigest()


def _canonical(credentials: Mapping[str, str]) -> bytes:
    return json.dumps(dict(credentials), sort_keys=True, separators=(",", ":")).encode()


@lru_cache(maxsize=4)
def _fernet(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest())) for key in keys])
