"""Why a request is refused. The API maps these classes to HTTP; ``code`` is the stable word."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID


class Refusal(Exception):
    """A request that is not accepted: nothing was changed. ``detail`` is for people.

    ``retry_after``: in so many seconds it may be accepted, where that is known.
    """

    def __init__(
        self, code: str, detail: str, *, field: str | None = None, retry_after: float | None = None, **extra: Any
    ) -> None:
        self.code = code
        self.detail = detail
        self.field = field
        self.retry_after = retry_after
        self.extra = extra
        super().__init__(detail)


class Invalid(Refusal):
    """The request itself is wrong. ``extra["errors"]`` lists {field, message} where there are several."""


class NotFound(Refusal):
    """Something that it names is not there, or is somebody else's."""


class Forbidden(Refusal):
    """He may see it, and not do this."""


class Conflict(Refusal):
    """It cannot be done as things stand; ``extra["generation"]`` names the Generation in the way."""

    @classmethod
    def naming(cls, code: str, detail: str, generation_id: UUID) -> Conflict:
        """A conflict with a Generation that is named."""
        return cls(code, detail, generation=str(generation_id))


class Unavailable(Refusal):
    """Nothing of its kind is taken now, whoever asks; ``retry_after`` says when to ask again."""


class KeyReused(Refusal):
    """The same Idempotency-Key came with another body."""

    def __init__(self) -> None:
        super().__init__(
            "idempotency_key_reused",
            "This Idempotency-Key was used for another request. Use a new key, or send the same body again.",
        )


class PaymentRequired(Refusal):
    """The wallet holds less than the request costs."""

    def __init__(self, *, balance: int, required: int, operation_type: str) -> None:
        super().__init__(
            "insufficient_credits",
            f"This costs {required} credits and you have {balance}. Ask your administrator for more.",
            balance=balance,
            required=required,
            operation_type=operation_type,
        )


class CapReached(Refusal):
    """The user has as much as his caps allow. ``cap`` is max_queued or max_per_day, which ends by itself."""

    def __init__(
        self,
        detail: str,
        cap: str,
        limit: int,
        used: int,
        *,
        resets_at: datetime | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(
            "user_cap_reached",
            detail,
            retry_after=retry_after,
            cap=cap,
            limit=limit,
            used=used,
            resets_at=resets_at,
        )
