"""Who runs a command, as an actor in timelines and histories."""

from __future__ import annotations

import getpass


def actor(command: str) -> str:
    """``command:drain/alice``; without the name where the system knows none (a container's unnamed user)."""
    try:
        return f"command:{command}/{getpass.getuser()}"[:80]
    except (KeyError, OSError):
        return f"command:{command}"
