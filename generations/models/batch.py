"""Batch: many Generations asked for together."""

from __future__ import annotations

import uuid_utils.compat as uuid
from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from generations.lifecycle import Operation
from generations.models.generation import Generation
from generations.models.library import LibraryItem


class BatchQuerySet(models.QuerySet["Batch"]):
    def of_user(self, user_id: int) -> BatchQuerySet:
        """What this user may see: his own."""
        return self.filter(user_id=user_id)


class Batch(models.Model):
    """What was asked for in one request. How far it is, and what it cost, is counted from its items' Generations.

    ``closed_at``: the tick saw that nothing of it is live any more; a retry opens it again. ``paused_at``: what waits
    is kept waiting. ``cancelled_at``: its owner wants no more of it.
    """

    class Mode(models.TextChoices):
        """What its items are."""

        GALLERY = "gallery", "Library items"
        TEXT = "text", "A text"
        SCENES = "scenes", "Scenes of a chapter"

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, db_index=False, related_name="batches")
    name = models.CharField(max_length=200, blank=True)
    mode = models.CharField(max_length=8, choices=Mode)
    provider_id = models.CharField("provider", max_length=40)
    operation_type = models.CharField("operation", max_length=40, choices=Operation)
    params = models.JSONField(default=dict, help_text="Common to all items, as they were given.")
    metadata = models.JSONField(default=dict, blank=True, help_text="The caller's own.")
    export_formats = models.JSONField(default=list, help_text="Every output is exported in these.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    closed_at = models.DateTimeField(null=True, blank=True)
    paused_at = models.DateTimeField(null=True, blank=True)
    cancelled_at = models.DateTimeField(null=True, blank=True)

    objects = BatchQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "batches"
        indexes = [
            # the API: a user's newest
            models.Index(fields=["user", "-id"], name="batch_of_user"),
            # the tick: which may be closed
            models.Index(fields=["id"], name="batch_open", condition=Q(closed_at=None)),
            # the tick: whose waiting Generations are kept waiting
            models.Index(fields=["id"], name="batch_paused", condition=Q(paused_at__isnull=False)),
            # cleanup by age
            models.Index(fields=["closed_at"], name="batch_closed_at", condition=Q(closed_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.name or f"{self.get_mode_display()} {self.id}"


class BatchItem(models.Model):
    """One of a Batch: ``generation`` is its answer now; those it was made by before are Generation.batch_item's.

    ``reused``: the answer was there before, and this Batch does not pay for it. ``detached_at``: the Batch was
    cancelled and wants the answer no more, while somebody else still does.
    """

    # known before it is saved, as the Generation that is made for it names it
    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, db_index=False, related_name="items")
    position = models.PositiveIntegerField()
    variation_key = models.CharField(max_length=200, help_text="Which one it is, for example pose-12-v3 or text-v0.")
    variation = models.PositiveSmallIntegerField()
    # indexed: how often is it used
    library_item = models.ForeignKey(
        LibraryItem, on_delete=models.SET_NULL, null=True, blank=True, related_name="batch_items"
    )
    # indexed: who else wants this Generation
    generation = models.ForeignKey(Generation, on_delete=models.PROTECT, related_name="batch_items")
    reused = models.BooleanField(default=False)
    detached_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            # Each is asked for once, and told apart from the others.
            models.UniqueConstraint(fields=["batch", "variation_key"], name="batch_item_variation_key"),
            models.CheckConstraint(condition=~Q(variation_key=""), name="batch_item_variation_key_given"),
        ]
        indexes = [
            # the page of a batch, in its order
            models.Index(fields=["batch", "position"], name="batch_item_in_order"),
        ]

    def __str__(self) -> str:
        return self.variation_key
