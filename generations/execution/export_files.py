"""From a stored original to the files of an export: made, looked at, stored. Runs in threads, without the database."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from generations import media, storage
from generations.conf import limits
from generations.execution.results import keep_thumbnail
from generations.formats import DPI, FORMATS, Wanted
from generations.media.exports import Frame, picture, still, video

CHUNK = 1024 * 1024


class Corrupted(OSError):
    """The stored bytes are not those that were stored."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that is in the storage: an original, or what was made from one."""

    key: str
    thumbnail_key: str
    sha256: str
    size: int
    info: media.MediaInfo


@dataclass(frozen=True, slots=True)
class Made:
    """The files of an export; ``poster`` for a video."""

    result: StoredFile
    poster: StoredFile | None = None


def make(original: StoredFile, wanted: Wanted) -> Made:
    """Make and store the files of one export.

    Raises:
        UnusableMedia: the original cannot be decoded, or not in time.
        ToolFailed: our tools could not be run.
        OSError: our storage or disk is full or down, or does not have the original.
    """
    found = FORMATS[wanted.format]
    with tempfile.TemporaryDirectory(prefix="darkroom-") as name:
        folder = Path(name)
        path = folder / "original"
        _fetch(original, path)
        frame = (
            None
            if found.as_it_is
            else Frame(found.width, found.height, wanted.fit, wanted.colour, DPI if found.printed else 0)
        )
        if original.info.kind == "image":
            if frame is None:
                return Made(_as_it_is(original))
            picture(path, original.info, frame, folder / "result")
            return Made(_keep(folder / "result"))
        if found.printed:
            still(path, original.info, frame, folder / "result")
            return Made(_keep(folder / "result"))
        if frame is None:
            result = _as_it_is(original)
        else:
            video(path, original.info, frame, folder / "result", seconds=limits().export_seconds)
            result = _keep(folder / "result")
        still(path, original.info, frame, folder / "poster")
        return Made(result, _keep(folder / "poster"))


def _fetch(original: StoredFile, path: Path) -> None:
    """Copy the original out of the storage, and see that it is whole."""
    digest = hashlib.sha256()
    with storage.open_key(original.key) as stored, path.open("wb") as file:
        while chunk := stored.read(CHUNK):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != original.sha256:
        raise Corrupted(f"The bytes of {original.key} are not those that were stored.")


def _as_it_is(original: StoredFile) -> StoredFile:
    return StoredFile(original.key, original.thumbnail_key, original.sha256, original.size, original.info)


def _keep(path: Path) -> StoredFile:
    info = media.inspect(path)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    key = storage.keep(path, sha256, info.extension)
    return StoredFile(key, keep_thumbnail(path, info), sha256, path.stat().st_size, info)
