"""Builds ``.venv`` from the lock files the first time, and again when they change. Standard library only.

1. A stamp in ``.venv`` names the lock files that it was built from; when it fits, nothing happens.
2. Otherwise one process at a time (a file lock) makes the virtual environment and lets this Python's pip
   install the hash-pinned wheels into it. A marker says that this is going on: found where nobody is at
   work, the last attempt was cut off, and the environment is made anew.
3. The process then becomes ``.venv/bin/python``, with the same arguments.

``DARKROOM_BOOTSTRAP=off`` leaves all of it out, for images that install the libraries themselves.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Self, TextIO

ROOT = Path(__file__).resolve().parent
RUNTIME_LOCK = "requirements.lock"
DEVELOPMENT_LOCK = "requirements-dev.lock"
# Commands that need the test and quality tools too.
DEVELOPMENT_COMMANDS = frozenset({"test"})
STAMP = ".darkroom.json"
MARKER = ".darkroom-installing"
NO_NETWORK = re.compile(
    r"NewConnectionError|name resolution|Name or service not known|Network is unreachable|timed out"
    r"|Connection refused|ProxyError|getaddrinfo failed|nodename nor servname",
    re.IGNORECASE,
)


class BootstrapError(Exception):
    """The environment cannot be built; the message says why and what to do."""


def ensure(arguments: Sequence[str]) -> None:
    """Return only inside a ``.venv`` that fits the lock files; exits with a clear sentence if that fails."""
    if os.environ.get("DARKROOM_BOOTSTRAP", "").lower() == "off":
        return
    if os.name != "posix":
        sys.exit("Darkroom runs on Linux and macOS. On Windows, run it inside WSL.")
    development = bool(arguments) and arguments[0] in DEVELOPMENT_COMMANDS
    environment = Path(os.environ.get("DARKROOM_VENV") or ROOT / ".venv")
    try:
        if not fits(environment, development=development):
            build(environment, development=development)
    except BootstrapError as error:
        sys.exit(f"\n{error}")
    except KeyboardInterrupt:
        sys.exit("\nStopped. Run the same command again to go on.")
    python = environment / "bin" / "python"
    if Path(sys.prefix).resolve() != environment.resolve():
        sys.stdout.flush()
        os.execv(python, [str(python), str(ROOT / "manage.py"), *arguments])


def digest(lock: str) -> str:
    """sha-256 of a lock file of the checkout, in hex."""
    return hashlib.sha256((ROOT / lock).read_bytes()).hexdigest()


def fits(environment: Path, *, development: bool) -> bool:
    """Whether the environment was built, to the end, from today's lock files and still has its Python."""
    if (environment / MARKER).exists() or not os.access(environment / "bin" / "python", os.X_OK):
        return False
    try:
        stamp = json.loads((environment / STAMP).read_text())
    except (OSError, ValueError):
        return False
    if stamp.get("runtime") != digest(RUNTIME_LOCK):
        return False
    return not development or stamp.get("development") == digest(DEVELOPMENT_LOCK)


def build(environment: Path, *, development: bool) -> None:
    """Make or complete the environment, showing what is being done.

    Raises BootstrapError when this Python has no pip, or when pip fails.
    """
    started = time.monotonic()
    with alone(environment.with_name(environment.name + ".lock")):
        if fits(environment, development=development):  # built while we waited
            return
        base = base_python()
        marker = environment / MARKER
        if marker.exists() or not os.access(environment / "bin" / "python", os.X_OK):
            say("Making a virtual environment in .venv")
            shutil.rmtree(environment, ignore_errors=True)
            make(base, environment)
        marker.write_text(str(os.getpid()))
        lock = DEVELOPMENT_LOCK if development else RUNTIME_LOCK
        install(installer(base, environment), lock, started)
        stamp = {
            "python": "{}.{}".format(*sys.version_info[:2]),
            "runtime": digest(RUNTIME_LOCK),
            "development": digest(DEVELOPMENT_LOCK) if development else None,
        }
        temporary = environment / (STAMP + ".new")
        temporary.write_text(json.dumps(stamp))
        temporary.replace(environment / STAMP)
        marker.unlink()
    say(f"Libraries ready after {time.monotonic() - started:.0f} s")


def base_python() -> str:
    """The Python that virtual environments are made from, also when we already run inside one."""
    return getattr(sys, "_base_executable", None) or sys.executable


def make(base: str, environment: Path) -> None:
    """Create the virtual environment: without pip when the base has one, else with the bundled pip."""
    options = ["--without-pip"] if runs(base, "-m", "pip", "--version") else []
    if options == [] and find_spec("ensurepip") is None:
        raise BootstrapError(
            "This Python has no pip, so Darkroom's libraries cannot be installed.\n"
            "Install it (on Debian and Ubuntu: the packages python3-pip and python3-venv) and run the command again."
        )
    outcome = subprocess.run(
        [base, "-m", "venv", *options, str(environment)], capture_output=True, text=True, check=False
    )
    if outcome.returncode:
        raise BootstrapError(
            f"Python could not make a virtual environment in {environment}:\n{tail(outcome.stdout + outcome.stderr)}\n"
            "Check that the folder is writable and the disk has room, and that the venv module is there "
            "(on Debian and Ubuntu: the package python3-venv)."
        )


def installer(base: str, environment: Path) -> list[str]:
    """The command line that starts pip for the environment."""
    python = str(environment / "bin" / "python")
    if runs(base, "-m", "pip", "--version"):
        return [base, "-m", "pip", "--python", python]
    return [python, "-m", "pip"]


def runs(*command: str) -> bool:
    """Whether a command exits with 0."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def install(pip: list[str], lock: str, started: float) -> None:
    """Let pip install a lock file, with one live line of progress. Raises BootstrapError if pip fails."""
    # The lock is complete, so pip need not resolve anything: --no-deps.
    command = [*pip, "install", "--require-hashes", "--no-deps", "--no-input", "--disable-pip-version-check"]
    command += ["--progress-bar", "off", "-r", str(ROOT / lock)]
    total = len(re.findall(r"^[a-z0-9].*==", (ROOT / lock).read_text(), re.MULTILINE | re.IGNORECASE))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)
    assert process.stdout is not None
    lines: list[str] = []
    try:
        with Progress("Installing libraries", started) as progress:
            found = 0
            for line in process.stdout:
                lines.append(line)
                if line.startswith("Collecting "):
                    found += 1
                    name = re.split(r"[=<>! ]", line.split()[1], maxsplit=1)[0]
                    progress.show(f"{found} of about {total}: {name}")
                elif line.startswith("Installing collected packages"):
                    progress.show(f"unpacking {found} packages")
        code = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if code:
        raise BootstrapError(explain("".join(lines)))


def explain(output: str) -> str:
    """A failed installation in words: what happened, what it means, what to do."""
    if NO_NETWORK.search(output):
        advice = (
            "The package index cannot be reached. Check the network connection; behind a proxy set HTTPS_PROXY, "
            "and with a mirror of your own set PIP_INDEX_URL. Then run the command again."
        )
    elif "DO NOT MATCH THE HASHES" in output:
        advice = (
            "A downloaded file is not the one that the lock file names, so nothing of it was installed. "
            "Run the command again; if it stays so, your package index serves other files than the public one."
        )
    elif "No space left" in output:
        advice = "The disk is full. The libraries need about 500 MB. Free some room and run the command again."
    else:
        advice = "Run the command again; what pip said above names the package that it could not install."
    return f"Darkroom's libraries could not be installed.\n{tail(output)}\n{advice}"


def tail(output: str, lines: int = 12) -> str:
    """The last lines of some output, indented."""
    return "\n".join("    " + line for line in output.rstrip().splitlines()[-lines:])


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a file lock, so that two first starts do not build at once; says so when it has to wait."""
    import fcntl  # absent on Windows, where ensure() has refused already

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("Another process is installing the libraries; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def say(text: str, stream: TextIO | None = None) -> None:
    """One line for people, on stderr: what commands print as their result stays clean."""
    print(text, file=stream or sys.stderr, flush=True)


class Progress:
    """One live line with the seconds gone by on a terminal; on anything else a plain line now and then."""

    def __init__(self, title: str, started: float, every: float = 5.0) -> None:
        self.title, self.started, self.every = title, started, every
        self.live = sys.stderr.isatty()
        self.last = 0.0

    def __enter__(self) -> Self:
        if not self.live:
            say(f"{self.title} (about half a minute the first time)")
        return self

    def show(self, detail: str) -> None:
        """Replace the live line, or print a plain one if the last is some seconds old."""
        seconds = time.monotonic() - self.started
        text = f"{self.title}: {detail} ({seconds:.0f} s)"
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write("\r\x1b[K" + text[:width])
            sys.stderr.flush()
        elif seconds - self.last >= self.every:
            self.last = seconds
            say("  " + text)

    def __exit__(self, *_: object) -> None:
        if self.live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
