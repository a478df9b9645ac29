"""pytest plugin: real, throw-away servers for a test run, started once, before settings are read.

Loaded by ``addopts`` in pyproject.toml. With DATABASE_URL or REDIS_URL set, that server is used instead. Under
xdist only the controller starts servers; its workers inherit the environment.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Generator
from pathlib import Path

import psutil
import pytest

from config.embedded.home import var_dir
from config.embedded.servers import EmbeddedError, Servers

_key = pytest.StashKey[Servers]()


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, object, object]:
    """Start what is missing. A wrapper, so that it comes before pytest-django's own hook."""
    # Whoever starts the tests in the background of a script has them ignore Ctrl-C, and all that they start as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    options = early_config.known_args_namespace
    needed = not (options.help or options.version or "PYTEST_XDIST_WORKER" in os.environ)
    if needed and not (os.environ.get("DATABASE_URL") and os.environ.get("REDIS_URL")):
        folder = _folder()
        servers = Servers(folder, throwaway=True)
        try:
            servers.start()
        except EmbeddedError as error:
            raise pytest.UsageError(str(error)) from error
        early_config.stash[_key] = servers
        early_config.add_cleanup(servers.stop)
    return (yield)


def _folder() -> Path:
    """A folder named after this process; those of test runs that were killed are removed."""
    root = var_dir() / "test"
    root.mkdir(exist_ok=True)
    for old in root.iterdir():
        if old.name.isdigit() and not psutil.pid_exists(int(old.name)):
            shutil.rmtree(old, ignore_errors=True)
    folder = root / str(os.getpid())
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def pytest_report_header(config: pytest.Config) -> str:
    """Which servers the tests run on."""
    if _key not in config.stash:
        return "servers: DATABASE_URL and REDIS_URL as given"
    started = [f"{server.name} on port {server.port}" for server, _, _ in config.stash[_key].running]
    return "servers: " + ", ".join(started)
