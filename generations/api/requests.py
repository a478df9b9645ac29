"""What callers send: the bodies of the API, checked for shape. What it means is intake's matter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Self, TypeVar, get_args
from uuid import UUID

from django.http import HttpRequest
from django.utils import timezone
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from generations.api import body, problems
from generations.api.problems import Problem
from generations.intake.dismiss import LONGEST_REASON
from generations.intake.replay import FASTEST
from generations.intake.request import Idempotency, InputRef, Request
from generations.intake.resolve import Answer
from generations.intake.webhooks import Change
from generations.models import Submission
from generations.models.webhook import LONGEST_URL
from providers.params import Whole

LATEST_SCHEDULE = timedelta(days=366)
LONGEST_KEY = 255


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("it must be a text")  # noqa: TRY004  pydantic collects ValueErrors
    return value


def _zoned(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("it must have an offset, such as 2026-01-31T12:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("it is no time that anything can have happened at") from None


def _soon(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("it must have an offset, such as 2026-01-31T12:00:00Z")
    now = timezone.now()
    if not now - timedelta(days=1) <= value <= now + LATEST_SCHEDULE:
        raise ValueError("it must lie within the next year")
    return value.astimezone(UTC)


def _moves(value: int) -> int:
    if value == 0:
        raise ValueError("say how many credits to give or to take; 0 changes nothing")
    return value


Id = Annotated[UUID, BeforeValidator(_text), Field(strict=False)]
Moment = Annotated[datetime, BeforeValidator(_text), AfterValidator(_soon), Field(strict=False)]
Past = Annotated[datetime, BeforeValidator(_text), AfterValidator(_zoned), Field(strict=False)]
Word = Annotated[str, Field(min_length=1, max_length=40)]
Variables = Annotated[dict[str, str], Field(max_length=50)]


class Body(BaseModel):
    """Base of all bodies: unknown fields are refused, ``true`` is no number and ``"5"`` neither."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class InputRequest(Body):
    """An input: an uploaded asset, or a public URL that Darkroom fetches. Exactly one of the two."""

    role: Word = Field(description="The operation's name for it; `GET /api/v1/providers` lists them.")
    asset_id: Id | None = Field(default=None, description="An asset of yours: an upload, or an earlier output.")
    url: str | None = Field(default=None, max_length=LONGEST_URL)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.asset_id is None) == (self.url is None):
            raise ValueError("give either asset_id or url")
        return self


class GenerationRequest(Body):
    """What is wanted. Requests that are equal in provider, operation, params, inputs, account and context are one."""

    provider_id: Word = Field(examples=["pixverse"])
    operation_type: Word = Field(examples=["text_to_video"])
    params: dict[str, Any] = Field(
        description="The operation's own; its JSON Schema is in `GET /api/v1/providers`. Defaults fill in the rest.",
        examples=[{"prompt": "test video", "quality": "720p"}],
    )
    inputs: list[InputRequest] = Field(default=[], max_length=20)
    reuse: Literal["completed", "in_flight", "none"] = Field(
        default="completed",
        description=(
            "What may answer an equal request: a live or completed one (`completed`), only a live one (`in_flight`), "
            "or nothing: a new one is made and paid for (`none`)."
        ),
    )
    context: Any = Field(default=None, description="Any JSON; requests that differ in it are different.")
    metadata: dict[str, Any] = Field(default={}, description="Any JSON object; kept and shown, makes no difference.")
    priority: Whole = Field(default=5, ge=0, le=9, description="0 to 9; higher goes first.")
    scheduled_at: Moment | None = Field(default=None, description="Not before this time, within the next year.")
    account: Id | None = Field(default=None, description="Only on this provider account.")
    parent: Id | None = Field(
        default=None,
        description=(
            "The generation of yours that this one continues; left out: the one whose result is its first input that "
            "is one."
        ),
    )
    prompt_version: Id | None = Field(
        default=None, description="A version of a prompt of yours; its text is params' prompt, which is then left out."
    )
    variables: Variables = Field(
        default={},
        description="A text for each variable of the prompt_version; all of them, and no others.",
        examples=[{"style": "watercolour"}],
    )
    webhook_url: str | None = Field(
        default=None,
        max_length=LONGEST_URL,
        description=(
            "Is told when it ends (at once, if an equal request has ended already), signed with the secret of "
            "`POST /api/v1/webhooks/secret/rotate`. Makes no difference to what is asked."
        ),
        examples=["https://example.com/hooks/darkroom"],
    )

    def to_intake(self) -> Request:
        """The same in intake's words."""
        return Request(
            provider_id=self.provider_id,
            operation_type=self.operation_type,
            params=self.params,
            inputs=tuple(InputRef(role=given.role, asset_id=given.asset_id, url=given.url) for given in self.inputs),
            reuse=self.reuse,
            context=self.context,
            metadata=self.metadata,
            priority=self.priority,
            scheduled_at=self.scheduled_at,
            account_id=self.account,
            parent_id=self.parent,
            prompt_version_id=self.prompt_version,
            variables=self.variables,
            webhook_url=self.webhook_url,
        )


class AssetChange(Body):
    """What shall be different about an asset."""

    favourite: bool = Field(description="Kept, however old it gets.")


class RetryRequest(Body):
    """May be left out."""

    insist: bool = Field(
        default=False,
        description=(
            "Also while an earlier attempt may still be billed, or although the changed request was answered already."
        ),
    )
    params: dict[str, Any] | None = Field(
        default=None,
        description=(
            "Other params, all of them; left out: the same. A changed request is another request: it is refused with "
            "409 `live_twin` or `already_answered` where that one is under way or was completed already."
        ),
    )


class LettersRequest(Body):
    """Which dead letters are meant: all that is given must hold."""

    since: Past | None = Field(default=None, description="Failed at or after this; 24 h before `until` if left out.")
    until: Past | None = Field(default=None, description="Failed before this; now if left out.")
    codes: list[Word] = Field(default=[], max_length=50)
    provider_id: Word | None = None
    account: Id | Literal["none"] | None = Field(
        default=None, description="Of the last attempt; `none`: they never had one."
    )
    user: str | None = Field(default=None, max_length=150, description="A username.")
    ids: list[Id] = Field(default=[], max_length=500, description="Only these, of any age.")


class ReplayRequest(LettersRequest):
    """Which dead letters are replayed, and how."""

    dry_run: bool = Field(default=True, description="Say what would be done; change nothing.")
    rate_per_minute: Whole | None = Field(
        default=None, ge=1, le=FASTEST, description="So many start in a minute; left out: all are due at once."
    )
    insist: bool = Field(
        default=False, description="Only with `ids`: also while an attempt at them may still be billed."
    )
    cursor: str | None = Field(
        default=None, max_length=8000, description="`next_cursor` of the answer before; the rest as it was."
    )


class DismissRequest(Body):
    """Dead letters about which nothing is to be done."""

    ids: list[Id] = Field(min_length=1, max_length=500)
    reason: str = Field(min_length=1, max_length=LONGEST_REASON, description="Why; the timelines keep it.")


class RestoreRequest(Body):
    """Dead letters whose dismissal is taken back."""

    ids: list[Id] = Field(min_length=1, max_length=500)


class ResolveRequest(Body):
    """What a person says of an attempt whose outcome is unknown."""

    decision: Literal["billed", "not_billed", "resubmit"] = Field(
        description=(
            "`billed`: the provider took it (with its `job_id` it is followed on, without it ends); `not_billed`: it "
            "never did, another attempt follows; `resubmit`: ask again all the same, which may be paid for twice."
        )
    )
    note: str = Field(min_length=1, max_length=500, description="On what grounds; the timeline keeps it.")
    job_id: str = Field(default="", max_length=255, description="With `billed`: the provider's job.")
    cost: str | None = Field(
        default=None, max_length=20, pattern=r"^\d{1,10}(\.\d{1,4})?$", description="With `billed`: what it cost."
    )

    def to_intake(self) -> Answer:
        """The same in intake's words."""
        cost = None if self.cost is None else Decimal(self.cost)
        return Answer(Submission.Resolution(self.decision), self.note, self.job_id, cost)


class SwitchRequest(Body):
    """How a switch is to stand, and why."""

    on: bool = Field(description="true: stop; false: go on.")
    reason: str = Field(min_length=1, max_length=300, pattern=r"\S", description="People see it.")


Reason = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S", description="Kept in the ledger for ever.")]
MOST_CREDITS = 10**12


class EntryRequest(Body):
    """Credits that an operator gives to a user, or takes."""

    amount: Annotated[Whole, AfterValidator(_moves)] = Field(
        ge=-MOST_CREDITS,
        le=MOST_CREDITS,
        description="Whole credits: above 0 a grant, below 0 an adjustment that takes some.",
    )
    reason: Reason


class RefundRequest(Body):
    """What a completed generation has cost, or some of it, goes back to its user."""

    reason: Reason
    amount: Whole | None = Field(default=None, ge=1, description="Credits; all that it has cost where it is left out.")


WebhookWord = Literal["generation.completed", "generation.failed", "generation.cancelled", "generation.late_result"]
WebhookFilter = Annotated[list[WebhookWord], Field(min_length=1, max_length=20)]
EVERYTHING: list[WebhookWord] = list(get_args(WebhookWord))


class WebhookRequest(Body):
    """An endpoint of yours that is told what happens to your generations."""

    url: str = Field(max_length=LONGEST_URL, examples=["https://example.com/hooks/darkroom"])
    events: WebhookFilter = Field(default=EVERYTHING, description="Of what it is told; left out: of everything.")
    description: str = Field(default="", max_length=200)


def _without_default(schema: dict[str, Any]) -> None:
    """For a field that stays as it is when it is left out."""
    del schema["default"]


class WebhookChange(Body):
    """What shall be different; what is left out stays as it is."""

    url: str = Field(default="", max_length=LONGEST_URL, json_schema_extra=_without_default)
    events: WebhookFilter = Field(default=EVERYTHING, json_schema_extra=_without_default)
    description: str = Field(default="", max_length=200, json_schema_extra=_without_default)
    enabled: bool = Field(
        default=True,
        description="Switched off, it is told nothing any more, what waits for it included.",
        json_schema_extra=_without_default,
    )

    def to_intake(self) -> Change:
        """The same in intake's words."""
        given = self.model_fields_set
        return Change(
            url=self.url if "url" in given else None,
            events=self.events if "events" in given else None,
            description=self.description if "description" in given else None,
            enabled=self.enabled if "enabled" in given else None,
        )


B = TypeVar("B", bound=Body)


def read(model: type[B], given: dict[str, Any]) -> B:
    """``given`` as a ``model``.

    Raises:
        Problem: 400, field by field.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise problems.of_validation(error) from None


def idempotency(request: HttpRequest, given: dict[str, Any]) -> Idempotency | None:
    """The caller's Idempotency-Key with the hash of the body, or None.

    Raises:
        Problem: 400, the key is not 1 to 255 printable ASCII characters.
    """
    key = key_of(request)
    return None if key is None else Idempotency(key=key, body_sha256=body.sha256(given))


def key_of(request: HttpRequest) -> str | None:
    """The caller's Idempotency-Key, or None.

    Raises:
        Problem: 400, the key is not 1 to 255 printable ASCII characters.
    """
    key = request.headers.get("Idempotency-Key")
    if key is not None and (not 1 <= len(key) <= LONGEST_KEY or not (key.isascii() and key.isprintable())):
        raise _wrong_key("invalid_idempotency_key", f"must be 1 to {LONGEST_KEY} printable ASCII characters.")
    return key


def needed_key(request: HttpRequest) -> str:
    """The Idempotency-Key of a call that moves credits and must not do so twice.

    Raises:
        Problem: 400, there is none, or it is none.
    """
    key = key_of(request)
    if key is None:
        raise _wrong_key("idempotency_key_needed", "is needed: it makes sure that a repeated call moves credits once.")
    return key


def _wrong_key(code: str, what: str) -> Problem:
    detail = f"The Idempotency-Key {what}"
    return Problem(400, code, detail, errors=[{"field": "Idempotency-Key", "message": detail}])
