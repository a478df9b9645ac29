"""BalanceReading: what an account had left on a day, beside what its attempts explain."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from accounts.models.account import Account


class BalanceReading(models.Model):
    """One per account and day (UTC). ``expected`` is the reading before less what attempts cost since then.

    The first reading of an account expects nothing, and has no drift.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, db_index=False, related_name="readings")
    day = models.DateField(help_text="UTC.")
    balance = models.DecimalField(max_digits=14, decimal_places=4)
    spent = models.DecimalField(
        max_digits=14, decimal_places=4, default=0, help_text="What attempts cost since the reading before."
    )
    attempts = models.PositiveIntegerField(default=0, help_text="How many attempts that were.")
    unpriced = models.PositiveIntegerField(default=0, help_text="How many of them did not say what they cost.")
    expected = models.DecimalField(max_digits=14, decimal_places=4, null=True)
    drift = models.DecimalField(
        max_digits=14, decimal_places=4, null=True, help_text="The balance less what was expected."
    )
    read_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "day"], name="balance_reading_of_day")]

    def __str__(self) -> str:
        return f"{self.balance} on {self.day}"
