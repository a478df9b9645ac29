"""``doctor``: five checks of everything that a Generation needs."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand

from config.celery import app
from config.checkup import examine


class Command(BaseCommand):
    """Says what is well, and what to do about what is not."""

    help = "Check the database, the broker, the workers, their tasks, and a round trip. Exits with 1 if one fails."
    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """--json."""
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the checks and print them."""
        findings = examine(app)
        passed = sum(finding.ok for finding in findings)
        if options["json"]:
            told = {"ok": passed == len(findings), "passed": passed, "checks": [asdict(found) for found in findings]}
            self.stdout.write(json.dumps(told, indent=1))
        else:
            for finding in findings:
                mark = self.style.SUCCESS("passed") if finding.ok else self.style.ERROR("FAILED")
                self.stdout.write(f"{mark}  {finding.name:<11} {finding.detail}")
                if finding.advice:
                    self.stdout.write(f"        {'':<11} {finding.advice}")
            self.stdout.write(f"{passed}/{len(findings)} passed")
        if passed < len(findings):
            raise SystemExit(1)
