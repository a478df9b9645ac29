"""``manage.py explain <id>``: what happened to a generation, why it waits, what comes next and when."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from generations.management.output import as_json, table
from generations.reports.explain import explain
from generations.reports.lookup import IdError, find
from generations.reports.spans import both, span


class Command(BaseCommand):
    """One Generation's whole story for a person at a terminal."""

    help = "What happened to a generation, why it waits, what comes next and when, and which process ran it."

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        parser.add_argument("id", help="A generation's id, or enough of its beginning; or an attempt's whole id.")
        parser.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Tell it.

        Raises:
            CommandError: no generation is meant by the id, or more than one.
        """
        try:
            generation = find(options["id"])
        except IdError as error:
            raise CommandError(str(error)) from error
        told = explain(generation)
        if options["json"]:
            self.stdout.write(as_json(told))
            return
        self._about(told)
        self._waiting(told)
        self._next(told)
        self._attempts(told)
        self._story(told)

    def _heading(self, text: str) -> None:
        self.stdout.write("\n" + self.style.MIGRATE_HEADING(text))

    def _about(self, told: dict[str, Any]) -> None:
        about = told["generation"]
        self.stdout.write(
            self.style.MIGRATE_HEADING(f"{about['operation_type']} at {about['provider']}  {about['id']}")
        )
        self.stdout.write(told["summary"])
        price = "free" if about["price"] is None else f"{about['price']} credits"
        if about["refunded"] is not None:
            price += f", {about['refunded']} refunded"
        self.stdout.write(f"user {about['user']}, priority {about['priority']}, {price}")
        if about["prompt"]:
            self.stdout.write(f"prompt: {about['prompt']}")
        if about["retry_of"]:
            self.stdout.write(f"a retry of {about['retry_of']}")
        for retry in about["retries"]:
            self.stdout.write(f"retried as {retry}")

    def _waiting(self, told: dict[str, Any]) -> None:
        waiting = told["waiting"]
        if waiting is None:
            return
        self._heading(f"Why it waits: {waiting['reason'] or 'it does not'}")
        if not waiting["accounts"]:
            self.stdout.write("There is no account of this provider that may serve it. Add one in the admin.")
            return
        rows = [
            (
                row["label"],
                f"{row['held']} of {row['limit']}",
                (row["why_not"] or "yes") + (f", until {_when(row['until'], told)}" if _shows_until(row) else ""),
            )
            for row in waiting["accounts"]
        ]
        table(self, ["account", "in use", "can it take it now"], rows)

    def _next(self, told: dict[str, Any]) -> None:
        if told["next"]:
            self._heading("What comes next")
        for step in told["next"]:
            at = f": {_when(step['at'], told)}" if step["at"] else ""
            self.stdout.write(f"- {step['text']}{at}")
        if told["eta_seconds"] is not None:
            self.stdout.write(f"- By our own history it is done in about {span(told['eta_seconds'])}")

    def _attempts(self, told: dict[str, Any]) -> None:
        if not told["attempts"]:
            return
        self._heading("Attempts")
        rows = [
            (
                row["number"],
                row["state"] + (" (abandoned)" if row["abandoned"] else ""),
                row["account"],
                row["slot"],
                row["provider_job_id"] or "-",
                row["error_code"] or "-",
                row["process"],
            )
            for row in told["attempts"]
        ]
        table(self, ["#", "state", "account", "slot", "job id", "error", "run by"], rows)

    def _story(self, told: dict[str, Any]) -> None:
        self._heading("What happened")
        for line in told["story"]:
            at = datetime.fromisoformat(line["at"])
            actor = f"  [{line['actor']}]" if line["actor"] else ""
            self.stdout.write(f"{at:%Y-%m-%d %H:%M:%S.%f}"[:-3] + f"  {line['text']}{actor}")


def _shows_until(row: dict[str, Any]) -> bool:
    return bool(row["until"] and row["condition"] != "usable" and row["why_not"])


def _when(at: str, told: dict[str, Any]) -> str:
    return both(datetime.fromisoformat(at), datetime.fromisoformat(told["now"]))
