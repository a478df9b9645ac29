"""Event: one line of a Generation's timeline, with its actor."""

from __future__ import annotations

import uuid_utils.compat as uuid
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from generations.lifecycle import ENDED
from generations.models.generation import Generation


class Event(models.Model):
    """Something happened that no column of a Generation or Submission tells. Written in its commit, never changed."""

    class Kind(models.TextChoices):
        """What happened; the last three are terminal and happen at most once."""

        ACCEPTED = "accepted"
        REUSED = "reused"
        CLAIM_LOST = "claim_lost"
        RETRIED = "retried"
        WOKEN = "woken"
        CANCEL_REQUESTED = "cancel_requested"
        RETRYING = "retrying"
        RECOVERED = "recovered"
        OUTCOME_UNKNOWN = "outcome_unknown"
        CALLBACK = "callback"
        FOUND = "found"
        EVIDENCE = "evidence"
        RESUBMITTED = "resubmitted"
        RESOLVED = "resolved"
        COLLECT_FAILED = "collect_failed"
        ABANDONED = "abandoned"
        LATE_RESULT = "late_result"
        REFUNDED = "refunded"
        DISMISSED = "dismissed"
        RESTORED = "restored"
        CHOSEN = "chosen"
        LEFT_SCENE = "left_scene"
        FILES_REMOVED = "files_removed"
        COMPLETED = "completed"
        FAILED = "failed"
        CANCELLED = "cancelled"

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    generation = models.ForeignKey(Generation, on_delete=models.CASCADE, db_index=False, related_name="events")
    attempt = models.PositiveSmallIntegerField(null=True, blank=True, help_text="The number of the Submission.")
    kind = models.CharField(max_length=20, choices=Kind)
    actor = models.CharField(max_length=80, help_text="user:<id>, worker:<host/pid>, provider, system")
    data = models.JSONField(default=dict)
    at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            # A Generation ends once.
            models.UniqueConstraint(fields=["generation"], condition=Q(kind__in=ENDED), name="event_one_end")
        ]
        # the timeline
        indexes = [models.Index(fields=["generation", "id"], name="event_of_generation")]

    def __str__(self) -> str:
        return f"{self.kind} {self.generation_id}"
