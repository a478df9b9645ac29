"""What the OpenAPI schema says beside what the code already tells: a decorator for each handler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from drf_spectacular.contrib.pydantic import PydanticExtension
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiRequest, OpenApiResponse, extend_schema
from pydantic.json_schema import model_json_schema

from generations.api.answers import (
    AssetPage,
    BookedEntry,
    BookedPage,
    CreditsAnswer,
    DeadLetterGroups,
    DeadLetterPage,
    DeliveryAnswer,
    DeliveryDetailAnswer,
    DeliveryPage,
    GenerationPage,
    LedgerPage,
    LineageAnswer,
    MarkedAnswer,
    NewWebhookAnswer,
    ProblemAnswer,
    ProviderList,
    QuoteAnswer,
    ReadingPage,
    ReplayAnswer,
    ReplayPlan,
    ResolvedAnswer,
    SecretAnswer,
    SwitchAnswer,
    SwitchChangePage,
    SwitchList,
    TimelineAnswer,
    UnknownOutcomePage,
    WalletPage,
    WalletWithCaps,
    WebhookAnswer,
    WebhookPage,
)
from generations.api.problems import MEDIA_TYPE
from generations.api.requests import (
    AssetChange,
    Body,
    DismissRequest,
    EntryRequest,
    GenerationRequest,
    RefundRequest,
    ReplayRequest,
    ResolveRequest,
    RestoreRequest,
    RetryRequest,
    SwitchRequest,
    WebhookChange,
    WebhookRequest,
)
from generations.lifecycle import Operation, Status
from generations.models import Asset, WebhookDelivery
from generations.reports.answers import AssetAnswer, GenerationAnswer

F = TypeVar("F", bound=Callable[..., Any])


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The Authorization header."""

    target_class = "generations.api.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        """As OpenAPI writes it."""
        return {"type": "http", "scheme": "bearer", "description": "An API token, from the console or `manage.py up`."}


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The browser's session."""

    target_class = "generations.api.authentication.SessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        """As OpenAPI writes it."""
        return {"type": "apiKey", "in": "cookie", "name": "sessionid", "description": "Log in at /; needs CSRF."}


class BodyExtension(PydanticExtension):  # type: ignore[no-untyped-call]
    """Bodies as they are read: a field with a default may be left out. (Answers always have all fields.)"""

    target_class: Any = Body
    priority = 1

    def map_serializer(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:
        """The model's JSON Schema, its parts among the components."""
        schema = model_json_schema(self.target, ref_template="#/components/schemas/{model}", mode="validation")
        for name, part in schema.pop("$defs", {}).items():
            component = ResolvedComponent(  # type: ignore[no-untyped-call]
                name=name, type=ResolvedComponent.SCHEMA, object=name, schema=part
            )
            auto_schema.registry.register_on_missing(component)
        return schema


PROBLEMS = {
    400: "The request itself is wrong; `errors` says where.",
    401: "No token, or a wrong, expired or revoked one.",
    402: "Not enough credits: `balance`, `required`, `operation_type`.",
    403: "For members of staff with the permission; in a chapter, for those who may do more in it than you.",
    404: "Not there, or not yours.",
    406: "Only JSON is offered.",
    409: "Not as things stand; `code` says why, `generation` names the one in the way.",
    413: "The body is too large.",
    415: "Another content type or encoding than the one that is read.",
    422: "This Idempotency-Key was used for another body.",
    429: "Too many requests, or a cap of yours is reached (`user_cap_reached`); Retry-After says when to come back.",
    503: (
        "The database cannot be reached, or an operator has stopped intake (`intake_stopped`); Retry-After says when "
        "to come back."
    ),
}
ALWAYS = (400, 401, 406, 429, 503)
WRITES = (413, 415)


def describes(  # noqa: PLR0913  what a schema says about a handler
    operation_id: str,
    summary: str,
    answers: Mapping[Any, tuple[Any, str]],
    *,
    tag: str,
    problems: tuple[int, ...] = (),
    description: str = "",
    request: Any = None,
    parameters: list[OpenApiParameter] | None = None,
    examples: list[OpenApiExample] | None = None,
) -> Callable[[F], F]:
    """A decorator for a handler. ``answers``: model (None: no body) and meaning, by status (or status and media type);
    ``problems``: those beside the usual ones."""
    responses: dict[Any, Any] = {
        status: OpenApiResponse(model or None, description=text) for status, (model, text) in answers.items()
    }
    for status in sorted({*ALWAYS, *problems}):
        responses[status, MEDIA_TYPE] = OpenApiResponse(ProblemAnswer, description=PROBLEMS[status])
    decorate: Callable[[F], F] = extend_schema(
        operation_id=operation_id,
        summary=summary,
        description=description or summary,
        tags=[tag],
        request=request,
        responses=responses,
        parameters=parameters or [],
        examples=examples or [],
    )
    return decorate


def parameter(name: str, description: str, *, kind: Any = str, values: list[str] | None = None) -> OpenApiParameter:
    """A query parameter; with ``values`` it may be repeated."""
    return OpenApiParameter(name, kind, description=description, enum=values, many=values is not None)


LIMIT = parameter("limit", "How many a page has: 50, at most 100.", kind=int)
CURSOR = parameter("cursor", "Where to go on: `next_cursor` of the page before.")
KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="Up to 255 printable ASCII characters. The same key with the same body is answered alike for 24 h.",
)
KEY_FOR_EVER = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="Up to 255 printable ASCII characters. The same key moves a user's credits once, for ever.",
)
FIRST_VIDEO = OpenApiExample(
    "A video",
    value={
        "provider_id": "pixverse",
        "operation_type": "text_to_video",
        "params": {"prompt": "test video", "quality": "720p"},
    },
    request_only=True,
)
FIRST_PICTURE = OpenApiExample(
    "A picture, always a new one",
    value={
        "provider_id": "modelslab",
        "operation_type": "text_to_image",
        "params": {"prompt": "a lighthouse in a storm, oil on canvas"},
        "reuse": "none",
    },
    request_only=True,
)

list_generations = describes(
    "generations_list",
    "Your generations, newest first",
    {200: (GenerationPage, "A page.")},
    tag="generations",
    parameters=[
        parameter("status", "One or several.", values=Status.values),
        parameter("operation_type", "One or several.", values=Operation.values),
        parameter("provider_id", "Only of this provider."),
        parameter("scene", "Only takes of this scene.", kind=OpenApiTypes.UUID),
        parameter("batch", "Only those that answer an item of this batch.", kind=OpenApiTypes.UUID),
        parameter("created_after", "Not before this date and time.", kind=OpenApiTypes.DATETIME),
        parameter("created_before", "Before this date and time.", kind=OpenApiTypes.DATETIME),
        LIMIT,
        CURSOR,
    ],
)
create_generation = describes(
    "generations_create",
    "Ask for a generation",
    {
        202: (GenerationAnswer, "Accepted: it will end as completed, failed or cancelled."),
        200: (GenerationAnswer, "An equal request is there already: this is its generation (`reused`)."),
    },
    tag="generations",
    description=(
        "An equal request (provider, operation, params, inputs, account, context) is answered with the same "
        "generation, unless `reuse` says otherwise. Credits are held when it is accepted, and captured only when it "
        "completes."
    ),
    problems=(*WRITES, 402, 404, 409, 422),
    request=GenerationRequest,
    parameters=[KEY],
    examples=[FIRST_VIDEO, FIRST_PICTURE],
)
get_generation = describes(
    "generations_get",
    "One generation",
    {200: (GenerationAnswer, "How far it is."), 304: (None, "Nothing has changed since your ETag.")},
    tag="generations",
    problems=(404,),
    parameters=[OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER, description="The ETag you have.")],
)
cancel_generation = describes(
    "generations_cancel",
    "Cancel a generation",
    {
        200: (GenerationAnswer, "It is cancelled."),
        202: (GenerationAnswer, "Asked for: it is at the provider; a result within the grace still wins."),
    },
    tag="generations",
    problems=(*WRITES, 404, 409),
)
retry_generation = describes(
    "generations_retry",
    "Retry a failed or cancelled generation",
    {202: (GenerationAnswer, "A new generation; its `retry_of` names the old one.")},
    tag="generations",
    description=(
        "At today's price, with a hold and a deadline of its own. With `params` it is edited: another request, with a "
        "fingerprint of its own. Nothing is paid twice by accident: 409 says what is under way, may still be billed, "
        "or was answered already; `insist` does it all the same (but for what is under way)."
    ),
    problems=(*WRITES, 402, 404, 409),
    request=RetryRequest,
)
get_timeline = describes(
    "generations_timeline",
    "Everything that happened to a generation",
    {200: (TimelineAnswer, "In order.")},
    tag="generations",
    problems=(404,),
)
get_lineage = describes(
    "generations_lineage",
    "What a generation was made from, and what came of it",
    {200: (LineageAnswer, "A tree, told as a list: `came_from` leads to the root.")},
    tag="generations",
    description=(
        "By `parent` and `retry_of`. A generation whose input is an output of another one of yours has that one as its "
        "parent, unless its request named another."
    ),
    problems=(404,),
)
quote_generation = describes(
    "generations_quote",
    "What a generation would cost and do",
    {200: (QuoteAnswer, "Nothing is kept.")},
    tag="generations",
    problems=(*WRITES, 404),
    request=GenerationRequest,
    examples=[FIRST_VIDEO, FIRST_PICTURE],
)
list_assets = describes(
    "assets_list",
    "Your assets, newest first",
    {200: (AssetPage, "A page.")},
    tag="assets",
    parameters=[
        parameter("role", "Results, uploads, exports.", values=Asset.Role.values),
        parameter("kind", "Pictures or videos.", values=["image", "video"]),
        parameter("favourite", "Only favourites, or only others.", values=["true", "false"]),
        parameter("generation", "Only results of this generation.", kind=OpenApiTypes.UUID),
        parameter("created_after", "Not before this date and time.", kind=OpenApiTypes.DATETIME),
        parameter("created_before", "Before this date and time.", kind=OpenApiTypes.DATETIME),
        LIMIT,
        CURSOR,
    ],
)
upload_asset = describes(
    "assets_create",
    "Upload a picture or video as an input",
    {201: (AssetAnswer, "Stored. The same bytes are the same asset.")},
    tag="assets",
    problems=WRITES,
    request={
        "multipart/form-data": OpenApiRequest(
            {
                "type": "object",
                "properties": {"file": {"type": "string", "format": "binary"}},
                "required": ["file"],
                "additionalProperties": False,
            }
        )
    },
)
get_asset = describes(
    "assets_get", "One asset", {200: (AssetAnswer, "With fresh links.")}, tag="assets", problems=(404,)
)
change_asset = describes(
    "assets_change",
    "Keep an asset, however old it gets, or keep it no longer",
    {200: (AssetAnswer, "As it is now.")},
    tag="assets",
    problems=(*WRITES, 404, 409),
    request=AssetChange,
)
remove_asset = describes(
    "assets_remove",
    "Remove an upload that nothing uses",
    {204: (None, "It is gone.")},
    tag="assets",
    description="Results and exports are no uploads: they go with their generation, or by their age.",
    problems=(404, 409),
)
list_providers = describes(
    "providers_list",
    "Providers, their operations with JSON Schemas, health and capacity",
    {200: (ProviderList, "All of them.")},
    tag="providers",
)
get_credits = describes("credits_get", "Your wallet", {200: (CreditsAnswer, "What you have.")}, tag="credits")
list_ledger = describes(
    "credits_ledger",
    "Your ledger, newest first",
    {200: (LedgerPage, "A page.")},
    tag="credits",
    parameters=[LIMIT, CURSOR],
)
list_unknown_outcomes = describes(
    "unknown_outcomes_list",
    "Attempts whose outcome nobody knows, newest first",
    {200: (UnknownOutcomePage, "What waits for a person.")},
    tag="operators",
    problems=(403,),
    parameters=[LIMIT, CURSOR],
)
resolve_unknown_outcome = describes(
    "unknown_outcomes_resolve",
    "Say what became of an attempt",
    {200: (ResolvedAnswer, "Noted, and done.")},
    tag="operators",
    problems=(*WRITES, 402, 403, 404, 409),
    request=ResolveRequest,
)
list_balances = describes(
    "balances_list",
    "Accounts' balances day by day, and what their attempts explain",
    {200: (ReadingPage, "Newest first.")},
    tag="operators",
    problems=(403,),
    parameters=[parameter("account", "Only of this account.", kind=OpenApiTypes.UUID), LIMIT, CURSOR],
)
list_wallets = describes(
    "wallets_list",
    "All wallets",
    {200: (WalletPage, "A page.")},
    tag="operators",
    problems=(403,),
    parameters=[LIMIT, CURSOR],
)
get_wallet = describes(
    "wallets_get",
    "A user's wallet and caps",
    {200: (WalletWithCaps, "What the user has.")},
    tag="operators",
    problems=(403, 404),
)
list_wallet_ledger = describes(
    "wallets_ledger",
    "A user's ledger, newest first",
    {200: (BookedPage, "A page.")},
    tag="operators",
    problems=(403, 404),
    parameters=[LIMIT, CURSOR],
)
book_entry = describes(
    "wallets_ledger_create",
    "Grant or adjust credits",
    {201: (BookedEntry, "Booked; with `Idempotent-Replayed: true` it was booked by an earlier call.")},
    tag="operators",
    description=(
        "The `Idempotency-Key` is needed, belongs to the user's wallet and is remembered for ever: an invoice's "
        "number is a good one. The same key with another amount or reason is refused (422)."
    ),
    problems=(*WRITES, 403, 404, 409, 422),
    request=EntryRequest,
    parameters=[KEY_FOR_EVER],
)
refund_generation = describes(
    "generations_refund",
    "Give back what a completed generation has cost",
    {201: (BookedEntry, "Booked; with `Idempotent-Replayed: true` it was booked by an earlier call.")},
    tag="operators",
    description="Once per generation, all or some of it; any user's. The user sees it in ledger and timeline.",
    problems=(*WRITES, 403, 404, 409, 422),
    request=RefundRequest,
    parameters=[KEY_FOR_EVER],
)
list_switches = describes(
    "switches_list",
    "What is stopped, by whom and why",
    {200: (SwitchList, "Every switch, on or off.")},
    tag="operators",
    problems=(403,),
)
turn_switch = describes(
    "switches_turn",
    "Stop intake or dispatch, or let it go on",
    {200: (SwitchAnswer, "How it stands now.")},
    tag="operators",
    description=(
        "`intake`: nothing new is accepted; `dispatch`, `dispatch:provider:...`, `dispatch:operation:...`: nothing "
        "(of it) is sent. One that is on already keeps its reason."
    ),
    problems=(*WRITES, 403, 404),
    request=SwitchRequest,
)
list_switch_changes = describes(
    "switches_changes",
    "Every turn of every switch, newest first",
    {200: (SwitchChangePage, "A page.")},
    tag="operators",
    problems=(403,),
    parameters=[LIMIT, CURSOR],
)
list_webhooks = describes(
    "webhooks_list",
    "Your webhook endpoints, newest first",
    {200: (WebhookPage, "A page.")},
    tag="webhooks",
    parameters=[LIMIT, CURSOR],
)
create_webhook = describes(
    "webhooks_create",
    "Be told what happens to your generations",
    {201: (NewWebhookAnswer, "Its `secret` is told this once; keep it.")},
    tag="webhooks",
    description=(
        "Darkroom sends `{type, timestamp, data}` to the URL, signed as Standard Webhooks says (`webhook-id`, "
        "`webhook-timestamp`, `webhook-signature`). Only 2xx is success; everything else is tried again over about "
        "three days with the same `webhook-id`. 410 switches the endpoint off. Redirects are not followed."
    ),
    problems=(*WRITES, 409),
    request=WebhookRequest,
)
get_webhook = describes(
    "webhooks_get", "One endpoint", {200: (WebhookAnswer, "As it is.")}, tag="webhooks", problems=(404,)
)
change_webhook = describes(
    "webhooks_change",
    "Change an endpoint, or switch it off or on",
    {200: (WebhookAnswer, "As it is now.")},
    tag="webhooks",
    problems=(*WRITES, 404, 409),
    request=WebhookChange,
)
remove_webhook = describes(
    "webhooks_remove",
    "Remove an endpoint",
    {204: (None, "It is told nothing any more.")},
    tag="webhooks",
    problems=(404,),
)
rotate_webhook = describes(
    "webhooks_rotate",
    "Give an endpoint a new secret",
    {200: (SecretAnswer, "For a day both secrets sign.")},
    tag="webhooks",
    problems=(*WRITES, 404),
)
test_webhook = describes(
    "webhooks_test",
    "Send a test event to an endpoint",
    {202: (DeliveryAnswer, "On its way.")},
    tag="webhooks",
    problems=(*WRITES, 404, 409),
)
rotate_request_secret = describes(
    "webhooks_rotate_request_secret",
    "Get a new secret for the `webhook_url`s of your requests",
    {200: (SecretAnswer, "For a day both secrets sign.")},
    tag="webhooks",
    problems=WRITES,
)
list_deliveries = describes(
    "webhooks_deliveries",
    "What your endpoints were told, newest first",
    {200: (DeliveryPage, "A page.")},
    tag="webhooks",
    parameters=[
        parameter("endpoint", "Only of this endpoint.", kind=OpenApiTypes.UUID),
        parameter("generation", "Only of this generation.", kind=OpenApiTypes.UUID),
        parameter("state", "One or several.", values=WebhookDelivery.State.values),
        LIMIT,
        CURSOR,
    ],
)
get_delivery = describes(
    "webhooks_delivery",
    "One delivery with all its tries",
    {200: (DeliveryDetailAnswer, "What came of it.")},
    tag="webhooks",
    problems=(404,),
)
redeliver = describes(
    "webhooks_redeliver",
    "Send it again",
    {202: (DeliveryAnswer, "On its way, with the same `webhook-id`.")},
    tag="webhooks",
    problems=(*WRITES, 404, 409),
)

LETTERS = [
    parameter("since", "Failed at or after this; 24 h before `until` if left out.", kind=OpenApiTypes.DATETIME),
    parameter("until", "Failed before this; now if left out. At most 31 days.", kind=OpenApiTypes.DATETIME),
    OpenApiParameter("code", str, description="One or several error codes.", many=True),
    parameter("provider_id", "Only of this provider."),
    parameter("account", "The last attempt's account; `none`: they never had an attempt."),
    parameter("user", "Only of this user, by username."),
]
list_dead_letter_groups = describes(
    "dead_letters_groups",
    "What failed for good, grouped by code, provider and account",
    {200: (DeadLetterGroups, "The groups, with numbers by the hour.")},
    tag="operators",
    problems=(403,),
    parameters=LETTERS,
)
list_dead_letters = describes(
    "dead_letters_list",
    "Dead letters of all users, newest first",
    {200: (DeadLetterPage, "A page.")},
    tag="operators",
    problems=(403,),
    parameters=[
        *LETTERS,
        parameter("dismissed", "Those that were dismissed.", values=["true", "false"]),
        LIMIT,
        CURSOR,
    ],
)
replay_dead_letters = describes(
    "dead_letters_replay",
    "Replay dead letters at a rate; first as a dry run",
    {
        200: (
            ReplayPlan,
            "A dry run (as long as you do not say otherwise): price, who is short, what stands in the way.",
        ),
        202: (ReplayAnswer, "Replayed: each is a new generation, and each is replayed once, whoever does it too."),
    },
    tag="operators",
    description=(
        "Starts are planned in the database, `rate_per_minute`, after those that are planned at the provider already. "
        "A call works for a few seconds; `next_cursor` goes on. Nothing is replayed while an attempt may still be "
        "billed, unless you `insist` for `ids` that you name."
    ),
    problems=(*WRITES, 403),
    request=ReplayRequest,
)
dismiss_dead_letters = describes(
    "dead_letters_dismiss",
    "Say of dead letters that nothing is to be done",
    {200: (MarkedAnswer, "How many were dead letters.")},
    tag="operators",
    problems=(*WRITES, 403),
    request=DismissRequest,
)
restore_dead_letters = describes(
    "dead_letters_restore",
    "Take the dismissal of dead letters back",
    {200: (MarkedAnswer, "How many were dismissed.")},
    tag="operators",
    problems=(*WRITES, 403),
    request=RestoreRequest,
)
