"""The audit: are the invariants kept? Reads only; every finding is a defect that a person should look at.

Not here: I1's and I4's other half (what the provider saw) is the drill's, by the sandbox's own record; I11 comes with
batches. Of I14, that stale writes touch no row is seen to by their guards and counted in the metrics.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from django.db import connection, transaction

from generations.models import Asset, Heartbeat
from generations.models.clock import database_now
from generations.reports.invariants import INVARIANTS, Invariant
from generations.storage import open_key, storage

STATEMENT_SECONDS = 600
"""An audit may take longer than a request: its statements get a limit of their own."""
TICK_LATE_SECONDS = 15
"""Three of its intervals without a tick: the services are not up."""
PAGE = 500
CHUNK_BYTES = 1024 * 1024
DOWN = "Skipped checks: the services are not up (no tick for 15 s), so lateness would say nothing."


@dataclass(frozen=True, slots=True)
class Offender:
    """A row that breaks an invariant. ``noun`` says what ``id`` is the id of."""

    noun: str
    id: str
    detail: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. ``count`` 0 and not ``skipped``: it holds. ``offenders`` are the first few."""

    id: str
    title: str
    count: int = 0
    offenders: tuple[Offender, ...] = field(default=())
    skipped: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


def run(*, files: bool = False, first: int = 5) -> list[Finding]:
    """The invariants that are broken now; empty when all is well.

    Args:
        files: also read every stored file and compare its bytes with its row (I8): as long as reading them takes.
        first: how many offenders to name of each.
    """
    return [finding for finding in examine(files=files, first=first) if finding.count]


def examine(*, files: bool = False, first: int = 5) -> Iterator[Finding]:
    """Every check with what it found, as it is made. Arguments as for ``run``."""
    up = services_are_up()
    for invariant in INVARIANTS:
        if invariant.needs_services and not up:
            yield Finding(invariant.id, invariant.title, skipped=DOWN)
        else:
            yield _check(invariant, first)
    if files:
        yield _check_files(first)


def services_are_up() -> bool:
    """Whether the tick was seen alive within the last three of its intervals, by the database's clock."""
    tick = Heartbeat.objects.filter(name="tick").first()
    return tick is not None and (database_now() - tick.at).total_seconds() <= TICK_LATE_SECONDS


def _check(invariant: Invariant, first: int) -> Finding:
    """One statement: all offenders counted, the first of them given."""
    statement = (
        f"SELECT noun, id, detail, count(*) OVER () FROM ({invariant.sql}) AS offenders(noun, id, detail)"  # noqa: S608
        f" ORDER BY id LIMIT {int(first)}"
    )
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
        cursor.execute(statement)
        rows = cursor.fetchall()
    count = rows[0][3] if rows else 0
    return Finding(invariant.id, invariant.title, count, tuple(Offender(*row[:3]) for row in rows))


def _check_files(first: int) -> Finding:
    """I8 by the bytes: each stored file once (equal bytes share one), a page of keys at a time."""
    count = 0
    offenders: list[Offender] = []
    for asset_id, problem in _problems():
        count += 1
        if len(offenders) < first:
            offenders.append(Offender("asset", asset_id, problem))
    return Finding("I8", "Stored files have the size and sha-256 of their rows", count, tuple(offenders))


def _problems() -> Iterator[tuple[str, str]]:
    """(Asset's id, what is wrong). Counts only if the row is still there, and has not expired meanwhile."""
    for key, asset, size, sha256 in _pages("key", "size", "sha256"):
        problem = _compare(key, size, sha256)
        if problem and Asset.objects.kept().filter(pk=asset).exists():
            yield str(asset), problem
    for key, asset in _pages("thumbnail_key"):
        if not storage().exists(key) and Asset.objects.kept().filter(pk=asset).exists():
            yield str(asset), f"its thumbnail {key} is missing"


def _pages(name: str, *others: str) -> Iterator[tuple[Any, ...]]:
    """Each stored file that is named in the column ``name`` of what has not expired, once: its key, an Asset of it, the
    other columns."""
    last = ""
    while rows := list(
        Asset.objects.kept()
        .filter(**{f"{name}__gt": last})
        .order_by(name, "pk")
        .distinct(name)
        .values_list(name, "pk", *others)[:PAGE]
    ):
        yield from rows
        last = rows[-1][0]


def _compare(key: str, size: int, sha256: str) -> str:
    digest, length = hashlib.sha256(), 0
    try:
        with open_key(key) as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                length += len(chunk)
    except FileNotFoundError:
        return f"{key} is missing"
    except OSError as error:
        return f"{key} can't be read: {error.strerror or error}"
    if length != size:
        return f"{key} has {length} bytes instead of {size}"
    return "" if digest.hexdigest() == sha256 else f"the bytes of {key} are not those that were stored"
