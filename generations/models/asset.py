"""Asset: a stored file, an output or an input, known by its bytes."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

import uuid_utils.compat as uuid
from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from generations.lifecycle import State
from generations.models.generation import Generation
from generations.models.submission import Submission


class AssetQuerySet(models.QuerySet["Asset"]):
    def of_user(self, user_id: int) -> AssetQuerySet:
        """What this user may see: his own."""
        return self.filter(user_id=user_id)

    def kept(self) -> AssetQuerySet:
        """Those whose bytes are there."""
        return self.filter(expired_at=None)

    def results_of(self, generation_ids: Collection[UUID]) -> AssetQuerySet:
        """What these Generations were completed with; not what came after their end."""
        return self.filter(
            role=Asset.Role.OUTPUT,
            submission__generation__in=generation_ids,
            submission__state=State.SUCCEEDED,
            submission__abandoned_at=None,
        )


class Asset(models.Model):
    """A file in our storage. ``key`` is content-addressed: equal bytes share one stored file."""

    class Role(models.TextChoices):
        """An output was made by a Submission; an input was uploaded or fetched for a request; an export was made
        by us from an output."""

        OUTPUT = "output"
        INPUT = "input"
        EXPORT = "export"

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, db_index=False, related_name="assets")
    role = models.CharField(max_length=8, choices=Role)
    submission = models.ForeignKey(
        Submission, on_delete=models.CASCADE, null=True, blank=True, db_index=False, related_name="assets"
    )
    index = models.PositiveSmallIntegerField(default=0)
    key = models.CharField(max_length=120, help_text="Where the bytes are in the storage.")
    thumbnail_key = models.CharField(max_length=120, blank=True)
    sha256 = models.CharField(max_length=64)
    size = models.PositiveBigIntegerField(help_text="Bytes.")
    mime_type = models.CharField(max_length=80, help_text="Judged by the bytes.")
    width = models.PositiveIntegerField(null=True)
    height = models.PositiveIntegerField(null=True)
    duration = models.FloatField(null=True, help_text="Seconds; empty for pictures.")
    name = models.CharField(max_length=200, blank=True, help_text="The uploaded file's name, for people.")
    favourite = models.BooleanField(default=False, db_default=False, help_text="Kept, however old it gets.")
    downloads = models.PositiveIntegerField(default=0, db_default=0, help_text="How often people fetched it to keep.")
    expired_at = models.DateTimeField(
        null=True, blank=True, help_text="Its bytes were given up: nobody gets them any more, and cleanup removes them."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = AssetQuerySet.as_manager()

    class Meta:
        constraints = [
            # A result is stored once, however many collectors try.
            models.UniqueConstraint(fields=["submission", "role", "index"], name="asset_output_once"),
            models.CheckConstraint(
                condition=Q(role="output", submission__isnull=False) | Q(role__in=["input", "export"], submission=None),
                name="asset_output_of_submission",
            ),
            models.CheckConstraint(condition=Q(size__gt=0), name="asset_not_empty"),
        ]
        indexes = [
            # cleanup: is this stored file still needed
            models.Index(fields=["key"], name="asset_key"),
            models.Index(fields=["thumbnail_key"], name="asset_thumbnail_key", condition=~Q(thumbnail_key="")),
            # an upload of bytes that the user already has; the API's list, newest first
            models.Index(fields=["user", "sha256"], name="asset_of_user_bytes"),
            models.Index(fields=["user", "-id"], name="asset_of_user"),
            # the API: a user's favourites, which are few among many
            models.Index(fields=["user", "-id"], name="asset_favourite", condition=Q(favourite=True)),
            # cleanup: results past their age; exports that belong to nothing any more
            models.Index(
                fields=["created_at"],
                name="asset_by_age",
                condition=Q(role__in=["output", "export"], expired_at=None, favourite=False),
            ),
            models.Index(fields=["id"], name="asset_export", condition=Q(role="export")),
        ]

    def __str__(self) -> str:
        return f"{self.mime_type} {self.id}"

    @property
    def kind(self) -> str:
        """``image`` or ``video``."""
        return self.mime_type.partition("/")[0]


class GenerationInput(models.Model):
    """An input of a Generation: which Asset plays which role."""

    generation = models.ForeignKey(Generation, on_delete=models.CASCADE, db_index=False, related_name="inputs")
    # indexed: is this Asset still needed
    asset = models.ForeignKey(Asset, on_delete=models.PROTECT, related_name="used_by")
    role = models.CharField(max_length=40)
    index = models.PositiveSmallIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["generation", "index"], name="input_index")]

    def __str__(self) -> str:
        return f"{self.role} of {self.generation_id}"
