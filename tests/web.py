"""The web process for tests of real HTTP: the product's own server, on the test's database."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any, Self

import requests

from config.embedded.home import ROOT
from config.embedded.ports import free_port
from config.stack import Addresses, programs, responds

START_SECONDS = 60


class Web:
    """As ``up`` runs it. ``with`` ends it."""

    def __init__(self, folder: Path, **env: str) -> None:
        addresses = Addresses("127.0.0.1", free_port(), 1, 1)
        self.url = addresses.web_url
        [program] = [one for one in programs(addresses, folder, "no:body") if one.name == "web"]
        self._log = (folder / "web.log").open("wb")
        self._process = subprocess.Popen(
            program.argv,
            env={**os.environ, **(program.env or {}), **env, "DARKROOM_VAR": str(folder), "LOG_LEVEL": "WARNING"},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

    def __enter__(self) -> Self:
        end = time.monotonic() + START_SECONDS
        while not responds(f"{self.url}/healthz"):
            assert time.monotonic() < end, "the web process does not answer"
            assert self._process.poll() is None, "the web process has ended"
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
        self._log.close()

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """One request on a connection of its own."""
        with requests.Session() as session:
            session.trust_env = False
            return session.request(method, self.url + path, timeout=30, allow_redirects=False, **options)
