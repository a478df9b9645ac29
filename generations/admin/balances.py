"""An account's balance day by day, beside what its attempts explain: a table and a small picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from accounts.admin.base import HistoryAdmin
from accounts.admin.words import NOTHING, amount, label
from accounts.models import Account, BalanceReading
from generations.reports.balances import tone, words

DAYS = 30
WIDTH, HEIGHT, EDGE = 640, 120, 8
COLOURS = {"bad": "var(--dr-bad)", "warn": "var(--dr-warn)", "busy": "var(--dr-busy)"}


@dataclass(frozen=True, slots=True)
class Day:
    """One reading as the page shows it."""

    reading: BalanceReading
    drift: SafeString | str
    words: str

    @property
    def balance(self) -> str:
        """What there was."""
        return amount(self.reading.balance)

    @property
    def expected(self) -> str:
        """What there was to be."""
        return amount(self.reading.expected)

    @property
    def spent(self) -> str:
        """What its attempts cost."""
        return amount(self.reading.spent) if self.reading.drift is not None else NOTHING


def days_of(account: Account) -> list[Day]:
    """An account's last readings, newest first."""
    rows = BalanceReading.objects.filter(account=account).order_by("-day")[:DAYS]
    return [Day(row, drift_label(row), words(row)) for row in rows]


def drift_label(reading: BalanceReading) -> SafeString | str:
    """``+300``, ``−120``, coloured by what it means."""
    if reading.drift is None:
        return NOTHING
    sign = "+" if reading.drift > 0 else "−" if reading.drift < 0 else ""
    return format_html(
        '<span title="{}">{}</span>', words(reading), label(f"{sign}{amount(abs(reading.drift))}", tone(reading))
    )


def chart(readings: Sequence[BalanceReading]) -> SafeString | str:
    """The balances as a line, what was expected as a dashed one; a dot where they differ. Empty for fewer than two."""
    rows = list(reversed(readings))
    if len(rows) < 2:
        return ""
    values = [value for row in rows for value in (row.balance, row.expected) if value is not None]
    low, high = min(values), max(values)
    span = (high - low) or Decimal(1)
    first, days = rows[0].day, max((rows[-1].day - rows[0].day).days, 1)

    def point(row: BalanceReading, value: Decimal) -> tuple[str, str]:
        x = EDGE + (WIDTH - 2 * EDGE) * (row.day - first).days / days
        y = HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * float((value - low) / span)
        return f"{x:.1f}", f"{y:.1f}"

    def line(points: list[tuple[str, str]]) -> str:
        return " ".join(",".join(one) for one in points)

    actual = line([point(row, row.balance) for row in rows])
    expected = line([point(row, row.expected) for row in rows if row.expected is not None])
    dots = format_html_join(
        "",
        '<circle cx="{}" cy="{}" r="4" fill="{}"><title>{}: {} instead of {}. {}</title></circle>',
        (
            (
                *point(row, row.balance),
                COLOURS[tone(row)],
                row.day,
                amount(row.balance),
                amount(row.expected),
                words(row),
            )
            for row in rows
            if tone(row) in COLOURS
        ),
    )
    return format_html(
        '<svg class="dr-chart" viewBox="0 0 {w} {h}" role="img" aria-label="Balance from {a} to {b}, between {low} and '
        '{high}"><polyline points="{expected}" fill="none" stroke="var(--dr-soft)" stroke-dasharray="4 4"/>'
        '<polyline points="{actual}" fill="none" stroke="var(--color-primary-500)" stroke-width="2"/>{dots}</svg>',
        w=WIDTH,
        h=HEIGHT,
        a=first,
        b=rows[-1].day,
        low=amount(low),
        high=amount(high),
        expected=expected,
        actual=actual,
        dots=dots,
    )


@admin.register(BalanceReading)
class BalanceReadingAdmin(HistoryAdmin[BalanceReading]):
    """One a day and account, newest first."""

    list_display = ("day", "account", "had", "was_expected", "drift_shown", "costs", "attempts", "unpriced")
    list_select_related = ("account",)
    list_filter = ("account",)

    @admin.display(description="Balance")
    def had(self, row: BalanceReading) -> str:
        """What there was."""
        return amount(row.balance)

    @admin.display(description="Expected")
    def was_expected(self, row: BalanceReading) -> str:
        """What there was to be."""
        return amount(row.expected)

    @admin.display(description="Drift")
    def drift_shown(self, row: BalanceReading) -> SafeString | str:
        """Coloured by what it means."""
        return drift_label(row)

    @admin.display(description="Its attempts cost")
    def costs(self, row: BalanceReading) -> str:
        """As far as it is known."""
        return amount(row.spent)
