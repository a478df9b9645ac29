"""What the API tells: its answers, as they are sent and as the OpenAPI schema shows them."""

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
    role: Literal["output", "input"]
    url: str = Field(description="The bytes. Supports Range. Expires.")
    thumbnail_url: str | None
    mime_type: str = Field(description="Judged by the bytes.", examples=["video/mp4"])
    bytes: int
    sha256: str = Field(description="64 hex digits.")
    width: int | None
    height: int | None
    duration: float | None = Field(description="Seconds; null for pictures.")
    name: str | None
    created_at: datetime


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
        description="Why a pending one waits: scheduled, backing_off, no_capacity, cooling_down, paused, no_account."
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
    reused: bool = Field(
        description="In the answer to a POST: an equal request was answered with this one. Else: that has happened."
    )
    retry_of: UUID | None
    retries: list[UUID]
    parent: UUID | None
    retry_count: int
    error_code: str | None
    error_message: str | None
    inputs: list[InputAnswer]
    outputs: list[AssetAnswer]
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


class Page(Answer):
    """Base of all lists: newest first, without a total. ``next`` is null on the last page."""

    next: str | None
    next_cursor: str | None


class GenerationPage(Page):
    """Your generations."""

    results: list[GenerationAnswer]


class AssetPage(Page):
    """Your assets."""

    results: list[AssetAnswer]


class TimelineLine(Answer):
    """One thing that happened."""

    at: datetime
    kind: str
    actor: str | None
    attempt: int | None
    text: str = Field(description="A sentence for people.")
    data: dict[str, Any]


class TimelineAnswer(Answer):
    """The whole story, in order."""

    id: UUID
    status: str
    lines: list[TimelineLine]


class QuoteAccount(Answer):
    """An account that could serve it."""

    id: UUID
    label: str
    free_slots: int
    limit: int
    usable: bool
    why_not: str | None = None


class QuoteAnswer(Answer):
    """What the same body would cost and do, were it posted now. Nothing is kept."""

    price: int | None = Field(description="Credits; null: free.")
    would_reuse: UUID | None = Field(description="The generation that would answer it.")
    conflict: UUID | None = Field(description="The generation because of which it would be refused.")
    eta_seconds: int | None
    accounts: list[QuoteAccount]


class InputRole(Answer):
    """A part that an input can play."""

    role: str
    least: int
    most: int
    media: list[str] = Field(description="image, video; empty: any.")


class OperationPrice(Answer):
    """Credits per output; with an empty model for all models without a price of their own."""

    model: str
    credits: int


class OperationAnswer(Answer):
    """What a provider can do."""

    operation_type: str
    title: str
    makes: Literal["image", "video"]
    params_schema: dict[str, Any] = Field(description="JSON Schema of params.")
    input_roles: list[InputRole]
    prices: list[OperationPrice] = Field(description="Empty: free.")


class Capacity(Answer):
    """Over all accounts that may serve you."""

    accounts: int
    slots: int
    in_use: int
    free: int


class Health(Answer):
    """Whether it takes work now."""

    state: Literal["available", "busy", "cooling_down", "unavailable", "no_account"]
    detail: str


class ProviderAnswer(Answer):
    """A provider, what it can do, and how it is."""

    id: str
    title: str
    health: Health
    capacity: Capacity
    operations: list[OperationAnswer]


class ProviderList(Answer):
    """All providers."""

    results: list[ProviderAnswer]


class CreditsAnswer(Answer):
    """Your wallet."""

    available: int
    held: int = Field(description="Set aside for work under way.")


class LedgerEntryAnswer(Answer):
    """One movement of credits."""

    id: UUID
    kind: Literal["grant", "adjustment", "hold", "capture", "release", "refund"]
    available_change: int
    held_change: int
    generation: UUID | None
    reason: str
    created_at: datetime


class LedgerPage(Page):
    """Your ledger."""

    results: list[LedgerEntryAnswer]


class FieldError(Answer):
    """What is wrong with one field."""

    field: str
    message: str


class ProblemAnswer(Answer):
    """RFC 9457 `application/problem+json`. Some codes add members of their own."""

    type: str = Field(examples=["urn:darkroom:problem:invalid_request"])
    title: str
    status: int
    detail: str = Field(description="For people: what happened and what to do.")
    code: str = Field(description="Stable; for programs.", examples=["invalid_request"])
    request_id: str | None = None
    errors: list[FieldError] | None = None
    generation: UUID | None = Field(default=None, description="409: which one it is about.")
    balance: int | None = Field(default=None, description="402: what you have.")
    required: int | None = Field(default=None, description="402: what it costs.")
    operation_type: str | None = Field(default=None, description="402.")
