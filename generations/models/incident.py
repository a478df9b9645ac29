"""Incident: a row that a person must see."""

from __future__ import annotations

import uuid_utils.compat as uuid
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from accounts.models import Account
from generations.models.generation import Generation
from generations.models.submission import Submission


class Incident(models.Model):
    """Something that should not happen and that nobody must overlook."""

    class Kind(models.TextChoices):
        """What to look at."""

        DUPLICATE_CHARGE = "duplicate_charge", "A second job id for one attempt"
        LATE_RESULT = "late_result", "A result came after its Generation had ended"
        COST_AT_RISK = "cost_at_risk", "An attempt ended without us knowing what it cost"
        NOT_SENT = "not_sent", "Workers died again and again before they sent it"
        ACCOUNT_REFUSED = "account_refused", "The provider refuses an account's credentials"
        STORAGE = "storage", "A result could not be stored"
        POISON = "poison", "Workers died again and again at the same work; it was stopped"
        HELD_BACK = "held_back", "Nothing new was sent, because results could not be kept up with"
        DRIFT = "drift", "An account's balance is not what its attempts explain"

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    kind = models.CharField(max_length=20, choices=Kind)
    generation = models.ForeignKey(
        Generation, on_delete=models.CASCADE, null=True, blank=True, related_name="incidents"
    )
    submission = models.ForeignKey(
        Submission, on_delete=models.CASCADE, null=True, blank=True, related_name="incidents"
    )
    account = models.ForeignKey(Account, on_delete=models.CASCADE, null=True, blank=True, related_name="incidents")
    detail = models.TextField(blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    seen_at = models.DateTimeField(null=True, blank=True)
    seen_by = models.CharField(max_length=80, blank=True)

    class Meta:
        # the console's banner: what nobody has seen yet
        indexes = [models.Index(fields=["-id"], name="incident_unseen", condition=Q(seen_at=None))]
        constraints = [
            # One per attempt and kind, however often it is noticed.
            models.UniqueConstraint(
                fields=["submission", "kind"], condition=Q(submission__isnull=False), name="incident_once"
            )
        ]

    def __str__(self) -> str:
        return self.get_kind_display()
