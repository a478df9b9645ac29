"""LibraryItem: a reusable reference, such as a pose."""

from __future__ import annotations

import re
from collections.abc import Collection

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchQuery, SearchVectorField
from django.db import models
from django.db.models import Exists, Func, OuterRef, Q
from django.db.models.functions import Now

from generations.models.asset import Asset

MOST_WORDS = 20
_WORD = re.compile(r"[^\W_]+")


class LibraryWords(Func):
    """What an item is found by: the words of its name, category, prompt and tags (a function of our database)."""

    function = "darkroom_library_words"
    output_field = SearchVectorField()


class LibraryItemQuerySet(models.QuerySet["LibraryItem"]):
    def visible_to(self, user_id: int) -> LibraryItemQuerySet:
        """What this user may use: his own, and what is shared."""
        return self.filter(Q(owner_id=user_id) | Q(owner=None))

    def of_user(self, user_id: int) -> LibraryItemQuerySet:
        """What this user may change: his own."""
        return self.filter(owner_id=user_id)

    def shared(self) -> LibraryItemQuerySet:
        """What all users may use."""
        return self.filter(owner=None)

    def liked_by(self, user_id: int) -> LibraryItemQuerySet:
        """This user's favourites."""
        return self.filter(Exists(LibraryFavourite.objects.filter(item=OuterRef("pk"), user_id=user_id)))

    def tagged(self, tags: Collection[str]) -> LibraryItemQuerySet:
        """Those that have all of these tags."""
        return self.filter(tags__contains=list(tags))

    def matching(self, text: str) -> LibraryItemQuerySet:
        """Those that have, for each word of the text, one that begins so in name, category, prompt or tags."""
        words = _WORD.findall(text)[:MOST_WORDS]
        if not words:
            return self.none()
        wanted = SearchQuery(" & ".join(f"'{word}':*" for word in words), search_type="raw", config="simple")
        return self.alias(words=LibraryWords("name", "category", "prompt", "tags")).filter(words=wanted)


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
    downloads = models.PositiveBigIntegerField(
        default=0, db_default=0, editable=False, help_text="How often its picture was asked for by the download link."
    )
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
            # the API and the console: search
            GinIndex(LibraryWords("name", "category", "prompt", "tags"), name="library_item_words"),
            # the API: those with a tag
            GinIndex(fields=["tags"], name="library_item_tags"),
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
