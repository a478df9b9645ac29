"""What the database says in the end, in plain rows that the judge compares with the notes and the witness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Count, Exists, OuterRef

from accounts.models import Wallet
from generations.lifecycle import ENDED, OPEN
from generations.models import Batch, Event, Generation, Submission


@dataclass(frozen=True, slots=True)
class Work:
    """One Generation."""

    id: str
    user_id: int
    status: str
    code: str
    price: int
    created_at: datetime
    ended_at: datetime | None = None
    message: str = ""
    batch: str = ""
    """The batch that it was made for."""

    @property
    def ended(self) -> bool:
        """Whether it has ended, however."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True)
class Attempt:
    """One Submission. ``was_unknown``: its outcome was not known at some time."""

    id: str
    work: str
    state: str
    code: str = ""
    has_job: bool = False
    at_risk: bool = False
    was_unknown: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it holds a slot, or may bring something still."""
        return self.state in OPEN


@dataclass(frozen=True, slots=True)
class Collection:
    """One Batch: how many items it has, and of how many different keys; whether it is closed."""

    items: int
    keys: int
    closed: bool


@dataclass(frozen=True, slots=True)
class Books:
    """All of it; ``purses`` is (available, held) per user."""

    works: Mapping[str, Work] = field(default_factory=dict)
    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    batches: Mapping[str, Collection] = field(default_factory=dict)
    purses: Mapping[int, tuple[int, int]] = field(default_factory=dict)


def read() -> Books:
    """The books as they are now. Django's connection leads to the house."""
    works = Generation.objects.values_list(
        "pk",
        "user_id",
        "status",
        "error_code",
        "price",
        "created_at",
        "completed_at",
        "error_message",
        "batch_item__batch",
    )
    doubted = Event.objects.filter(
        generation=OuterRef("generation"), attempt=OuterRef("number"), kind=Event.Kind.OUTCOME_UNKNOWN
    )
    attempts = Submission.objects.annotate(doubted=Exists(doubted)).values_list(
        "pk", "generation", "state", "error_code", "provider_job_id", "cost_at_risk", "doubted"
    )
    batches = Batch.objects.values_list("pk", "closed_at", Count("items"), Count("items__variation_key", distinct=True))
    return Books(
        works={str(row[0]): Work(str(row[0]), *row[1:4], row[4] or 0, *row[5:8], _text(row[8])) for row in works},
        attempts={
            str(row[0]): Attempt(str(row[0]), str(row[1]), *row[2:4], row[4] is not None, *row[5:]) for row in attempts
        },
        batches={str(pk): Collection(items, keys, closed_at is not None) for pk, closed_at, items, keys in batches},
        purses={purse.user_id: (purse.available, purse.held) for purse in Wallet.objects.all()},
    )


def _text(value: object) -> str:
    return "" if value is None else str(value)
