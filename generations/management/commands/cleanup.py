"""``manage.py cleanup``: remove what is past its age, and stored bytes that nothing refers to."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.template.defaultfilters import filesizeformat

from generations.execution import cleanup
from generations.lifecycle import ENDED
from generations.management.output import as_json, table


class Command(BaseCommand):
    """The same that the periodic task does, and on request ended Generations by age."""

    help = (
        "Remove expired idempotency keys, API tokens and sessions, and files in the storage that nothing refers to. "
        "With --days also generations that ended longer ago, with their attempts, events and results."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        parser.add_argument("--days", type=_days, help="Also generations that ended more than so many days ago.")
        parser.add_argument(
            "--status",
            action="append",
            default=[],
            choices=sorted(str(status) for status in ENDED),
            help="With --days: only those that ended so (repeatable).",
        )
        parser.add_argument(
            "--asset-days",
            type=_days,
            help="Results and exports older than so many days expire: their files go, their rows stay. Favourites and "
            "what is still needed stay as they are. Left out: DARKROOM_ASSET_DAYS says so.",
        )
        parser.add_argument("--no-files", action="store_true", help="Leave the storage alone.")
        parser.add_argument("--dry-run", action="store_true", help="Remove nothing; say what and how many bytes.")
        parser.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Do it.

        Raises:
            CommandError: ``--status`` without ``--days``.
        """
        if options["status"] and options["days"] is None:
            raise CommandError("--status says which generations; --days has to say how old. Give both.")
        cleaned = cleanup.run(
            dry_run=options["dry_run"],
            days=options["days"],
            statuses=options["status"],
            asset_days=options["asset_days"],
            files=not options["no_files"],
        )
        if options["json"]:
            self.stdout.write(as_json(cleaned.as_dict()))
            return
        files = cleaned.files
        rows: list[tuple[str, int]] = [
            ("batches", cleaned.batches),
            ("expired idempotency keys", cleaned.idempotency_keys),
            ("old nonces of callbacks", cleaned.callback_nonces),
            ("old webhook deliveries", cleaned.webhook_deliveries),
            ("files of exports that were made anew or went with their original", cleaned.lone_exports),
            ("results past their age, with their files", cleaned.expired_assets),
            ("expired API tokens", cleaned.tokens),
            ("expired sessions", cleaned.sessions),
        ]
        if options["days"] is not None:
            rows.append((f"generations ended more than {options['days']:g} days ago", cleaned.generations))
        if not options["no_files"]:
            rows += [("stored files that nothing refers to", files.orphans), ("temporary files", files.temporary)]
        table(self, ["would be removed" if cleaned.dry_run else "removed", "number"], rows)
        self.stdout.write("")
        if not options["no_files"]:
            size = filesizeformat(files.bytes).replace("\xa0", " ")
            self.stdout.write(f"Files: {size}{' would be freed' if cleaned.dry_run else ' freed'}.")
            for path in files.paths:
                self.stdout.write(f"  {path}")
            left = files.orphans + files.temporary - len(files.paths)
            if left > 0:
                self.stdout.write(f"  ... and {left} more")
        if cleaned.kept_generations:
            self.stdout.write(
                f"{cleaned.kept_generations} generations are old enough and stay: an attempt of theirs is open, an "
                "incident was not looked at, a webhook is to be sent, a batch shows them, something was made from "
                "their result, or somebody wants to keep it."
            )
        if cleaned.dry_run:
            self.stdout.write("Nothing was changed.")


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1
    if not 0 <= days <= 100_000:
        raise ArgumentTypeError(f"{text!r} is no number of days.")
    return days
