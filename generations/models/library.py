"""LibraryItem: a reusable reference, such as a pose."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from generations.models.asset import Asset


class LibraryItemQuerySet(models.QuerySet["LibraryItem"]):
    def visible_to(self, user_id: int) -> LibraryItemQuerySet:
        """What this user may use: his own, and what is shared."""
        return self.filter(Q(owner_id=user_id) | Q(owner=None))

    def of_user(self, user_id: int) -> LibraryItemQuerySet:
        """What this user may change: his own."""
        return self.filter(owner_id=user_id)


class LibraryItem(models.Model):
    """A picture, a text, or both, to make Generations from. Without an owner it is shared by all."""

    id = models.BigAutoField(primary_key=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        db_index=False,
        related_name="library",
        help_text="Empty: shared by all.",
    )
    name = models.CharField(max_length=120)
    category = models.CharField(max_length=60, help_text="For example pose, outfit, place.")
    # indexed: is this Asset still needed
    picture = models.ForeignKey(Asset, on_delete=models.PROTECT, null=True, blank=True, related_name="library_items")
    prompt = models.TextField(blank=True, help_text="What it is, in words for the provider.")
    tags = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = LibraryItemQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(picture__isnull=False) | ~Q(prompt=""), name="library_item_picture_or_prompt"
            ),
        ]
        indexes = [
            # the API: newest of a user or shared, with and without a category
            models.Index(fields=["owner", "-id"], name="library_item_of_owner"),
            models.Index(fields=["owner", "category", "-id"], name="library_item_of_category"),
        ]

    def __str__(self) -> str:
        return self.name


class LibraryFavourite(models.Model):
    """A user's liking of a LibraryItem."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, db_index=False, related_name="+")
    item = models.ForeignKey(LibraryItem, on_delete=models.CASCADE, related_name="favourites")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "item"], name="library_favourite_once")]

    def __str__(self) -> str:
        return f"{self.user_id} likes {self.item_id}"
