"""What the proofs stand on: hints that nobody sends, files of their own, budgets that are soon used up."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from generations import conf, media, wakeups
from generations.execution.results import StoredOutput
from tests import factories
from tests.proof.clock import Clock
from tests.proof.desk import Audit

FEW = {
    "error_retries": 1,
    "busy_bounces": 1,
    "not_sent_limit": 3,
    "max_submissions": 4,
    "collect_tries": 2,
    "last_looks": 2,
    "poison_claims": 3,
}
"""Budgets that an example of forty moves can use up."""


@pytest.fixture(autouse=True)
def _hints(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proofs look by themselves."""
    monkeypatch.setattr(wakeups, "_wake", lambda name, **kwargs: None)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of lines about what was meant to happen tell nobody anything."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(autouse=True)
def _files(settings: Any, tmp_path: Path) -> None:
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {
            "BACKEND": "generations.storage.DurableFileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / "media")},
        },
    }


@pytest.fixture
def few(settings: Any) -> Iterator[None]:
    """Small budgets; the times are as they are."""
    before = settings.DARKROOM
    settings.DARKROOM = {**before, **{name: str(value) for name, value in FEW.items()}}
    conf.limits.cache_clear()
    yield
    settings.DARKROOM = before
    conf.limits.cache_clear()


@pytest.fixture
def clock(transactional_db: None) -> Iterator[Clock]:
    """The database's clock, in the test's hand."""
    clock = Clock()
    yield clock
    clock.give_back()


@pytest.fixture
def audit(transactional_db: None) -> Iterator[Audit]:
    """The invariants, to be looked at again and again."""
    audit = Audit()
    yield audit
    audit.close()


@pytest.fixture
def picture(tmp_path: Path) -> StoredOutput:
    """A picture as a collector has stored it, with its bytes in the storage."""
    path = tmp_path / "picture.png"
    content = factories.picture()
    path.write_bytes(content)
    key = factories.stored(content, "png")
    return StoredOutput(0, key, key, hashlib.sha256(content).hexdigest(), len(content), media.inspect(path))
