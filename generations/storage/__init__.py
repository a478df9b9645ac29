"""Where Assets' bytes are: Django's default storage, content-addressed.

Equal bytes have the same key, so storing is idempotent: whoever comes second writes what is already there. A folder
(``files``) or a bucket of an object store (``objects``).
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, cast

from django.core.files.base import File
from django.core.files.storage import Storage, default_storage

from generations.storage.files import INCOMING, DurableFileSystemStorage
from generations.storage.shelf import ASIDE, FULL, Removal, Shelf, Stored

__all__ = [
    "ASIDE",
    "FULL",
    "INCOMING",
    "DurableFileSystemStorage",
    "Removal",
    "Stored",
    "keep",
    "keep_bytes",
    "key_of",
    "open_key",
    "room",
    "shelf",
    "storage",
]


def storage() -> Storage:
    """The storage of all Assets."""
    return default_storage


def shelf() -> Shelf:
    """The same, with what the house needs to look after it."""
    return cast("Shelf", default_storage)


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
    """The stored bytes, which are read as they are asked for.

    Raises:
        FileNotFoundError: they are gone.
        OSError: the storage is down.
    """
    return cast("IO[bytes]", storage().open(key, "rb"))


def room() -> int | None:
    """How many bytes can still be stored (0: it is full); None where the storage does not tell (an object store).

    Looks for real: a few bytes are stored.

    Raises:
        OSError: nothing can be stored, and not for want of room.
    """
    return shelf().room()


def _save(key: str, file: IO[bytes]) -> str:
    return storage().save(key, File(file))
