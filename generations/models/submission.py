"""Submission: one attempt at a Generation with one Account. The open Submission *is* the account's slot."""

from __future__ import annotations

import secrets
from uuid import UUID

import uuid_utils.compat as uuid
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from accounts.models import Account
from generations.lifecycle import BILLABLE, HOLDS_SLOT, OPEN, TERMINAL, State
from generations.models.generation import SUSPECT_AFTER, Generation


def _callback_token() -> str:
    return secrets.token_urlsafe(24)


class SubmissionQuerySet(models.QuerySet["Submission"]):
    def open(self) -> SubmissionQuerySet:
        return self.filter(state__in=OPEN)

    def billable(self) -> SubmissionQuerySet:
        return self.filter(state__in=BILLABLE)

    def holding_slot(self) -> SubmissionQuerySet:
        return self.filter(state__in=HOLDS_SLOT)

    def owned(self, state: State, token: UUID) -> SubmissionQuerySet:
        """The rows in ``state`` that ``token`` owns and whose lease still runs: the fence of every owner's write."""
        return self.filter(state=state, token=token, lease_until__gt=Now())


class Submission(models.Model):
    """One attempt. People see it as "Attempt"."""

    class Resolution(models.TextChoices):
        """What a person said of an unknown outcome: Event ``resolved`` has the note and the actor."""

        BILLED = "billed", "The provider took it, and billed it"
        NOT_BILLED = "not_billed", "The provider never took it"
        RESUBMIT = "resubmit", "Asked again all the same"

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    generation = models.ForeignKey(Generation, on_delete=models.CASCADE, db_index=False, related_name="submissions")
    number = models.PositiveSmallIntegerField()
    account = models.ForeignKey(Account, on_delete=models.PROTECT, db_index=False, related_name="submissions")
    state = models.CharField(max_length=12, choices=State, default=State.RESERVED)
    slot = models.PositiveSmallIntegerField()
    limit_seen = models.PositiveSmallIntegerField(help_text="The account's limit when this was claimed.")
    choice = models.JSONField(default=dict, help_text="Why this account was chosen.")

    token = models.UUIDField(default=uuid.uuid4, help_text="The owner's; rotated when ownership is taken away.")
    lease_until = models.DateTimeField(null=True)
    poll_token = models.UUIDField(null=True, help_text="The poller's; a stale one touches no row.")
    next_poll_at = models.DateTimeField(null=True)
    callback_token = models.CharField(max_length=64, default=_callback_token)
    told_job_id = models.CharField(
        max_length=255,
        blank=True,
        default="",
        db_default="",
        help_text="The job that a callback named before the submit's own answer came.",
    )
    unwritten_claims = models.PositiveSmallIntegerField(
        default=0, db_default=0, help_text="How often a worker took it since something was last written about it."
    )

    provider_job_id = models.CharField(max_length=255, null=True)  # noqa: DJ001  (unique where set)
    job_handle = models.JSONField(default=dict, help_text="What the adapter noted at submit for its polls.")
    outputs = models.JSONField(default=list, help_text="Where the provider says that the result is.")
    progress = models.PositiveSmallIntegerField(null=True)
    raw_status = models.CharField(max_length=120, blank=True)
    request = models.JSONField(null=True, help_text="What was sent, without secrets.")
    response = models.JSONField(null=True, help_text="What came back.")
    error_code = models.CharField(max_length=40, blank=True)
    error_message = models.TextField(blank=True)
    poll_errors = models.PositiveSmallIntegerField(default=0)
    last_looks = models.PositiveSmallIntegerField(default=0)
    misses = models.PositiveSmallIntegerField(default=0)
    first_missed_at = models.DateTimeField(null=True)
    empties = models.PositiveSmallIntegerField(default=0)
    first_empty_at = models.DateTimeField(null=True)
    collect_tries = models.PositiveSmallIntegerField(default=0)
    cost = models.DecimalField(max_digits=14, decimal_places=4, null=True, help_text="What the provider says it took.")
    cost_at_risk = models.BooleanField(default=False, help_text="It ended without us knowing what it cost.")
    evidence = models.JSONField(
        null=True, help_text="What the provider's own list of recent work says about an unknown outcome."
    )
    resolution = models.CharField(
        max_length=12,
        choices=Resolution,
        blank=True,
        default="",
        db_default="",
        help_text="What a person said of an unknown outcome.",
    )
    process = models.CharField(max_length=200, blank=True, help_text="Which process ran it, with its code version.")

    created_at = models.DateTimeField(db_default=Now(), editable=False)
    sent_at = models.DateTimeField(null=True)
    accepted_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True, help_text="When the provider was seen to be done.")
    ended_at = models.DateTimeField(null=True)
    limit_at = models.DateTimeField(null=True, help_text="After it, it is given up and its slot freed.")
    collect_by = models.DateTimeField(null=True)
    abandoned_at = models.DateTimeField(
        null=True, help_text="The Generation ended without it; a late result is kept, never captured."
    )

    objects = SubmissionQuerySet.as_manager()

    class Meta:
        verbose_name = "attempt"  # the word that people see
        constraints = [
            models.UniqueConstraint(fields=["generation", "number"], name="submission_number"),
            # While an attempt might have been billed no other one starts.
            models.UniqueConstraint(
                fields=["generation"],
                condition=Q(state__in=OPEN, abandoned_at=None),
                name="submission_one_open",
            ),
            # A slot is held by one Submission.
            models.UniqueConstraint(
                fields=["account", "slot"], condition=Q(state__in=HOLDS_SLOT), name="submission_slot"
            ),
            # A provider's job belongs to one Submission.
            models.UniqueConstraint(
                fields=["account", "provider_job_id"],
                condition=Q(provider_job_id__isnull=False),
                name="submission_provider_job",
            ),
            models.CheckConstraint(
                condition=Q(slot__gte=1, slot__lte=models.F("limit_seen")), name="submission_slot_range"
            ),
            models.CheckConstraint(
                condition=~Q(state="accepted") | Q(provider_job_id__isnull=False), name="submission_accepted_has_job"
            ),
            models.CheckConstraint(
                condition=Q(state__in=TERMINAL, ended_at__isnull=False) | Q(state__in=OPEN, ended_at=None),
                name="submission_ended_at_its_end",
            ),
        ]
        indexes = [
            # the poll loop: who is due
            models.Index(fields=["next_poll_at"], name="submission_due_poll", condition=Q(state="accepted")),
            # the collector: who waits
            models.Index(fields=["lease_until", "id"], name="submission_collecting", condition=Q(state="collecting")),
            # recovery: whose owner is gone
            models.Index(
                fields=["lease_until"], name="submission_lease", condition=Q(state__in=["reserved", "sending"])
            ),
            # recovery: unknown ones at their limit
            models.Index(fields=["limit_at"], name="submission_unknown", condition=Q(state="unknown")),
            # the reconciler: unknown ones that are due for another look at the provider
            models.Index(fields=["next_poll_at"], name="submission_reconcile", condition=Q(state="unknown")),
            # the inbox: what a person may still say something about
            models.Index(
                fields=["-id"],
                name="submission_inbox",
                condition=Q(resolution="") & (Q(state="unknown") | Q(cost_at_risk=True)),
            ),
            # one provider job was already known to another attempt: matching the provider's list
            models.Index(fields=["account", "sent_at"], name="submission_sent", condition=Q(sent_at__isnull=False)),
            # recovery: those whose pollers and collectors die
            models.Index(
                fields=["state", "limit_at"],
                name="submission_suspect",
                condition=Q(state__in=["accepted", "collecting"], unwritten_claims__gte=SUSPECT_AFTER),
            ),
            # callbacks: the attempt that a token belongs to
            models.Index(fields=["callback_token"], name="submission_callback_token"),
            # an account's attempts, newest first: the console
            models.Index(fields=["account", "-id"], name="submission_of_account"),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.generation_id}"

    @property
    def is_open(self) -> bool:
        return self.state in OPEN


class AccountExclusion(models.Model):
    """An account that refused a Generation is not offered it again."""

    generation = models.ForeignKey(Generation, on_delete=models.CASCADE, db_index=False, related_name="exclusions")
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    code = models.CharField(max_length=40)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["generation", "account"], name="exclusion_once")]

    def __str__(self) -> str:
        return f"{self.account_id} refused {self.generation_id}: {self.code}"
