"""From what a batch's owner wrote to the requests of its items: which ones, by which keys, checked. Saves nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils.text import slugify

from accounts.credits import PriceList
from generations.conf import limits
from generations.intake import inputs, library
from generations.intake.errors import Invalid, NotFound
from generations.intake.inputs import InputRef, ResolvedInput
from generations.intake.makers import makers, parent_of
from generations.intake.request import Request, assemble, params_with_prompt, pinned_account, prompt_version
from generations.intake.store import Prepared, Reuse
from generations.intake.validation import params_model, validated_params
from generations.models import Batch, LibraryItem, PromptVersion
from generations.templating import render, variables
from providers.params import Params

PER_ITEM = ("prompt", "name", "category")
"""The variables of a gallery's prompt that each LibraryItem fills in."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A LibraryItem, how many variations of it, and the params in which it differs from the others."""

    library_item: int
    variations: int = 1
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """What somebody asks for. ``params`` and ``inputs`` are common to all; ``overrides`` are params by variation_key.

    ``input_role``: which of the operation's inputs a LibraryItem's picture is; left out, the first one that it takes.
    """

    mode: Batch.Mode
    provider_id: str
    operation_type: str
    params: dict[str, Any]
    name: str = ""
    variations: int = 1
    items: tuple[Wanted, ...] = ()
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    inputs: tuple[InputRef, ...] = ()
    input_role: str | None = None
    export_formats: tuple[Any, ...] = ()
    """Names, or objects with ``format``, ``fit`` and ``colour``."""
    reuse: Reuse = "completed"
    context: Any = None
    metadata: dict[str, Any] = field(default_factory=dict)
    priority: int = 5
    scheduled_at: datetime | None = None
    account_id: UUID | None = None
    prompt_version_id: UUID | None = None
    """Its text, with ``variables`` filled in, is the common prompt."""
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Planned:
    """One item to be: its key, and the Generation that it asks for."""

    variation_key: str
    variation: int
    prepared: Prepared
    library_item: int | None = None


@dataclass(frozen=True, slots=True)
class _Draft:
    key: str
    variation: int
    params: dict[str, Any]
    item: LibraryItem | None = None


def plan(user_id: int, wanted: BatchRequest) -> list[Planned]:
    """The items of a batch, in their order. A number of queries that does not depend on how many they are.

    Raises:
        Invalid: what is wrong, and with which item. NotFound: a LibraryItem, an Asset or an account of somebody else.
    """
    model = params_model(wanted.provider_id, wanted.operation_type)
    account = pinned_account(user_id, wanted.provider_id, wanted.account_id)
    version = prompt_version(user_id, wanted.prompt_version_id)
    wanted = _with_text(wanted, version)
    drafts = _drafts(user_id, wanted)
    if unknown := sorted(wanted.overrides.keys() - {draft.key for draft in drafts}):
        raise Invalid("unknown_variation", f"There is no item {unknown[0]!r} in this batch.", field="overrides")
    common = inputs.found(user_id, wanted.inputs)
    role = wanted.input_role or next(iter(model.input_roles), None)
    prices = PriceList.today()
    made_by = makers(user_id, [*common, *(file for draft in drafts for file in _picture(draft.item, role))])
    planned = []
    for draft in drafts:
        params = _checked(wanted, draft)
        files = [*common, *_picture(draft.item, role)]
        inputs.check(files, params, where=f"item {draft.key}: ")
        request = Request(
            provider_id=wanted.provider_id,
            operation_type=wanted.operation_type,
            params=draft.params,
            reuse=wanted.reuse,
            context=wanted.context,
            metadata=wanted.metadata,
            priority=wanted.priority,
            scheduled_at=wanted.scheduled_at,
            variation=draft.variation,
        )
        price = prices.of(wanted.provider_id, wanted.operation_type, params.model_name, params.output_count)
        parent_id = parent_of(files, made_by)
        prepared = assemble(
            user_id, request, params, tuple(files), account=account, parent_id=parent_id, version=version, price=price
        )
        planned.append(Planned(draft.key, draft.variation, prepared, draft.item.pk if draft.item else None))
    return planned


def _with_text(wanted: BatchRequest, version: PromptVersion | None) -> BatchRequest:
    """With the version's text as the common prompt. A gallery's own variables are left for its items."""
    request = Request(
        provider_id=wanted.provider_id,
        operation_type=wanted.operation_type,
        params=wanted.params,
        prompt_version_id=wanted.prompt_version_id,
        variables=wanted.variables,
    )
    left = {name: f"{{{name}}}" for name in PER_ITEM if version is not None and name in variables(version.text)}
    if wanted.mode == Batch.Mode.GALLERY and left:
        request = replace(request, variables={**left, **wanted.variables})
    return replace(wanted, params=params_with_prompt(request, version))


def _drafts(user_id: int, wanted: BatchRequest) -> list[_Draft]:
    drafts = list(_texts(wanted) if wanted.mode == Batch.Mode.TEXT else _gallery(user_id, wanted))
    if len(drafts) > limits().batch_items:
        raise Invalid(
            "too_many_items", f"These are {len(drafts):,} items, and a batch has at most {limits().batch_items:,}."
        )
    return [replace(draft, params={**draft.params, **wanted.overrides.get(draft.key, {})}) for draft in drafts]


def _texts(wanted: BatchRequest) -> Iterator[_Draft]:
    if wanted.items:
        raise Invalid("invalid_batch", "A text has variations; items belong to a gallery.", field="items")
    if wanted.variations > limits().batch_text_variations:
        raise Invalid(
            "too_many_variations",
            f"A text has at most {limits().batch_text_variations} variations.",
            field="variations",
        )
    for variation in range(wanted.variations):
        yield _Draft(f"text-v{variation}", variation, _varied(wanted.params, variation))


def _gallery(user_id: int, wanted: BatchRequest) -> Iterator[_Draft]:
    if not wanted.items:
        raise Invalid("invalid_batch", "A gallery needs at least one library item.", field="items")
    ids = [one.library_item for one in wanted.items]
    if len(set(ids)) < len(ids):
        raise Invalid("invalid_batch", "A library item is listed twice; ask for more variations of it.", field="items")
    if sum(one.variations for one in wanted.items) > limits().batch_items:
        raise Invalid("too_many_items", f"A batch has at most {limits().batch_items:,} items.", field="items")
    rows = library.usable(user_id, ids)
    for place, one in enumerate(wanted.items):
        item = rows.get(one.library_item)
        if item is None:
            raise NotFound(
                "unknown_library_item",
                f"There is no library item {one.library_item} that you may use.",
                field=f"items.{place}.library_item",
            )
        params = {**wanted.params, **one.params}
        if text := _prompt(params.get("prompt"), item):
            params["prompt"] = text
        for variation in range(one.variations):
            yield _Draft(f"{_word(item)}-v{variation}", variation, _varied(params, variation), item)


def _word(item: LibraryItem) -> str:
    """``pose-12``: short, and no two items of a batch have the same."""
    return f"{slugify(item.category)[:40] or 'item'}-{item.pk}"


def _prompt(common: Any, item: LibraryItem) -> Any:
    """The common prompt with the item's own words: where the variables say so, else behind it."""
    if not isinstance(common, str) or not common.strip():
        return item.prompt or common
    values = {"prompt": item.prompt, "name": item.name, "category": item.category}
    if set(variables(common)) & set(PER_ITEM):
        return render(common, {**{name: f"{{{name}}}" for name in variables(common)}, **values})
    return f"{common.rstrip()}, {item.prompt}" if item.prompt else common


def _varied(params: Mapping[str, Any], variation: int) -> dict[str, Any]:
    """A seed that is given is the first variation's: the same seed would give the same picture again."""
    seed = params.get("seed")
    whole = isinstance(seed, int) and not isinstance(seed, bool)
    return {**params, "seed": seed + variation} if whole and seed is not None else dict(params)


def _checked(wanted: BatchRequest, draft: _Draft) -> Params:
    try:
        return validated_params(wanted.provider_id, wanted.operation_type, draft.params)
    except Invalid as error:
        raise Invalid(error.code, f"item {draft.key}: {error.detail}", field=error.field, **error.extra) from error


def _picture(item: LibraryItem | None, role: str | None) -> Sequence[ResolvedInput]:
    """The item's picture, where the operation takes one."""
    if item is None or item.picture is None or role is None:
        return ()
    return (ResolvedInput(role, item.picture),)
