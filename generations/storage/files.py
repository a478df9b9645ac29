"""A folder as the storage."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from django.core.files.base import File
from django.core.files.storage import FileSystemStorage

from generations.storage.shelf import ASIDE, FULL, Removal, Stored, is_folder

INCOMING = ".incoming-"
"""What the names of files begin with that are still being written."""
PROBE_BYTES = 4096


class DurableFileSystemStorage(FileSystemStorage):
    """Files appear whole or not at all: temporary file, fsync, rename, fsync of the folder."""

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        """The name itself: a key names its bytes, so an existing file holds the same."""
        return name

    def _save(self, name: str, content: File) -> str:  # type: ignore[type-arg]
        target = Path(self.path(name))
        made = [folder for folder in target.parents if not folder.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=INCOMING)
        try:
            with os.fdopen(handle, "wb") as file:
                for chunk in content.chunks():
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        # The file's own name, and those of the folders that are new.
        for folder in dict.fromkeys([target.parent, *(folder.parent for folder in made)]):
            _sync(folder)
        return name

    def room(self) -> int | None:
        """How many bytes are free; 0: it is full. A few bytes are stored, durably, and are gone."""
        folder = Path(self.location)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(bytes(PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            if error.errno in FULL:
                return 0
            raise
        return shutil.disk_usage(folder).free

    def walk(self, folder: str = "") -> Iterator[list[Stored]]:
        """What is in our folders, one after the other."""
        try:
            folders, files = self.listdir(folder)
        except FileNotFoundError:
            return
        found = [stored for name in files if (stored := self._stored(f"{folder}/{name}".lstrip("/")))]
        if found:
            yield found
        for name in folders:
            if is_folder(path := f"{folder}/{name}".lstrip("/")):
                yield from self.walk(path)

    def remove_old(self, key: str, oldest: datetime) -> Removal:
        """Remove a file if it is still old; it is kept if it is new again, or gone.

        It is renamed aside first, which nobody can interleave with: who stores the same bytes afterwards makes a new
        file. If the one aside turns out to be new it is renamed back.
        """
        path = Path(self.path(key))
        aside = path if key.endswith(ASIDE) else path.with_name(path.name + ASIDE)
        try:
            path.rename(aside)
            if aside.stat().st_mtime >= oldest.timestamp():
                aside.rename(path)
                return Removal.KEPT
            aside.unlink()
        except FileNotFoundError:
            return Removal.KEPT
        return Removal.REMOVED

    def put_back(self, key: str) -> None:
        """A file that is aside (``key``) and somebody's after all."""
        path, aside = Path(self.path(key.removesuffix(ASIDE))), Path(self.path(key))
        if path.exists():
            aside.unlink(missing_ok=True)
        else:
            aside.rename(path)

    def _stored(self, key: str) -> Stored | None:
        """None: it has gone meanwhile."""
        try:
            found = Path(self.path(key)).stat()
        except FileNotFoundError:
            return None
        return Stored(key, datetime.fromtimestamp(found.st_mtime, UTC), found.st_size)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
