"""``manage.py switch``: what is stopped, and the hand that stops it or lets it go on."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from generations.intake.errors import Refusal
from generations.intake.switches import turn_off, turn_on
from generations.management.output import as_json, table
from generations.management.who import actor
from generations.reports.switches import SwitchTold, everyone


class Command(BaseCommand):
    """Without arguments: every switch. With ``on`` or ``off``: turns one."""

    help = (
        "List the switches, or turn one: switch on dispatch:provider:pixverse --reason '...'. They work at once, "
        "without a restart: 'intake' stops accepting, 'dispatch' stops sending (all, to a provider, of an operation)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        parser.add_argument("turn", nargs="?", choices=["on", "off"], help="Turn it on (stop) or off (go on).")
        parser.add_argument("key", nargs="?", help="Which: intake, dispatch, dispatch:provider:..., ...")
        parser.add_argument("--reason", default="", help="Why. Needed to turn one; everybody who wonders reads it.")
        parser.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, *_args: Any, **options: Any) -> None:
        """List, or turn one and tell how it stands.

        Raises:
            CommandError: there is no such switch, or no reason was given.
        """
        if not options["turn"]:
            self._list(everyone(), as_json_=options["json"])
            return
        if not options["key"]:
            raise CommandError("Say which one. Run it without arguments to see them.")
        turn = turn_on if options["turn"] == "on" else turn_off
        try:
            turned = turn(options["key"], reason=options["reason"], actor=actor("switch"))
        except Refusal as refusal:
            raise CommandError(
                f"{refusal.detail} (--reason)" if refusal.field == "reason" else refusal.detail
            ) from None
        one = next((one for one in everyone() if one.key == options["key"]), None)
        if options["json"]:
            self.stdout.write(as_json({"changed": turned, "switch": one.as_dict() if one else None}))
        else:
            self._say(options["turn"], one, turned=turned)

    def _list(self, switches: list[SwitchTold], *, as_json_: bool) -> None:
        if as_json_:
            self.stdout.write(as_json({"switches": [one.as_dict() for one in switches]}))
            return
        rows = [
            (
                one.key,
                "ON" if one.on else "off",
                f"{one.since:%Y-%m-%d %H:%M} UTC" if one.since else "",
                one.who,
                one.reason,
            )
            for one in switches
        ]
        table(self, ["switch", "is", "since", "by", "why"], rows)

    def _say(self, turn: str, one: SwitchTold | None, *, turned: bool) -> None:
        if turn == "off":
            self.stdout.write("It is off; what it kept starts at once." if turned else "It was off; nothing changed.")
            return
        assert one is not None
        if turned:
            self.stdout.write(f"{one.title} is stopped. {one.effect}")
        else:
            self.stdout.write(f"It was on: {one.who} turned it on at {one.since:%Y-%m-%d %H:%M} UTC ({one.reason}).")
