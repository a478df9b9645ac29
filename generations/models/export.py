"""Export: an output in another size or format, made from the stored original."""

from __future__ import annotations

import uuid_utils.compat as uuid
from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from generations.models.asset import Asset
from generations.models.generation import SUSPECT_AFTER


class ExportQuerySet(models.QuerySet["Export"]):
    def of_user(self, user_id: int) -> ExportQuerySet:
        """What this user may see: his own."""
        return self.filter(user_id=user_id)

    def with_files(self) -> ExportQuerySet:
        """With what is made, and what it is made from."""
        return self.select_related("asset__submission", "result", "poster")


class Export(models.Model):
    """One output in one format. ``pending``: due at ``next_try_at``, its maker (token, lease) moves it on.

    That it fails changes nothing for the Generation.
    """

    class State(models.TextChoices):
        """Where it stands."""

        PENDING = "pending"
        DONE = "done"
        FAILED = "failed"

    class Fit(models.TextChoices):
        """How an output of another shape comes into the format's."""

        CROP = "crop", "Cut off what is too much"
        PAD = "pad", "Fill up with a colour"

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, db_index=False, related_name="exports")
    asset = models.ForeignKey(
        Asset, on_delete=models.CASCADE, db_index=False, related_name="exports", help_text="The original."
    )
    format = models.CharField(max_length=40, help_text="For example instagram_story.")
    fit = models.CharField(max_length=4, choices=Fit)
    colour = models.CharField(max_length=7, help_text="Of the padding, as #rrggbb.")
    result = models.OneToOneField(
        Asset, on_delete=models.SET_NULL, null=True, blank=True, related_name="export", help_text="The file."
    )
    poster = models.OneToOneField(
        Asset,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="poster_of",
        help_text="Of a video: a still picture in the same size.",
    )
    state = models.CharField(max_length=8, choices=State, default=State.PENDING)
    token = models.UUIDField(default=uuid.uuid4, help_text="The maker's; a stale one touches no row.")
    lease_until = models.DateTimeField(null=True)
    unwritten_claims = models.PositiveSmallIntegerField(
        default=0, help_text="How often a worker took it since something was last written about it."
    )
    next_try_at = models.DateTimeField(null=True, blank=True)
    tries = models.PositiveSmallIntegerField(default=0)
    error_code = models.CharField(max_length=40, blank=True)
    error_message = models.TextField(blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    asked_at = models.DateTimeField(db_default=Now(), editable=False, help_text="The last time that it was asked for.")
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = ExportQuerySet.as_manager()

    class Meta:
        constraints = [
            # Asked for twice, it is made once.
            models.UniqueConstraint(fields=["asset", "format", "fit", "colour"], name="export_once"),
            models.CheckConstraint(
                condition=Q(state="pending", next_try_at__isnull=False, ended_at=None)
                | (~Q(state="pending") & Q(next_try_at=None, ended_at__isnull=False)),
                name="export_due_or_ended",
            ),
        ]
        indexes = [
            # the maker: which users have any pending, and the due ones of each
            models.Index(fields=["user", "next_try_at"], name="export_lane", condition=Q(state="pending")),
            # the tick: is anything due
            models.Index(fields=["next_try_at"], name="export_due", condition=Q(state="pending")),
            # the maker: those whose makers die are taken alone
            models.Index(
                fields=["next_try_at"],
                name="export_suspect",
                condition=Q(state="pending", unwritten_claims__gte=SUSPECT_AFTER),
            ),
            # the API: a user's newest
            models.Index(fields=["user", "-id"], name="export_of_user"),
            # the console: newest of a state
            models.Index(fields=["state", "-id"], name="export_of_state"),
        ]

    def __str__(self) -> str:
        return f"{self.format} of {self.asset_id}"
