"""Stored bytes that nothing refers to, and temporary files that were left behind.

Why an orphan is never somebody's file. Bytes are stored first and referred to by a row after (a few seconds later),
equal bytes share one file, and storing bytes that are there already makes their file new again (``storage.keep``).
So a file is removed only if all of this holds, in this order:

1. its modification time is older than ``limits().orphan_hours``;
2. after that was seen, no Asset names it as its bytes or its thumbnail (one that has expired names it only while
   something that has not ended is made from it);
3. its modification time is still old. Who stored the same bytes since (2) made it new; who did so before (2) and
   had committed was seen there.

Between the look of (3) and the removal itself there must be nothing. Where the storage is a folder, the file is first
renamed aside, which nobody can interleave with: who stores the same bytes afterwards makes a new file. If the one
aside turns out to be new it is renamed back. A crash between leaves it aside; the next run puts it back or removes it.

Only files with names as this house gives them are looked at, so that a storage that is shared with something else
loses nothing of that.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from django.core.files.storage import FileSystemStorage, Storage
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from generations.conf import limits
from generations.lifecycle import LIVE
from generations.models import Asset, GenerationInput
from generations.storage import INCOMING, storage

CHUNK = 200
MOST_PATHS = 20
ASIDE = ".aside"
FOLDER = re.compile(r"[0-9a-f]{2}(/[0-9a-f]{2})?")
OURS = re.compile(r"([0-9a-f]{2})/([0-9a-f]{2})/(\1\2[0-9a-f]{60}\.[a-z0-9]{1,8}(\.aside)?|\.incoming-[a-z0-9_]+)")
"""Keys as ``storage.key_of`` makes them, and what else we leave beside them."""
WORK_FOLDER = re.compile(r"darkroom-[a-z0-9_]{8}")
"""The temporary folders in which results and uploads are looked at (``tempfile`` adds eight letters)."""


@dataclass(slots=True)
class Swept:
    """What was removed, or would be in a dry run; ``paths`` names the first of them."""

    orphans: int = 0
    temporary: int = 0
    bytes: int = 0
    restored: int = 0
    """Put aside by a run that was killed, and somebody's after all."""
    paths: list[str] = field(default_factory=list)


def sweep(*, dry_run: bool) -> Swept:
    """Remove stored files without a row and abandoned temporary files, older than ``limits().orphan_hours``."""
    swept = Swept()
    _orphans(swept, dry_run=dry_run)
    _work_folders(swept, dry_run=dry_run)
    return swept


def _orphans(swept: Swept, *, dry_run: bool) -> None:
    """Stored files without a row, a folder at a time."""
    place = storage()
    oldest = timezone.now() - timedelta(hours=limits().orphan_hours)
    for keys in _folders(place, ""):
        for start in range(0, len(keys), CHUNK):
            chunk = keys[start : start + CHUNK]
            old = {key for key in chunk if (at := _modified_at(place, key)) is not None and at < oldest}
            # One that was put aside is looked at however young it is: somebody may be missing it.
            looked_at = [key for key in chunk if key in old or key.endswith(ASIDE)]
            referred = _referred({_plain(key) for key in looked_at})
            for key in looked_at:
                if _plain(key) in referred:
                    if key.endswith(ASIDE):
                        _put_back(place, key, swept, dry_run=dry_run)
                elif key in old:
                    _drop(place, key, oldest, swept, dry_run=dry_run)


def _drop(place: Storage, key: str, oldest: datetime, swept: Swept, *, dry_run: bool) -> None:
    """Remove one old file that nothing refers to."""
    size = _size(place, key)
    if not dry_run and not _remove(place, key, oldest):
        return
    if key.rpartition("/")[2].startswith(INCOMING):
        swept.temporary += 1
    else:
        swept.orphans += 1
    swept.bytes += size
    if len(swept.paths) < MOST_PATHS:
        swept.paths.append(key)


def _folders(place: Storage, folder: str) -> Iterator[list[str]]:
    """Our keys in each folder of the storage, folder by folder."""
    try:
        folders, files = place.listdir(folder)
    except FileNotFoundError:
        return
    keys = [key for name in files if OURS.fullmatch(key := f"{folder}/{name}")]
    if keys:
        yield keys
    for name in folders:
        if FOLDER.fullmatch(path := f"{folder}/{name}".lstrip("/")):
            yield from _folders(place, path)


def _referred(keys: Collection[str]) -> set[str]:
    """Which of these keys an Asset names, as its bytes or as its thumbnail."""
    if not keys:
        return set()
    used = GenerationInput.objects.filter(asset=OuterRef("pk"), generation__status__in=LIVE)
    needed = Asset.objects.filter(Q(expired_at=None) | Exists(used))
    found = set(needed.filter(key__in=keys).values_list("key", flat=True))
    return found | set(needed.filter(thumbnail_key__in=keys).values_list("thumbnail_key", flat=True))


def _remove(place: Storage, key: str, oldest: datetime) -> bool:
    """Remove one file if it is still old. False: it is new again, or gone."""
    if not isinstance(place, FileSystemStorage):
        at = _modified_at(place, key)
        if at is None or at >= oldest:
            return False
        place.delete(key)
        return True
    path = Path(place.path(key))
    aside = path if key.endswith(ASIDE) else path.with_name(path.name + ASIDE)
    try:
        path.rename(aside)
        if aside.stat().st_mtime >= oldest.timestamp():
            aside.rename(path)
            return False
        aside.unlink()
    except FileNotFoundError:
        return False
    return True


def _put_back(place: Storage, key: str, swept: Swept, *, dry_run: bool) -> None:
    """A file that a run which was killed had put aside, and that is somebody's after all."""
    swept.restored += 1
    if dry_run or not isinstance(place, FileSystemStorage):
        return
    path, aside = Path(place.path(_plain(key))), Path(place.path(key))
    if path.exists():
        aside.unlink(missing_ok=True)
    else:
        aside.rename(path)


def _plain(key: str) -> str:
    return key.removesuffix(ASIDE)


def _modified_at(place: Storage, key: str) -> datetime | None:
    """None: it has gone meanwhile."""
    try:
        return place.get_modified_time(key)
    except FileNotFoundError:
        return None


def _size(place: Storage, key: str) -> int:
    try:
        return place.size(key)
    except FileNotFoundError:
        return 0


def _work_folders(swept: Swept, *, dry_run: bool) -> None:
    """Temporary folders of workers that were killed; those in use are younger than any limit of a download."""
    oldest = (timezone.now() - timedelta(hours=limits().orphan_hours)).timestamp()
    for folder in Path(tempfile.gettempdir()).glob("darkroom-*"):
        try:
            if (
                not WORK_FOLDER.fullmatch(folder.name)
                or folder.is_symlink()
                or not folder.is_dir()
                or folder.stat().st_mtime >= oldest
            ):
                continue
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            if not dry_run:
                shutil.rmtree(folder)
        except OSError:
            continue  # it has gone, or is somebody else's
        swept.temporary += 1
        swept.bytes += size
        if len(swept.paths) < MOST_PATHS:
            swept.paths.append(str(folder))
