"""What a batch's ZIP holds: its outputs and their exports, by names that a person understands."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from generations.formats import FORMATS, ORIGINAL
from generations.lifecycle import Status
from generations.models import Asset, Batch, BatchItem, Export

LONGEST = 80
CHUNK = 500
MISSING = "missing.txt"
_UNSAFE = re.compile(r"[^\w .()+,=@-]")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the ZIP: under which name, and which stored bytes."""

    name: str
    key: str
    size: int
    asset_id: UUID


@dataclass(slots=True)
class Bundle:
    """``missing``: a line for each file that was wanted and is not there, with the reason."""

    name: str
    entries: list[Entry] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def note(self) -> str:
        """What is written into the ZIP about what is missing; empty where nothing is."""
        if not self.missing:
            return ""
        return "\n".join(["These were not there when the ZIP was made:", "", *self.missing, ""])


def bundle(batch: Batch, formats: Collection[str] = ()) -> Bundle:
    """The files of a batch in these formats; without any in those that it was asked for, or as they are.

    Four queries, and one more for every 500 outputs.
    """
    wanted = list(formats) or list(dict.fromkeys(one["format"] for one in batch.export_formats)) or [ORIGINAL]
    wanted = [name for name in FORMATS if name in wanted]  # in one order, and none that there is no more
    found = Bundle(safe(batch.name) or f"batch-{batch.pk.hex[-6:]}")
    items = list(
        BatchItem.objects.filter(batch=batch)
        .order_by("position")
        .values_list("variation_key", "generation", "generation__status", "detached_at")
    )
    outputs = _outputs({pk for _, pk, status, _ in items if status == Status.COMPLETED})
    made = _exports([asset.pk for assets in outputs.values() for asset in assets], wanted)
    names = _Names()
    for key, pk, status, detached_at in items:
        if status != Status.COMPLETED or detached_at:
            found.missing.append(f"{key}: {'cancelled' if detached_at else status}")
            continue
        for number, asset in enumerate(outputs[pk], start=1):
            stem = safe(key) + (f"_{number}" if len(outputs[pk]) > 1 else "")
            for name in wanted:
                files = list(_files(name, asset, made[asset.pk, name]))
                if not files:
                    found.missing.append(f"{stem} {name}: {_why(asset, made[asset.pk, name])}")
                for suffix, file in files:
                    path = names.free(f"{found.name}/{stem}_{name}{suffix}", file.key.rpartition(".")[2])
                    found.entries.append(Entry(path, file.key, file.size, file.pk))
    return found


def safe(text: str) -> str:
    """A name that every system takes for a file, without path; empty where nothing of it is left."""
    text = _UNSAFE.sub("_", unicodedata.normalize("NFC", text))
    return " ".join(text.split()).strip(". ")[:LONGEST].strip(". ")


class _Names:
    """Gives each name once; systems that do not tell a from A are thought of."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def free(self, stem: str, extension: str) -> str:
        number, name = 1, f"{stem}.{extension}"
        while name.casefold() in self._taken:
            number += 1
            name = f"{stem}-{number}.{extension}"
        self._taken.add(name.casefold())
        return name


def _outputs(generation_ids: Collection[UUID]) -> dict[UUID, list[Asset]]:
    """The results of these Generations, in their order; those that have expired too."""
    found: dict[UUID, list[Asset]] = defaultdict(list)
    rows = Asset.objects.results_of(generation_ids)
    for asset in rows.select_related("submission").order_by("submission__number", "index"):
        assert asset.submission is not None  # it is an output
        found[asset.submission.generation_id].append(asset)
    return found


def _exports(asset_ids: list[UUID], formats: Iterable[str]) -> dict[tuple[UUID, str], list[Export]]:
    """Of these outputs in these formats, by output and format."""
    found: dict[tuple[UUID, str], list[Export]] = defaultdict(list)
    for start in range(0, len(asset_ids), CHUNK):
        rows = Export.objects.filter(asset__in=asset_ids[start : start + CHUNK], format__in=formats)
        for row in rows.select_related("result", "poster").order_by("pk"):
            found[row.asset_id, row.format].append(row)
    return found


def _files(name: str, asset: Asset, exports: list[Export]) -> Iterator[tuple[str, Asset]]:
    """What there is of one output in one format, with the end of each file's name."""
    several = len(exports) > 1
    if name == ORIGINAL:
        if not asset.expired_at:
            yield "", asset
        exports = [one for one in exports if one.poster]
    for one in exports:
        suffix = f"_{one.fit}" if several else ""
        if name != ORIGINAL and one.result and not one.result.expired_at:
            yield suffix, one.result
        if one.poster and not one.poster.expired_at:
            yield f"{suffix}_poster", one.poster


def _why(asset: Asset, exports: list[Export]) -> str:
    if not exports:
        return "its file has expired" if asset.expired_at else "was not asked for"
    newest = exports[-1]
    if newest.state == Export.State.FAILED:
        return f"failed ({newest.error_message})"
    return "is being made" if newest.state == Export.State.PENDING else "its file has expired"
