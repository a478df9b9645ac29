"""One sandbox in a process of its own for all tests; one caller, with a key of its own, for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from providers.sandbox.process import SandboxProcess
from tests.providers.sandbox.support import Speaker

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess(tmp_path_factory.mktemp("sandbox"), "--speed", "0.02", "--never", "1") as process:
        yield process


@pytest.fixture
def caller(sandbox: SandboxProcess) -> Iterator[Speaker]:
    speaker = Speaker(sandbox.base_url, f"sandbox-test-{next(_numbers)}")
    yield speaker
    speaker.close()
