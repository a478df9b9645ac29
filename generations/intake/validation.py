"""Params at the door: the provider's own model for the operation decides, and says what is wrong in people's words."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from generations.intake.errors import Invalid
from providers import registry
from providers.params import Params


def params_model(provider_id: str, operation_type: str) -> type[Params]:
    """What an operation of a provider can be asked for.

    Raises:
        Invalid: unknown_provider, unknown_operation.
    """
    try:
        provider = registry.get(provider_id)
    except registry.UnknownProvider:
        known = ", ".join(one.slug for one in registry.all())
        raise Invalid(
            "unknown_provider", f"There is no provider {provider_id!r}. Known: {known}.", field="provider_id"
        ) from None
    model = provider.operations.get(operation_type)
    if model is None:
        known = ", ".join(provider.operations)
        raise Invalid(
            "unknown_operation", f"{provider.title} has no {operation_type!r}. It has: {known}.", field="operation_type"
        )
    return model


def validated_params(provider_id: str, operation_type: str, raw: dict[str, Any]) -> Params:
    """The params of a request, with defaults filled in.

    Raises:
        Invalid: unknown_provider, unknown_operation, invalid_params (``extra["errors"]``: field and message).
    """
    model = params_model(provider_id, operation_type)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        errors = [_told(model, one) for one in error.errors()]
        detail = "; ".join(f"{one['field']}: {one['message']}" for one in errors[:3])
        raise Invalid("invalid_params", detail, field=errors[0]["field"], errors=errors) from None


def _told(model: type[Params], error: ErrorDetails) -> dict[str, str]:
    """Where and what, for people. A rule over several params names the one to change: ``duration: at most ...``."""
    path, message = [str(part) for part in error["loc"]], error["msg"].removeprefix("Value error, ")
    name, colon, rest = message.partition(": ")
    if not path and colon and name in model.model_fields:
        path, message = [name], rest
    return {"field": ".".join(["params", *path]), "message": message}
