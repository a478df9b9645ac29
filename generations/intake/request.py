"""Accepting a request: checked, then stored (T1, ``generations.intake.store``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from accounts import credits
from accounts.models import Account
from generations.fingerprint import fingerprint
from generations.intake import switches, webhooks
from generations.intake.errors import Invalid, KeyReused, NotFound
from generations.intake.idempotency import Idempotency, KeyTaken, known, seen
from generations.intake.inputs import InputRef, ResolvedInput, resolve
from generations.intake.makers import makers, parent_of
from generations.intake.prompts import filled_in
from generations.intake.store import Accepted, Prepared, Reuse, store
from generations.intake.validation import validated_params
from generations.models import Generation, PromptVersion
from providers.params import Params


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks for, as it was given."""

    provider_id: str
    operation_type: str
    params: dict[str, Any]
    inputs: tuple[InputRef, ...] = ()
    reuse: Reuse = "completed"
    context: Any = None
    metadata: dict[str, Any] = field(default_factory=dict)
    priority: int = 5
    scheduled_at: datetime | None = None
    account_id: UUID | None = None
    parent_id: UUID | None = None
    prompt_version_id: UUID | None = None
    """Its text, with ``variables`` filled in, is params' prompt."""
    variables: Mapping[str, str] = field(default_factory=dict)
    variation: int | None = None
    """Of a batch's item: requests that differ in it are different."""
    webhook_url: str | None = None
    """Who asks wants to be told here; makes no difference to what is asked."""


def accept(user_id: int, request: Request, *, idempotency: Idempotency | None = None, actor: str) -> Accepted:
    """Accept a request, or answer it with what is there.

    Raises:
        Invalid, NotFound, Conflict, KeyReused, PaymentRequired, CapReached, Unavailable: nothing was changed.
    """
    if idempotency is not None and (answered := replay(user_id, idempotency)):
        return answered
    check_fetching(request.inputs)
    prepared = prepare(user_id, request)
    try:
        return store(prepared, request.reuse, idempotency=idempotency, actor=actor)
    except KeyTaken:
        assert idempotency is not None
        return seen(replay(user_id, idempotency))


def check_fetching(refs: Sequence[InputRef]) -> None:
    """Nothing is fetched for what is not accepted.

    Raises:
        Unavailable: intake is stopped, and an input would have to be fetched.
    """
    if any(ref.url for ref in refs):
        _, stopped = switches.look()
        if stopped:
            raise stopped


def prepare(user_id: int, request: Request) -> Prepared:
    """Check a request and make the Generation that it would become; saves nothing (but inputs fetched from URLs).

    Raises:
        Invalid, NotFound: as it says.
    """
    version = prompt_version(user_id, request.prompt_version_id)
    params = validated_params(request.provider_id, request.operation_type, params_with_prompt(request, version))
    if request.webhook_url is not None:
        webhooks.check_url(request.webhook_url, field="webhook_url")
    account = pinned_account(user_id, request.provider_id, request.account_id)
    _check_parent(user_id, request.parent_id)
    inputs = resolve(user_id, request.inputs, params)
    parent_id = request.parent_id or parent_of(inputs, makers(user_id, inputs))
    price = credits.price_of(request.provider_id, request.operation_type, params.model_name, params.output_count)
    return assemble(
        user_id, request, params, inputs, account=account, parent_id=parent_id, version=version, price=price
    )


def assemble(
    user_id: int,
    request: Request,
    params: Params,
    inputs: tuple[ResolvedInput, ...],
    *,
    account: Account | None = None,
    parent_id: UUID | None = None,
    version: PromptVersion | None = None,
    price: int | None,
) -> Prepared:
    """The Generation of a request whose parts were found and checked; no query."""
    canonical = params.canonical()
    generation = Generation(
        user_id=user_id,
        provider_id=request.provider_id,
        operation_type=request.operation_type,
        params=canonical,
        raw_params=request.params,
        context=request.context,
        metadata=request.metadata,
        priority=request.priority,
        scheduled_at=request.scheduled_at,
        not_before=request.scheduled_at,
        account=account,
        parent_id=parent_id,
        prompt_version=version,
        fingerprint=fingerprint(
            provider_id=request.provider_id,
            operation_type=request.operation_type,
            params=canonical,
            inputs=[(one.role, one.asset.sha256) for one in inputs],
            account=str(account.pk) if account else None,
            context=request.context,
            prompt_version=str(version.pk) if version else None,
            variation=request.variation,
        ),
        price=price,
    )
    return Prepared(generation, inputs, (request.webhook_url,) if request.webhook_url else ())


def pinned_account(user_id: int, provider_id: str, account_id: UUID | None) -> Account | None:
    """The account that a request names; None: it names none.

    Raises:
        NotFound: it is not the provider's, or not for this user.
    """
    if account_id is None:
        return None
    account = Account.objects.of_provider(provider_id).serving(user_id).filter(pk=account_id).first()
    if account is None:
        raise NotFound(
            "unknown_account", "There is no such account of this provider that you may use.", field="account"
        )
    return account


def prompt_version(user_id: int, version_id: UUID | None) -> PromptVersion | None:
    """The version of a prompt of this user's that a request names; None: it names none.

    Raises:
        NotFound: there is no such version of his.
    """
    if version_id is None:
        return None
    version = PromptVersion.objects.filter(pk=version_id, prompt__user_id=user_id).first()
    if version is None:
        raise NotFound("unknown_prompt_version", "There is no such prompt version of yours.", field="prompt_version")
    return version


def params_with_prompt(request: Request, version: PromptVersion | None) -> dict[str, Any]:
    """A request's params, with the text of its prompt's version where it names one; ``raw_params`` stay as given.

    Raises:
        Invalid: ``prompt_given_twice``, ``missing_variables``, ``unknown_variables``, ``no_prompt_version``.
    """
    if version is None:
        if request.variables:
            raise Invalid("no_prompt_version", "Variables belong to a prompt_version; name one.", field="variables")
        return request.params
    if "prompt" in request.params:
        detail = "The text comes from the prompt_version: leave the prompt out of params, or name no version."
        raise Invalid("prompt_given_twice", detail, field="params.prompt")
    return {**request.params, "prompt": filled_in(version, request.variables)}


def replay(user_id: int, idempotency: Idempotency) -> Accepted | None:
    """What the caller's key was answered with before.

    Raises:
        KeyReused: it came with another request.
    """
    row = known(user_id, idempotency)
    if row is None:
        return None
    if row.generation is None:
        raise KeyReused
    return Accepted(row.generation, reused=row.reused, replayed=True)


def _check_parent(user_id: int, parent_id: UUID | None) -> None:
    if parent_id is not None and not Generation.objects.of_user(user_id).filter(pk=parent_id).exists():
        raise NotFound("unknown_parent", "There is no such generation of yours.", field="parent")


__all__ = [
    "Accepted",
    "Idempotency",
    "InputRef",
    "Prepared",
    "Request",
    "accept",
    "assemble",
    "check_fetching",
    "params_with_prompt",
    "prepare",
    "replay",
]
