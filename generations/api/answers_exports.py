"""What the API tells of exports."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from generations.api.answers import Page
from generations.reports.answers import Answer, AssetAnswer


class ExportFormatAnswer(Answer):
    """A format that outputs can be exported in."""

    name: str = Field(examples=["instagram_story"])
    title: str
    width: int | None = Field(description="Pixels; null: the file as it is.")
    height: int | None
    fit: Literal["crop", "pad"] = Field(
        description="What is done where you do not say: cut off what is too much, or fill up with a colour."
    )
    videos: Literal["video", "still"] = Field(description="What comes of a video: a video, or a still picture.")


class ExportFormatList(Answer):
    """All formats."""

    results: list[ExportFormatAnswer]


class ExportAnswer(Answer):
    """An output in another format. That it fails changes nothing for its generation."""

    id: UUID
    asset: UUID = Field(description="The original.")
    generation: UUID | None = Field(description="Whose output that is.")
    format: str
    fit: Literal["crop", "pad"]
    colour: str = Field(description="Of the padding, and behind what is transparent.", examples=["#ffffff"])
    state: Literal["pending", "done", "failed"]
    result: AssetAnswer | None = Field(description="While it is made anew, the one before.")
    poster: AssetAnswer | None = Field(description="Of a video: a still picture of it in the same size.")
    error_code: Literal["export_failed", "storage_failed"] | None = Field(
        description="Of the newest try; a pending one is tried again."
    )
    error_message: str | None
    next_try_at: datetime | None
    created_at: datetime
    ended_at: datetime | None


class ExportPage(Page):
    """Your exports."""

    results: list[ExportAnswer]


class ExportList(Answer):
    """The exports that were asked for, newest first."""

    results: list[ExportAnswer]
