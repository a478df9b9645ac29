"""The mutation gate: ``python3 manage.py test --mutants [words of a name ...]``.

Plants each bug of ``mutants.py`` in a copy of the tree and runs the tests that must notice it; a bug that no test
notices is a hole in the proof. First the same tests must pass without any bug. Exit code 1 unless every bug is found.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from config.embedded.servers import Servers
from tests.mutation.mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 300
"""A bug that hangs the tests is found too."""
PASSED, FAILED = 0, 1
"""pytest's exit codes; all others mean that it could not run the tests at all."""


def main(words: Sequence[str]) -> int:
    """Try the bugs whose names hold one of these words; all of them without any."""
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.name for word in words)]
    if not chosen:
        print(f"No planted bug is named so. There are: {', '.join(mutant.name for mutant in MUTANTS)}")
        return 2
    with tempfile.TemporaryDirectory(prefix="darkroom-mutants-") as folder:
        tree = Path(folder) / "tree"
        _copy(tree)
        place = Path(folder) / "servers"
        place.mkdir()
        servers = Servers(place, throwaway=True)
        servers.start()
        try:
            return _try_all(tree, chosen)
        finally:
            servers.stop()


def _copy(tree: Path) -> None:
    """The tree as it stands, without what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file() and name != ".venv":
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)


def _try_all(tree: Path, chosen: Sequence[Mutant]) -> int:
    print(f"Without a bug: the tests that must notice {len(chosen)} of them", flush=True)
    code, output = _pytest(tree, sorted({test for mutant in chosen for test in mutant.tests}), fresh=True)
    if code != PASSED:
        print(f"They do not pass even without one:\n{output}")
        return 1
    survivors = []
    for number, mutant in enumerate(chosen, start=1):
        started = time.monotonic()
        found = _try(tree, mutant)
        print(
            f"{number:>3}/{len(chosen)} {'found   ' if found else 'SURVIVED'} {mutant.name}: {mutant.breaks}"
            f" ({time.monotonic() - started:.0f} s)",
            flush=True,
        )
        if not found:
            survivors.append(mutant.name)
    if survivors:
        print(f"\nNo test notices: {', '.join(survivors)}")
        return 1
    print(f"\n{len(chosen)} planted bugs, every one found.")
    return 0


def _try(tree: Path, mutant: Mutant) -> bool:
    """Whether the tests notice it."""
    before = {edit.path: (tree / edit.path).read_text() for edit in mutant.edits}
    try:
        for edit in mutant.edits:
            text = (tree / edit.path).read_text()
            if text.count(edit.old) != 1:
                raise SystemExit(
                    f"{mutant.name}: what it changes stands {text.count(edit.old)} times in {edit.path}. The code has "
                    "moved on; the bug must be planted anew."
                )
            (tree / edit.path).write_text(text.replace(edit.old, edit.new))
        code, output = _pytest(tree, mutant.tests, fresh=mutant.schema)
    finally:
        for path, text in before.items():
            (tree / path).write_text(text)
        if mutant.schema:
            _pytest(tree, ["tests/generations/models/test_constraints.py::TestSets"], fresh=True)
    if code not in {PASSED, FAILED}:
        print(output)
    return code == FAILED


def _pytest(tree: Path, tests: Iterable[str], *, fresh: bool) -> tuple[int, str]:
    """pytest's exit code and output in the copy."""
    database = "--create-db" if fresh else "--reuse-db"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", database, *tests]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(tree)}
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        return FAILED, str(error)
    return done.returncode, done.stdout[-3000:] + done.stderr[-1000:]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
