"""Who we are: which process does something, for timelines and for "which code ran it"."""

from __future__ import annotations

import os
import socket
import sys
from functools import lru_cache
from pathlib import Path

VERSION = "0.3.0"


def actor() -> str:
    """This process as the actor of an Event, for example ``worker:host/4711``."""
    return f"worker:{socket.gethostname()}/{os.getpid()}"


def description() -> str:
    """This process for a Submission: host, pid, interpreter, where the code lies, its version (at most 200
    characters)."""
    return _description(os.getpid())


@lru_cache(maxsize=2)
def _description(pid: int) -> str:
    home = Path(__file__).resolve().parents[2]
    return f"{socket.gethostname()}/{pid} {sys.executable} {home} {VERSION}"[:200]
