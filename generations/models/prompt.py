"""Prompt: a family of texts that are versions of one another."""

from __future__ import annotations

import uuid_utils.compat as uuid
from django.conf import settings
from django.db import models
from django.db.models.functions import Now


class PromptQuerySet(models.QuerySet["Prompt"]):
    def of_user(self, user_id: int) -> PromptQuerySet:
        """What this user may see: his own."""
        return self.filter(user_id=user_id)


class Prompt(models.Model):
    """A prompt family: a name, and its versions."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, db_index=False, related_name="prompts")
    name = models.CharField(max_length=120)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = PromptQuerySet.as_manager()

    class Meta:
        constraints = [
            # Found or created by name, also by two at once.
            models.UniqueConstraint(fields=["user", "name"], name="prompt_name_once"),
        ]
        indexes = [
            # the API: a user's newest
            models.Index(fields=["user", "-id"], name="prompt_of_user"),
        ]

    def __str__(self) -> str:
        return self.name


class PromptVersion(models.Model):
    """One text of a Prompt; never changed. ``{name}`` in it is a variable."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    prompt = models.ForeignKey(Prompt, on_delete=models.CASCADE, db_index=False, related_name="versions")
    number = models.PositiveIntegerField()
    text = models.TextField()
    text_sha256 = models.CharField(max_length=64, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["prompt", "number"], name="prompt_version_number"),
            # The same text is the same version.
            models.UniqueConstraint(fields=["prompt", "text_sha256"], name="prompt_version_text"),
        ]
        indexes = [
            # found by its text, in whichever family
            models.Index(fields=["text_sha256"], name="prompt_version_by_text"),
        ]

    def __str__(self) -> str:
        return f"version {self.number}"
