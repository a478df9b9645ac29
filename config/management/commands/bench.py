"""``bench``: Darkroom beside its peers, both sides in one run; prints ratios, goals and CPU per operation."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from config.bench import accept, latency, lifecycle, slots
from config.bench.cpu import cores
from config.bench.house import House, house
from config.bench.result import Row

MEASURES: dict[str, Callable[[House, int, float], Row]] = {
    "P1": lambda where, pairs, scale: accept.measure(where, pairs=pairs, size=int(800 * scale)),
    "P5": lambda where, pairs, scale: lifecycle.measure(where, pairs=pairs, size=int(300 * scale)),
    "P7": lambda where, pairs, _scale: slots.measure(where, pairs=pairs),
    "P11": lambda where, _pairs, scale: latency.measure(where, size=max(5, int(40 * scale))),
}


class Command(BaseCommand):
    """Measures in a database of its own, which is dropped afterwards."""

    help = "Measure Darkroom beside its peers (docs: performance goals)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Which rows, how many pairs, how large."""
        parser.add_argument("rows", nargs="*", metavar="ROW", help=f"Of {', '.join(MEASURES)}; all when none is given.")
        parser.add_argument("--pairs", type=int, default=3, help="Interleaved pairs per row (default 3).")
        parser.add_argument("--scale", type=float, default=1.0, help="Size of a round; 0.1 is a smoke test.")
        parser.add_argument("--json", action="store_true", help="Print JSON.")
        parser.add_argument("--strict", action="store_true", help="Exit 1 unless every goal is reached.")

    def handle(self, **options: Any) -> None:
        """Measure row after row, each in a house of its own."""
        names: list[str] = options["rows"] or list(MEASURES)
        unknown = set(names) - set(MEASURES)
        if unknown:
            raise CommandError(f"There is no row {', '.join(sorted(unknown))}. Rows: {', '.join(MEASURES)}.")
        results = []
        for name in names:
            if not options["json"]:
                self.stderr.write(f"measuring {name} ...")
            with house() as where:
                results.append(MEASURES[name](where, options["pairs"], options["scale"]))
        if options["json"]:
            self.stdout.write(json.dumps({"cores": cores(), "rows": [row.as_dict() for row in results]}, indent=2))
        else:
            self._print(results, options["pairs"])
        if options["strict"] and not all(row.reached for row in results):
            raise CommandError("Not every goal is reached.")

    def _print(self, rows: list[Row], pairs: int) -> None:
        self.stdout.write(f"{cores()} cores, {pairs} interleaved pairs; ratios are medians, ours / theirs")
        for row in rows:
            ratio = "-" if row.ratio is None else f"{row.ratio:.2f} x"
            self.stdout.write(f"{row.id:4} {'reached' if row.reached else 'not yet':8} {ratio:>9}  {row.what}")
            self.stdout.write(f"     goal {row.goal}")
            self.stdout.write("     " + ", ".join(f"{name} {value}" for name, value in row.figures.items()))
