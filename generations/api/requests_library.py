"""What callers send about the library, beside ``generations.api.requests``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from generations.api.requests import Body, Id, without_default
from generations.intake.library import LONGEST_CATEGORY, LONGEST_NAME, LONGEST_TAG, MOST_TAGS, Fields
from generations.intake.prompts import LONGEST_TEXT

Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME, pattern=r"\S")]
Category = Annotated[
    str, Field(min_length=1, max_length=LONGEST_CATEGORY, pattern=r"\S", examples=["pose", "outfit", "place"])
]
Prompt = Annotated[str, Field(max_length=LONGEST_TEXT, description="What it is, in words for the provider.")]
Tags = Annotated[
    list[Annotated[str, Field(max_length=LONGEST_TAG)]],
    Field(max_length=MOST_TAGS, description="Kept in small letters, each once."),
]


class LibraryItemRequest(Body):
    """A picture, a text, or both."""

    name: Name
    category: Category
    prompt: Prompt = ""
    tags: Tags = []
    picture: Id | None = Field(default=None, description="A picture among your assets: an upload or an output.")

    def to_intake(self) -> Fields:
        """The same in intake's words."""
        return _fields(self.model_dump())


class UploadFields(Body):
    """What all pictures of one upload have in common."""

    category: Category
    tags: Tags = []


class LibraryItemChange(Body):
    """What shall be different; what is left out stays as it is."""

    name: Name = Field(default="", json_schema_extra=without_default)
    category: Category = Field(default="", json_schema_extra=without_default)
    prompt: Prompt = Field(default="", json_schema_extra=without_default)
    tags: Tags = Field(default=[], json_schema_extra=without_default)
    picture: Id | None = Field(
        default=None, description="null: it has none any more.", json_schema_extra=without_default
    )

    def to_intake(self) -> Fields:
        """The same in intake's words."""
        return _fields(self.model_dump(include=self.model_fields_set))


def _fields(given: dict[str, Any]) -> Fields:
    fields: Fields = {}
    if "name" in given:
        fields["name"] = given["name"]
    if "category" in given:
        fields["category"] = given["category"]
    if "prompt" in given:
        fields["prompt"] = given["prompt"]
    if "tags" in given:
        fields["tags"] = given["tags"]
    if "picture" in given:
        fields["picture_id"] = given["picture"]
    return fields
