"""From ``manage.py`` to Django: sees to it that the environment names a database and a broker first.

Settings know nothing but environment variables. So before Django reads them:

* ``test`` becomes pytest, whose plugin (``config.testing``) starts throw-away servers (or the mutation gate);
* ``up``, and ``demo`` when nothing runs, take the data folder, start its servers and keep them;
* any other command uses the servers of a running ``up``, or has its own for as long as it runs;
* nothing is started where DATABASE_URL and REDIS_URL are given;
* ``drill`` sees to its servers by itself, and looks at neither.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from config.console import Console
from config.embedded.home import Home, HomeError
from config.embedded.servers import EmbeddedError, Servers, nothing

# These read no data, so they need no servers (settings have harmless defaults).
WITHOUT_SERVERS = frozenset(
    {"help", "version", "collectstatic", "startapp", "compilemessages", "makemessages", "drill"}
)


class Session:
    """What this process has taken: the data folder and the servers on it. One per process: ``session``."""

    def __init__(self) -> None:
        self.home: Home | None = None
        self.servers: Servers | None = None
        self.state: dict[str, object] | None = None

    def open(self, command: str, arguments: Sequence[str] = ()) -> None:
        """Make the environment fit for a command. Raises HomeError, PostgresError, ValkeyError."""
        home = Home()
        self.state = home.running()
        if self.state is not None and command != "up":
            for name in ("DATABASE_URL", "REDIS_URL"):
                if not os.environ.get(name):  # empty counts as not given
                    os.environ[name] = str(self.state[name])
            self._secrets(home)
            return
        given = os.environ.get("DATABASE_URL") and os.environ.get("REDIS_URL")
        keeps = command == "up" or (command == "demo" and not any(a.startswith("--url") for a in arguments))
        if given and not keeps:
            self._secrets(home)
            return
        home.acquire(command, wait=60)
        self.home = home
        self._secrets(home)
        quiet = "--json" in arguments or not keeps
        self.servers = Servers(home.path, report=nothing if quiet else Console().step)
        self.servers.start()

    @staticmethod
    def _secrets(home: Home) -> None:
        """Random secrets of the data folder where none are given; production must give its own."""
        if os.environ.get("DARKROOM_PRODUCTION", "").lower() in ("", "0", "false", "no", "off"):
            for name, value in home.secrets().items():
                if not os.environ.get(name):
                    os.environ[name] = value

    def close(self) -> None:
        """Stop the servers that are still ours, and give the folder free."""
        if self.servers is not None:
            self.servers.stop()
        if self.home is not None:
            self.home.release()
        self.home = self.servers = None


session = Session()


def runner(arguments: list[str]) -> list[str]:
    """The module that ``test`` becomes, and its arguments: pytest, or with ``--mutants`` the mutation gate."""
    if "--mutants" in arguments:
        return ["tests.mutation", *(argument for argument in arguments if argument != "--mutants")]
    return ["pytest", *arguments]


def run(argv: list[str]) -> None:
    """Run a Django command line, ``argv`` as in ``sys.argv``."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    command = argv[1] if len(argv) > 1 else "help"
    if command == "test" and not {"-h", "--help"} & set(argv[2:]):
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", *runner(argv[2:])])
    try:
        if command not in WITHOUT_SERVERS and not command.startswith("-") and not {"-h", "--help"} & set(argv[2:]):
            session.open(command, argv[2:])
        from django.core.management import execute_from_command_line  # noqa: PLC0415

        execute_from_command_line(argv)
    except (HomeError, *EmbeddedError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped.")
    finally:
        session.close()
