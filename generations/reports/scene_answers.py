"""Chapters, scenes and takes as they are told outside."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from generations.reports.answers import Answer

TakeStatus = Literal["pending", "in_progress", "completed", "failed"]


class MemberAnswer(Answer):
    """Somebody with whom a chapter is shared."""

    username: str
    access: Literal["view", "generate"]


class ChapterAnswer(Answer):
    """A chapter of yours, or one that is shared with you."""

    id: UUID
    title: str
    owner: str
    access: Literal["own", "generate", "view"] = Field(description="What you may do in it.")
    members: list[MemberAnswer]
    scenes: int
    created_at: datetime


class SceneImageMetadata(Answer):
    """How it is, or was, made."""

    model_used: str
    generation_time: float | None = Field(description="Seconds; null until it has completed.")
    service: str = Field(description="The provider.", examples=["modelslab"])
    script_id: str | None
    style: str | None
    aspect_ratio: str | None
    user_tier: str | None


class SceneImageAnswer(Answer):
    """A take of a scene: one picture that was asked for, and how far it is."""

    record_id: UUID = Field(description="The generation's id; for who asked for it, `/generations/{id}` tells more.")
    status: TakeStatus = Field(description="A cancelled one has failed, with error_code `cancelled`.")
    image_url: str | None = Field(description="The picture; null until it is completed. Expires: ask again.")
    thumbnail_url: str | None
    scene_number: int
    chosen: bool = Field(description="Whether it was chosen as the scene's picture.")
    retry_count: int
    progress: int | None = Field(description="Percent; null while the provider gives none.")
    generation_time_seconds: float | None
    error_code: str | None
    error_message: str | None
    requested_by: str = Field(description="Who asked for it, and pays.")
    last_attempted_at: datetime | None
    created_at: datetime
    updated_at: datetime
    metadata: SceneImageMetadata


class SceneAnswer(Answer):
    """A scene, with the picture that is shown and the take that is current."""

    id: UUID
    scene_number: int
    description: str
    takes: int
    image: SceneImageAnswer | None = Field(description="What is shown: the chosen take, else the latest completed one.")
    current: SceneImageAnswer | None = Field(description="The latest take, whatever became of it.")
    created_at: datetime
