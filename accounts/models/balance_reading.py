"""BalanceReading: what an account had left on a day, beside what its attempts explain."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from accounts.models.account import Account


class BalanceReading(models.Model):
    """One per account and day (UTC). ``expected`` is the reading before less what attempts cost since then.

    The first reading of an account expects nothing, and has no drift. Until ``settled_at`` some of its attempts are
    under way and its numbers may still move: what they cost is often known at their end only.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, db_index=False, related_name="readings")
    day = models.DateField(help_text="UTC.")
    balance = models.DecimalField(max_digits=14, decimal_places=4)
    spent = models.DecimalField(
        max_digits=14, decimal_places=4, default=0, help_text="What attempts cost since the reading before."
    )
    attempts = models.PositiveIntegerField(default=0, help_text="How many attempts that were.")
    failed = models.DecimalField(
        max_digits=14,
        decimal_places=4,
        default=0,
        help_text="Of what was spent: on attempts that failed. Providers often give that back.",
    )
    unpriced = models.PositiveIntegerField(default=0, help_text="How many of them did not say what they cost.")
    expected = models.DecimalField(max_digits=14, decimal_places=4, null=True)
    drift = models.DecimalField(
        max_digits=14, decimal_places=4, null=True, help_text="The balance less what was expected."
    )
    tolerated = models.DecimalField(
        max_digits=14,
        decimal_places=4,
        null=True,
        help_text="How much below what was expected it may lie. Empty: nobody can tell.",
    )
    read_at = models.DateTimeField(db_default=Now(), editable=False)
    settled_at = models.DateTimeField(null=True, blank=True, help_text="When all of its attempts had ended.")

    class Meta:
        # two beats, one reading; an account's readings, newest first: the console and the API
        constraints = [models.UniqueConstraint(fields=["account", "day"], name="balance_reading_of_day")]
        # the comparison: whose numbers may still move
        indexes = [models.Index(fields=["read_at"], name="balance_reading_open", condition=Q(settled_at=None))]

    def __str__(self) -> str:
        return f"{self.balance} on {self.day}"

    @property
    def is_too_low(self) -> bool:
        """Whether more is gone than its attempts and what is tolerated explain."""
        return self.drift is not None and self.tolerated is not None and self.drift < -self.tolerated
