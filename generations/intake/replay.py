"""Replaying many dead letters: first looked at (``plan``), then done slice by slice, each letter in its own commit.

A letter that is replayed is none any more, so whoever does it again, at the same time or after a crash, does only what
is left.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from django.contrib.auth import get_user_model
from django.db import IntegrityError, OperationalError

from accounts.credits import PriceList
from accounts.models import Wallet
from generations.conf import seconds
from generations.intake.chances import Chance, Judge, without_account
from generations.intake.errors import Invalid, Refusal
from generations.intake.pace import last_start
from generations.intake.retry import retry
from generations.models import DeadLetter, Generation
from generations.models.clock import database_now
from generations.reports.deadletters import Filters, letters

MOST = 10_000
"""The most letters that one replay takes: the oldest."""
PAGE = 500
SLICE_SECONDS = 4.0
FASTEST = 6000
"""The highest rate that can be asked for, per minute; without a rate they are due at once."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Share:
    """What a replay costs one user. ``short``: how many credits are missing for all of it."""

    user_id: int
    username: str
    number: int
    price: int
    available: int
    short: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a replay would do now. ``number`` letters are looked at; ``more``: there are others beyond ``MOST``.

    ``refused`` counts by code what would not be replayed, ``why`` has a sentence for each. ``users``: the dearest
    first. ``price``: what the ``replayable`` ones cost. ``starts_at``, ``ends_at``: when the first and the last of
    them become due.
    """

    number: int
    more: bool
    replayable: int
    refused: dict[str, int]
    why: dict[str, str]
    price: int
    users: list[Share]
    per_minute: int | None
    starts_at: datetime | None
    ends_at: datetime | None

    @property
    def seconds(self) -> float:
        """From the first start to the last."""
        return (self.ends_at - self.starts_at).total_seconds() if self.starts_at and self.ends_at else 0.0


@dataclass(slots=True)
class Progress:
    """How far a replay has come; plain values, so that it can be signed and sent along.

    ``total``: letters when it began. ``refused`` counts by code, ``why`` has a sentence for each.
    """

    total: int
    cursor: str = ""
    seen: int = 0
    done: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)

    @property
    def percent(self) -> int:
        """Of the letters, how many were looked at."""
        return min(100, self.seen * 100 // max(1, self.total))


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of one letter: ``retry`` is the new Generation; or why not (``refused``, a code, and ``detail``)."""

    letter: Generation
    retry: Generation | None = None
    refused: str = ""
    detail: str = ""


def plan(filters: Filters, per_minute: int | None, *, insist: bool = False) -> Plan:
    """Look at what a replay would do; changes nothing. A number of queries that grows with its pages only."""
    _check(filters, insist=insist)
    judge = Judge(PriceList.today(), insist=insist)
    chances = [chance for page in _pages(filters, most=MOST) for chance in judge.look(page)]
    good = [chance for chance in chances if not chance.code]
    why: dict[str, str] = {}
    for chance in chances:
        why.setdefault(chance.code, chance.detail)
    starts_at, ends_at = _times(good, per_minute)
    return Plan(
        number=len(chances),
        more=len(chances) == MOST and letters(filters).count() > MOST,
        replayable=len(good),
        refused=dict(Counter(chance.code for chance in chances if chance.code).most_common()),
        why={code: text for code, text in why.items() if code},
        price=sum(chance.price or 0 for chance in good),
        users=_shares(chances),
        per_minute=per_minute,
        starts_at=starts_at,
        ends_at=ends_at,
    )


def replay(filters: Filters, per_minute: int | None, progress: Progress, *, actor: str, insist: bool = False) -> bool:
    """Replay for a few seconds from where ``progress`` stands. Gives whether there is more to do."""
    stop = time.monotonic() + SLICE_SECONDS
    refused = Counter(progress.refused)
    more = False
    left = MOST - progress.seen
    for outcome in one_by_one(filters, per_minute, actor=actor, after=progress.cursor, most=left, insist=insist):
        progress.cursor, progress.seen = str(outcome.letter.pk), progress.seen + 1
        if outcome.refused:
            refused[outcome.refused] += 1
            progress.why.setdefault(outcome.refused, outcome.detail)
        else:
            progress.done += 1
        if time.monotonic() > stop:
            more = progress.seen < MOST
            break
    progress.refused = dict(refused)
    return more


def one_by_one(
    filters: Filters, per_minute: int | None, *, actor: str, most: int, after: str = "", insist: bool = False
) -> Iterator[Replayed]:
    """Replay letters, oldest first, and tell of each when it is done.

    Nothing is replayed while an attempt at it may still be billed, unless somebody insists: for letters that he names.
    """
    _check(filters, insist=insist)
    for page in _pages(filters, after=after, most=most):
        without = without_account(page)
        for letter in page:
            if letter.pk in without:
                yield Replayed(letter, refused="no_account", detail=without[letter.pk])
            else:
                yield _one(letter, per_minute, actor, insist=insist)


def _check(filters: Filters, *, insist: bool) -> None:
    if insist and not filters.ids:
        raise Invalid("insist_names_none", "Insist for letters that you name: give their ids.", field="insist")


def _one(letter: Generation, per_minute: int | None, actor: str, *, insist: bool) -> Replayed:
    try:
        accepted = retry(letter.pk, actor=actor, insist=insist, only_dead=True, per_minute=per_minute)
        return Replayed(letter, accepted.generation)
    except Refusal as refusal:
        return Replayed(letter, refused=refusal.code, detail=refusal.detail)
    except Generation.DoesNotExist:
        return Replayed(letter, refused="gone", detail="It has been removed meanwhile.")
    except OperationalError:
        detail = "The database did not answer in time; nothing changed. Replay it again."
        return Replayed(letter, refused="database_busy", detail=detail)
    except IntegrityError:
        # One bad row must not stop the others, and must not go unnoticed.
        log.exception("replay_refused", generation=str(letter.pk))
        detail = "The database refused it: its rows contradict each other. Run manage.py audit."
        return Replayed(letter, refused="inconsistent", detail=detail)


def _pages(filters: Filters, *, most: int, after: str = "") -> Iterator[list[DeadLetter]]:
    """The letters by the time at which they were accepted, a page at a time; each page is read when it is wanted."""
    rows = letters(filters).order_by("pk")
    while most > 0:
        page = list((rows.filter(pk__gt=UUID(after)) if after else rows)[: min(PAGE, most)])
        if not page:
            return
        yield page
        if len(page) < min(PAGE, most):
            return
        after, most = str(page[-1].pk), most - len(page)


def _times(good: Sequence[Chance], per_minute: int | None) -> tuple[datetime | None, datetime | None]:
    """When the first and the last become due; each provider has its own pace."""
    if not good:
        return None, None
    now = database_now()
    if per_minute is None:
        return now, now
    step = seconds(60 / per_minute)
    ends = []
    starts = []
    for provider_id, number in Counter(chance.letter.provider_id for chance in good).items():
        last = last_start(provider_id)
        start = now if last is None else max(now, last + step)
        starts.append(start)
        ends.append(start + step * (number - 1))
    return min(starts), max(ends)


def _shares(chances: Sequence[Chance]) -> list[Share]:
    """What each user would pay for all that only credits could keep from being replayed."""
    wanted = [chance for chance in chances if chance.code in {"", "insufficient_credits"}]
    numbers = Counter(chance.letter.user_id for chance in wanted)
    prices: Counter[int] = Counter()
    for chance in wanted:
        prices[chance.letter.user_id] += chance.price or 0
    names: dict[int, Any] = dict(get_user_model().objects.filter(pk__in=numbers).values_list("pk", "username"))
    available = dict(Wallet.objects.filter(pk__in=numbers).values_list("pk", "available"))
    shares = [
        Share(
            user_id=user_id,
            username=names[user_id],
            number=number,
            price=prices[user_id],
            available=available.get(user_id, 0),
            short=max(0, prices[user_id] - available.get(user_id, 0)),
        )
        for user_id, number in numbers.items()
    ]
    return sorted(shares, key=lambda share: (-share.short, -share.price, share.username))
