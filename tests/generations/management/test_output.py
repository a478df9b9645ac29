"""How commands print."""

from __future__ import annotations

import io
from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management.base import BaseCommand

from generations.management.output import moment, positive, table


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def printed(stream: io.StringIO) -> list[str]:
    command = BaseCommand(stdout=stream, no_color=True)
    table(command, ["name", "number", "text"], [("a", 5, "x" * 300), ("longer", 12345, "y")])
    return stream.getvalue().splitlines()


def test_aligns_columns_and_puts_numbers_to_the_right() -> None:
    header, first, second = printed(io.StringIO())
    assert header == "name    number  text"
    assert first.startswith("a            5  xxx")
    assert second == "longer   12345  y"


def test_cuts_the_last_column_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, printed(Terminal()))) == 60
    assert printed(Terminal())[1].endswith("…")
    assert max(map(len, printed(io.StringIO()))) > 300


@pytest.mark.parametrize(
    ("text", "ago"),
    [("30m", 1800), ("30min", 1800), ("2h", 7200), ("3d", 3 * 86400), ("1.5 h", 5400), ("1w", 7 * 86400)],
)
def test_reads_an_age(text: str, ago: float) -> None:
    assert abs(datetime.now(UTC) - moment(text) - timedelta(seconds=ago)) < timedelta(seconds=5)


def test_reads_a_date_and_a_time_as_utc() -> None:
    assert moment("2026-11-23") == datetime(2026, 11, 23, tzinfo=UTC)
    assert moment("2026-11-23T09:30") == datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
    assert moment("2026-11-23T09:30+02:00") == datetime(2026, 11, 23, 7, 30, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-40", "3", "-2h", "2026-11-23T99:00"])
def test_refuses_what_is_no_time(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="no time"):
        moment(text)


def test_takes_only_whole_numbers_above_zero() -> None:
    assert positive("20") == 20
    for text in ("0", "-1", "1.5", "x", "²"):
        with pytest.raises(ArgumentTypeError):
            positive(text)
