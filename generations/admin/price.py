"""Today's price of an old request."""

from __future__ import annotations

from accounts.credits import price_of
from generations.intake.errors import Refusal
from generations.intake.validation import validated_params
from generations.models import Generation


def price_today(generation: Generation) -> int | None:
    """What a retry would cost now; None: free. Where its params are no longer accepted: what it cost then."""
    try:
        params = validated_params(generation.provider_id, generation.operation_type, generation.params)
    except Refusal:
        return generation.price
    return price_of(generation.provider_id, generation.operation_type, params.model_name, params.output_count)
