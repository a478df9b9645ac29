"""What the API tells of batches."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from generations.api.answers import Page
from generations.reports.answers import Answer, GenerationAnswer


class BatchCounts(Answer):
    """Items, by how far they are."""

    total: int
    pending: int
    processing: int
    completed: int
    failed: int
    cancelled: int = Field(description="Those among them that go on since somebody else wants them too.")


class BatchCredits(Answer):
    """What was made for the batch has cost, retries included."""

    charged: int = Field(description="For what completed.")
    held: int = Field(description="For what has not ended.")
    released: int = Field(description="Given back for what did not complete.")
    refunded: int = Field(description="Given back by an operator afterwards.")


class BatchLinks(Answer):
    """Where to go from here; null where that is not possible now."""

    self: str
    items: str
    cancel: str | None
    pause: str | None
    resume: str | None
    retry: str | None
    exports: str
    zip: str | None = Field(description="All its files, in its formats or as they are.")


class BatchAnswer(Answer):
    """A batch and how far it is."""

    id: UUID
    name: str
    mode: Literal["gallery", "text", "scenes"]
    status: Literal["pending", "processing", "completed", "partial", "failed", "cancelled"]
    paused: bool = Field(description="What waits is kept waiting.")
    progress: int = Field(description="Percent of the items that have completed.")
    counts: BatchCounts
    reused: int = Field(description="Items that are answered by what was there before.")
    credits: BatchCredits
    provider_id: str
    operation_type: str
    params: dict[str, Any] = Field(description="Common to all items, as they were given.")
    metadata: dict[str, Any]
    export_formats: list[dict[str, str]] = Field(description="`format`, `fit` and `colour` of each.")
    created_at: datetime
    closed_at: datetime | None = Field(description="When it was seen that everything in it has ended.")
    cancelled_at: datetime | None
    links: BatchLinks


class BatchPage(Page):
    """Your batches."""

    results: list[BatchAnswer]


class BatchItemAnswer(Answer):
    """One item and what answers it."""

    variation_key: str
    position: int
    variation: int
    library_item: int | None
    status: str = Field(description="The generation's, or cancelled where the batch wants it no more.")
    reused: bool = Field(description="It was there before; this batch does not pay for it.")
    generation: GenerationAnswer
    earlier: list[UUID] = Field(description="The generations that it was answered by before, newest first.")


class BatchItemPage(Answer):
    """The items, in their order."""

    results: list[BatchItemAnswer]
    next: str | None
    next_cursor: str | None


class BatchQuoteAnswer(Answer):
    """What the same body would cost and do, were it posted now. Nothing is kept."""

    items: list[str] = Field(description="The variation keys.")
    price: int | None = Field(description="Credits for what would be made; null: free.")
    reused: int = Field(description="Items that would be answered by what is there.")
    conflicts: list[str] = Field(description="Items because of which it would be refused.")
    cap_reached: str | None = Field(description="The cap of yours because of which it would be refused.")
    balance: int = Field(description="Credits that you have.")
    eta_seconds: int | None = Field(description="Until the last one is done; null without history.")


class BatchRetryAnswer(Answer):
    """What a retry has begun."""

    retried: int
    possibly_billed: list[str] = Field(description="Items that were left as they are; insist to retry them too.")
    batch: BatchAnswer
