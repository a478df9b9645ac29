"""What callers send about batches: the bodies, checked for shape. What it means is intake's matter."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from generations.api.requests import Body, Id, InputRequest, Moment, Variables, Word
from generations.api.requests_exports import Formats, as_given
from generations.intake.batch_plan import BatchRequest, Wanted
from generations.intake.inputs import InputRef
from generations.models import Batch
from providers.params import Whole

MOST_LISTED = 2000
MOST_VARIATIONS = 1000
Key = Annotated[str, Field(min_length=1, max_length=200)]


class BatchItemRequest(Body):
    """An item of the library, in some variations."""

    library_item: Whole = Field(ge=1, le=2**63 - 1)
    variations: Whole = Field(default=1, ge=1, le=MOST_VARIATIONS)
    params: dict[str, Any] = Field(default={}, description="What is different for this one.")


class NewBatch(Body):
    """Many generations: library items (`gallery`) or one text (`text`) in variations."""

    mode: Literal["gallery", "text"]
    provider_id: Word = Field(examples=["modelslab"])
    operation_type: Word = Field(examples=["text_to_image"])
    params: dict[str, Any] = Field(
        description=(
            "Common to all items. In a gallery `{prompt}`, `{name}` and `{category}` in the prompt are the library "
            "item's; without them its prompt is put behind the common one. A `seed` is the first variation's; each "
            "further one has the next."
        ),
        examples=[{"prompt": "a dancer in red, {prompt}"}],
    )
    name: str = Field(default="", max_length=200, description="For people.")
    variations: Whole = Field(default=1, ge=1, le=MOST_VARIATIONS, description="Of a text.")
    items: list[BatchItemRequest] = Field(default=[], max_length=MOST_LISTED, description="Of a gallery.")
    overrides: dict[Key, dict[str, Any]] = Field(
        default={},
        max_length=MOST_LISTED,
        description="Params in which single items differ, by `variation_key` (`POST /batches/quote` lists them).",
    )
    inputs: list[InputRequest] = Field(default=[], max_length=20, description="Common to all items.")
    input_role: Word | None = Field(
        default=None, description="Which of the operation's inputs a library item's picture is; the first, if left out."
    )
    export_formats: Formats = Field(default=[], description="Every result is exported in these, at no cost.")
    reuse: Literal["completed", "in_flight", "none"] = Field(
        default="completed", description="What may answer an item, as for a single generation."
    )
    context: Any = Field(default=None, description="Any JSON; items of batches that differ in it are different.")
    metadata: dict[str, Any] = Field(default={}, description="Any JSON object; kept and shown with each generation.")
    priority: Whole = Field(default=5, ge=0, le=9, description="0 to 9; higher goes first.")
    scheduled_at: Moment | None = Field(default=None, description="Not before this time, within the next year.")
    account: Id | None = Field(default=None, description="Only on this provider account.")
    prompt_version: Id | None = Field(default=None, description="Whose text is the common prompt.")
    variables: Variables = Field(default={}, description="What its variables are; a gallery's own are its items'.")

    def to_intake(self) -> BatchRequest:
        """The same in intake's words."""
        return BatchRequest(
            mode=Batch.Mode(self.mode),
            provider_id=self.provider_id,
            operation_type=self.operation_type,
            params=self.params,
            name=self.name,
            variations=self.variations,
            items=tuple(Wanted(one.library_item, one.variations, one.params) for one in self.items),
            overrides=self.overrides,
            inputs=tuple(InputRef(role=one.role, asset_id=one.asset_id, url=one.url) for one in self.inputs),
            input_role=self.input_role,
            export_formats=tuple(as_given(self.export_formats)),
            reuse=self.reuse,
            context=self.context,
            metadata=self.metadata,
            priority=self.priority,
            scheduled_at=self.scheduled_at,
            account_id=self.account,
            prompt_version_id=self.prompt_version,
            variables=self.variables,
        )


class InsistRequest(Body):
    """May be left out."""

    insist: bool = Field(default=False, description="Also while an earlier attempt may still be billed.")
