"""The data folder ``var/``: who is using it (a file lock), what runs on it (a state file), and its secrets."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent.parent
STATE = "run.json"


class HomeError(Exception):
    """The data folder cannot be used now; the message says why and what to do."""


def var_dir() -> Path:
    """The data folder: ``DARKROOM_VAR``, else ``var/`` in the checkout. Made when missing."""
    path = Path(os.environ.get("DARKROOM_VAR") or ROOT / "var").resolve()
    path.mkdir(parents=True, exist_ok=True)
    return path


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, readable by its owner only."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty when there is no such file or no object in it."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


class Home:
    """The data folder, held by this process from ``acquire`` to ``release``."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or var_dir()
        self._handle: IO[str] | None = None

    def acquire(self, command: str, wait: float = 60) -> None:
        """Take the folder for this process.

        A short command that holds it is waited for, ``wait`` seconds. Raises HomeError, naming the holder's
        process id, when that is over, and at once when the holder is an ``up``.
        """
        handle = (self.path / "lock").open("a+")
        end, told = time.monotonic() + wait, False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                holder = self._holder(handle)
                name, pid = holder.get("command", "another command"), holder.get("pid", "unknown")
                if name == "up" or time.monotonic() >= end:
                    handle.close()
                    raise HomeError(
                        f"`{name}` is already running on {self.path} (process {pid}), and only one may use that data. "
                        f"Use that one, or stop it (Ctrl-C in its terminal, or: kill {pid}) and try again. "
                        "For a second instance set DARKROOM_VAR to another folder."
                    ) from None
                if not told:
                    print(f"Waiting for `{name}` (process {pid}), which is using {self.path}", flush=True)
                    told = True
                time.sleep(0.1)
        handle.seek(0)
        handle.truncate()
        handle.write(json.dumps({"pid": os.getpid(), "command": command}))
        handle.flush()
        self._handle = handle

    @staticmethod
    def _holder(handle: IO[str]) -> dict[str, Any]:
        handle.seek(0)
        with contextlib.suppress(ValueError):
            value = json.loads(handle.read())
            if isinstance(value, dict):
                return value
        return {}

    def release(self) -> None:
        """Give the folder free, and remove the state that we wrote."""
        if self._handle is not None:
            (self.path / STATE).unlink(missing_ok=True)
            self._handle.close()
            self._handle = None

    def publish(self, state: dict[str, Any]) -> None:
        """Tell other commands what runs here (addresses, process ids), for as long as we hold the folder."""
        write_private(self.path / STATE, json.dumps({"pid": os.getpid(), **state}, indent=1))

    def running(self) -> dict[str, Any] | None:
        """What a living ``up`` of another process has published, or None."""
        if self._handle is not None or not (self.path / "lock").exists():
            return None
        with (self.path / "lock").open("r") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return read_json(self.path / STATE) or None
        return None

    def secrets(self) -> dict[str, str]:
        """SECRET_KEY and CREDENTIAL_KEYS of this folder: random, made once, kept with mode 0600."""
        path = self.path / "secrets.json"
        kept = read_json(path)
        wanted = {name: kept.get(name) or secrets.token_urlsafe(50) for name in ("SECRET_KEY", "CREDENTIAL_KEYS")}
        if wanted != kept:
            write_private(path, json.dumps(wanted))
        return wanted
