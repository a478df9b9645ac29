"""``demo``: the main job, done and checked from outside."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from config.console import Console
from config.embedded.home import read_json, var_dir
from config.entry import session
from config.instance import Instance, choose_addresses
from config.main_job import Client, JobError, Work, do_main_job
from config.stack import StackError


class Command(BaseCommand):
    """Makes one picture and one video over the REST API and proves that they are there."""

    help = (
        "Make one picture (ModelsLab) and one video (Pixverse) over the REST API, against the running instance or "
        "one of its own, and check the results' bytes. Exits with 0 only if both really completed."
    )
    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """--json, --url, --token, --timeout."""
        parser.add_argument("--json", action="store_true", help="Print one JSON object instead of a table.")
        parser.add_argument("--url", help="An instance elsewhere; give --token too.")
        parser.add_argument("--token", help="An API token of that instance.")
        parser.add_argument("--timeout", type=float, default=180, help="Seconds until it gives up (180).")

    def handle(self, *args: Any, **options: Any) -> None:
        """Find or start an instance, do the job, print what came of it."""
        if bool(options["url"]) != bool(options["token"]):
            raise CommandError("--url and --token belong together: give both or neither.")
        console = Console(quiet=options["json"])
        self.latest: list[Work] = []

        def show(works: Sequence[Work], seconds: float) -> None:
            self.latest = list(works)
            console.works(works, seconds)

        try:
            if options["url"]:
                client = Client(options["url"], options["token"])
                works = do_main_job(client, var_dir() / "demo", show, options["timeout"])
            elif session.state is not None:
                token = read_json(var_dir() / "logins.json").get("token", "")
                client = Client(str(session.state["url"]), token)
                works = do_main_job(client, var_dir() / "demo", show, options["timeout"])
            else:
                works = self._on_own_instance(console, show, options["timeout"])
        except (JobError, StackError) as error:
            if options["json"]:
                told = [work.as_dict() for work in self.latest]
                self.stdout.write(json.dumps({"ok": False, "error": str(error), "generations": told}, indent=1))
                raise SystemExit(1) from error
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps({"ok": True, "generations": [work.as_dict() for work in works]}, indent=1))
        else:
            self._table(works)

    def _on_own_instance(self, console: Console, show: Any, seconds: float) -> list[Work]:
        """Start everything on free ports, do the job, stop everything."""
        if session.home is None or session.servers is None:
            raise CommandError("`demo` starts from the command line: python3 manage.py demo")
        folder = session.home.path
        (folder / "log").mkdir(exist_ok=True)
        works: list[Work] = []
        with (folder / "log" / "demo.log").open("w") as log:
            console.log = log
            addresses = choose_addresses(folder, "127.0.0.1", 0)
            instance = Instance("demo", session.home, session.servers, addresses, console)
            instance.supervisor.handle_signals()
            found = instance.prepare()
            instance.start()

            def story() -> None:
                instance.wait_ready()
                client = Client(addresses.web_url, found.token)
                try:
                    works.extend(do_main_job(client, folder / "demo", show, seconds, instance.stopping))
                except JobError as error:
                    raise JobError(f"{error} {instance.trouble()}".strip()) from error

            instance.run(story, then_stop=True)
            if not works:
                raise JobError("Stopped before the results were there.")
        return works

    def _table(self, works: list[Work]) -> None:
        """One row per output."""
        self.stdout.write(f"\n{'operation':<15} {'provider':<10} {'status':<10} {'bytes':>9}  {'sha-256':<12}  file")
        for work in works:
            for output in work.outputs:
                self.stdout.write(
                    f"{work.operation_type:<15} {work.provider_id:<10} {work.status:<10} {output['bytes']:>9}  "
                    f"{output['sha256'][:12]}  {Path(output['path'])}"
                )
