"""Credentials at rest."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_django.fixtures import Settings

from accounts.encryption import UndecryptableCredentials, decrypt, digest, encrypt

CREDENTIALS = {"api_key": "sk-very-secret", "note": "Größe 中文"}


@pytest.fixture(autouse=True)
def _keys(settings: Settings) -> None:
    settings.CREDENTIAL_KEYS = ["old"]


@given(credentials=st.dictionaries(st.text(max_size=10), st.text(max_size=40), max_size=4))
def test_gives_back_what_was_encrypted(credentials: dict[str, str]) -> None:
    assert decrypt(encrypt(credentials)) == credentials


def test_shows_nothing_of_it() -> None:
    token = encrypt(CREDENTIALS)

    assert b"secret" not in token
    assert b"api_key" not in token


def test_never_looks_the_same_twice() -> None:
    assert encrypt(CREDENTIALS) != encrypt(CREDENTIALS)


def test_decrypts_with_an_older_key_while_a_newer_encrypts(settings: Settings) -> None:
    before = encrypt(CREDENTIALS)
    settings.CREDENTIAL_KEYS = ["new", "old"]
    after = encrypt(CREDENTIALS)

    assert decrypt(before) == decrypt(after) == CREDENTIALS

    settings.CREDENTIAL_KEYS = ["new"]
    assert decrypt(after) == CREDENTIALS
    with pytest.raises(UndecryptableCredentials, match="CREDENTIAL_KEYS"):
        decrypt(before)


def test_cannot_be_read_without_the_key(settings: Settings) -> None:
    token = encrypt(CREDENTIALS)
    settings.CREDENTIAL_KEYS = ["another"]

    with pytest.raises(UndecryptableCredentials) as refused:
        decrypt(token)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("place", [0, 1, 20, 60, -1])
def test_notices_a_changed_byte(place: int) -> None:
    token = bytearray(encrypt(CREDENTIALS))
    token[place] ^= 1

    with pytest.raises(UndecryptableCredentials):
        decrypt(bytes(token))


@pytest.mark.parametrize("token", [b"", b"nonsense", json.dumps(CREDENTIALS).encode()])
def test_takes_no_plain_text_for_encrypted(token: bytes) -> None:
    with pytest.raises(UndecryptableCredentials):
        decrypt(token)


class TestDigest:
    """What tells equal logins without revealing them."""

    def test_is_equal_for_equal_credentials(self) -> None:
        assert digest({"a": "1", "b": "2"}) == digest({"b": "2", "a": "1"})

    @pytest.mark.parametrize("other", [{"a": "2"}, {"b": "1"}, {"a": "1", "b": ""}, {}, {"a": "1 "}, {"A": "1"}])
    def test_differs_for_others(self, other: dict[str, str]) -> None:
        assert digest({"a": "1"}) != digest(other)

    def test_cannot_be_computed_without_the_key(self, settings: Settings) -> None:
        before = digest(CREDENTIALS)
        settings.CREDENTIAL_KEYS = ["another"]

        assert digest(CREDENTIALS) != before

    def test_stays_the_same_while_keys_are_rotated(self, settings: Settings) -> None:
        before = digest(CREDENTIALS)
        settings.CREDENTIAL_KEYS = ["newest", "new", "old"]

        assert digest(CREDENTIALS) == before

    def test_is_not_the_key_that_encrypts(self) -> None:
        assert digest(CREDENTIALS).encode() not in encrypt(CREDENTIALS)
