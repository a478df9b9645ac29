"""The one vocabulary of what can go wrong at a provider.

Each adapter maps its provider's words to these classes once. What follows from an error
depends on its class and on the phase in which it happened; that is decided in
``generations.execution``, never in an adapter. ``code`` is the stable word that users,
the API and the database see.
"""

from __future__ import annotations

from typing import ClassVar


class ProviderError(Exception):
    """Something went wrong at or on the way to the provider.

    ``detail`` is for people and must hold no secret. The class docstring's first line
    is the message when no detail is given.
    """

    code: ClassVar[str] = "provider_error"

    def __init__(self, detail: str = "", *, retry_after: float | None = None) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip().splitlines()[0]
        self.retry_after = retry_after
        super().__init__(self.detail)


class Unsupported(ProviderError):
    """The provider has no such operation."""

    code = "unsupported"


class InvalidParams(ProviderError):
    """The provider refuses the parameters."""

    code = "invalid_params"

    def __init__(self, detail: str = "", *, field: str | None = None) -> None:
        super().__init__(detail)
        self.field = field


class ContentModerated(ProviderError):
    """The provider's moderation refused the content.

    ``stage`` is ``"input"`` (what was asked for) or ``"output"`` (what was made, which
    another attempt may make differently).
    """

    code = "content_moderated"

    def __init__(self, detail: str = "", *, stage: str = "input") -> None:
        super().__init__(detail)
        self.stage = stage


class AuthFailed(ProviderError):
    """The provider does not accept the account's credentials."""

    code = "provider_auth"


class PermissionDenied(ProviderError):
    """The account may not use this at the provider."""

    code = "provider_permission"


class InsufficientCredits(ProviderError):
    """The account has not enough balance left at the provider."""

    code = "provider_credits"


class ProviderBusy(ProviderError):
    """The provider asks to come back later; nothing was accepted."""

    code = "provider_busy"


class ConcurrencyLimit(ProviderBusy):
    """The account already has as many running as the provider allows."""


class RateLimited(ProviderBusy):
    """Too many calls in too short a time."""


class NotDelivered(ProviderError):
    """The call did not reach the provider (DNS, connect, TLS)."""

    code = "not_delivered"


class Refused(ProviderError):
    """The provider answered that it made no job."""

    code = "provider_unavailable"


class OutcomeUnknown(ProviderError):
    """The call may have arrived: nobody knows whether the provider made a job."""

    code = "outcome_unknown"


class JobFailed(ProviderError):
    """The provider reports that its job ended without a result."""

    code = "provider_failed"


class JobLost(ProviderError):
    """The provider no longer knows the job."""

    code = "provider_lost"


class NoOutput(ProviderError):
    """The provider says that it is done and names no result."""

    code = "no_output"


class AssetUnusable(ProviderError):
    """The result could not be fetched, or its bytes are not what they should be."""

    code = "asset_unusable"


class AssetGone(AssetUnusable):
    """The result's link answers 404, 403 or 410: a fresh one may be had from a poll."""
