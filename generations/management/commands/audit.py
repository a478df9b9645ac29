"""``manage.py audit``: are the invariants kept? Exit code 1 if any is not."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from generations.management.output import as_json, positive
from generations.reports.audit import Finding, examine


class Command(BaseCommand):
    """Reads everything, changes nothing."""

    help = "Check the invariants of the data (money, slots, ends, files). Exit code 1 if any row breaks one."

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        parser.add_argument("--files", action="store_true", help="Also read every stored file and check its sha-256.")
        parser.add_argument("--first", type=positive, default=5, help="How many offending rows to name of each (5).")
        parser.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Check and tell; each line appears as its check is done."""
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

    def _tell(self, finding: Finding) -> None:
        if finding.skipped:
            word = self.style.WARNING("skipped")
        elif finding.count:
            word = self.style.ERROR("BROKEN ")
        else:
            word = self.style.SUCCESS("holds  ")
        number = f"  ({finding.count})" if finding.count else ""
        self.stdout.write(f"{finding.id:<4} {word}  {finding.title}{number}")
        for offender in finding.offenders:
            self.stdout.write(f"               {offender.noun} {offender.id} {offender.detail}")
        if finding.count > len(finding.offenders):
            self.stdout.write(f"               ... and {finding.count - len(finding.offenders)} more")

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
