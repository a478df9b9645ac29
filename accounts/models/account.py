"""Account: our login at a provider."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import uuid_utils.compat as uuid
from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from accounts.encryption import decrypt, digest, encrypt
from providers import registry


def _callback_token() -> str:
    return secrets.token_urlsafe(24)


class AccountQuerySet(models.QuerySet["Account"]):
    def of_provider(self, provider_id: str) -> AccountQuerySet:
        return self.filter(provider_id=provider_id)

    def serving(self, user_id: int) -> AccountQuerySet:
        """Those that may serve this user: the shared ones and the user's own."""
        return self.filter(Q(owner=None) | Q(owner_id=user_id))

    def usable(self) -> AccountQuerySet:
        """Those that may be given work now: on, not cooling down, not exhausted (or due for another try).

        A balance that is unknown is not zero.
        """
        now = Now()
        return self.filter(
            Q(cooldown_until=None) | Q(cooldown_until__lte=now),
            Q(exhausted_at=None) | Q(probe_at__lte=now),
            Q(balance=None) | Q(balance__gte=models.F("balance_floor")),
            enabled=True,
            out_of_rotation_at=None,
        )


class Account(models.Model):
    """Our login at a provider: credentials, base URL, concurrency, balance, cooldown.

    The slots in use are the open Submissions; there is no counter here to drift.
    """

    class CallbackForm(models.TextChoices):
        """How the body of a signed callback is written before it is signed."""

        QUERY = "query", "As a URL-encoded query string"
        RAW = "raw", "The percent-encoded body"

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    provider_id = models.CharField("provider", max_length=40)
    label = models.CharField(max_length=80, help_text="A name for people, unique at this provider.")
    # indexed: a user's own accounts
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="provider_accounts",
        help_text="Empty: shared by all users. Otherwise only this user's work runs on it.",
    )
    base_url = models.URLField(max_length=500, help_text="Where the provider's API answers.")
    allow_private_base_url = models.BooleanField(
        "private address allowed",
        default=False,
        help_text="The base URL may be on this machine or in a private network (the sandbox, a local server).",
    )
    credentials_encrypted = models.BinaryField(editable=False)
    credentials_digest = models.CharField(max_length=64, editable=False)
    enabled = models.BooleanField(default=True, help_text="Off: no new work. What is in flight goes on being followed.")
    limit = models.PositiveSmallIntegerField(
        "concurrency",
        default=1,
        validators=[MinValueValidator(1)],
        help_text="How many may be in flight at once: what your plan at the provider allows.",
    )
    priority = models.SmallIntegerField(default=0, help_text="Higher is chosen first.")
    cooldown_until = models.DateTimeField(null=True, blank=True)
    exhausted_at = models.DateTimeField(
        null=True, blank=True, help_text="Since when the provider says: no credits left."
    )
    probe_at = models.DateTimeField(null=True, blank=True, help_text="When an exhausted account is tried again.")
    out_of_rotation_at = models.DateTimeField(
        null=True, blank=True, help_text="Since when the provider refuses these credentials."
    )
    balance = models.DecimalField(max_digits=14, decimal_places=4, null=True, blank=True)
    balance_checked_at = models.DateTimeField(null=True, blank=True)
    balance_floor = models.DecimalField(
        max_digits=14, decimal_places=4, default=0, help_text="Below this balance it is given no new work."
    )
    daily_cap = models.PositiveIntegerField(
        null=True, blank=True, help_text="Most attempts per day (UTC). Empty: no cap."
    )
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    callback_token = models.CharField(max_length=64, default=_callback_token, unique=True, editable=False)
    webhook_secret_encrypted = models.BinaryField(null=True, editable=False)
    callback_form = models.CharField(
        "signed form of callbacks",
        max_length=8,
        choices=CallbackForm,
        default=CallbackForm.QUERY,
        db_default=CallbackForm.QUERY.value,
        help_text="What a signed callback's signature covers; the provider's documents and clients disagree.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = AccountQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["provider_id", "label"], name="account_label"),
            # Two labels for one login would double its concurrency.
            models.UniqueConstraint(
                fields=["provider_id", "credentials_digest"],
                name="account_credentials",
                violation_error_message="Another account of this provider already uses these credentials.",
            ),
            models.CheckConstraint(condition=Q(limit__gte=1), name="account_limit_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.provider_id}/{self.label}"

    @property
    def credentials(self) -> dict[str, str]:
        """The decrypted credentials. Never log or store what comes out.

        Raises:
            UndecryptableCredentials: CREDENTIAL_KEYS no longer holds their key.
        """
        return decrypt(bytes(self.credentials_encrypted))

    @property
    def webhook_secret(self) -> str:
        """What the provider signs its callbacks with, decrypted; empty where none is known. Never log it.

        Raises:
            UndecryptableCredentials: CREDENTIAL_KEYS no longer holds its key.
        """
        token = self.webhook_secret_encrypted
        return decrypt(bytes(token))["secret"] if token else ""

    def set_webhook_secret(self, secret: str) -> None:
        """Replace the secret, or forget it when it is empty (not saved yet)."""
        self.webhook_secret_encrypted = encrypt({"secret": secret}) if secret else None

    def set_credentials(self, credentials: Mapping[str, str]) -> None:
        """Replace the credentials (not saved yet)."""
        self.credentials_encrypted = encrypt(credentials)
        self.credentials_digest = digest(credentials)

    @property
    def provider_title(self) -> str:
        """The provider's name for people."""
        return registry.get(self.provider_id).title

    @property
    def balance_unit(self) -> str:
        """What its provider counts its balance in; empty where the provider is no longer shipped."""
        try:
            return registry.get(self.provider_id).balance_unit
        except registry.UnknownProvider:
            return ""
