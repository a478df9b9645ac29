"""What callers send about exports: the bodies, checked for shape."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from generations.api.requests import Body, Id, Word


class FormatRequest(Body):
    """A format, and how outputs come into it."""

    format: Word = Field(examples=["instagram_story"])
    fit: Literal["crop", "pad"] | None = Field(default=None, description="Left out: the format's own.")
    colour: str | None = Field(
        default=None, max_length=7, description="#rrggbb, of the padding; white, if left out.", examples=["#ffffff"]
    )


Formats = Annotated[
    list[Word | FormatRequest],
    Field(
        max_length=30,
        description="Names of `GET /api/v1/exports/formats`, or objects that say how.",
        examples=[["instagram_story", {"format": "shopee", "fit": "pad", "colour": "#f5f5f5"}]],
    ),
]


class NewExports(Body):
    """Outputs that are wanted in other formats."""

    assets: list[Id] = Field(min_length=1, max_length=500, description="Results of your generations.")
    formats: Annotated[Formats, Field(min_length=1)]


def as_given(formats: list[str | FormatRequest]) -> list[Any]:
    """In intake's words."""
    return [one if isinstance(one, str) else one.model_dump(exclude_none=True) for one in formats]
