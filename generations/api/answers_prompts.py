"""What the API tells of prompts, beside ``generations.api.answers``."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from generations.api.answers import Page
from generations.reports.answers import Answer, GenerationAnswer


class CountsAnswer(Answer):
    """Counted from the generations that were made from it."""

    uses: int
    completed: int
    failed: int
    live: int
    success_rate: float | None = Field(
        description="Completed of those that completed or failed, 0 to 1; null before one has."
    )


class PromptVersionAnswer(CountsAnswer):
    """A text that never changes."""

    id: UUID = Field(description="A generation names it as `prompt_version`.")
    prompt: UUID
    name: str = Field(description="The prompt's.")
    number: int
    text: str
    variables: list[str] = Field(description="What a generation must give a text for.", examples=[["style"]])
    created_at: datetime


class PromptVersionPage(Page):
    """A prompt's versions."""

    results: list[PromptVersionAnswer]


class PromptAnswer(CountsAnswer):
    """A family of texts that are versions of one another; counts are those of all its versions."""

    id: UUID
    name: str
    versions: int
    newest: PromptVersionAnswer
    created_at: datetime


class PromptPage(Page):
    """Your prompts."""

    results: list[PromptAnswer]


class DiffPart(Answer):
    """A part of the two texts."""

    change: Literal["same", "removed", "added"] = Field(description="`removed`: only in a; `added`: only in b.")
    text: str


class ComparedVersion(PromptVersionAnswer):
    """A version with what it led to."""

    results: list[GenerationAnswer] = Field(description="Its newest completed generations.")


class ComparisonAnswer(Answer):
    """Two versions side by side."""

    a: ComparedVersion
    b: ComparedVersion
    diff: list[DiffPart] = Field(description="Word by word, from a to b.")
