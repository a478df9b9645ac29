"""``up``: sets up, starts everything, makes the first picture and video, keeps running."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from config.console import Console
from config.entry import session
from config.first_run import Logins
from config.instance import Instance, choose_addresses
from config.main_job import Client, JobError, Work, do_main_job
from config.stack import Addresses, StackError


class Command(BaseCommand):
    """Starts a whole instance on this machine and stays with it until Ctrl-C."""

    help = (
        "Start everything: database, broker, web, workers, beat, Flower and a sandbox that plays the providers. "
        "Makes a first picture and video, then keeps running until Ctrl-C."
    )
    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """--port, --host, --no-demo."""
        parser.add_argument("--port", type=int, default=8000, help="The web's port (8000); 0 takes any free one.")
        parser.add_argument("--host", default="127.0.0.1", help="The web's address (127.0.0.1).")
        parser.add_argument("--no-demo", action="store_true", help="Do not make the first picture and video.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until a signal asks for the stop."""
        if session.home is None or session.servers is None:
            raise CommandError("`up` starts from the command line: python3 manage.py up")
        folder = session.home.path
        (folder / "log").mkdir(exist_ok=True)
        log_path = folder / "log" / "up.log"
        if log_path.exists():
            log_path.replace(log_path.with_suffix(".log.1"))
        with log_path.open("w") as log:
            console = Console(log=log)
            try:
                addresses = choose_addresses(folder, options["host"], options["port"])
                instance = Instance("up", session.home, session.servers, addresses, console)
                instance.supervisor.handle_signals()
                found = instance.prepare()
                instance.start()
            except StackError as error:
                raise CommandError(str(error)) from error

            def story() -> None:
                works: list[Work] = []
                well = True
                try:
                    instance.wait_ready()
                    if options["no_demo"]:
                        instance.wait_working()
                    else:
                        console.say("  Making the first picture and the first video")
                        client = Client(addresses.web_url, found.token)
                        works = do_main_job(client, folder / "demo", console.works, stopped=instance.stopping)
                except (StackError, JobError) as error:
                    well = False
                    if not instance.stopping():
                        console.say(f"\n  {error} {instance.trouble()}")
                if not instance.stopping():
                    console.say(closing(addresses, found, works, folder, well=well))
                    console.echo = True

            instance.run(story, then_stop=False)
            console.say(f"Stopped. The data stays in {folder}.")


def closing(addresses: Addresses, found: Logins, works: list[Work], folder: Path, *, well: bool) -> str:
    """The block at the end: where everything is, and what to do next."""
    password = found.password or "(the one you set)"
    body = {"operation_type": "text_to_image", "provider_id": "modelslab", "params": {"prompt": "a fox in the snow"}}
    lines = ["", f"  Darkroom is running{'' if well else ', but not everything works: see above'}.", ""]
    for work in works:
        name = "Picture" if work.operation_type.endswith("image") else "Video"
        lines += [f"    {name:<9} {output['path']}" for output in work.outputs]
    lines += [
        f"    {'Studio':<9} {addresses.web_url}/",
        f"    {'Admin':<9} {addresses.web_url}/admin/      login {found.username}, password {password}",
        f"    {'Flower':<9} {addresses.flower_url}/      login {found.username}, password {found.flower_password}",
        f"    {'API':<9} {addresses.web_url}/api/docs/",
        f"    {'Logins':<9} kept in {folder / 'logins.json'}; logs in {folder / 'log'}",
        "",
        "  Ask for a picture yourself:",
        f"    curl {addresses.web_url}/api/v1/generations -H 'Authorization: Bearer {found.token}' \\",
        f"      -H 'Content-Type: application/json' -d '{json.dumps(body)}'",
        "",
        f"  Your own provider account: {addresses.web_url}/admin/accounts/account/add/ (choose the provider, paste its",
        "    API key), then switch the account `Sandbox` of that provider off.",
        "",
        "  Ctrl-C stops everything in order. What the processes say follows.",
        "",
    ]
    return "\n".join(lines)
