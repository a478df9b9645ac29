"""The lifecycle against a real provider's stand-in: the sandbox in a process of its own, one for the whole run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from generations import conf, wakeups
from providers.sandbox.client import SandboxControl
from providers.sandbox.process import SandboxProcess
from tests.generations.execution.studio import Studio
from tests.generations.execution.workers import Workers


@pytest.fixture(scope="session")
def sandbox_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """The sandbox; a picture takes it 20 ms."""
    with SandboxProcess(tmp_path_factory.mktemp("sandbox"), "--light", "--speed", "0.02", "--never", "600") as process:
        yield process


@pytest.fixture
def sandbox(sandbox_process: SandboxProcess) -> Iterator[SandboxControl]:
    """Its control endpoint. Every test has keys of its own, so nothing of other tests is seen under them."""
    control = SandboxControl(sandbox_process.base_url)
    yield control
    control.close()


@pytest.fixture
def limits(settings: Any) -> Iterator[Callable[..., None]]:
    """Scale limits for one test: ``limits(lease=4)``."""
    before = settings.DARKROOM

    def scale(**changes: float) -> None:
        settings.DARKROOM = {**settings.DARKROOM, **{name: str(value) for name, value in changes.items()}}
        conf.limits.cache_clear()

    yield scale
    settings.DARKROOM = before
    conf.limits.cache_clear()


@pytest.fixture
def hints(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The wake-ups that would have been sent: the tests look by themselves."""
    sent: list[str] = []

    def note(name: str, **kwargs: str) -> None:
        sent.append(":".join([name.rpartition(".")[2], *kwargs.values()]))

    monkeypatch.setattr(wakeups, "_wake", note)
    return sent


@pytest.fixture
def studio(sandbox: SandboxControl, hints: list[str], settings: Any, tmp_path: Path) -> Studio:
    """A user, money, a place for files, and the workers' work, one call at a time."""
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {
            "BACKEND": "generations.storage.DurableFileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / "media")},
        },
    }
    return Studio(sandbox)


@pytest.fixture(scope="session")
def worker_parent(django_db_setup: None) -> Iterator[Workers]:
    """The parent of all workers."""
    parent = Workers()
    yield parent
    parent.close()


@pytest.fixture
def workers(worker_parent: Workers, transactional_db: None, studio: Studio) -> Workers:
    """Workers in processes of their own; what they see must be committed."""
    return worker_parent
