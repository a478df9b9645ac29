"""UnknownOutcome: an attempt of which nobody knows whether the provider took it, or what it cost."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from generations.lifecycle import State
from generations.models.submission import Submission


class UnknownOutcomes(models.Manager["UnknownOutcome"]):
    """Only what a person may still say something about."""

    def get_queryset(self) -> models.QuerySet[UnknownOutcome]:
        """By a partial index (submission_inbox)."""
        return super().get_queryset().filter(Q(state=State.UNKNOWN) | Q(cost_at_risk=True), resolution="")


class UnknownOutcome(Submission):
    """A Submission that waits for a person; no table of its own.

    Its outcome is ``unknown``, or it was given up with its cost at risk, and nobody has said anything of it yet.
    """

    objects: ClassVar[models.Manager[UnknownOutcome]] = UnknownOutcomes()  # type: ignore[assignment]

    class Meta:
        proxy = True
        verbose_name = "unknown outcome"
