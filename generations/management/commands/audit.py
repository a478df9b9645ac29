"""``manage.py audit``: are the invariants kept? Exit code 1 if any is not, or with ``--watch`` ever was."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import InterfaceError, OperationalError, connection

from generations.management.output import as_json, positive
from generations.reports.audit import Finding, examine
from generations.reports.watch import Change, Watch, word_of

EVERY_SECONDS = 5
INDENT = " " * 15


class Command(BaseCommand):
    """Reads everything, changes nothing."""

    help = "Check the invariants of the data (money, slots, ends, files). Exit code 1 if any row breaks one."

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        parser.add_argument("--files", action="store_true", help="Also read every stored file and check its sha-256.")
        parser.add_argument("--first", type=positive, default=5, help="How many offending rows to name of each (5).")
        parser.add_argument(
            "--watch",
            type=positive,
            nargs="?",
            const=EVERY_SECONDS,
            metavar="SECONDS",
            help=f"Check again and again, every {EVERY_SECONDS} s if nothing else is said, and print what changes. "
            "Ctrl-C ends it, with exit code 1 if anything was broken at any time.",
        )
        parser.add_argument("--json", action="store_true", help="Print JSON; with --watch a line for each change.")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Check and tell; each line appears as its check is done."""
        if options["watch"]:
            self._watch(options)
            return
        findings = []
        for finding in examine(files=options["files"], first=options["first"]):
            findings.append(finding)
            if not options["json"]:
                self._tell(finding)
        broken = [finding for finding in findings if finding.count]
        if options["json"]:
            self.stdout.write(as_json({"ok": not broken, "checks": [finding.as_dict() for finding in findings]}))
        else:
            self._conclude(findings, broken)
        if broken:
            raise SystemExit(1)

    def _tell(self, finding: Finding, *, at: str = "", was: str = "") -> None:
        style = {"skipped": self.style.WARNING, "BROKEN": self.style.ERROR, "holds": self.style.SUCCESS}
        word = word_of(finding)
        number = f"{finding.count}" if finding.count else ""
        numbers = f"  ({', '.join(filter(None, [number, was]))})" if number or was else ""
        self.stdout.write(f"{at}{finding.id:<4} {style[word](f'{word:<7}')}  {finding.title}{numbers}")
        for offender in finding.offenders:
            self.stdout.write(f"{INDENT}{offender.noun} {offender.id} {offender.detail}")
        if finding.count > len(finding.offenders):
            self.stdout.write(f"{INDENT}... and {finding.count - len(finding.offenders)} more")

    def _conclude(self, findings: list[Finding], broken: list[Finding]) -> None:
        self.stdout.write("")
        skipped = [finding for finding in findings if finding.skipped]
        if skipped:
            self.stdout.write(skipped[0].skipped)
        if broken:
            rows = sum(finding.count for finding in broken)
            self.stdout.write(self.style.ERROR(f"{len(broken)} of {len(findings)} checks found {rows} broken rows."))
            self.stdout.write("See what happened to a generation with: manage.py explain <id>")
        else:
            self.stdout.write(self.style.SUCCESS(f"{len(findings) - len(skipped)} checks, every one holds."))

    def _watch(self, options: dict[str, Any]) -> None:
        """Audit until Ctrl-C; a database that is away is waited for."""
        watch = Watch(files=options["files"], first=options["first"])
        as_lines = options["json"]
        away = False
        if not as_lines:
            self.stdout.write(f"Looking every {options['watch']} s; what changes is told. Ctrl-C ends it.")
        try:
            while True:
                try:
                    changes = watch.look()
                except (OperationalError, InterfaceError):
                    connection.close()
                    if not away:
                        self._say("The database does not answer.", as_lines=as_lines)
                    away = True
                else:
                    if away:
                        self._say("The database answers again.", as_lines=as_lines)
                    away = False
                    for change in changes:
                        self._tell_change(change, as_lines=as_lines)
                    self._beat(watch, as_lines=as_lines)
                time.sleep(options["watch"])
        except KeyboardInterrupt:
            if as_lines:
                self._line({"rounds": watch.rounds, "ok": not watch.ever_broken})
            else:
                verdict = "Something was broken." if watch.ever_broken else "Everything held all the time."
                self.stdout.write(f"\nLooked {watch.rounds} times. {verdict}")
        if watch.ever_broken:
            raise SystemExit(1)

    def _tell_change(self, change: Change, *, as_lines: bool) -> None:
        if as_lines:
            self._line(change.as_dict())
        else:
            self._clear()
            self._tell(change.finding, at=f"{_now():%H:%M:%S}  ", was=f"was {change.before}" if change.before else "")

    def _say(self, text: str, *, as_lines: bool) -> None:
        if as_lines:
            self._line({"message": text})
        else:
            self._clear()
            self.stdout.write(f"{_now():%H:%M:%S}  {self.style.WARNING(text)}")

    def _beat(self, watch: Watch, *, as_lines: bool) -> None:
        """On a terminal a line that is written over and over: it is alive."""
        if self.stdout.isatty() and not as_lines:
            self._clear()
            state = f"{watch.broken} broken" if watch.broken else "all well"
            self.stdout.write(f"{_now():%H:%M:%S}  round {watch.rounds}, {watch.checks} checks, {state}", ending="")
            self.stdout.flush()

    def _clear(self) -> None:
        if self.stdout.isatty():
            self.stdout.write("\r\x1b[K", ending="")

    def _line(self, told: dict[str, Any]) -> None:
        self.stdout.write(json.dumps({"at": _now().isoformat(timespec="seconds"), **told}, ensure_ascii=False))
        self.stdout.flush()


def _now() -> datetime:
    return datetime.now(UTC)
