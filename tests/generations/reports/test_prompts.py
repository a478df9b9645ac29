"""Two texts side by side, word by word."""

from __future__ import annotations

import time

import pytest

from generations.reports.prompts import Part, word_diff


@pytest.mark.parametrize(
    ("before", "after", "parts"),
    [
        ("a red fox", "a blue fox", [("same", "a "), ("removed", "red"), ("added", "blue"), ("same", " fox")]),
        ("a fox", "a fox", [("same", "a fox")]),
        ("fox", "", [("removed", "fox")]),
        ("a fox.", "a fox!", [("same", "a fox"), ("removed", "."), ("added", "!")]),
    ],
)
def test_tells_what_differs(before: str, after: str, parts: list[tuple[str, str]]) -> None:
    assert [(part.change, part.text) for part in word_diff(before, after)] == parts


def test_loses_nothing() -> None:
    before, after = "Ein  Fuchs,\n{stil|art} – schön", "Ein Fuchs\n{stil} – sehr schön!"

    def of(parts: list[Part], without: str) -> str:
        return "".join(part.text for part in parts if part.change != without)

    parts = word_diff(before, after)
    assert (of(parts, "added"), of(parts, "removed")) == (before, after)


def test_takes_no_time_for_the_longest_texts() -> None:
    before, after = "a b " * 2500, "b a c " * 1600
    began = time.process_time()

    word_diff(before, after)

    assert time.process_time() - began < 5
