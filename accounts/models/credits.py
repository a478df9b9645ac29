"""A user's credits: Wallet, LedgerEntry and Price. Amounts are whole credits."""

from __future__ import annotations

import uuid_utils.compat as uuid
from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Wallet(models.Model):
    """What a user may spend (``available``) and what is set aside for work under way (``held``)."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, primary_key=True, related_name="wallet"
    )
    available = models.BigIntegerField(default=0)
    held = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(available__gte=0, held__gte=0), name="wallet_never_negative")]

    def __str__(self) -> str:
        return f"{self.available} available, {self.held} held"


class LedgerEntry(models.Model):
    """One movement of credits. Never changed; the Wallet is the sum of its entries."""

    class Kind(models.TextChoices):
        """hold, capture, release and refund belong to one Generation each; grants and adjustments to none."""

        GRANT = "grant"
        ADJUSTMENT = "adjustment"
        HOLD = "hold"
        CAPTURE = "capture"
        RELEASE = "release"
        REFUND = "refund"

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    wallet = models.ForeignKey(Wallet, on_delete=models.PROTECT, db_index=False, related_name="entries")
    kind = models.CharField(max_length=10, choices=Kind)
    available_change = models.BigIntegerField(default=0)
    held_change = models.BigIntegerField(default=0)
    # The Generation's id; no foreign key, since accounts stand below generations.
    reference = models.UUIDField(null=True, blank=True)
    reason = models.CharField(max_length=200, blank=True)
    # The database's default too: processes of the version before go on writing while this one is deployed.
    key = models.CharField(
        max_length=255,
        blank=True,
        default="",
        db_default="",
        help_text="Of the call that asked for it: the same key moves a user's credits once.",
    )
    actor = models.CharField(max_length=80, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name_plural = "ledger entries"
        constraints = [
            # At most one hold, one capture, one release and one refund per Generation.
            models.UniqueConstraint(
                fields=["reference", "kind"],
                condition=Q(kind__in=["hold", "capture", "release", "refund"]),
                name="ledger_once_per_reference",
            ),
            # What an operator's program asks for twice (a lost answer, a second click) is booked once.
            models.UniqueConstraint(fields=["wallet", "key"], condition=~Q(key=""), name="ledger_once_per_key"),
            models.CheckConstraint(
                condition=Q(kind__in=["grant", "adjustment"]) | Q(reference__isnull=False),
                name="ledger_reference_where_needed",
            ),
        ]
        # a wallet's entries, newest first: the credits API and the admin
        indexes = [models.Index(fields=["wallet", "-id"], name="ledger_of_wallet")]

    def __str__(self) -> str:
        return f"{self.kind} {self.available_change:+d}/{self.held_change:+d}"


class Price(models.Model):
    """What an operation costs. The most specific row wins; without one it is free."""

    provider_id = models.CharField("provider", max_length=40)
    operation_type = models.CharField("operation", max_length=40)
    model = models.CharField(
        max_length=120, blank=True, help_text="The provider's model; empty: any that has no row of its own."
    )
    credits = models.PositiveIntegerField(help_text="Per output.")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["provider_id", "operation_type", "model"], name="price_of_operation")
        ]

    def __str__(self) -> str:
        return f"{self.provider_id} {self.operation_type} {self.model or 'any model'}: {self.credits}"
