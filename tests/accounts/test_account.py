"""An Account: its credentials, who may use it, and when."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone
from pytest_django.fixtures import Settings

from accounts.encryption import UndecryptableCredentials
from accounts.models import Account
from tests.factories import AccountFactory, UserFactory

pytestmark = pytest.mark.django_db
LOGIN = {"api_key": "sk-very-secret"}
AGO, AHEAD = timedelta(minutes=-1), timedelta(minutes=1)


class TestCredentials:
    """Stored encrypted, one login once."""

    def test_come_back_from_the_database(self) -> None:
        account = AccountFactory.create(credentials=LOGIN)

        assert Account.objects.get(pk=account.pk).credentials == LOGIN

    def test_are_not_stored_in_the_clear(self) -> None:
        account = AccountFactory.create(credentials=LOGIN)

        (row,) = Account.objects.filter(pk=account.pk).values()
        assert "sk-very-secret" not in repr({**row, "credentials_encrypted": bytes(row["credentials_encrypted"])})
        assert "sk-very-secret" not in repr(account) + str(account)

    def test_survive_a_new_key(self, settings: Settings) -> None:
        settings.CREDENTIAL_KEYS = ["old"]
        account = AccountFactory.create(credentials=LOGIN)
        settings.CREDENTIAL_KEYS = ["new", "old"]

        assert Account.objects.get(pk=account.pk).credentials == LOGIN

        account.set_credentials(account.credentials)
        account.save(update_fields=["credentials_encrypted", "credentials_digest"])
        settings.CREDENTIAL_KEYS = ["new"]
        assert Account.objects.get(pk=account.pk).credentials == LOGIN

    def test_say_so_where_their_key_is_gone(self, settings: Settings) -> None:
        account = AccountFactory.create(credentials=LOGIN)
        settings.CREDENTIAL_KEYS = ["another"]

        with pytest.raises(UndecryptableCredentials, match="CREDENTIAL_KEYS"):
            _ = account.credentials

    def test_are_refused_under_a_second_label(self, settings: Settings) -> None:
        AccountFactory.create(label="one", credentials={"key": "k", "secret": "s"})

        with pytest.raises(IntegrityError, match="account_credentials"), transaction.atomic():
            AccountFactory.create(label="two", credentials={"secret": "s", "key": "k"})

        settings.CREDENTIAL_KEYS = ["new", *settings.CREDENTIAL_KEYS]
        with pytest.raises(IntegrityError, match="account_credentials"), transaction.atomic():
            AccountFactory.create(label="two", credentials={"key": "k", "secret": "s"})

    def test_are_refused_in_people_s_words(self) -> None:
        AccountFactory.create(credentials=LOGIN)
        second = Account(provider_id="pixverse", label="two", base_url="https://provider.example")
        second.set_credentials(LOGIN)

        with pytest.raises(ValidationError, match="already uses these credentials"):
            second.validate_constraints()

    def test_may_be_the_same_at_another_provider(self) -> None:
        AccountFactory.create(provider_id="pixverse", credentials=LOGIN)

        AccountFactory.create(provider_id="modelslab", credentials=LOGIN)


class TestUsable:
    """Whether it may be given work now."""

    @pytest.mark.parametrize(
        ("fields", "usable"),
        [
            ({}, True),
            ({"enabled": False}, False),
            ({"cooldown_until": AHEAD}, False),
            ({"cooldown_until": AGO}, True),
            ({"out_of_rotation_at": AGO}, False),
            ({"exhausted_at": AGO}, False),
            ({"exhausted_at": AGO, "probe_at": AHEAD}, False),
            ({"exhausted_at": AGO, "probe_at": AGO}, True),
            ({"balance": None, "balance_floor": Decimal(5)}, True),
            ({"balance": Decimal("4.9999"), "balance_floor": Decimal(5)}, False),
            ({"balance": Decimal(5), "balance_floor": Decimal(5)}, True),
            ({"balance": Decimal(0)}, True),
        ],
    )
    def test_knows_when(self, fields: dict[str, Any], usable: bool) -> None:
        now = timezone.now()
        given = {name: now + value if isinstance(value, timedelta) else value for name, value in fields.items()}
        account = AccountFactory.create(**given)

        assert Account.objects.usable().filter(pk=account.pk).exists() is usable

    def test_serves_its_owner_and_everybody_if_it_has_none(self) -> None:
        owner, other = UserFactory.create(), UserFactory.create()
        shared, own = AccountFactory.create(), AccountFactory.create(owner=owner)

        assert set(Account.objects.serving(owner.pk)) == {shared, own}
        assert set(Account.objects.serving(other.pk)) == {shared}

    def test_belongs_to_one_provider(self) -> None:
        account = AccountFactory.create(provider_id="modelslab")
        AccountFactory.create(provider_id="pixverse")

        assert list(Account.objects.of_provider("modelslab")) == [account]
        assert account.provider_title == "ModelsLab"


def test_has_a_secret_callback_address_of_its_own() -> None:
    tokens = {AccountFactory.create().callback_token for _ in range(5)}

    assert len(tokens) == 5
    assert min(map(len, tokens)) >= 32
