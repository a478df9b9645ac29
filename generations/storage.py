"""Where Assets' bytes are: Django's default storage, content-addressed.

Equal bytes have the same key, so storing is idempotent: whoever comes second writes what is already there.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO, cast

from django.core.files.base import File
from django.core.files.storage import FileSystemStorage, Storage, default_storage

INCOMING = ".incoming-"
"""What the names of files begin with that are still being written."""
PROBE_BYTES = 4096
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says when there is no room: on the disk, in the user's quota, for a file of that size."""


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


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def storage() -> Storage:
    """The storage of all Assets."""
    return default_storage


def key_of(sha256: str, extension: str) -> str:
    """The content-addressed key, for example ``ab/cd/abcd….png``."""
    return f"{sha256[:2]}/{sha256[2:4]}/{sha256}.{extension.lstrip('.')}"


def keep(path: Path, sha256: str, extension: str) -> str:
    """Store a file's bytes durably and give their key.

    Written even where the key exists, so that its age is new and ``cleanup`` does not take it for an orphan
    between now and the commit that refers to it.

    Raises:
        OSError: the storage is full or down.
    """
    with path.open("rb") as file:
        return _save(key_of(sha256, extension), file)


def keep_bytes(content: bytes, sha256: str, extension: str) -> str:
    """The same for bytes in memory (thumbnails)."""
    return _save(key_of(sha256, extension), io.BytesIO(content))


def open_key(key: str) -> IO[bytes]:
    """The stored bytes.

    Raises:
        FileNotFoundError: they are gone.
    """
    return cast("IO[bytes]", storage().open(key, "rb"))


def room() -> int | None:
    """How many bytes can still be stored (0: it is full); None where the storage does not tell (an object store).

    Looks for real: a few bytes are stored, durably, and are gone.

    Raises:
        OSError: nothing can be stored, and not for want of room.
    """
    place = storage()
    if not isinstance(place, FileSystemStorage):
        return None
    folder = Path(place.location)
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


def _save(key: str, file: IO[bytes]) -> str:
    return storage().save(key, File(file))
