"""``manage.py deadletters``: what failed for good; replay or dismiss it."""

from __future__ import annotations

import getpass
from argparse import ArgumentTypeError
from collections import Counter
from dataclasses import asdict
from datetime import timedelta
from itertools import islice
from typing import Any, Literal
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import Account
from generations.intake.dismiss import dismiss, restore
from generations.intake.errors import Refusal
from generations.intake.replay import FASTEST, MOST, Plan, Replayed, one_by_one, plan
from generations.lifecycle import Status
from generations.management.output import as_json, moment, positive, table
from generations.models import DeadLetter, Generation
from generations.models.clock import database_now
from generations.reports.deadletters import LONG_AGO, LONGEST, Filters, Group, dismissed, groups, letters
from generations.reports.lookup import IdError, find
from generations.reports.spans import span
from providers import registry
from providers.registry import UnknownProvider

LISTED = 50


def rate(text: str) -> int:
    """Replays per minute.

    Raises:
        ArgumentTypeError: it is none that can be kept.
    """
    number = positive(text)
    if number > FASTEST:
        raise ArgumentTypeError(f"At most {FASTEST} a minute; without --rate they start as slots come free.")
    return number


class Command(BaseCommand):
    """Without an order: the groups. With ``--replay``, ``--dismiss`` or ``--restore``: does it to all that match."""

    help = (
        "What failed for good, grouped by code, provider and account; replay it (each becomes a new generation, at "
        "today's price), or dismiss it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        parser.add_argument("ids", nargs="*", metavar="ID", help="Only these (an id, or its beginning), of any age.")
        parser.add_argument("--since", type=moment, help="Failed since then: 2h, 3d (the last 24 h), 2026-11-23.")
        parser.add_argument("--until", type=moment, help="Failed before then.")
        parser.add_argument("--code", action="append", default=[], help="Only with this error code (repeatable).")
        parser.add_argument("--provider", default="", help="Only of this provider.")
        parser.add_argument("--account", default="", help="Last tried there: provider/label, or none.")
        parser.add_argument("--user", default="", help="Only of this user (by username).")
        parser.add_argument("--list", action="store_true", help=f"The newest {LISTED}, one by one, instead of groups.")
        order = parser.add_mutually_exclusive_group()
        order.add_argument("--replay", action="store_true", help=f"Replay them: the oldest {MOST:,} at most.")
        order.add_argument("--dismiss", metavar="REASON", help="Nothing is to be done about them.")
        order.add_argument("--restore", action="store_true", help="Take dismissals back.")
        parser.add_argument("--rate", type=rate, help="With --replay: so many start in a minute.")
        parser.add_argument("--dry-run", action="store_true", help="Change nothing; say what would be done.")
        parser.add_argument(
            "--insist", action="store_true", help="With --replay and IDs: though an attempt may still be billed."
        )
        parser.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Tell, or do. Exit code 1 when a replay was refused.

        Raises:
            CommandError: options that don't go together, or a name or id that is not there.
        """
        if options["insist"] and not (options["replay"] and options["ids"]):
            raise CommandError("--insist is for single letters: name their ids, and --replay.")
        filters = _filters(options)
        if options["replay"]:
            self._replay(filters, options)
        elif options["dismiss"] is not None:
            self._mark(letters(filters), "dismissed", options)
        elif options["restore"]:
            self._mark(dismissed(filters), "restored", options)
        elif options["list"] or options["ids"]:
            self._list(filters, options)
        else:
            self._groups(filters, options)

    def _groups(self, filters: Filters, options: dict[str, Any]) -> None:
        told = groups(filters)
        if options["json"]:
            rows = [_group_dict(group) for group in told.groups]
            self.stdout.write(as_json({"groups": rows, "number": told.number, "capped": told.capped}))
            return
        if not told.groups:
            self.stdout.write(self.style.SUCCESS("No dead letters."))
            return
        now = database_now()
        table(
            self,
            ["code", "provider", "account", "number", "users", "credits", "last", "what the last one says"],
            [
                (
                    group.code,
                    group.provider_id,
                    group.account_label or "none",
                    group.number,
                    group.users,
                    group.price,
                    f"{span((now - group.last_at).total_seconds())} ago",
                    group.message,
                )
                for group in told.groups
            ],
        )
        shown = sum(group.number for group in told.groups)
        self.stdout.write(f"\n{told.number} dead letters.")
        if told.capped:
            self.stdout.write("There are older ones, which were not looked at: shorten the time with --until.")
        elif shown < told.number:
            self.stdout.write(f"{told.number - shown} of them are in smaller, older groups that are not shown.")

    def _list(self, filters: Filters, options: dict[str, Any]) -> None:
        rows = list(letters(filters).select_related("user").order_by("-pk")[:LISTED])
        if options["json"]:
            told = [
                {
                    "id": row.pk,
                    "code": row.error_code,
                    "message": row.error_message,
                    "provider_id": row.provider_id,
                    "operation_type": row.operation_type,
                    "user": row.user.get_username(),
                    "price": row.price,
                    "failed_at": row.completed_at,
                    "prompt": row.prompt,
                }
                for row in rows
            ]
            self.stdout.write(as_json({"dead_letters": told}))
            return
        table(
            self,
            ["generation", "code", "provider", "user", "prompt", "message"],
            [
                (row.pk, row.error_code, row.provider_id, row.user, row.prompt[:40], row.error_message[:200])
                for row in rows
            ],
        )

    def _mark(self, rows: Any, done: str, options: dict[str, Any]) -> None:
        ids = list(rows.order_by("pk").values_list("pk", flat=True)[:MOST])
        actor = f"command:{getpass.getuser()}"
        if options["dry_run"]:
            number = len(ids)
        elif done == "dismissed":
            try:
                number = dismiss(ids, reason=options["dismiss"], actor=actor)
            except Refusal as refusal:
                raise CommandError(refusal.detail) from refusal
        else:
            number = restore(ids, actor=actor)
        if options["json"]:
            self.stdout.write(as_json({"dry_run": options["dry_run"], done: number}))
        elif options["dry_run"]:
            self.stdout.write(f"{number} would be {done}. Nothing was changed.")
        else:
            self.stdout.write(f"{number} {done}.")

    def _replay(self, filters: Filters, options: dict[str, Any]) -> None:
        if options["dry_run"]:
            told = plan(filters, options["rate"], insist=options["insist"])
            if options["json"]:
                self.stdout.write(as_json({"dry_run": True, **asdict(told)}))
            else:
                self._tell(told)
            return
        actor = f"command:{getpass.getuser()}"
        results = list(one_by_one(filters, options["rate"], actor=actor, most=MOST, insist=options["insist"]))
        refused = Counter(one.refused for one in results if one.refused)
        if options["json"]:
            rows = [
                {
                    "id": one.letter.pk,
                    "retry": one.retry.pk if one.retry else None,
                    "starts_at": one.retry.scheduled_at if one.retry else None,
                    "refused": one.refused,
                    "detail": one.detail,
                }
                for one in results
            ]
            self.stdout.write(as_json({"dry_run": False, "results": rows}))
        else:
            self._tell_replayed(results, refused)
        if refused:
            raise SystemExit(1)

    def _tell_replayed(self, results: list[Replayed], refused: Counter[str]) -> None:
        if not results:
            self.stdout.write("No dead letter matches.")
            return
        done = [one.retry for one in results if one.retry]
        for retry in islice(done, LISTED):
            self.stdout.write(f"{retry.retry_of_id} is replayed as {retry.pk}")
        if len(done) > LISTED:
            self.stdout.write(f"... and {len(done) - LISTED} more.")
        last = max((retry.scheduled_at for retry in done if retry.scheduled_at), default=None)
        until = f", the last one in {span((last - database_now()).total_seconds())}" if last else ""
        self.stdout.write(f"\n{len(done)} replayed{until}; {refused.total()} refused.")
        self._tell_refused(refused, {one.refused: one.detail for one in reversed(results)})

    def _tell(self, told: Plan) -> None:
        if not told.number:
            self.stdout.write("No dead letter matches.")
            return
        self.stdout.write(f"{told.replayable} of {told.number} would be replayed, for {told.price} credits.")
        if told.more:
            self.stdout.write(f"There are more: these are the oldest {told.number}.")
        if told.starts_at and told.seconds:
            wait = (told.starts_at - database_now()).total_seconds()
            begin = f"in {span(wait)}, after those that are planned already" if wait > 1 else "at once"
            self.stdout.write(f"The first starts {begin}; it takes {span(told.seconds)} at {told.per_minute} a minute.")
        self._tell_refused(Counter(told.refused), told.why)
        paying = [share for share in told.users if share.price]
        if paying:
            self.stdout.write("")
            table(
                self,
                ["user", "letters", "credits", "available", "short of"],
                [(one.username, one.number, one.price, one.available, one.short or None) for one in paying],
            )
        self.stdout.write("\nNothing was changed.")

    def _tell_refused(self, refused: Counter[str], why: dict[str, str]) -> None:
        for code, number in refused.most_common():
            self.stdout.write(f"  {number} not ({code}): {why[code]}")


def _filters(options: dict[str, Any]) -> Filters:
    now = database_now()
    until = min(options["until"] or now, now)
    since = options["since"] or until - timedelta(days=1)
    if options["ids"]:
        since = LONG_AGO
    elif until - since > LONGEST:
        raise CommandError(f"At most {LONGEST.days} days at once: say --until too.")
    return Filters(
        since=since,
        until=until,
        codes=tuple(options["code"]),
        provider_id=_provider(options["provider"]),
        account=_account(options["account"]),
        user_id=_user(options["user"]),
        ids=tuple(_letter(text, restoring=options["restore"]) for text in options["ids"]),
    )


def _provider(slug: str) -> str:
    """A name that is misspelt would match nothing, and look as if nothing were to be done."""
    if slug:
        try:
            registry.get(slug)
        except UnknownProvider as error:
            raise CommandError(str(error)) from error
    return slug


def _user(username: str) -> int | None:
    if not username:
        return None
    user = get_user_model().objects.filter(username=username).first()
    if user is None:
        raise CommandError(f"There is no user {username!r}.")
    pk: int = user.pk
    return pk


def _account(text: str) -> UUID | Literal["none"] | None:
    if not text:
        return None
    if text == "none":
        return "none"
    provider_id, _, label = text.partition("/")
    account = Account.objects.of_provider(provider_id).filter(label=label).first()
    if account is None:
        raise CommandError(f"There is no account {text!r}. Write provider/label, for example pixverse/main, or none.")
    return account.pk


def _letter(text: str, *, restoring: bool) -> UUID:
    try:
        generation = find(text)
    except IdError as error:
        raise CommandError(str(error)) from error
    if restoring or DeadLetter.objects.filter(pk=generation.pk).exists():
        return generation.pk
    raise CommandError(f"{generation.pk} is no dead letter: {_why_not(generation)}.")


def _why_not(generation: Generation) -> str:
    if generation.status != Status.FAILED:
        return f"it is {generation.status}"
    if generation.dismissed_at is not None:
        return "it was dismissed; --restore takes that back"
    retry = generation.retries.order_by("-pk").first()
    return f"it was retried as {retry.pk}" if retry else "the same request was asked for again since"


def _group_dict(group: Group) -> dict[str, Any]:
    return {**asdict(group), "hours": {hour.isoformat(): number for hour, number in group.hours.items()}}
