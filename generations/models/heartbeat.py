"""Heartbeat: when something periodic was last seen alive."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class Heartbeat(models.Model):
    """``name`` is a periodic task's (``tick``, ``poll``) or a canary's; ``/readyz`` and doctor read it."""

    name = models.CharField(max_length=80, primary_key=True)
    at = models.DateTimeField(db_default=Now())
    process = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return f"{self.name} at {self.at:%H:%M:%S}"

    @staticmethod
    def beat(name: str, process: str) -> None:
        """Note that ``name`` is alive now."""
        Heartbeat.objects.bulk_create(
            [Heartbeat(name=name, at=Now(), process=process)],
            update_conflicts=True,
            unique_fields=["name"],
            update_fields=["at", "process"],
        )
