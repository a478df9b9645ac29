"""Generation: what a user wants."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import uuid_utils.compat as uuid
from django.conf import settings
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from accounts.models import Account
from generations.lifecycle import ENDED, LIVE, MAKES_IMAGE, Operation, Status
from generations.models.chapter import Scene
from generations.models.prompt import PromptVersion

SUSPECT_AFTER = 2
"""So many workers died at the same work in a row: it may be its fault, and it is taken alone from here on."""


class GenerationQuerySet(models.QuerySet["Generation"]):
    def of_user(self, user_id: int) -> GenerationQuerySet:
        """What this user may see: his own. Every view starts here."""
        return self.filter(user_id=user_id)

    def live(self) -> GenerationQuerySet:
        return self.filter(status__in=LIVE)

    def shown_in_scenes(self) -> GenerationQuerySet:
        """The takes that scenes show: those that were chosen, and of a scene without a chosen one the latest that
        completed."""
        chosen = Scene.objects.filter(chosen=OuterRef("pk"))
        later = Generation.objects.filter(scene=OuterRef("scene"), status=Status.COMPLETED, pk__gt=OuterRef("pk"))
        latest = Q(scene__isnull=False, scene__chosen=None, status=Status.COMPLETED) & ~Exists(later)
        return self.filter(Exists(chosen) | latest)


class Generation(models.Model):
    """One operation, at one provider, with given params; has outputs.

    Its status changes only by the guarded updates of ``generations.execution`` and ``generations.intake``.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, db_index=False, related_name="generations"
    )
    provider_id = models.CharField("provider", max_length=40)
    operation_type = models.CharField("operation", max_length=40, choices=Operation)
    params = models.JSONField(help_text="Canonical: defaults filled in. What is hashed and sent.")
    raw_params = models.JSONField(help_text="As they were given.")
    context = models.JSONField(null=True, blank=True, help_text="The caller's own; part of the fingerprint.")
    metadata = models.JSONField(default=dict, blank=True, help_text="The caller's own; no part of the fingerprint.")
    priority = models.PositiveSmallIntegerField(default=5, validators=[MaxValueValidator(9)])
    scheduled_at = models.DateTimeField(null=True, blank=True)
    account = models.ForeignKey(
        Account,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        db_index=False,
        related_name="+",
        help_text="Pinned by the request.",
    )
    fingerprint = models.CharField(max_length=64, editable=False)
    active_fingerprint = models.CharField(  # noqa: DJ001  unique where set
        max_length=64, null=True, editable=False, help_text="The claim to be the answer to this request."
    )
    retry_of = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, db_index=False, related_name="retries"
    )
    parent = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, db_index=False, related_name="children"
    )
    prompt_version = models.ForeignKey(
        PromptVersion, on_delete=models.PROTECT, null=True, blank=True, db_index=False, related_name="generations"
    )
    scene = models.ForeignKey(
        Scene,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        db_index=False,
        related_name="takes",
        help_text="The scene that it is a take of.",
    )
    batch_item = models.ForeignKey(
        "generations.BatchItem",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        db_index=False,
        related_name="made",
        help_text="The batch's item that it was made for.",
    )
    standalone = models.BooleanField(
        default=True,
        db_default=True,
        help_text="Somebody asked for it by itself, so that no cancelled batch takes it along.",
    )
    price = models.PositiveIntegerField(null=True, blank=True, help_text="Credits, frozen when accepted. Empty: free.")

    status = models.CharField(max_length=12, choices=Status, default=Status.PENDING)
    not_before = models.DateTimeField(
        null=True, blank=True, help_text="Scheduled or backing off until then. Empty: due. Cleared when it has come."
    )
    queue_until = models.DateTimeField(help_text="Fails with queue_timeout when it still waits then.")
    deadline_at = models.DateTimeField(null=True, blank=True, help_text="Fails with deadline_exceeded; set at sending.")
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    cancel_at = models.DateTimeField(null=True, blank=True, help_text="When the grace of a cancel is over.")
    error_code = models.CharField(max_length=40, blank=True)
    error_message = models.TextField(blank=True)
    error_retries = models.PositiveSmallIntegerField(default=0)
    busy_bounces = models.PositiveSmallIntegerField(default=0)
    moderation_retries = models.PositiveSmallIntegerField(default=0)
    not_sent = models.PositiveSmallIntegerField(default=0)
    resubmits = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True, help_text="When it ended, however it ended.")
    dismissed_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="It failed, and a person said that nothing is to be done. Event ``dismissed`` has who and why.",
    )

    objects = GenerationQuerySet.as_manager()

    class Meta:
        constraints = [
            # One live or completed answer per user and request.
            models.UniqueConstraint(
                fields=["user", "active_fingerprint"],
                condition=Q(active_fingerprint__isnull=False),
                name="generation_active_fingerprint",
            ),
            models.CheckConstraint(condition=Q(priority__lte=9), name="generation_priority_range"),
            models.CheckConstraint(
                condition=Q(status__in=LIVE, completed_at=None) | Q(status__in=ENDED, completed_at__isnull=False),
                name="generation_ended_at_its_end",
            ),
            models.CheckConstraint(
                condition=Q(dismissed_at=None) | Q(status="failed"), name="generation_dismissed_has_failed"
            ),
        ]
        indexes = [
            # the claim: the best due rows of each waiting user and operation, however many others wait
            models.Index(
                fields=["provider_id", "user", "operation_type", "-priority", "id"],
                name="generation_due",
                condition=Q(status="pending", not_before=None, account=None),
            ),
            # the claim: the due rows that wait for one account
            models.Index(
                fields=["account", "user", "operation_type", "-priority", "id"],
                name="generation_due_pinned",
                condition=Q(status="pending", not_before=None, account__isnull=False),
            ),
            # dispatch: those whose dispatchers die
            models.Index(
                fields=["provider_id"],
                name="generation_suspect",
                condition=Q(status="pending", not_before=None, not_sent__gte=SUSPECT_AFTER),
            ),
            # the tick: what has become due
            models.Index(
                fields=["provider_id", "not_before"],
                name="generation_not_before",
                condition=Q(status="pending", not_before__isnull=False),
            ),
            # the tick: what has waited too long
            models.Index(fields=["queue_until"], name="generation_queue_until", condition=Q(status="pending")),
            # the claim: how many each user has in flight
            models.Index(fields=["provider_id", "user"], name="generation_in_flight", condition=Q(status="processing")),
            # the tick: cancels whose grace is over
            models.Index(
                fields=["cancel_at"],
                name="generation_cancel_at",
                condition=Q(status="processing", cancel_at__isnull=False),
            ),
            # the API: a user's newest, with and without a filter by status
            models.Index(fields=["user", "-id"], name="generation_of_user"),
            models.Index(fields=["user", "status", "-id"], name="generation_of_user_status"),
            # the console: newest of a status
            models.Index(fields=["status", "-id"], name="generation_of_status"),
            # the console: newest of a provider
            models.Index(fields=["provider_id", "-id"], name="generation_of_provider"),
            # retries shown on both sides, and lineage
            models.Index(fields=["retry_of"], name="generation_retry_of", condition=Q(retry_of__isnull=False)),
            models.Index(fields=["parent"], name="generation_parent", condition=Q(parent__isnull=False)),
            # what was made for a batch's item, with what it was before a retry
            models.Index(fields=["batch_item"], name="generation_batch_item", condition=Q(batch_item__isnull=False)),
            # the takes of a scene, latest first
            models.Index(fields=["scene", "-id"], name="generation_scene", condition=Q(scene__isnull=False)),
            # which version made which result
            models.Index(
                fields=["prompt_version", "-id"],
                name="generation_prompt_version",
                condition=Q(prompt_version__isnull=False),
            ),
            # dead letters: what failed in a time and nobody has dismissed
            models.Index(
                fields=["completed_at"],
                name="generation_dead_letter",
                condition=Q(status="failed", dismissed_at=None),
            ),
            # replays with a rate: the last that is planned at a provider
            models.Index(
                fields=["provider_id", "-scheduled_at"],
                name="generation_planned_replay",
                condition=Q(retry_of__isnull=False, scheduled_at__isnull=False) & ~Q(status="cancelled"),
            ),
            # cleanup by age; ETA: what completed lately
            models.Index(
                fields=["completed_at"], name="generation_completed_at", condition=Q(completed_at__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.operation_type} {self.id}"

    @property
    def makes_image(self) -> bool:
        """Whether the result is a picture; otherwise it is a video."""
        return self.operation_type in MAKES_IMAGE

    @property
    def retry_count(self) -> int:
        """How many attempts followed an error of an earlier one."""
        return self.error_retries + self.moderation_retries + self.resubmits

    @property
    def is_live(self) -> bool:
        return self.status in LIVE

    @property
    def ended_at(self) -> datetime | None:
        """When it ended, however it ended."""
        return self.completed_at

    @property
    def prompt(self) -> str:
        """The params' prompt, for people; empty where the operation has none."""
        params: dict[str, Any] = self.params
        return str(params.get("prompt", ""))
