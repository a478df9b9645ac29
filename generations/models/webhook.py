"""Webhooks: where users want to be told, what they are told, and every try of telling it."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Collection
from datetime import datetime
from uuid import UUID

import uuid_utils.compat as uuid
from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import MD5, Now

from accounts.encryption import decrypt, encrypt
from generations.lifecycle import Status
from generations.models.generation import SUSPECT_AFTER, Generation

LONGEST_URL = 2048
SECRET_BYTES = 32


class WebhookEvent(models.TextChoices):
    """What is told. ``TEST`` is sent when its owner asks for it, to one endpoint only."""

    COMPLETED = "generation.completed"
    FAILED = "generation.failed"
    CANCELLED = "generation.cancelled"
    LATE_RESULT = "generation.late_result"
    TEST = "webhook.test"


FILTERABLE = tuple(str(event) for event in WebhookEvent if event is not WebhookEvent.TEST)
"""What an endpoint can ask for."""
EVENT_OF = {
    Status.COMPLETED: WebhookEvent.COMPLETED,
    Status.FAILED: WebhookEvent.FAILED,
    Status.CANCELLED: WebhookEvent.CANCELLED,
}


class WebhookSecret(models.Model):
    """What signs: an endpoint's own secret, or (``for_requests``) the one for all ``webhook_url``s of a user.

    Encrypted at rest, and told once, when it is made. After a rotation the one before goes on signing for a while.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    # indexed: a user's own
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    for_requests = models.BooleanField(default=False)
    secret_encrypted = models.BinaryField(editable=False)
    previous_encrypted = models.BinaryField(null=True, editable=False)
    previous_until = models.DateTimeField(null=True, help_text="Until then the secret before signs too.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user"], condition=Q(for_requests=True), name="webhook_secret_of_requests_once"
            )
        ]

    def __str__(self) -> str:
        return "of requests" if self.for_requests else "of an endpoint"

    def make(self) -> str:
        """Take a new secret, and tell it: ``whsec_`` and 32 random bytes in base64. Saves nothing."""
        secret = f"whsec_{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}"
        self.secret_encrypted = encrypt({"secret": secret})
        return secret

    def rotate(self, until: datetime) -> str:
        """Take a new secret, and tell it; the one before signs too ``until`` then. Saves nothing."""
        self.previous_encrypted, self.previous_until = self.secret_encrypted, until
        return self.make()

    def in_force(self, now: datetime) -> list[str]:
        """Those that sign now, the newest first.

        Raises:
            UndecryptableCredentials: a key is missing in CREDENTIAL_KEYS.
        """
        found = [self.secret_encrypted]
        if self.previous_encrypted is not None and self.previous_until is not None and self.previous_until > now:
            found.append(self.previous_encrypted)
        return [decrypt(bytes(token))["secret"] for token in found]


class WebhookEndpointQuerySet(models.QuerySet["WebhookEndpoint"]):
    def of_user(self, user_id: int) -> WebhookEndpointQuerySet:
        """Those that a user has made, without the ``webhook_url``s of single requests."""
        return self.filter(user_id=user_id, generation=None, removed_at=None)

    def listening(self) -> WebhookEndpointQuerySet:
        """Those that are told of what happens."""
        return self.filter(disabled_at=None, removed_at=None)

    def concerned(self, users: Collection[int], generations: Collection[UUID]) -> WebhookEndpointQuerySet:
        """Those that are told of what happens to these users' Generations, or to just these Generations."""
        return self.listening().filter(Q(generation=None, user__in=users) | Q(generation__in=generations))


class WebhookEndpoint(models.Model):
    """A URL of a user's that is told what happens: to all Generations, or, a request's ``webhook_url``, to one.

    ``changed_at``: since when it wants what it wants now. One that was removed stays, for the story of what it was
    told, until cleanup has removed that.
    """

    class Reason(models.TextChoices):
        """Why it is told nothing."""

        GONE = "gone", "It answered 410: gone"
        OWNER = "owner", "Its owner switched it off"
        OPERATOR = "operator", "An operator switched it off"

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, db_index=False, related_name="+")
    generation = models.ForeignKey(
        Generation, on_delete=models.CASCADE, null=True, blank=True, db_index=False, related_name="webhooks"
    )
    secret = models.ForeignKey(
        WebhookSecret, on_delete=models.SET_NULL, null=True, related_name="+", help_text="Empty once it is removed."
    )
    url = models.CharField("URL", max_length=LONGEST_URL)
    events = ArrayField(models.CharField(max_length=40, choices=WebhookEvent))
    description = models.CharField(max_length=200, blank=True)
    disabled_at = models.DateTimeField(null=True, blank=True)
    disabled_reason = models.CharField(max_length=12, choices=Reason, blank=True)
    removed_at = models.DateTimeField(null=True, blank=True)
    changed_at = models.DateTimeField(db_default=Now(), editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = WebhookEndpointQuerySet.as_manager()

    class Meta:
        constraints = [
            # A second click makes no second endpoint; whom to tell. (The hash: a URL may be too long for an index.)
            models.UniqueConstraint(
                "user",
                MD5("url"),
                condition=Q(generation=None, removed_at=None),
                name="webhook_endpoint_url_once",
            ),
            # One that asks again for the same Generation is the same.
            models.UniqueConstraint(
                "generation",
                MD5("url"),
                condition=Q(generation__isnull=False),
                name="webhook_endpoint_of_request_once",
            ),
        ]
        indexes = [
            # cleanup: removed ones of which nothing is left
            models.Index(fields=["removed_at"], name="webhook_endpoint_removed", condition=Q(removed_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.url

    @property
    def enabled(self) -> bool:
        """Whether it is told of what happens."""
        return self.disabled_at is None and self.removed_at is None


class WebhookDelivery(models.Model):
    """One thing that one endpoint is told. Its id is the ``webhook-id``, the same on every try.

    Made in the commit that it reports. ``pending``: due at ``next_try_at``, its deliverer (token, lease) moves it on;
    ``delivered`` and ``failed`` end it, until somebody asks for a redelivery.
    """

    class State(models.TextChoices):
        """Where it stands."""

        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, db_index=False, related_name="+")
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, db_index=False, related_name="deliveries")
    # indexed: the timeline; a Generation that cleanup removes takes its deliveries along
    generation = models.ForeignKey(
        Generation, on_delete=models.CASCADE, null=True, blank=True, related_name="deliveries"
    )
    event = models.CharField(max_length=40, choices=WebhookEvent)
    event_at = models.DateTimeField(db_default=Now(), editable=False, help_text="When that happened.")
    host = models.CharField(max_length=255, help_text="A slow one holds up only its own.")
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)

    token = models.UUIDField(default=uuid.uuid4, help_text="The deliverer's; a stale one touches no row.")
    lease_until = models.DateTimeField(null=True)
    unwritten_claims = models.PositiveSmallIntegerField(
        default=0, help_text="How often a worker took it since something was last written about it."
    )
    next_try_at = models.DateTimeField(null=True, blank=True)
    give_up_at = models.DateTimeField(help_text="No further try after it.")
    tries = models.PositiveSmallIntegerField(default=0)
    failures = models.PositiveSmallIntegerField(default=0, help_text="Since it was made, or asked for by hand.")
    tried_at = models.DateTimeField(null=True, blank=True)
    error_code = models.CharField(max_length=40, blank=True, help_text="Of the newest try.")
    error_message = models.TextField(blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "webhook deliveries"
        constraints = [
            # An end is told once, however often it is noticed.
            models.UniqueConstraint(fields=["endpoint", "generation", "event"], name="webhook_delivery_once"),
            models.CheckConstraint(
                condition=Q(state="pending", next_try_at__isnull=False, ended_at=None)
                | (~Q(state="pending") & Q(next_try_at=None, ended_at__isnull=False)),
                name="webhook_delivery_due_or_ended",
            ),
        ]
        indexes = [
            # the claim: each user's and host's oldest due ones, however many others wait
            models.Index(
                fields=["user", "host", "next_try_at"], name="webhook_delivery_lane", condition=Q(state="pending")
            ),
            # the tick: is anything due
            models.Index(fields=["next_try_at"], name="webhook_delivery_due", condition=Q(state="pending")),
            # the claim: those whose deliverers have died are taken alone
            models.Index(
                fields=["next_try_at"],
                name="webhook_delivery_suspect",
                condition=Q(state="pending", unwritten_claims__gte=SUSPECT_AFTER),
            ),
            # the API: a user's newest, with and without a filter; the console: an endpoint's
            models.Index(fields=["user", "-id"], name="webhook_delivery_of_user"),
            models.Index(fields=["user", "state", "-id"], name="webhook_delivery_of_user_state"),
            models.Index(fields=["endpoint", "-id"], name="webhook_delivery_of_endpoint"),
            # the console: newest of a state
            models.Index(fields=["state", "-id"], name="webhook_delivery_of_state"),
            # cleanup by age
            models.Index(fields=["ended_at"], name="webhook_delivery_ended_at", condition=Q(ended_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.event} to {self.host}"

    def in_order(self) -> models.QuerySet[WebhookAttempt]:
        """Its tries."""
        return self.attempts.order_by("number")


class WebhookAttempt(models.Model):
    """One try. Written before the call leaves, completed with what came of it.

    Without ``elapsed`` it is under way, or its worker died: then it may have arrived, and is sent again with the same
    ``webhook-id``.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    delivery = models.ForeignKey(WebhookDelivery, on_delete=models.CASCADE, db_index=False, related_name="attempts")
    number = models.PositiveSmallIntegerField()
    url = models.CharField("URL", max_length=LONGEST_URL)
    started_at = models.DateTimeField(db_default=Now(), editable=False)
    elapsed = models.FloatField(null=True, help_text="Seconds.")
    status = models.PositiveSmallIntegerField(null=True, help_text="HTTP.")
    error_code = models.CharField(max_length=40, blank=True)
    error_message = models.TextField(blank=True)
    answer = models.TextField(blank=True, help_text="The beginning of what the endpoint said.")

    class Meta:
        verbose_name = "webhook try"  # the word that people see
        verbose_name_plural = "webhook tries"
        constraints = [models.UniqueConstraint(fields=["delivery", "number"], name="webhook_attempt_number")]

    def __str__(self) -> str:
        return f"try {self.number}"
