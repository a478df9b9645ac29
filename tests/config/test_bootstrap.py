"""``manage.py`` and ``bootstrap``: from a bare Python to ours."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import bootstrap
import manage


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An environment that was built from today's lock files."""
    path = tmp_path / ".venv"
    (path / "bin").mkdir(parents=True)
    (path / "bin" / "python").symlink_to(sys.executable)
    stamp = {"runtime": bootstrap.digest("requirements.lock"), "development": None}
    (path / bootstrap.STAMP).write_text(json.dumps(stamp))
    return path


def test_leaves_an_environment_alone_that_fits(environment: Path) -> None:
    assert bootstrap.fits(environment, development=False)


def test_builds_again_for_the_test_tools(environment: Path) -> None:
    assert not bootstrap.fits(environment, development=True)


@pytest.mark.parametrize("damage", ["lock changed", "cut off", "python gone", "stamp unreadable", "absent"])
def test_builds_again_when(environment: Path, damage: str) -> None:
    if damage == "lock changed":
        (environment / bootstrap.STAMP).write_text(json.dumps({"runtime": "0" * 64}))
    elif damage == "cut off":
        (environment / bootstrap.MARKER).touch()
    elif damage == "python gone":
        (environment / "bin" / "python").unlink()
    elif damage == "stamp unreadable":
        (environment / bootstrap.STAMP).write_text("{")
    else:
        environment = environment / "nowhere"
    assert not bootstrap.fits(environment, development=False)


def test_makes_a_cut_off_environment_anew(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (environment / bootstrap.MARKER).touch()
    (environment / "half").touch()
    installed: list[str] = []
    monkeypatch.setattr(bootstrap, "install", lambda pip, lock, started: installed.append(lock))
    bootstrap.build(environment, development=True)
    assert installed == ["requirements-dev.lock"]
    assert not (environment / "half").exists()
    assert bootstrap.fits(environment, development=True)
    assert bootstrap.fits(environment, development=False)


def test_stays_unfinished_when_the_installation_fails(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise bootstrap.BootstrapError("no")

    (environment / bootstrap.STAMP).unlink()
    monkeypatch.setattr(bootstrap, "install", fail)
    with pytest.raises(bootstrap.BootstrapError):
        bootstrap.build(environment, development=False)
    assert not bootstrap.fits(environment, development=False)
    assert (environment / bootstrap.MARKER).exists()


def test_waits_for_another_process_that_builds(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lock = tmp_path / "lock"
    script = (
        "import bootstrap, sys; from pathlib import Path\n"
        "with bootstrap.alone(Path(sys.argv[1])): print('in', flush=True)"
    )
    with bootstrap.alone(lock):
        other = subprocess.Popen(
            [sys.executable, "-c", script, str(lock)],
            cwd=bootstrap.ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert other.stderr is not None
        assert "waiting for it" in other.stderr.readline()
        assert other.poll() is None
    out, _ = other.communicate(timeout=10)
    assert out == "in\n"


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        ("NewConnectionError: Temporary failure in name resolution", "cannot be reached"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "not the one that the lock"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("error: something else", "Run the command again"),
    ],
)
def test_says_what_to_do_about(output: str, advice: str) -> None:
    text = bootstrap.explain(output)
    assert advice in text
    assert output in text


def test_says_that_pip_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "runs", lambda *command: False)
    monkeypatch.setattr(bootstrap, "find_spec", lambda name: None)
    with pytest.raises(bootstrap.BootstrapError, match="python3-pip"):
        bootstrap.make(sys.executable, tmp_path / "venv")


def test_refuses_an_old_python_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 8, 1))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer, and this is Python 3\.8"):
        manage.main()


def test_finds_a_newer_python_beside_an_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "python3.12").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert manage.newer_python() == str(tmp_path / "python3.12")


def test_is_written_so_that_old_pythons_can_read_it() -> None:
    ast.parse((bootstrap.ROOT / "manage.py").read_text(), feature_version=(3, 4))


def test_locks_pin_every_package_by_hash_and_the_tools_lock_holds_the_other() -> None:
    def pins(name: str) -> set[str]:
        text = (bootstrap.ROOT / name).read_text()
        found = {line.split(" ")[0] for line in text.splitlines() if line and not line.startswith((" ", "#"))}
        assert all("==" in pin for pin in found)
        assert text.count("--hash=sha256:") >= len(found)
        return found

    assert pins("requirements.lock") <= pins("requirements-dev.lock")


def test_locks_everything_that_the_project_and_its_extras_need() -> None:
    project = tomllib.loads((bootstrap.ROOT / "pyproject.toml").read_text())["project"]
    lock = (bootstrap.ROOT / "requirements.lock").read_text()
    pinned = {canonicalize_name(name) for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}
    waiting = [Requirement(text) for text in project["dependencies"]]
    seen: set[tuple[str, str]] = set()
    while waiting:
        wanted = waiting.pop()
        assert canonicalize_name(wanted.name) in pinned, wanted
        for extra in {"", *wanted.extras}:
            if (wanted.name, extra) in seen:
                continue
            seen.add((wanted.name, extra))
            for text in metadata.requires(wanted.name) or []:
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    waiting.append(needed)
    # Its Redis transport imports what only this extra brings.
    assert ("kombu", "redis") in seen


def test_does_nothing_when_it_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_BOOTSTRAP", "off")
    monkeypatch.setenv("DARKROOM_VENV", os.devnull)
    bootstrap.ensure(["up"])
