"""Settings, in a process of their own for each environment."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from config.embedded.home import ROOT

GOOD = {
    "DARKROOM_PRODUCTION": "1",
    "SECRET_KEY": "k" * 50,
    "CREDENTIAL_KEYS": "c" * 50,
    "DATABASE_URL": "postgres://somewhere/else",
    "REDIS_URL": "redis://somewhere/0",
}


def load(**changes: str | None) -> subprocess.CompletedProcess[str]:
    """What becomes of ``import config.settings`` in an environment of GOOD with changes (None: unset)."""
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    environment |= {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    command = [sys.executable, "-c", "import config.settings"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_starts_in_production_with_secrets_of_its_own() -> None:
    outcome = load()
    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"SECRET_KEY": None}, "SECRET_KEY"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY"),
        ({"CREDENTIAL_KEYS": None}, "CREDENTIAL_KEYS"),
        ({"DEBUG": "1"}, "DEBUG"),
    ],
)
def test_refuses_production_with(changes: dict[str, str | None], word: str) -> None:
    outcome = load(**changes)
    assert outcome.returncode != 0
    assert "ImproperlyConfigured" in outcome.stderr
    assert word in outcome.stderr.splitlines()[-1]
