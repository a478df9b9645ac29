"""A whole run: build the house, ask, strike, wait for the end, look at everything."""

from __future__ import annotations

import itertools
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.db import connection

from accounts import credits
from accounts.models import Price
from config.console import Console
from config.drill import books, plan, show, witness
from config.drill.forms import BAD_DAY, BATCH, Form
from config.drill.house import AWAY, House, Layout
from config.drill.judge import Facts
from config.drill.memory import Scales
from config.drill.people import Crowd, Person
from config.drill.servers import GivenPostgres, GivenValkey
from config.drill.strikes import Striker, not_possible
from generations.lifecycle import Operation
from generations.models import Generation, LibraryItem
from generations.reports import audit

PRICES = {("modelslab", Operation.TEXT_TO_IMAGE): 3, ("pixverse", Operation.TEXT_TO_VIDEO): 7}
PURSE = 100_000
WARM_UP = 0.15
"""The share of the time after which processes count as warm."""
TOP_UPS = 3
STEP_SECONDS = 0.05
WEIGH_SECONDS = 2.0
TELL_SECONDS = 10.0


def run(
    form: Form, seed: int, console: Console, *, database_url: str = "", redis_url: str = "", keep: bool = False
) -> dict[str, Any]:
    """The drill from beginning to end; the report.

    Raises:
        NotInTime, PostgresError, ValkeyError, ServerError: the house could not be built.
    """
    with _folder(console, keep=keep) as folder:
        layout = Layout(
            times=form.times,
            tick_seconds=form.tick_seconds,
            doubles=form.doubles,
            sandbox=(
                *("--light", "--seed", str(seed)),
                *("--speed", f"{form.speed:g}", "--never", f"{form.never_seconds:g}"),
            ),
            callbacks=True,
        )
        house = House(
            folder,
            layout,
            postgres=GivenPostgres(database_url) if database_url else None,
            valkey=GivenValkey(redis_url) if redis_url else None,
        )
        try:
            console.doing("Starting the house")
            house.start()
            console.step("A house of its own: servers, web, workers, beats and the sandbox")
            with house.entered():
                return Drill(house, form, seed, console).run()
        finally:
            house.stop()


class Drill:
    """One run in a house that stands. Django's connection of this thread leads to it."""

    def __init__(self, house: House, form: Form, seed: int, console: Console) -> None:
        self.house, self.form, self.seed, self.console = house, form, seed, console
        self.labels = {house.account(one.provider_id, one.limit, one.label): one.label for one in form.logins}
        people = [house.person() for _ in range(form.people)]
        for (provider_id, operation_type), price in PRICES.items():
            Price.objects.create(provider_id=provider_id, operation_type=operation_type, credits=price)
        for person in people:
            credits.grant(person.user.pk, PURSE, reason="for the drill", actor="drill")
        self.granted = {person.user.pk: PURSE for person in people}
        self.crowd = Crowd(people, seed)
        self.spared = not_possible(house)
        self.striker = Striker(house, form, self._bait)
        self.scales = Scales()
        self._numbers = itertools.count(form.generations)
        self._started = time.monotonic()
        self._told = self._weighed = 0.0
        self._ended = 0
        self._planned = form.generations + form.batches * math.prod(BATCH)

    def run(self) -> dict[str, Any]:
        """Ask and strike, then wait for the end of all, then look."""
        self.house.sandbox.set_rates(dict(BAD_DAY))
        self._started = time.monotonic()
        self.striker.begin()
        try:
            self._storm()
            self._top_up()
            self.house.sandbox.set_rates({})
            self._until(lambda: self._idle() and not self.striker.under_way(), self.form.patience)
        finally:
            self.striker.close()
            self.crowd.close()
        seconds = time.monotonic() - self._started
        return show.as_dict(self._facts(), seed=self.seed, seconds=seconds)

    # --- the storm --------------------------------------------------------------------------

    def _storm(self) -> None:
        """Everything of the plan at its time."""
        poses = [self._poses(person) for person in self.crowd.people]
        wishes = sorted(
            [*plan.wishes(self.form, self.seed), *plan.batches(self.form, self.seed, poses)], key=lambda wish: wish.at
        )
        strikes = [one for one in plan.strikes(self.form, self.seed) if one.kind not in self.spared]
        while wishes or strikes:
            gone = self._gone()
            while wishes and wishes[0].at <= gone:
                self.crowd.ask(wishes.pop(0))
            while strikes and strikes[0].at <= gone:
                self.striker.launch(strikes.pop(0))
            self._step()
        self._until(lambda: not self.crowd.waiting(), self.form.patience)

    def _poses(self, person: Person) -> list[int]:
        """New items for the person's library."""
        words = ("arms raised", "on one knee", "looking back", "in mid-air")[: BATCH[0]]
        rows = [LibraryItem(owner=person.user, name=pose, category="pose", prompt=pose) for pose in words]
        return [row.pk for row in LibraryItem.objects.bulk_create(rows)]

    def _top_up(self) -> None:
        """Faults of the sandbox that chance has left out are asked for by name."""
        for _ in range(TOP_UPS):
            fired = self.house.sandbox.summary()["faults"]
            missing = [name for name in BAD_DAY if not fired.get(name)]
            if not missing:
                return
            for name in missing:
                self._beyond(plan.marker(name))
            self._until(lambda: not self.crowd.waiting() and self._idle(), self.form.patience)

    def _beyond(self, words: str) -> str:
        wish = plan.beyond(self.seed, next(self._numbers), self._gone(), words)
        self.crowd.ask(wish)
        return str(wish.body["params"]["prompt"])

    def _bait(self) -> str:
        """Somebody asks for one whose submit takes long."""
        return self._beyond(f"[[fault:slow_submit:{self.form.slow_submit:g}]]")

    def _idle(self) -> bool:
        """Whether everything has ended; a database that is away says no."""
        try:
            return self.house.idle()
        except AWAY:
            connection.close()
            return False

    # --- meanwhile --------------------------------------------------------------------------

    def _gone(self) -> float:
        return time.monotonic() - self._started

    def _until(self, check: Callable[[], bool], seconds: float) -> bool:
        """Whether it came in time; the judge says what it means."""
        end = time.monotonic() + seconds
        while not check():
            if time.monotonic() > end:
                return False
            self._step(0.2)
        return True

    def _step(self, seconds: float = STEP_SECONDS) -> None:
        time.sleep(seconds)
        gone = self._gone()
        if gone - self._weighed > WEIGH_SECONDS:
            self._weighed = gone
            self.scales.weigh(self.house.pids(), warming_up=gone < WARM_UP * self.form.seconds)
            self._tell(gone)

    def _tell(self, gone: float) -> None:
        """How far it is: a bar on a terminal, a line now and then elsewhere."""
        try:
            self._ended = Generation.objects.exclude(status__in=["pending", "processing"]).count()
        except AWAY:
            connection.close()
        asked, strikes = len(self.crowd.notes), len(self.striker.made)
        text = (
            f"{int(gone) // 60}:{int(gone) % 60:02}  {asked} requests, {self._ended} of {self._planned} ended, "
            f"{strikes} of {sum(self.form.strikes.values())} strikes, {self.striker.under_way()} not over"
        )
        if self.console.live:
            share = min(1.0, self._ended / self._planned)
            self.console.doing("█" * round(share * 24) + "░" * (24 - round(share * 24)) + " " + text)
        elif gone - self._told > TELL_SECONDS:
            self._told = gone
            self.console.say(f"  {text}")

    # --- afterwards -------------------------------------------------------------------------

    def _facts(self) -> Facts:
        self.house.wait(audit.services_are_up, "the tick")
        _code, audited = self.house.manage("audit", "--files", "--json")
        return Facts(
            form=self.form,
            notes=self.crowd.notes,
            books=books.read(),
            witness=witness.ask(self.house.sandbox, self.labels),
            granted=self.granted,
            struck=sorted(self.striker.made, key=lambda struck: struck.at),
            spared=self.spared,
            sizes=self.scales.sizes,
            audit=audited["checks"],
        )


@contextmanager
def _folder(console: Console, *, keep: bool) -> Iterator[Path]:
    """A temporary folder for everything of the house."""
    folder = Path(tempfile.mkdtemp(prefix="darkroom-drill-"))
    try:
        yield folder
    finally:
        if keep:
            console.say(f"  The house's log, files and data are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
