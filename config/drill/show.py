"""The report: as JSON, and in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from config.drill import judge
from config.drill.forms import BAD_DAY, WORDS, Kind
from config.drill.judge import Facts
from config.drill.recovery import percentile


def as_dict(facts: Facts, *, seed: int, seconds: float) -> dict[str, Any]:
    """The report of a run of ``seconds``; ``ok`` and ``problems`` are the verdict."""
    notes, books, witness = facts.notes, facts.books, facts.witness
    found = judge.problems(facts)
    unanswered: Counter[str] = Counter()
    for note in notes:
        unanswered.update(note.unanswered)
    return {
        "ok": not found,
        "problems": found,
        "form": facts.form.name,
        "seed": seed,
        "seconds": round(seconds, 1),
        "requests": {
            "made": len(notes),
            "accepted_as_new": sum(note.accepted and not note.reused for note in notes),
            "answered_by_another": sum(note.accepted and note.reused for note in notes),
            "refused": dict(Counter(note.detail or str(note.status) for note in notes if not note.accepted)),
            "asked_again_after": dict(sorted(unanswered.items())),
        },
        "generations": {
            "accepted": len({note.generation for note in notes if note.accepted and not note.wish.items}),
            "in_batches": sum(bool(work.batch) for work in books.works.values()),
            "by_status": dict(sorted(Counter(work.status for work in books.works.values()).items())),
            "failed_by_code": dict(
                sorted(Counter(work.code for work in books.works.values() if work.status == "failed").items())
            ),
            "lost": len(judge.lost(facts)),
        },
        "batches": {
            "accepted": sum(note.accepted for note in notes if note.wish.items),
            "items": sum(batch.items for batch in books.batches.values()),
            "closed": sum(batch.closed for batch in books.batches.values()),
        },
        "attempts": {
            "made": len(books.attempts),
            "submitted": witness.posts.total(),
            "most_posts_for_one": max(witness.posts.values(), default=0),
            "paid": witness.paid.total(),
            "leaked_slots": sum(attempt.is_open for attempt in books.attempts.values()),
        },
        "accounts": {name: asdict(seen) for name, seen in sorted(witness.logins.items())},
        "credits": {
            "granted": sum(facts.granted.values()),
            "left": sum(available for available, _held in books.purses.values()),
            "leaked": {str(user_id): wrong for user_id, wrong in judge.leaked_credits(facts).items()},
        },
        "unknown_outcomes": asdict(judge.unknowns(facts)),
        "sandbox_faults": {name: witness.fired.get(name, 0) for name in BAD_DAY},
        "strikes": {kind.value: _strikes(facts, kind) for kind in sorted(facts.form.strikes)},
        "spared": {kind.value: why for kind, why in facts.spared.items()},
        "struck": [struck.as_dict() for struck in facts.struck],
        "invariants_violated": sum(check["count"] for check in facts.audit),
        "memory": {name: size.as_dict() for name, size in sorted(facts.sizes.items())},
    }


def _strikes(facts: Facts, kind: Kind) -> dict[str, Any]:
    """How often, and the recovery times in seconds."""
    made = [struck for struck in facts.struck if struck.kind == kind]
    times = [struck.recovered_in for struck in made if struck.recovered_in is not None]
    spread = {"p50": percentile(times, 0.5), "p95": percentile(times, 0.95), "max": max(times)} if times else {}
    return {"made": len(made), **spread}


def lines(report: dict[str, Any]) -> Iterator[str]:
    """The report in words."""
    requests, works, attempts = report["requests"], report["generations"], report["attempts"]
    yield f"Drill, {report['form']} form, seed {report['seed']}: {report['seconds']:.0f} s"
    yield ""
    yield (
        f"Requests     {requests['made']}, of which {requests['accepted_as_new']} were new and "
        f"{requests['answered_by_another']} were answered by one that was there"
    )
    yield f"             asked again after: {_counts(requests['asked_again_after'])}"
    yield f"Generations  {works['accepted']} accepted: {_counts(works['by_status'])}; lost: {works['lost']}"
    yield f"             failed for: {_counts(works['failed_by_code'])}"
    batches = report["batches"]
    yield (
        f"Batches      {batches['accepted']} accepted with {batches['items']} items, for which {works['in_batches']} "
        f"generations were made; closed: {batches['closed']}"
    )
    yield (
        f"Attempts     {attempts['made']}, of which {attempts['submitted']} were submitted, each at most "
        f"{attempts['most_posts_for_one']} x; {attempts['paid']} paid; leaked slots: {attempts['leaked_slots']}"
    )
    unknown = report["unknown_outcomes"]
    yield (
        f"Unknown      {unknown['opened']} outcomes, {unknown['resolved']} became known, {unknown['expired']} were "
        f"given up ({unknown['expired_but_made']} of them the provider had made)"
    )
    money = report["credits"]
    yield f"Credits      {money['granted']} granted, {money['left']} left, leaked: {_counts(money['leaked'])}"
    yield f"Invariants   {report['invariants_violated']} rows break one"
    yield ""
    yield "Most in flight, as the sandbox saw it"
    for name, seen in report["accounts"].items():
        yield f"  {name:<24} {seen['most']:>3} of {seen['limit']:<3} refused for more: {seen['refused']}"
    yield ""
    yield f"{'Faults of processes, and seconds until recovery':<60} {'made':>5} {'p50':>6} {'p95':>6} {'max':>6}"
    for name, strike in report["strikes"].items():
        times = "".join(f" {strike[column]:>6.1f}" if column in strike else f" {'-':>6}" for column in SPREAD)
        yield f"  {WORDS[Kind(name)]:<58} {strike['made']:>5}{times}"
    for name, why in report["spared"].items():
        yield f"  not made: {WORDS[Kind(name)]}, since {why}"
    yield ""
    yield f"Faults of the sandbox: {_counts(report['sandbox_faults'])}"
    yield ""
    yield "Memory of the largest process, MiB: after the warm-up, at the end, at most"
    for name, size in report["memory"].items():
        yield f"  {name:<24} {size['warm']:>6.0f} {size['end']:>6.0f} {size['most']:>6.0f}"
    yield ""
    for problem in report["problems"]:
        yield f"NOT WELL  {problem}"
    yield "All is well." if report["ok"] else f"{len(report['problems'])} things are not well."


SPREAD = ("p50", "p95", "max")


def _counts(counts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
