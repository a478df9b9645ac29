"""DeadLetter: a Generation that failed and has had no later answer."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Exists, OuterRef

from generations.lifecycle import LIVE, Status
from generations.models.generation import Generation


class DeadLetters(models.Manager["DeadLetter"]):
    """Only what is one."""

    def get_queryset(self) -> models.QuerySet[DeadLetter]:
        """By a partial index (generation_dead_letter), once it is narrowed down by ``completed_at``."""
        retry = Generation.objects.filter(retry_of=OuterRef("pk"))
        # What had been asked for before is no answer to one that was wanted beside it (reuse: none).
        answer = Generation.objects.filter(
            user=OuterRef("user"),
            active_fingerprint=OuterRef("fingerprint"),
            status__in=[*LIVE, Status.COMPLETED],
            created_at__gt=OuterRef("created_at"),
        )
        return super().get_queryset().filter(~Exists(retry), ~Exists(answer), status=Status.FAILED, dismissed_at=None)


class DeadLetter(Generation):
    """A Generation that waits for a person; no table of its own.

    It failed, nobody retried it, the same request was not asked for (and answered, or is under way) since, and no
    person has dismissed it. An answer to it, whoever asked for that, ends it without anybody writing anything.
    """

    objects: ClassVar[models.Manager[DeadLetter]] = DeadLetters()  # type: ignore[assignment]

    class Meta:
        proxy = True
        verbose_name = "dead letter"
