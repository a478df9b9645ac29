"""``manage.py resolve``: the inbox of unknown outcomes, and what a person says of one."""

from __future__ import annotations

import getpass
from argparse import ArgumentTypeError
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from generations.intake.errors import Refusal
from generations.intake.resolve import Answer, Resolution, resolve
from generations.management.output import as_json, positive, table
from generations.models import Submission, UnknownOutcome
from generations.reports.lookup import IdError, find
from generations.reports.spans import span
from generations.reports.unknowns import AtStake, described

WORDS = {"billed": Resolution.BILLED, "not-billed": Resolution.NOT_BILLED, "resubmit": Resolution.RESUBMIT}


def amount(text: str) -> Decimal:
    """What it cost.

    Raises:
        ArgumentTypeError: it is no amount.
    """
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise ArgumentTypeError(f"{text!r} is no amount.") from error


class Command(BaseCommand):
    """Without arguments: what waits for a person. With an id and a decision: settles one."""

    help = (
        "List attempts of which nobody knows whether the provider took them, or settle one: "
        "resolve ID billed|not-billed|resubmit --note '...'"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        parser.add_argument("id", nargs="?", help="An attempt's id, or enough of its generation's.")
        parser.add_argument("decision", nargs="?", choices=sorted(WORDS), help="What you found out, or want.")
        parser.add_argument("--note", default="", help="On what grounds. Needed; the timeline keeps it.")
        parser.add_argument("--job-id", default="", help="With billed: the provider's job, to be followed on.")
        parser.add_argument("--cost", type=amount, help="With billed: what it cost, in the provider's unit.")
        parser.add_argument("--limit", type=positive, default=50, help="How many to list (50).")
        parser.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, *_args: Any, **options: Any) -> None:
        """List, or settle.

        Raises:
            CommandError: no attempt is meant by the id, or it cannot be settled so; nothing was changed.
        """
        if options["id"] is None:
            self._list(options["limit"], json=options["json"])
        elif options["decision"] is None:
            raise CommandError(f"Say what you found out: resolve {options['id']} {'|'.join(sorted(WORDS))} --note ...")
        else:
            self._settle(options)

    def _list(self, limit: int, *, json: bool) -> None:
        rows = described(
            list(
                UnknownOutcome.objects.select_related("account", "generation", "generation__user").order_by("-pk")[
                    :limit
                ]
            )
        )
        if json:
            self.stdout.write(as_json({"unknown_outcomes": [row.as_dict() for row in rows]}))
            return
        if not rows:
            self.stdout.write(self.style.SUCCESS("Nothing waits for you: every outcome is known."))
            return
        table(self, ["attempt", "sent", "account", "at stake", "what is known"], [self._row(row) for row in rows])
        self.stdout.write("\nSettle one with: manage.py resolve ID billed|not-billed|resubmit --note '...'")

    @staticmethod
    def _row(row: AtStake) -> tuple[str, ...]:
        at = row.submission
        sent = span((timezone.now() - at.sent_at).total_seconds()) + " ago" if at.sent_at else "-"
        stake = [] if row.usual_cost is None else [f"about {row.usual_cost.normalize():f} {row.unit}"]
        stake += [f"{row.held} credits held"] if row.held else []
        stake += ["a slot"] if row.keeps_slot else []
        return str(at.pk), sent, str(at.account), ", ".join(stake) or "-", row.evidence

    def _settle(self, options: dict[str, Any]) -> None:
        answer = Answer(WORDS[options["decision"]], options["note"], options["job_id"].strip(), options["cost"])
        try:
            done = resolve(_attempt(options["id"]), answer, actor=f"command:{getpass.getuser()}")
        except Refusal as refusal:
            raise CommandError(refusal.detail) from refusal
        if options["json"]:
            told = {
                "id": done.submission.pk,
                "state": done.submission.state,
                "resolution": done.submission.resolution,
                "generation": done.generation.pk,
                "status": done.generation.status,
            }
            self.stdout.write(as_json(told))
            return
        self.stdout.write(
            self.style.SUCCESS(
                f"Noted. The attempt is {done.submission.state}; generation {done.generation.pk} is "
                f"{done.generation.status}."
            )
        )


def _attempt(text: str) -> UUID:
    """The attempt that is meant: by its own id, or the open one (or the newest) of the Generation that is meant."""
    try:
        by_id = Submission.objects.filter(pk=UUID(text)).values_list("pk", flat=True).first()
    except ValueError:
        by_id = None
    if by_id is not None:
        return by_id
    try:
        generation = find(text)
    except IdError as error:
        raise CommandError(str(error)) from error
    rows = list(
        UnknownOutcome.objects.filter(generation=generation).order_by("number").values_list("pk", flat=True)[:2]
    )
    if len(rows) > 1:
        raise CommandError("Several attempts of it are unknown. Give the attempt's own id (resolve lists them).")
    if not rows:
        raise CommandError("No attempt of it waits for a person: every outcome is known.")
    return rows[0]
