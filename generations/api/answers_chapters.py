"""What the API tells of chapters and scenes beside ``generations.reports.scene_answers``."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import Field

from generations.api.answers import Page
from generations.reports.answers import Answer
from generations.reports.scene_answers import ChapterAnswer, SceneAnswer, SceneImageAnswer


class ChapterPage(Page):
    """Chapters of yours, and those that are shared with you."""

    results: list[ChapterAnswer]


class ScenePage(Page):
    """A chapter's scenes, by their numbers."""

    results: list[SceneAnswer]


class SceneImagePage(Page):
    """Takes, latest first."""

    results: list[SceneImageAnswer]


class SceneQueuedAnswer(Answer):
    """A take is asked for. Follow it at `/scene-images/{record_id}`, or at the scene's status."""

    task_id: UUID = Field(description="The same as record_id: the generation's id.")
    status: Literal["queued"]
    message: str
    estimated_time_seconds: int = Field(description="From our own history; 30 without one.")
    record_id: UUID
    scene_number: int
    retry_count: int
    reused: bool = Field(description="The same picture is being made already: this is its record.")
