"""UserCap: how much one user may ask for."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class UserCap(models.Model):
    """A user's limits; an empty one limits nothing, and neither does a missing row."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="cap"
    )
    max_in_flight = models.PositiveIntegerField(
        null=True, blank=True, help_text="Most at the providers at once; more of them wait. Empty: no cap."
    )
    max_queued = models.PositiveIntegerField(
        null=True, blank=True, help_text="Most that wait at once; more of them are refused. Empty: no cap."
    )
    max_per_day = models.PositiveIntegerField(
        null=True, blank=True, help_text="Most accepted per day (UTC); more of them are refused. Empty: no cap."
    )

    def __str__(self) -> str:
        return f"caps of {self.user_id}"
