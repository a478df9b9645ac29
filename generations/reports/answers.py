"""A Generation as it is told outside: in the API's answers, and in webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Self, cast
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """Base of all answers. They are built from our own rows, hence not validated again."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def of(cls, **facts: Any) -> Self:
        """Made of our own rows, whose constraints have checked them: not validated again."""
        return cast("Self", cls.model_construct(**facts))


class AssetAnswer(Answer):
    """A stored file. Both URLs answer without a token, and expire; ask again for fresh ones."""

    id: UUID
    role: Literal["output", "input", "export"]
    url: str = Field(description="The bytes. Supports Range. Expires.")
    thumbnail_url: str | None
    download_url: str = Field(description="The same bytes to be kept: a browser saves them under a name for people.")
    mime_type: str = Field(description="Judged by the bytes.", examples=["video/mp4"])
    bytes: int
    sha256: str = Field(description="64 hex digits.")
    width: int | None
    height: int | None
    duration: float | None = Field(description="Seconds; null for pictures.")
    name: str | None
    favourite: bool = Field(description="Kept, however old it gets.")
    downloads: int = Field(description="How often it was fetched by its `download_url`, or in a ZIP.")
    created_at: datetime
    expired_at: datetime | None = Field(description="Its bytes were removed by their age then; links answer 410.")


class InputAnswer(Answer):
    """An input and the part it plays."""

    role: str
    asset: AssetAnswer


class AttemptAnswer(Answer):
    """One attempt at a provider."""

    number: int
    account: str = Field(description="The account's label.")
    state: Literal["reserved", "sending", "unknown", "accepted", "collecting", "succeeded", "failed", "cancelled"]
    error_code: str | None
    started_at: datetime | None = Field(description="When it was sent to the provider.")
    ended_at: datetime | None


class Links(Answer):
    """Where to go from here; null where it is not possible now."""

    self: str
    timeline: str
    cancel: str | None
    retry: str | None


class GenerationAnswer(Answer):
    """A generation and how far it is."""

    id: UUID
    status: Literal["pending", "processing", "completed", "failed", "cancelled"]
    wait_reason: str | None = Field(
        description=(
            "Why a pending one waits: scheduled, backing_off, no_capacity, cooling_down, user_cap, daily_cap, "
            "held_back, paused, no_account."
        )
    )
    progress: int | None = Field(description="Percent; null where the provider gives none.")
    provider_id: str
    operation_type: str
    params: dict[str, Any] = Field(description="Canonical: defaults filled in. What is sent.")
    raw_params: dict[str, Any] = Field(description="As they were given.")
    context: Any
    metadata: dict[str, Any]
    priority: int
    scheduled_at: datetime | None
    account: UUID | None = Field(description="The account that the request pinned.")
    price: int | None = Field(description="Credits; null: free.")
    refunded: int | None = Field(description="Credits that an operator gave back after it had completed.")
    reused: bool = Field(
        description="In the answer to a POST: an equal request was answered with this one. Else: that has happened."
    )
    retry_of: UUID | None
    retries: list[UUID]
    parent: UUID | None = Field(description="The generation that this one continues or was made from.")
    prompt_version: UUID | None = Field(description="The version of a prompt that params' prompt is the text of.")
    scene: UUID | None = Field(description="The scene of a chapter that it is a take of.")
    retry_count: int
    error_code: str | None
    error_message: str | None
    inputs: list[InputAnswer]
    outputs: list[AssetAnswer]
    partial: bool = Field(description="It completed with fewer outputs than it was asked for; it cost its full price.")
    outputs_expected: int | None = Field(description="How many it was asked for; null until it has completed.")
    outputs_arrived: int | None = Field(description="How many of them arrived; null until it has completed.")
    late_outputs: list[AssetAnswer] = Field(description="Results that came after its end: kept, never charged.")
    attempts: list[AttemptAnswer]
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None = Field(description="When it ended, however it ended.")
    cancel_requested_at: datetime | None
    eta_seconds: int | None = Field(
        description="From our own history; null without one, and in lists and answers to a POST."
    )
    links: Links
