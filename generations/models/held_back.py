"""HeldBack: nothing new is sent for a while, for a reason of the house's own."""

from __future__ import annotations

from typing import Any

from django.db import models


class HeldBackQuerySet(models.QuerySet["HeldBack"]):
    def active(self) -> HeldBackQuerySet:
        """What holds now."""
        return self.filter(ended_at=None)


class HeldBack(models.Model):
    """The last time of each reason; while ``ended_at`` is empty it holds, and dispatch claims nothing.

    Set and ended by the tick (``generations.execution.pressure``), by what it measures; a person's pause is a Switch.
    """

    class Reason(models.TextChoices):
        """What is in the way of results, and so of asking for more of them."""

        BACKLOG = "backlog", "Too many results wait to be fetched"
        DISK_LOW = "disk_low", "The disk for results is almost full"
        STORAGE_DOWN = "storage_down", "The storage for results takes nothing"

    reason = models.CharField(max_length=16, choices=Reason, primary_key=True)
    since = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    detail = models.CharField(max_length=300, help_text="What was measured when it began.")

    objects = HeldBackQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "held back"

    def __str__(self) -> str:
        return str(self.get_reason_display())

    def as_dict(self) -> dict[str, Any]:
        """``reason, text, detail`` and ``since`` (ISO 8601), JSON-able."""
        return {
            "reason": self.reason,
            "text": str(self),
            "detail": self.detail,
            "since": self.since.isoformat(),
        }
