#!/usr/bin/env python3
"""The one way in: ``python3 manage.py up``, ``test``, and every other command.

This file is read by whatever Python the machine has, so it keeps to syntax that old ones understand
and says clearly when they are too old. What it needs beyond Python is built by ``bootstrap``.
"""

import os
import sys

OLDEST = (3, 11)


def newer_python():
    # type: () -> str | None
    """Path of a Python on this machine that is new enough, or None. Only called by one that is not."""
    for minor in (11, 12, 13, 14):
        for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
            path = os.path.join(folder, "python3.%d" % minor)
            if os.access(path, os.X_OK):
                return path
    return None


def main():
    # type: () -> None
    """Find a Python that is new enough, see to ``.venv``, then run the command."""
    if sys.version_info < OLDEST:
        found = newer_python()
        if found is None:
            sys.exit(
                "Darkroom needs Python 3.11 or newer, and this is Python %d.%d.\n"
                "Install python3.11 (with venv and pip) and run: python3.11 manage.py %s"
                % (sys.version_info[0], sys.version_info[1], " ".join(sys.argv[1:]))
            )
        os.execv(found, [found] + sys.argv)
    import bootstrap

    bootstrap.ensure(sys.argv[1:])
    from config.entry import run

    run(sys.argv)


if __name__ == "__main__":
    main()
