"""What the API tells: its answers, as they are sent and as the OpenAPI schema shows them.

What webhooks tell too is in ``generations.reports.answers``.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from generations.reports.answers import Answer, AssetAnswer, GenerationAnswer


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


class RelativeAnswer(Answer):
    """One of a generation's family."""

    id: UUID
    depth: int = Field(description="Steps from the one asked about: below 0 it comes before, above 0 it came of it.")
    came_from: UUID | None = Field(description="What it is a retry of, else its parent; null where that is not here.")
    parent: UUID | None
    retry_of: UUID | None
    provider_id: str
    operation_type: str
    status: Literal["pending", "processing", "completed", "failed", "cancelled"]
    prompt: str
    url: str | None = Field(description="Its first result. Expires.")
    thumbnail_url: str | None
    created_at: datetime


class LineageAnswer(Answer):
    """A generation's ancestors and descendants, by parent and retry, with itself; oldest first."""

    id: UUID
    nodes: list[RelativeAnswer]
    truncated: bool = Field(description="There may be more: at most 200 of either kind are told, and 50 steps away.")


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
    cap_reached: str | None = Field(description="The cap of yours because of which it would be refused.")
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

    state: Literal["available", "busy", "cooling_down", "paused", "unavailable", "no_account"]
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


class CapUse(Answer):
    """A cap of yours and how much of it is used."""

    cap: Literal["max_in_flight", "max_queued", "max_per_day"] = Field(
        description="In flight at once (more wait), waiting at once, accepted a day (more are refused: 429)."
    )
    limit: int
    used: int
    resets_at: datetime | None = Field(description="When the next day (UTC) begins; null for the other caps.")


class CreditsAnswer(Answer):
    """Your wallet, and your caps."""

    available: int
    held: int = Field(description="Set aside for work under way.")
    caps: list[CapUse] = Field(description="Empty: nothing is capped.")


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


class WalletAnswer(Answer):
    """A user's wallet."""

    user: str = Field(description="The user's name.")
    available: int
    held: int = Field(description="Set aside for work under way.")


class WalletWithCaps(WalletAnswer):
    """A user's wallet, and the user's caps."""

    caps: list[CapUse] = Field(description="Empty: nothing is capped.")


class WalletPage(Page):
    """All wallets."""

    results: list[WalletAnswer]


class BookedEntry(LedgerEntryAnswer):
    """One movement of a user's credits, as operators see it."""

    user: str
    actor: str = Field(description="By whom: user:<id> by API, admin:<id> in the console, worker:<where>, command:...")


class BookedPage(Page):
    """A user's ledger."""

    results: list[BookedEntry]


class ReadingAnswer(Answer):
    """An account's balance on a day, beside what its attempts explain. Amounts are the provider's, as decimal text."""

    account: UUID
    provider_id: str
    label: str
    unit: str = Field(description="What the provider counts in.", examples=["credits", "USD"])
    day: date = Field(description="UTC.")
    balance: str
    expected: str | None = Field(description="The reading before less what attempts cost since; null for the first.")
    drift: str | None = Field(description="The balance less what was expected: above 0 a top-up, below 0 missing.")
    tolerated: str | None = Field(description="How far below 0 the drift may be; null: nobody can tell.")
    spent: str = Field(description="What its attempts cost, as far as they said.")
    failed: str = Field(description="Of that, what failed ones had cost: providers often give it back.")
    attempts: int
    unpriced: int = Field(description="How many of them did not say what they cost.")
    final: bool = Field(description="Whether all of its attempts had ended; before, the numbers may still move.")
    text: str = Field(description="A sentence for people.")


class ReadingPage(Page):
    """Readings of balances, newest first."""

    results: list[ReadingAnswer]


class WebhookAnswer(Answer):
    """An endpoint of yours."""

    id: UUID
    url: str
    events: list[str]
    description: str
    enabled: bool
    disabled_at: datetime | None
    disabled_reason: Literal["gone", "owner", "operator"] | None = Field(description="gone: it answered 410.")
    previous_secret_until: datetime | None = Field(description="After a rotation: until then the old secret signs too.")
    created_at: datetime


class NewWebhookAnswer(WebhookAnswer):
    """The same with its secret, which is told this once."""

    secret: str = Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])


class WebhookPage(Page):
    """Your endpoints."""

    results: list[WebhookAnswer]


class SecretAnswer(Answer):
    """A new secret, told this once."""

    secret: str = Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
    previous_secret_until: datetime | None = Field(description="Until then the old secret signs too.")


class DeliveryAnswer(Answer):
    """One thing that one endpoint is told."""

    id: UUID = Field(description="The `webhook-id`, the same on every try.")
    event: str
    event_at: datetime
    state: Literal["pending", "delivered", "failed"]
    endpoint: UUID | None = Field(description="Null: a request's webhook_url.")
    url: str
    generation: UUID | None = Field(description="Null: a test.")
    tries: int
    next_try_at: datetime | None
    error_code: str | None = Field(description="Of the newest try.")
    error_message: str | None
    created_at: datetime
    ended_at: datetime | None


class TryAnswer(Answer):
    """One try."""

    number: int
    url: str
    started_at: datetime
    elapsed: float | None = Field(description="Seconds. Null: it is under way, or nobody knows what came of it.")
    status: int | None = Field(description="HTTP.")
    error_code: str | None
    error_message: str | None
    answer: str = Field(description="The beginning of what the endpoint said.")


class DeliveryDetailAnswer(DeliveryAnswer):
    """The same with all its tries, in order."""

    attempts: list[TryAnswer]


class DeliveryPage(Page):
    """What your endpoints were told, and are to be told."""

    results: list[DeliveryAnswer]


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
    variables: list[str] | None = Field(default=None, description="missing_variables, unknown_variables: which.")
    cap: str | None = Field(default=None, description="user_cap_reached: max_queued or max_per_day.")
    limit: int | None = Field(default=None, description="user_cap_reached: what the cap allows.")
    used: int | None = Field(default=None, description="user_cap_reached: what you have.")
    resets_at: datetime | None = Field(default=None, description="user_cap_reached: when the next day begins.")
    reason: str | None = Field(default=None, description="503 `intake_stopped`: why an operator has stopped it.")
    since: datetime | None = Field(default=None, description="503 `intake_stopped`: when.")


class UnknownOutcomeAnswer(Answer):
    """An attempt of which nobody knows whether the provider took it, or what it cost."""

    id: UUID = Field(description="The attempt's.")
    generation: UUID
    attempt: int
    state: str = Field(description="`unknown`, or `failed` where only its cost is open.")
    status: str = Field(description="The generation's.")
    provider_id: str
    account: str
    user: str
    operation_type: str
    prompt: str
    why: str
    sent_at: datetime | None
    limit_at: datetime | None = Field(description="When it is given up by itself; null: it has ended.")
    evidence: dict[str, Any] | None = Field(description="What the provider's own list of recent work says.")
    evidence_text: str
    what_next: str = Field(description="What happens when nobody says anything.")
    usual_cost: str | None = Field(description="What such an attempt usually costs there, in `unit`.")
    unit: str
    held_credits: int
    keeps_slot: bool


class UnknownOutcomePage(Page):
    """What waits for a person."""

    results: list[UnknownOutcomeAnswer]


class ResolvedAnswer(Answer):
    """What came of it."""

    id: UUID
    state: str
    resolution: str
    generation: UUID = Field(description="The one to look at: a new one where it was asked for anew.")
    status: str


class HourAnswer(Answer):
    """How many failed in an hour."""

    hour: datetime = Field(description="Its beginning, UTC.")
    number: int


class DeadLetterGroup(Answer):
    """Dead letters of one code, provider and last account."""

    code: str
    provider_id: str
    account: UUID | None = Field(description="The last attempt's; null: they never had one.")
    account_label: str | None
    number: int
    users: int = Field(description="How many users they belong to.")
    first_at: datetime
    last_at: datetime
    price: int = Field(description="The credits that they would have brought.")
    newest: UUID
    message: str = Field(description="What the newest one says.")
    hours: list[HourAnswer] = Field(description="Only hours in which any failed.")


class DeadLetterGroups(Answer):
    """What failed for good, whose last letter is the newest first."""

    since: datetime
    until: datetime
    number: int = Field(description="Letters in all groups, also in older ones that are not shown.")
    capped: bool = Field(description="There are older letters, which were not looked at.")
    results: list[DeadLetterGroup]


class DeadLetterAnswer(Answer):
    """A generation that failed and has had no later answer."""

    id: UUID
    user: str
    provider_id: str
    operation_type: str
    params: dict[str, Any]
    code: str
    message: str
    account: UUID | None = Field(description="The last attempt's.")
    attempts: int
    price: int | None
    retry_of: UUID | None
    created_at: datetime
    failed_at: datetime
    dismissed_at: datetime | None


class DeadLetterPage(Page):
    """Dead letters of all users."""

    results: list[DeadLetterAnswer]


class ShareAnswer(Answer):
    """What a replay would cost one user."""

    user: str
    number: int
    price: int
    available: int
    short: int = Field(description="Credits that are missing for all of it.")


class ReplayPlan(Answer):
    """What a replay would do now. Nothing was changed."""

    dry_run: Literal[True]
    number: int = Field(description="Letters that were looked at, at most 10,000.")
    more: bool
    replayable: int
    refused: dict[str, int] = Field(description="By code: why the others would be left as they are.")
    why: dict[str, str] = Field(description="A sentence for each code.")
    price: int
    users: list[ShareAnswer]
    starts_at: datetime | None = Field(description="When the first would become due.")
    ends_at: datetime | None = Field(description="When the last would.")
    until: datetime = Field(description="Give it to the replay, which then leaves out what fails after this look.")


class ReplayAnswer(Answer):
    """What was replayed so far."""

    dry_run: Literal[False]
    seen: int
    replayed: int
    refused: dict[str, int]
    why: dict[str, str]
    next_cursor: str | None = Field(description="There is more: send the same again with it as `cursor`.")


class MarkedAnswer(Answer):
    """How many it was done to; the others are no dead letters, or were not dismissed."""

    number: int


class SwitchAnswer(Answer):
    """A switch, on or off; null where it is off."""

    key: str = Field(examples=["dispatch:provider:pixverse"])
    title: str
    on: bool
    effect: str = Field(description="What it does while it is on.")
    reason: str | None
    actor: str | None
    who: str | None = Field(description="The actor's name.")
    since: datetime | None


class SwitchList(Answer):
    """All switches."""

    results: list[SwitchAnswer]


class SwitchChangeAnswer(Answer):
    """A switch was turned."""

    id: UUID
    key: str
    title: str
    on: bool
    reason: str
    actor: str
    who: str
    at: datetime


class SwitchChangePage(Page):
    """Every turn that was made."""

    results: list[SwitchChangeAnswer]
