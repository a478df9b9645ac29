"""The judge says what is not well, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from config.drill import show
from config.drill.books import Attempt, Books, Collection, Work
from config.drill.forms import BAD_DAY, SHORT, WORDS, Kind
from config.drill.judge import Facts, Unknowns, lost, problems, unknowns
from config.drill.memory import Size
from config.drill.people import Note
from config.drill.plan import Wish
from config.drill.strikes import Struck
from config.drill.witness import Seen, Witness

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def note(number: int, generation: str, *, copy: int = 0, status: int = 202, **more: Any) -> Note:
    """An answer to a request."""
    return Note(Wish(number, 0, 0.0, {}), copy, status, generation, reused=status == 200, **more)


def work(name: str, status: str = "completed", code: str = "", **more: Any) -> Work:
    """A Generation of 3 credits by user 1, that took a minute."""
    facts = {"price": 3, "created_at": NOON, "ended_at": NOON + timedelta(minutes=1), **more}
    return Work(name, 1, status, code, **facts)


def good() -> Facts:
    """Three requests, one of them twice: one completed at once, one by its second attempt, one is given up."""
    return Facts(
        form=SHORT,
        notes=[note(1, "a"), note(1, "a", copy=1, status=200), note(2, "b"), note(3, "c")],
        books=Books(
            works={"a": work("a"), "b": work("b"), "c": work("c", "failed", "outcome_unknown")},
            attempts={
                "a1": Attempt("a1", "a", "succeeded", has_job=True, was_unknown=True),
                "b1": Attempt("b1", "b", "failed", "provider_unavailable"),
                "b2": Attempt("b2", "b", "succeeded", has_job=True),
                "c1": Attempt("c1", "c", "failed", "outcome_unknown", at_risk=True, was_unknown=True),
            },
            purses={1: (94, 0)},
        ),
        witness=Witness(
            posts=Counter({"a1": 1, "b1": 1, "b2": 1, "c1": 1}),
            jobs=Counter({"a1": 1, "b2": 1, "c1": 1}),
            paid=Counter({"a1": 1, "b2": 1, "c1": 1}),
            faults={"b1": frozenset({"500_before"}), "c1": frozenset({"accept_then_drop"})},
            fired=dict.fromkeys(BAD_DAY, 2),
            logins={"first": Seen(most=4, limit=4, refused=0)},
        ),
        granted={1: 100},
        struck=[Struck(kind, 1.0, "", recovered_in=0.5) for kind in Kind],
        sizes={"web": Size(100, 110, 120)},
        audit=[{"id": "I1", "title": "fine", "count": 0, "skipped": "", "offenders": []}],
    )


def books(facts: Facts, *, works: dict[str, Work] | None = None, attempts: dict[str, Attempt] | None = None) -> Facts:
    """The same with other (or more) rows."""
    changed = replace(
        facts.books,
        works={**facts.books.works, **(works or {})},
        attempts={**facts.books.attempts, **(attempts or {})},
    )
    return replace(facts, books=changed)


def batch(items: int = 1, keys: int = 1, *, closed: bool = True) -> Facts:
    """The same with a batch of one, which was made as ``d``."""
    wish = Wish(9, 0, 0.0, {}, items=1)
    facts = heard(good(), Note(wish, 0, 202, "B"))
    changed = replace(
        facts.books,
        works={**facts.books.works, "d": work("d", batch="B")},
        batches={"B": Collection(items, keys, closed)},
        purses={1: (91, 0)},
    )
    return replace(facts, books=changed)


def heard(facts: Facts, *notes: Note) -> Facts:
    """The same with more answers."""
    return replace(facts, notes=[*facts.notes, *notes])


def seen(facts: Facts, **changes: Any) -> Facts:
    """The same with another witness."""
    return replace(facts, witness=replace(facts.witness, **changes))


def test_finds_nothing_where_all_is_well() -> None:
    assert problems(good()) == []


CASES: dict[str, tuple[Callable[[Facts], Facts], str]] = {
    "an error": (lambda facts: heard(facts, note(4, "", status=500, detail="internal_error")), "answered with 500"),
    "no answer": (lambda facts: heard(facts, note(4, "", status=0)), "answered with nothing"),
    "refused beside a twin that lives": (
        lambda facts: heard(facts, note(1, "a", status=409, detail="possibly_billed")),
        "409 possibly_billed",
    ),
    "not there": (lambda facts: heard(facts, note(4, "d")), "1 generations were accepted and have not ended: d"),
    "not ended": (
        lambda facts: books(heard(facts, note(4, "d")), works={"d": work("d", "processing", ended_at=None)}),
        "have not ended: d",
    ),
    "told nobody": (lambda facts: books(facts, works={"d": work("d", "cancelled")}), "nobody was told of: d"),
    "two for one request": (
        lambda facts: books(heard(facts, note(2, "d", copy=1)), works={"d": work("d", "cancelled")}),
        "Request 2 was answered with 2 generations at once",
    ),
    "both new": (lambda facts: heard(facts, note(2, "b", copy=1)), "called a new one in 2 answers"),
    "none new": (
        lambda facts: replace(
            facts, notes=[replace(one, reused=one.reused or one.wish.number == 2) for one in facts.notes]
        ),
        "called a new one in 0 answers",
    ),
    "submitted twice": (
        lambda facts: seen(facts, posts=facts.witness.posts + Counter(["a1"])),
        "1 attempts were submitted more than once: a1",
    ),
    "no id": (lambda facts: seen(facts, anonymous=1), "1 submits named no attempt"),
    "of nobody": (lambda facts: seen(facts, posts=facts.witness.posts + Counter(["x"])), "not in the database: x"),
    "too many": (lambda facts: seen(facts, logins={"first": Seen(5, 4, 0)}), "5 in flight at the sandbox"),
    "asked for too many": (lambda facts: seen(facts, logins={"first": Seen(4, 4, 2)}), "2 times for more"),
    "paid twice": (
        lambda facts: seen(facts, paid=facts.witness.paid + Counter(["b1"])),
        "1 generations were paid for more than once: b",
    ),
    "failed for nothing": (lambda facts: seen(books_with_c_known(facts), faults={}), "Generation c failed"),
    "a slot is kept": (
        lambda facts: books(facts, attempts={"a1": Attempt("a1", "a", "accepted")}),
        "1 attempts are still open",
    ),
    "credits are kept": (lambda facts: purse(facts, 91, 3), "has -3 credits beyond"),
    "credits came from nowhere": (lambda facts: purse(facts, 97, 0), "has +3 credits beyond"),
    "a purse is gone": (lambda facts: replace(facts, books=replace(facts.books, purses={})), "-94 credits"),
    "not at risk": (
        lambda facts: books(facts, attempts={"c1": replace(facts.books.attempts["c1"], at_risk=False)}),
        "without their cost being called at risk: c1",
    ),
    "an invariant": (lambda facts: replace(facts, audit=[finding(count=1)]), "I1 is broken by 1 rows"),
    "not audited": (lambda facts: replace(facts, audit=[finding(skipped="no tick")]), "could not check I1"),
    "a memory": (lambda facts: replace(facts, sizes={"web": Size(100, 165, 170)}), "web grew from 100 to 165 MiB"),
    "no recovery": (
        lambda facts: replace(facts, struck=[*facts.struck, Struck(Kind.WEB_KILLED, 9.5, "web", awaited={"web": 120})]),
        "the strike at 9.5 s (kill -9 of the web process): no web.",
    ),
    "a strike that failed": (
        lambda facts: replace(facts, struck=[*facts.struck, Struck(Kind.WEB_KILLED, 9, "web", error="no web")]),
        "went wrong: no web",
    ),
}


def books_with_c_known(facts: Facts) -> Facts:
    """The failed one, as if its outcome had always been known."""
    return books(facts, attempts={"c1": replace(facts.books.attempts["c1"], was_unknown=False)})


def purse(facts: Facts, available: int, held: int) -> Facts:
    """User 1 has this instead."""
    return replace(facts, books=replace(facts.books, purses={1: (available, held)}))


def finding(*, count: int = 0, skipped: str = "") -> dict[str, Any]:
    """A check of the audit."""
    offenders = [{"noun": "generation", "id": "a", "detail": "is odd"}] * count
    return {"id": "I1", "title": "fine", "count": count, "skipped": skipped, "offenders": offenders}


@pytest.mark.parametrize("case", CASES)
def test_says_in_one_sentence_what_is_not_well(case: str) -> None:
    change, words = CASES[case]
    [sentence] = problems(change(good()))
    assert words in sentence


@pytest.mark.parametrize("fault", BAD_DAY)
def test_misses_a_fault_of_the_sandbox_that_never_struck(fault: str) -> None:
    facts = good()
    fired = {name: count for name, count in facts.witness.fired.items() if name != fault}
    assert problems(seen(facts, fired=fired)) == [f"The sandbox's fault {fault} never struck."]


@pytest.mark.parametrize("kind", Kind)
def test_misses_a_strike_that_was_never_made_but_for_one_that_was_spared(kind: Kind) -> None:
    facts = replace(good(), struck=[one for one in good().struck if one.kind != kind])
    assert problems(facts) == [f"There was no {WORDS[kind]}."]
    assert problems(replace(facts, spared={kind: "the server was given"})) == []


def test_takes_a_second_generation_for_one_that_had_failed_before_it_was_made() -> None:
    facts = books(
        heard(good(), note(3, "d", copy=1)),
        works={"d": work("d", "cancelled", created_at=NOON + timedelta(minutes=2))},
    )
    assert problems(facts) == []


def test_takes_a_refusal_beside_a_twin_that_failed_and_may_be_billed() -> None:
    assert problems(heard(good(), note(3, "c", copy=1, status=409, detail="possibly_billed"))) == []


def test_counts_what_became_of_the_unknown_outcomes() -> None:
    assert unknowns(good()) == Unknowns(opened=2, resolved=1, expired=1, expired_but_made=1)


def test_counts_as_lost_what_was_promised_and_has_no_end() -> None:
    assert lost(heard(good(), note(4, "d"), note(5, "", status=500))) == ["d"]


def test_tells_it_as_json_and_in_words() -> None:
    report = show.as_dict(good(), seed=7, seconds=61.24)
    assert (report["ok"], report["problems"], report["seed"], report["seconds"]) == (True, [], 7, 61.2)
    assert report["requests"] == {
        "made": 4,
        "accepted_as_new": 3,
        "answered_by_another": 1,
        "refused": {},
        "asked_again_after": {},
    }
    assert report["generations"]["by_status"] == {"completed": 2, "failed": 1}
    assert report["generations"]["failed_by_code"] == {"outcome_unknown": 1}
    assert report["strikes"]["web_killed"] == {"made": 1, "p50": 0.5, "p95": 0.5, "max": 0.5}
    text = "\n".join(show.lines(report))
    assert "All is well." in text
    assert "c1" not in text
    broken = "\n".join(show.lines(show.as_dict(purse(good(), 91, 3), seed=7, seconds=61)))
    assert "NOT WELL  User 1 has -3 credits" in broken
    assert "1 things are not well." in broken


def test_is_content_with_a_batch_that_is_whole_and_closed() -> None:
    assert problems(batch()) == []


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        (batch(items=2), "has 2 items with 1 keys instead of 1"),
        (batch(keys=0), "has 1 items with 0 keys instead of 1"),
        (batch(closed=False), "is over and not closed"),
        (replace(batch(), books=replace(batch().books, batches={})), "was accepted and is not there"),
        (replace(batch(), notes=good().notes), "batches are there that nobody was told of"),
    ],
)
def test_says_what_is_not_well_with_a_batch(facts: Facts, says: str) -> None:
    assert any(says in problem for problem in problems(facts))


def test_finds_a_batchs_generation_that_has_not_ended() -> None:
    facts = books(batch(), works={"d": work("d", "pending", batch="B")})
    assert lost(facts) == ["d"]
