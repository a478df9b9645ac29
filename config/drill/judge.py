"""Whether all is well: the people's notes, the database's books and the sandbox's record side by side. Pure.

Each check gives plain sentences, none when it holds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from config.drill.books import Books, Work
from config.drill.forms import BAD_DAY, WORDS, Form, Kind
from config.drill.memory import Size
from config.drill.people import Note
from config.drill.strikes import Struck
from config.drill.witness import Witness

GROWTH_MEGABYTES = 64
FIRST = 3
"""So many offenders are named."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that was found. ``granted``: credits per user; ``spared``: kinds that could not be struck, and why;
    ``audit``: the checks of ``audit --files --json``."""

    form: Form
    notes: Sequence[Note]
    books: Books
    witness: Witness
    granted: Mapping[int, int]
    struck: Sequence[Struck] = ()
    spared: Mapping[Kind, str] = field(default_factory=dict)
    sizes: Mapping[str, Size] = field(default_factory=dict)
    audit: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Unknowns:
    """Attempts whose outcome was not known: how many, of how many it became known, how many were given up, and how
    many of these the sandbox had a job of after all."""

    opened: int
    resolved: int
    expired: int
    expired_but_made: int


def problems(facts: Facts) -> list[str]:
    """What is not well."""
    checks = (
        _answers, _lost, _batches, _duplicates, _posts, _in_flight, _paid_twice, _without_a_reason, _slots, _money,
        _at_risk, _audit, _faults, _strikes, _memory,
    )  # fmt: skip
    return [sentence for check in checks for sentence in check(facts)]


def unknowns(facts: Facts) -> Unknowns:
    """What became of the unknown outcomes."""
    opened = [attempt for attempt in facts.books.attempts.values() if attempt.was_unknown]
    expired = [one for one in opened if not one.has_job and one.state == "failed"]
    return Unknowns(
        opened=len(opened),
        resolved=sum(one.has_job for one in opened),
        expired=len(expired),
        expired_but_made=sum(facts.witness.jobs[one.id] > 0 for one in expired),
    )


def lost(facts: Facts) -> list[str]:
    """Generations that were accepted, as people were told, and have not ended (or are not there)."""
    told = dict.fromkeys(note.generation for note in facts.notes if note.accepted and not note.wish.items)
    batches = {note.generation for note in facts.notes if note.wish.items}
    told |= dict.fromkeys(work.id for work in facts.books.works.values() if work.batch in batches)
    return [one for one in told if one not in facts.books.works or not facts.books.works[one].ended]


def leaked_credits(facts: Facts) -> dict[int, tuple[int, int]]:
    """Per user whose purse is not what it must be: available and held beyond that.

    What it must be follows from what was granted and from the prices of what has completed, and from nothing else.
    """
    spent: Counter[int] = Counter()
    for work in facts.books.works.values():
        if work.status == "completed":
            spent[work.user_id] += work.price
    wrong = {}
    for user_id, granted in facts.granted.items():
        available, held = facts.books.purses.get(user_id, (0, 0))
        if (available, held) != (granted - spent[user_id], 0):
            wrong[user_id] = (available - (granted - spent[user_id]), held)
    return wrong


def _answers(facts: Facts) -> Iterator[str]:
    for note in facts.notes:
        if note.accepted:
            continue
        work = facts.books.works.get(note.generation)
        if note.status == 409 and note.detail == "possibly_billed" and work is not None and work.status == "failed":
            continue  # its twin has failed meanwhile, and may have been billed
        told = f"{note.status} {note.detail}".strip() if note.status else note.detail or "nothing"
        yield f"Request {note.wish.number} was answered with {told} instead of being accepted."


def _lost(facts: Facts) -> Iterator[str]:
    if missing := lost(facts):
        yield f"{len(missing)} generations were accepted and have not ended: {_some(missing)}."
    told = {note.generation for note in facts.notes}
    works = facts.books.works.values()
    if unheard := [work.id for work in works if work.id not in told and work.batch not in told]:
        yield f"{len(unheard)} generations are there that nobody was told of: {_some(unheard)}."


def _batches(facts: Facts) -> Iterator[str]:
    """Each that was accepted is there once, whole, and closed."""
    told = [note for note in facts.notes if note.wish.items and note.accepted]
    for note in told:
        batch = facts.books.batches.get(note.generation)
        if batch is None:
            yield f"Batch {note.generation} was accepted and is not there."
        elif (batch.items, batch.keys) != (note.wish.items, note.wish.items):
            found = f"{batch.items} items with {batch.keys} keys"
            yield f"Batch {note.generation} has {found} instead of {note.wish.items}."
        elif not batch.closed:
            yield f"Batch {note.generation} is over and not closed."
    if strange := sorted(facts.books.batches.keys() - {note.generation for note in told}):
        yield f"{len(strange)} batches are there that nobody was told of: {_some(strange)}."


def _duplicates(facts: Facts) -> Iterator[str]:
    groups: dict[int, list[Note]] = defaultdict(list)
    for note in facts.notes:
        if note.accepted and not note.wish.items:
            groups[note.wish.number].append(note)
    for number, notes in groups.items():
        works = [facts.books.works[one] for one in {note.generation for note in notes} if one in facts.books.works]
        works.sort(key=lambda work: work.created_at)
        if any(not _made_room(earlier, later) for earlier, later in pairwise(works)):
            yield f"Request {number} was answered with {len(works)} generations at once."
        for work in works:
            new = [note for note in notes if note.generation == work.id and not note.reused]
            if len(new) != 1:
                yield f"Generation {work.id} was called a new one in {len(new)} answers instead of one."


def _made_room(earlier: Work, later: Work) -> bool:
    """Whether the earlier one had ended without a result when the later one was made."""
    return earlier.status == "failed" and earlier.ended_at is not None and earlier.ended_at <= later.created_at


def _posts(facts: Facts) -> Iterator[str]:
    if twice := [one for one, count in facts.witness.posts.items() if count > 1]:
        yield f"{len(twice)} attempts were submitted more than once: {_some(twice)}."
    if facts.witness.anonymous:
        yield f"{facts.witness.anonymous} submits named no attempt."
    if strange := [one for one in facts.witness.posts if one not in facts.books.attempts]:
        yield f"{len(strange)} submits were made for attempts that are not in the database: {_some(strange)}."


def _in_flight(facts: Facts) -> Iterator[str]:
    for name, seen in facts.witness.logins.items():
        if seen.most > seen.limit:
            yield f"Account {name} had {seen.most} in flight at the sandbox, and its limit is {seen.limit}."
        if seen.refused:
            yield f"Account {name} was asked {seen.refused} times for more than its limit of {seen.limit}."


def _paid_twice(facts: Facts) -> Iterator[str]:
    paid: Counter[str] = Counter()
    for attempt, jobs in facts.witness.paid.items():
        if attempt in facts.books.attempts:
            paid[facts.books.attempts[attempt].work] += jobs
    if twice := [work for work, jobs in paid.items() if jobs > 1]:
        yield f"{len(twice)} generations were paid for more than once: {_some(twice)}."


def _without_a_reason(facts: Facts) -> Iterator[str]:
    """Nothing fails for our own troubles alone: the provider misbehaved, or nobody knows what it did."""
    excused = {
        attempt.work
        for attempt in facts.books.attempts.values()
        if attempt.was_unknown or facts.witness.faults.get(attempt.id)
    }
    for work in facts.books.works.values():
        if work.status == "failed" and work.id not in excused:
            said = f"{work.code}: {work.message}".strip(": ")
            yield f"Generation {work.id} failed though nothing was wrong at the provider ({said})"


def _slots(facts: Facts) -> Iterator[str]:
    if held := [attempt.id for attempt in facts.books.attempts.values() if attempt.is_open]:
        yield f"{len(held)} attempts are still open, and those that hold slots keep them: {_some(held)}."


def _money(facts: Facts) -> Iterator[str]:
    for user_id, (available, held) in leaked_credits(facts).items():
        yield f"User {user_id} has {available:+} credits beyond what was granted and not spent, and {held} are held."


def _at_risk(facts: Facts) -> Iterator[str]:
    quiet = [
        attempt.id
        for attempt in facts.books.attempts.values()
        if attempt.was_unknown and attempt.state == "failed" and not attempt.has_job and not attempt.at_risk
    ]
    if quiet:
        yield f"{len(quiet)} attempts were given up unknown without their cost being called at risk: {_some(quiet)}."


def _audit(facts: Facts) -> Iterator[str]:
    for check in facts.audit:
        if check["skipped"]:
            yield f"The audit could not check {check['id']} ({check['title']}): {check['skipped']}"
        if check["count"]:
            first = "; ".join(f"{one['noun']} {one['id']} {one['detail']}" for one in check["offenders"][:FIRST])
            yield f"{check['id']} is broken by {check['count']} rows ({check['title']}): {first}."


def _faults(facts: Facts) -> Iterator[str]:
    for name in BAD_DAY:
        if not facts.witness.fired.get(name):
            yield f"The sandbox's fault {name} never struck."


def _strikes(facts: Facts) -> Iterator[str]:
    for kind in facts.form.strikes:
        made = [struck for struck in facts.struck if struck.kind == kind]
        if not any(not struck.error for struck in made) and kind not in facts.spared:
            yield f"There was no {WORDS[kind]}."
        for struck in made:
            if struck.error:
                yield f"The strike at {struck.at:g} s ({WORDS[kind]}) went wrong: {struck.error}."
            elif struck.recovered_in is None:
                longest = max(struck.awaited, key=lambda name: struck.awaited[name], default="nothing")
                yield f"The house did not recover from the strike at {struck.at:g} s ({WORDS[kind]}): no {longest}."


def _memory(facts: Facts) -> Iterator[str]:
    for name, size in facts.sizes.items():
        if size.growth > GROWTH_MEGABYTES:
            yield f"{name} grew from {size.warm:.0f} to {size.end:.0f} MiB."


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:FIRST]) + (", ..." if len(ids) > FIRST else "")
