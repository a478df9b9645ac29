"""``drill``: everything goes wrong at once, and nothing is lost, paid twice or left hanging. Exit code 1 if it is."""

from __future__ import annotations

import json
import random
import signal
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from config.console import Console
from config.drill import show, story
from config.drill.forms import LONG, SHORT
from config.drill.house import NotInTime
from config.drill.servers import ServerError
from config.embedded.servers import EmbeddedError


class Command(BaseCommand):
    """Never touches the data of a running instance: it has servers, or a database on given ones, of its own."""

    help = (
        "Build a house of its own, ask for many generations, and let everything go wrong meanwhile: processes killed "
        "and stopped, servers restarted, a provider on a bad day. Then compare what people were told, what the "
        "database says and what the sandbox saw. Exit code 1 unless all is well."
    )
    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The options."""
        parser.add_argument("--short", action="store_true", help="About a minute: 60 generations, every fault once.")
        parser.add_argument("--seed", type=int, help="The same seed asks and strikes alike; random when left out.")
        parser.add_argument("--json", action="store_true", help="Print the report as JSON; progress goes to stderr.")
        parser.add_argument("--keep", action="store_true", help="Leave the house's folder: log, data, record.")
        parser.add_argument(
            "--database-url", default="", help="A PostgreSQL that runs: a database is made and dropped."
        )
        parser.add_argument("--redis-url", default="", help="A Redis or Valkey that runs, an empty number of it.")

    def handle(self, **options: Any) -> None:
        """Run it and tell."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is cleared away
        seed = options["seed"] if options["seed"] is not None else random.randrange(1_000_000)
        console = Console(sys.stderr if options["json"] else sys.stdout)
        form = SHORT if options["short"] else LONG
        console.say(f"Drill, {form.name} form, seed {seed}")
        try:
            report = story.run(
                form,
                seed,
                console,
                database_url=options["database_url"],
                redis_url=options["redis_url"],
                keep=options["keep"],
            )
        except (NotInTime, ServerError, *EmbeddedError) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(report, indent=1))
        else:
            for line in show.lines(report):
                self.stdout.write(line)
        if not report["ok"]:
            raise SystemExit(1)
