"""Stored bytes that nothing refers to, and temporary files that were left behind.

Why an orphan is never somebody's file. Bytes are stored first and referred to by a row after (a few seconds later),
equal bytes share one file, and storing bytes that are there already makes their file new again (``storage.keep``).
So a file is removed only if all of this holds, in this order:

1. its modification time is older than ``limits().orphan_hours``;
2. after that was seen, no Asset names it as its bytes or its thumbnail (one that has expired names it only while
   something that has not ended is made from it);
3. its modification time is still old. Who stored the same bytes since (2) made it new; who did so before (2) and
   had committed was seen there.

Between the look of (3) and the removal itself there must be nothing. How each storage sees to that is told where it is
written (``storage.files``, ``storage.objects``): what may be somebody's after all is put aside first, and the next run
puts it back or removes it.

Only files with names as this house gives them are looked at, so that a storage that is shared with something else
loses nothing of that.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from generations import storage
from generations.conf import limits
from generations.lifecycle import LIVE
from generations.models import Asset, GenerationInput
from generations.storage import ASIDE, INCOMING, Removal, Stored
from generations.storage.shelf import Shelf

CHUNK = 200
MOST_PATHS = 20
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
    """They were aside, and are somebody's after all."""
    aside: int = 0
    """Put aside in an object store, to be removed after ``orphan_hours`` more."""
    paths: list[str] = field(default_factory=list)


def sweep(*, dry_run: bool) -> Swept:
    """Remove stored files without a row and abandoned temporary files, older than ``limits().orphan_hours``."""
    swept = Swept()
    _orphans(swept, dry_run=dry_run)
    _work_folders(swept, dry_run=dry_run)
    return swept


def _orphans(swept: Swept, *, dry_run: bool) -> None:
    """Stored files without a row, some at a time."""
    place = storage.shelf()
    oldest = timezone.now() - timedelta(hours=limits().orphan_hours)
    for found in place.walk():
        ours = [one for one in found if OURS.fullmatch(one.key)]
        for start in range(0, len(ours), CHUNK):
            # One that was put aside is looked at however young it is: somebody may be missing it.
            chunk = [one for one in ours[start : start + CHUNK] if one.modified_at < oldest or one.key.endswith(ASIDE)]
            referred = _referred({_plain(one.key) for one in chunk})
            aside = []
            for one in chunk:
                if _plain(one.key) in referred:
                    if one.key.endswith(ASIDE):
                        _put_back(place, one.key, swept, dry_run=dry_run)
                elif one.modified_at < oldest and _drop(place, one, oldest, swept, dry_run=dry_run) == Removal.ASIDE:
                    aside.append(one.key)
            for key in _referred(aside):
                _put_back(place, key + ASIDE, swept, dry_run=dry_run)


def _drop(place: Shelf, one: Stored, oldest: datetime, swept: Swept, *, dry_run: bool) -> Removal:
    """Remove one old file that nothing refers to."""
    done = Removal.REMOVED if dry_run else place.remove_old(one.key, oldest)
    if done == Removal.ASIDE:
        swept.aside += 1
    if done != Removal.REMOVED:
        return done
    if one.key.rpartition("/")[2].startswith(INCOMING):
        swept.temporary += 1
    else:
        swept.orphans += 1
    swept.bytes += one.size
    if len(swept.paths) < MOST_PATHS:
        swept.paths.append(one.key)
    return done


def _referred(keys: Collection[str]) -> set[str]:
    """Which of these keys an Asset names, as its bytes or as its thumbnail."""
    if not keys:
        return set()
    used = GenerationInput.objects.filter(asset=OuterRef("pk"), generation__status__in=LIVE)
    needed = Asset.objects.filter(Q(expired_at=None) | Exists(used))
    found = set(needed.filter(key__in=keys).values_list("key", flat=True))
    return found | set(needed.filter(thumbnail_key__in=keys).values_list("thumbnail_key", flat=True))


def _put_back(place: Shelf, key: str, swept: Swept, *, dry_run: bool) -> None:
    """A file that was put aside, and that is somebody's after all."""
    swept.restored += 1
    if not dry_run:
        place.put_back(key)


def _plain(key: str) -> str:
    return key.removesuffix(ASIDE)


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
