"""``manage.py requeue``: wake work that waits."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from generations.intake.requeue import Woken, requeue
from generations.management.output import as_json, positive, table
from generations.reports.spans import span
from providers import registry
from providers.registry import UnknownProvider


class Command(BaseCommand):
    """Wakes what is due, and tells why it waits."""

    help = "Wake everything that waits in the queue though it is due, and say why it waits. What failed: deadletters."

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        parser.add_argument("--provider", default="", help="Only of this provider.")
        parser.add_argument("--limit", type=positive, default=20, help="Tell of so many (20).")
        parser.add_argument("--dry-run", action="store_true", help="Change nothing; say what would be done.")
        parser.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Do it.

        Raises:
            CommandError: there is no such provider.
        """
        if options["provider"]:
            try:
                registry.get(options["provider"])
            except UnknownProvider as error:
                # A name that is misspelt would match nothing, and look as if nothing were to be done.
                raise CommandError(str(error)) from error
        woken = requeue(provider_id=options["provider"], limit=options["limit"], dry_run=options["dry_run"])
        if options["json"]:
            self.stdout.write(as_json(woken.as_dict()))
        else:
            self._tell_woken(woken)

    def _tell_woken(self, woken: Woken) -> None:
        if not woken.due:
            self.stdout.write("Nothing waits that is due.")
            return
        verb = "Would wake" if woken.dry_run else "Woke"
        total = sum(woken.due.values())
        each = ", ".join(f"{name} ({number})" for name, number in woken.due.items())
        oldest = span(woken.oldest_seconds or 0)
        self.stdout.write(f"{verb} {each}: {total} waiting, the oldest for {oldest}.\n\n")
        rows = [
            (row.id, row.provider_id, row.operation_type, span(row.waits_seconds), row.reason or "about to start")
            for row in woken.oldest
        ]
        table(self, ["generation", "provider", "operation", "waits", "why"], rows)
        if total > len(rows):
            self.stdout.write(f"... and {total - len(rows)} more.")
        if woken.hints_lost:
            self.stderr.write("The broker could not be reached. The tick wakes them when it is back.")
