"""Watching the audit: the same checks again and again, of which only what changes is worth a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from generations.reports.audit import Finding, examine

HOLDS, BROKEN, SKIPPED = "holds", "BROKEN", "skipped"


@dataclass(frozen=True, slots=True)
class Change:
    """A check that is not as it was: ``word`` is how it stands now, ``before`` how many rows broke it last time."""

    finding: Finding
    word: str
    before: int

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"now": self.word.lower(), "before": self.before, **self.finding.as_dict()}


class Watch:
    """What was seen last. ``rounds`` and ``checks`` are how often and how much was looked at."""

    def __init__(self, *, files: bool = False, first: int = 5) -> None:
        self.rounds = 0
        self.checks = 0
        self.broken = 0
        """How many checks are broken now."""
        self.ever_broken = False
        self._files = files
        self._first = first
        self._last: dict[tuple[str, str], Finding] = {}

    def look(self) -> list[Change]:
        """Audit once more; what differs from the last time. The first time: whatever does not hold."""
        findings = list(examine(files=self._files, first=self._first))
        changes = [change for finding in findings if (change := self._change(finding)) is not None]
        self._last = {(finding.id, finding.title): finding for finding in findings}
        self.rounds += 1
        self.checks = len(findings)
        self.broken = sum(1 for finding in findings if finding.count)
        self.ever_broken = self.ever_broken or self.broken > 0
        return changes

    def _change(self, finding: Finding) -> Change | None:
        last = self._last.get((finding.id, finding.title), Finding(finding.id, finding.title))
        if _seen(finding) == _seen(last):
            return None
        return Change(finding, word_of(finding), last.count)


def word_of(finding: Finding) -> str:
    """How a check stands, in a word."""
    if finding.skipped:
        return SKIPPED
    return BROKEN if finding.count else HOLDS


def _seen(finding: Finding) -> tuple[str, int, list[tuple[str, str]]]:
    """What a change is a change of: the same rows broken for the same time are no news."""
    return word_of(finding), finding.count, [(offender.noun, offender.id) for offender in finding.offenders]
