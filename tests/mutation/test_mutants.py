"""The planted bugs keep up with the code: each can be planted, and the tests that must notice it exist."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.mutation.mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
each = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)


@each
def test_can_be_planted(mutant: Mutant) -> None:
    for edit in mutant.edits:
        assert (ROOT / edit.path).read_text().count(edit.old) == 1, edit
        assert edit.old != edit.new


@each
def test_are_noticed_by_tests_that_exist(mutant: Mutant) -> None:
    assert mutant.tests
    for test in mutant.tests:
        path, *names = test.split("::")
        source = (ROOT / path).read_text()
        for name in names:
            assert re.search(rf"^ *(def|class) {name}\b", source, re.MULTILINE), test


def test_have_names_of_their_own() -> None:
    assert max(Counter(mutant.name for mutant in MUTANTS).values()) == 1
