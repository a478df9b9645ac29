"""Chapter and Scene: a story's chapter, and the numbered scenes that pictures are made for."""

from __future__ import annotations

import uuid_utils.compat as uuid
from django.conf import settings
from django.db import models
from django.db.models import Exists, OuterRef, Q, Subquery
from django.db.models.functions import Now


class ChapterQuerySet(models.QuerySet["Chapter"]):
    def accessible_to(self, user_id: int) -> ChapterQuerySet:
        """What this user may see: his own, and those that he is a member of."""
        member = ChapterMember.objects.filter(chapter=OuterRef("pk"), user_id=user_id)
        return self.filter(Q(owner_id=user_id) | Exists(member))

    def with_access_of(self, user_id: int) -> ChapterQuerySet:
        """``given``: what this user may do as a member; None where he is none."""
        access = ChapterMember.objects.filter(chapter=OuterRef("pk"), user_id=user_id).values("access")
        return self.annotate(given=Subquery(access[:1]))


class Chapter(models.Model):
    """A chapter of a story; its owner decides who else has access."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, db_index=False, related_name="chapters"
    )
    title = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = ChapterQuerySet.as_manager()

    class Meta:
        indexes = [
            # the API: a user's newest
            models.Index(fields=["owner", "-id"], name="chapter_of_owner"),
        ]

    def __str__(self) -> str:
        return self.title


class ChapterMember(models.Model):
    """Somebody who has access to a Chapter beside its owner."""

    class Access(models.TextChoices):
        """What a member may do."""

        VIEW = "view", "See the pictures"
        GENERATE = "generate", "See them, and make and choose them"

    chapter = models.ForeignKey(Chapter, on_delete=models.CASCADE, db_index=False, related_name="members")
    # indexed: which chapters has this user access to
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    access = models.CharField(max_length=8, choices=Access, default=Access.GENERATE)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["chapter", "user"], name="chapter_member_once")]

    def __str__(self) -> str:
        return f"{self.user_id} in {self.chapter_id}"


class Scene(models.Model):
    """A numbered scene. Its takes are the Generations whose ``scene`` it is; ``chosen`` is the one that is shown.

    Without a chosen one the latest that completed is shown.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    chapter = models.ForeignKey(Chapter, on_delete=models.CASCADE, db_index=False, related_name="scenes")
    number = models.PositiveIntegerField()
    description = models.TextField(blank=True, help_text="What is to be seen, as it was last asked for.")
    chosen = models.ForeignKey(
        "generations.Generation", on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["chapter", "number"], name="scene_number")]

    def __str__(self) -> str:
        return f"scene {self.number}"
