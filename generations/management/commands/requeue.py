"""``manage.py requeue``: wake work that waits, or retry work that failed."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from generations.intake.requeue import Filters, Retried, Woken, failed, requeue, retry_failed
from generations.lifecycle import Status
from generations.management.output import as_json, moment, positive, table
from generations.reports.lookup import IdError, find
from generations.reports.spans import span
from providers import registry
from providers.registry import UnknownProvider

ACTOR = "command:requeue"


class Command(BaseCommand):
    """Wakes what is due, and tells why it waits; with ``--failed`` makes new Generations of failed ones."""

    help = (
        "Wake everything that waits in the queue though it is due, and say why it waits. "
        "With --failed: retry failed generations (each becomes a new one, at today's price)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        parser.add_argument("ids", nargs="*", metavar="ID", help="With --failed: only these (an id, or its beginning).")
        parser.add_argument("--failed", action="store_true", help="Retry failed generations instead.")
        parser.add_argument("--provider", default="", help="Only of this provider.")
        parser.add_argument("--code", action="append", default=[], help="With --failed: this error code (repeatable).")
        parser.add_argument("--user", default="", help="With --failed: of this user (by username).")
        parser.add_argument("--since", type=moment, help="With --failed: failed since then (2h, 3d, 2026-11-23).")
        parser.add_argument(
            "--limit", type=positive, help="Retry at most so many (100); without --failed: tell of so many (20)."
        )
        parser.add_argument("--insist", action="store_true", help="Retry also where an attempt may still be billed.")
        parser.add_argument("--dry-run", action="store_true", help="Change nothing; say what would be done.")
        parser.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Do it. Exit code 1 when a retry was refused.

        Raises:
            CommandError: options that don't go together, or a name or id that is not there.
        """
        _check_names(options["provider"], options["user"])
        if options["failed"]:
            self._retry(options)
            return
        only_failed = [name for name in ("ids", "code", "user", "since", "insist") if options[name]]
        if only_failed:
            raise CommandError(f"{', '.join(only_failed)}: only together with --failed.")
        woken = requeue(provider_id=options["provider"], limit=options["limit"] or 20, dry_run=options["dry_run"])
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

    def _retry(self, options: dict[str, Any]) -> None:
        filters = Filters(
            ids=[self._failed_id(text) for text in options["ids"]],
            codes=options["code"],
            provider_id=options["provider"],
            username=options["user"],
            since=options["since"],
        )
        limit = options["limit"] or 100
        dry_run = options["dry_run"]
        total = failed(filters).count()
        results = list(retry_failed(filters, limit=limit, actor=ACTOR, insist=options["insist"], dry_run=dry_run))
        refused = sum(1 for result in results if result.refused)
        if options["json"]:
            left = total - len(results)
            self.stdout.write(
                as_json({"dry_run": dry_run, "results": [one.as_dict() for one in results], "left": left})
            )
        else:
            self._tell_retried(results, total, dry_run=dry_run)
        if refused:
            raise SystemExit(1)

    def _tell_retried(self, results: list[Retried], total: int, *, dry_run: bool) -> None:
        if not results:
            self.stdout.write("No failed generation matches (those that were retried already are left out).")
            return
        rows = [
            (one.id, one.provider_id, one.operation_type, one.error_code, _outcome(one, dry_run)) for one in results
        ]
        table(self, ["generation", "provider", "operation", "failed with", "outcome"], rows)
        done = sum(1 for one in results if one.retry)
        refused = sum(1 for one in results if one.refused)
        self.stdout.write("")
        if dry_run:
            self.stdout.write(f"{len(results)} would be retried. Nothing was changed.")
        else:
            self.stdout.write(f"{done} retried, {refused} refused.")
        if total > len(results):
            self.stdout.write(f"{total - len(results)} more match: raise --limit, or run it again.")

    def _failed_id(self, text: str) -> UUID:
        try:
            generation = find(text)
        except IdError as error:
            raise CommandError(str(error)) from error
        if generation.status != Status.FAILED:
            raise CommandError(f"{generation.pk} is {generation.status}: only failed ones are retried here.")
        return generation.pk


def _check_names(provider: str, username: str) -> None:
    """A name that is misspelt would match nothing, and look as if nothing were to be done."""
    if provider:
        try:
            registry.get(provider)
        except UnknownProvider as error:
            raise CommandError(str(error)) from error
    if username and not get_user_model().objects.filter(username=username).exists():
        raise CommandError(f"There is no user {username!r}.")


def _outcome(result: Retried, dry_run: bool) -> str:  # noqa: FBT001
    if dry_run:
        return "would be retried"
    return f"retried as {result.retry}" if result.retry else f"{result.refused}: {result.detail}"
