"""The renderer: reads an order per line from stdin, writes the file, answers a line on stdout; ends at EOF."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from providers.sandbox.art.film import film
from providers.sandbox.art.picture import picture


def main() -> None:
    """Serve until stdin closes, with less priority than the server."""
    os.nice(5)
    for line in sys.stdin:
        order = json.loads(line)
        error = ""
        try:
            draw(Path(order["path"]), Path(order["uploads"]), order["spec"])
        except Exception as problem:  # noqa: BLE001 - the server reports it to whoever asked for the file
            error = f"{type(problem).__name__}: {problem}"
        print(json.dumps({"error": error}), flush=True)


def draw(path: Path, uploads: Path, spec: dict[str, Any]) -> None:
    """Make the file of a spec; it appears under its name only when it is whole."""
    partial = path.with_suffix(f".{os.getpid()}{path.suffix}")
    try:
        if spec["medium"] == "video":
            film(partial, uploads, spec)
        else:
            picture(uploads, spec).save(partial, "PNG", compress_level=4)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
