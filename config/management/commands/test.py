"""``test``: the test suite, on servers of its own."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand

from config.entry import runner


class Command(BaseCommand):
    """Becomes pytest; everything after ``test`` is pytest's own.

    ``config.entry`` does the same before Django is loaded; this one is there for ``help`` and ``call_command``.
    """

    help = (
        "Run the tests with pytest, on throw-away PostgreSQL and Valkey servers (or on those that DATABASE_URL and "
        "REDIS_URL name). Further arguments are passed on, for example: python3 manage.py test tests/config -x. "
        "With --mutants: plant bugs in a copy of the code and see that the tests find every one (some minutes)."
    )
    requires_system_checks: tuple[str, ...] = ()

    def run_from_argv(self, argv: list[str]) -> None:
        """``argv`` as in ``sys.argv``."""
        if {"-h", "--help"} & set(argv[2:]):
            self.print_help(argv[0], argv[1])
            return
        self.handle(*argv[2:])

    def handle(self, *args: Any, **options: Any) -> None:
        """Replace this process by pytest."""
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", *runner(list(args))])
