"""What is under way, seen by whoever wants to stop the workers: what would be cut off, and what goes on elsewhere."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from django.db.models import Count

from generations.lifecycle import State
from generations.models import Submission


@dataclass(frozen=True, slots=True)
class Flight:
    """How many attempts are in each open state."""

    reserved: int = 0
    sending: int = 0
    unknown: int = 0
    accepted: int = 0
    collecting: int = 0

    @property
    def safe(self) -> bool:
        """No billable call is leaving or about to: a worker that is stopped now cuts nothing off."""
        return not self.reserved and not self.sending

    @property
    def collected(self) -> bool:
        """Everything that a provider has accepted is fetched and stored, or has ended."""
        return not self.accepted and not self.collecting

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {**asdict(self), "safe": self.safe, "collected": self.collected}

    def __str__(self) -> str:
        told = (
            (self.reserved, "about to be sent"),
            (self.sending, "being sent"),
            (self.unknown, "unknown"),
            (self.accepted, "at the providers"),
            (self.collecting, "being fetched"),
        )
        return ", ".join(f"{number:,} {what}" for number, what in told if number) or "nothing is under way"


def in_flight() -> Flight:
    """One query, in parts, each of which has a partial index."""
    parts = ([State.RESERVED, State.SENDING], [State.UNKNOWN], [State.ACCEPTED], [State.COLLECTING])
    first, *others = [
        Submission.objects.filter(state__in=states).order_by().values("state").annotate(number=Count("*"))
        for states in parts
    ]
    return Flight(**{row["state"]: row["number"] for row in first.union(*others, all=True)})
