"""``manage.py drain``: before an upgrade, stop sending and wait until no billable call can be cut off."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import InterfaceError, OperationalError, connection

from generations.intake.errors import Refusal
from generations.intake.switches import turn_off, turn_on
from generations.management.output import as_json, positive
from generations.management.who import actor
from generations.models.switch import DISPATCH
from generations.reports.audit import services_are_up
from generations.reports.flight import Flight, in_flight
from generations.reports.switches import SwitchTold, turned_on

OURS = "command:drain"
STEP_SECONDS = 1.0
RESUME = "Lift it when the new version runs: manage.py drain --resume"


class Command(BaseCommand):
    """Pauses dispatch, shows what is under way, and ends with 0 only when a deploy is safe."""

    help = (
        "Stop sending, keep polling and fetching, and wait until a deploy is safe: nothing is about to be sent or "
        "being sent, so that no billable call is cut off. Exit code 0 only then. Requests are still accepted, and wait."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        parser.add_argument("--reason", default="", help="Why; everybody who wonders reads it (an upgrade).")
        parser.add_argument(
            "--wait-all", action="store_true", help="Also wait until everything accepted has been fetched and stored."
        )
        parser.add_argument("--timeout", type=positive, metavar="SECONDS", help="Give up waiting; exit code 1.")
        parser.add_argument("--resume", action="store_true", help="Lift the pause of an earlier drain, and end.")
        parser.add_argument("--json", action="store_true", help="Print JSON at the end.")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Drain, or resume.

        Raises:
            CommandError: it was paused by somebody else (on ``--resume``), or the pause was lifted meanwhile.
        """
        self._told = ""
        self._quiet = options["json"]
        if options["resume"]:
            self._resume(options["reason"])
            return
        try:
            turn_on(DISPATCH, reason=options["reason"] or "Drained for an upgrade", actor=actor("drain"))
        except Refusal as refusal:
            raise CommandError(refusal.detail) from refusal
        paused = _pause()
        if paused is not None and not paused.actor.startswith(OURS):
            self._say(f"Dispatch was paused already, by {paused.who}: {paused.reason}. That pause is used.")
        started = time.monotonic()
        try:
            flight = self._wait(started, options["timeout"], wait_all=options["wait_all"])
        except KeyboardInterrupt:
            self._say(f"\nNot waited for any longer. Dispatch stays paused. {RESUME}")
            raise SystemExit(130) from None
        self._conclude(flight, time.monotonic() - started, wait_all=options["wait_all"])

    def _wait(self, started: float, timeout: int | None, *, wait_all: bool) -> Flight | None:
        """Look until the goal is reached or the time is over. None: the database does not answer."""
        while True:
            flight = self._look()
            over = timeout is not None and time.monotonic() - started >= timeout
            if over or _reached(flight, wait_all=wait_all):
                return flight
            time.sleep(STEP_SECONDS)

    def _look(self) -> Flight | None:
        try:
            flight, lifted, alive = in_flight(), _pause() is None, services_are_up()
        except (OperationalError, InterfaceError):
            connection.close()
            self._progress("the database does not answer")
            return None
        if lifted:
            raise CommandError("Somebody has lifted the pause meanwhile: work is being sent again.")
        # What a dead worker has left is moved on by the tick alone.
        self._progress(f"{flight}{'' if alive else '; no tick was seen for 15 s: are the services running?'}")
        return flight

    def _conclude(self, flight: Flight | None, seconds: float, *, wait_all: bool) -> None:
        reached = _reached(flight, wait_all=wait_all)
        if self._quiet:
            left = flight.as_dict() if flight else None
            self.stdout.write(as_json({"ok": reached, "seconds": round(seconds, 1), "left": left}))
        else:
            self._clear()
            if flight is not None and flight.safe:
                self.stdout.write(self.style.SUCCESS("Safe to deploy: no call is on its way to a provider."))
            else:
                self.stdout.write(self.style.ERROR("Not safe to deploy: a call may be on its way to a provider."))
            self.stdout.write(
                f"Left: {flight or 'not known'}. Whatever runs goes on following what is at the providers."
            )
            self.stdout.write(f"Dispatch stays paused. {RESUME}")
        if not reached:
            raise SystemExit(1)

    def _resume(self, reason: str) -> None:
        try:
            turned = turn_off(DISPATCH, reason=reason or "The upgrade is done", actor=actor("drain"), turned_on_by=OURS)
        except Refusal as refusal:
            raise CommandError(refusal.detail) from refusal
        other = None if turned else _pause()
        if other is not None:
            raise CommandError(
                f"Dispatch is paused by {other.who} ({other.reason}), not by a drain. If that is over: "
                "manage.py switch off dispatch --reason '...'"
            )
        if self._quiet:
            self.stdout.write(as_json({"ok": True, "changed": turned}))
        else:
            self.stdout.write("Work is sent again." if turned else "Nothing was paused.")

    def _progress(self, text: str) -> None:
        """One line that is written over on a terminal; elsewhere a line whenever it changes."""
        if self._quiet:
            return
        line = f"{datetime.now(UTC):%H:%M:%S}  {text}"
        if self.stdout.isatty():
            self._clear()
            self.stdout.write(line, ending="")
            self.stdout.flush()
        elif text != self._told:
            self.stdout.write(line)
        self._told = text

    def _clear(self) -> None:
        if self.stdout.isatty():
            self.stdout.write("\r\x1b[K", ending="")

    def _say(self, text: str) -> None:
        if not self._quiet:
            self.stdout.write(text)
        else:
            self.stderr.write(text)


def _reached(flight: Flight | None, *, wait_all: bool) -> bool:
    return flight is not None and flight.safe and (flight.collected or not wait_all)


def _pause() -> SwitchTold | None:
    """What keeps everything from being sent."""
    return next((one for one in turned_on() if one.key == DISPATCH), None)
