"""IdempotencyKey: a caller's word for "this is the same request as before"."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from generations.models.batch import Batch
from generations.models.generation import Generation


class IdempotencyKey(models.Model):
    """Committed together with what answers it: the same key is answered with the same Generation, or Batch."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, db_index=False, related_name="+")
    key = models.CharField(max_length=255)
    body_sha256 = models.CharField(max_length=64, help_text="The same key with another body is refused.")
    # indexed: what cleanup removes takes its keys along
    generation = models.ForeignKey(Generation, on_delete=models.CASCADE, null=True, related_name="+")
    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, null=True, related_name="+")
    reused = models.BooleanField(help_text="What the first answer said.")
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "key"], name="idempotency_key"),
            models.CheckConstraint(
                condition=Q(generation=None, batch__isnull=False) | Q(generation__isnull=False, batch=None),
                name="idempotency_key_of_one",
            ),
        ]
        # cleanup: which keys are forgotten
        indexes = [models.Index(fields=["expires_at"], name="idempotency_key_expires")]

    def __str__(self) -> str:
        return self.key
