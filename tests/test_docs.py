"""The documents say what is true: every variable is there, every link and every named test exists."""

from __future__ import annotations

import re
import struct
from dataclasses import fields
from pathlib import Path

import pytest

from generations.conf import Limits
from tests.mutation.mutants import MUTANTS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
LINK = re.compile(r"!?\[([^\]]*)\]\(([^)\s]+)\)")
READS = (
    re.compile(r"""\benv\.\w+\(\s*"([A-Z][A-Z0-9_]+)\""""),
    re.compile(r"""\bos\.environ(?:\.get\(|\[)\s*"([A-Z][A-Z0-9_]+)\""""),
    re.compile(r"""\"([A-Z][A-Z0-9_]+)" (?:not )?in os\.environ"""),
)
LIMIT_ROW = re.compile(r"^\| `DARKROOM_(\w+)` \| ([0-9.]+) \| ([\w ]+) \| .+ \|$", re.MULTILINE)
# Of pytest and of ours alone: set by programs for programs, not by people.
NOT_FOR_PEOPLE = {"DJANGO_SETTINGS_MODULE", "PYTEST_XDIST_WORKER"}
LARGEST_PICTURE = 300 * 1000
# Brackets, so that the check of the tree in .ci/run does not find this file.
HOSTS = re.compile(r"py[p]i\.org|python[h]osted|npm[j]s|index-ur[l] *=|regi[s]try\.\w+\.\w+", re.IGNORECASE)


def links() -> list[tuple[Path, str, str]]:
    """(document, text, target) of every relative link."""
    found: list[tuple[Path, str, str]] = []
    for document in DOCUMENTS:
        pairs = LINK.findall(document.read_text())
        found += [(document, text, target) for text, target in pairs if not re.match(r"[a-z]+:", target)]
    return found


def read_variables() -> set[str]:
    """Every environment variable that the code reads by a literal name."""
    sources = [ROOT / "bootstrap.py"]
    for folder in ("config", "generations", "accounts", "providers"):
        sources += (ROOT / folder).rglob("*.py")
    texts = [source.read_text() for source in sources]
    return {name for text in texts for pattern in READS for name in pattern.findall(text)} - NOT_FOR_PEOPLE


def test_find_something_to_check() -> None:
    assert {"README.md", "CHANGELOG.md", "configuration.md", "operations.md"} <= {path.name for path in DOCUMENTS}
    assert len(links()) > 20
    assert {"SECRET_KEY", "DARKROOM_WORKERS", "EMBEDDED_PG_BIN", "PROMETHEUS_MULTIPROC_DIR"} <= read_variables()


@pytest.mark.parametrize("name", sorted(read_variables()))
def test_list_every_variable_that_is_read(name: str) -> None:
    assert f"| `{name}` |" in CONFIGURATION


def test_list_every_limit_with_its_default_and_unit() -> None:
    told = {name.lower(): float(default) for name, default, _unit in LIMIT_ROW.findall(CONFIGURATION)}
    assert told == {field.name: float(field.default) for field in fields(Limits)}  # type: ignore[arg-type]


def test_list_no_variable_twice() -> None:
    names = re.findall(r"^\| `(\w+)` \|", CONFIGURATION, re.MULTILINE)
    assert len(names) == len(set(names))


def test_list_no_variable_that_nothing_reads() -> None:
    listed = set(re.findall(r"^\| `([A-Z]\w+)` \|", CONFIGURATION, re.MULTILINE))
    assert listed == read_variables() | {f"DARKROOM_{field.name.upper()}" for field in fields(Limits)}


@pytest.mark.parametrize(
    ("document", "target"),
    [(document, target) for document, _text, target in links()],
    ids=lambda part: Path(part).name,
)
def test_link_only_to_what_exists(document: Path, target: str) -> None:
    assert (document.parent / target.partition("#")[0]).exists()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (text, document.parent / target)
        for document, text, target in links()
        if target.removeprefix("../").startswith("tests/") and "test_" in text
    ],
    ids=lambda part: Path(part).name.strip("`"),
)
def test_name_only_tests_that_exist(text: str, path: Path) -> None:
    assert re.search(rf"^ *def {re.escape(text.strip('`'))}\(", path.read_text(), re.MULTILINE)


def test_list_every_planted_bug() -> None:
    told = (ROOT / "docs" / "proof.md").read_text().partition("## Planted bugs")[2].partition("\n## ")[0]
    assert re.findall(r"^\| (.+?) \| .+ \|$", told, re.MULTILINE)[1:] == [mutant.name for mutant in MUTANTS]


def test_name_a_test_for_every_invariant() -> None:
    rows = re.findall(r"^\| (I\d+) \| .+ \| (.+) \|$", (ROOT / "docs" / "proof.md").read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == [f"I{number}" for number in range(1, 15)]
    assert [name for name, held_by in rows if "](../tests/" not in held_by] == []


def test_hold_each_promise_by_a_test() -> None:
    rows = re.findall(r"^\| [1-5]\. .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(rows) == 5
    assert all("](tests/" in row for row in rows)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_name_no_registry_and_no_machine_path(document: Path) -> None:
    text = document.read_text()
    assert not HOSTS.search(text)
    assert not re.search(r"(^|[^\w.~/-])/(root|work|home|Users|tmp)/", text, re.MULTILINE)


@pytest.mark.parametrize("picture", sorted((ROOT / "docs" / "images").iterdir()), ids=lambda path: path.name)
def test_show_small_pictures_that_are_used(picture: Path) -> None:
    head = picture.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", head[16:24])
    assert min(width, height) > 100
    assert picture.stat().st_size < LARGEST_PICTURE
    assert any(target.endswith(f"images/{picture.name}") for _document, _text, target in links())
