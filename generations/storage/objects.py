"""A bucket of an S3-compatible object store as the storage. Needs the extra ``s3`` (django-storages and boto3).

Objects appear whole or not at all, and a write of the same key is a new object with the same bytes. What the store
says in its own words becomes an OSError here (FileNotFoundError where there is no such object), as with a disk.
"""

from __future__ import annotations

import io
import mimetypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, ClassVar

from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.base import File
from storages.backends.s3 import S3Storage

from generations.storage.shelf import ASIDE, Removal, Stored

PROBE_KEY = ".probe"
MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
CONNECT_SECONDS = 5
READ_SECONDS = 20


class ObjectStorage(S3Storage):  # type: ignore[misc]
    """As django-storages has it, with one client for all threads, reads that stream, and errors of a disk."""

    _clients: ClassVar[dict[tuple[Any, ...], Any]] = {}
    _making = threading.Lock()

    def __init__(self, **options: Any) -> None:
        style = options.get("addressing_style")
        options.setdefault(
            "client_config",
            Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                retries={"mode": "standard", "total_max_attempts": 3},
                max_pool_connections=32,
                s3={"addressing_style": style} if style else None,
                # Stores other than Amazon's do not know the newer checksums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        super().__init__(**options)

    @property
    def client(self) -> Any:
        """The process's client (not that of the one it was forked from); clients may be shared by threads."""
        which = (
            os.getpid(),
            self.endpoint_url,
            self.region_name,
            self.addressing_style,
            self.access_key,
            self.secret_key,
        )
        with self._making:
            if which not in self._clients:
                self._clients[which] = self._create_session().client(
                    "s3", region_name=self.region_name, endpoint_url=self.endpoint_url, config=self.client_config
                )
            return self._clients[which]

    def where(self, key: str) -> dict[str, str]:
        """How the store names the object of a key."""
        return {"Bucket": self.bucket_name, "Key": f"{self._prefix}{key}"}

    @property
    def _prefix(self) -> str:
        return f"{self.location.strip('/')}/" if self.location.strip("/") else ""

    # --- what Django asks of a storage ----------------------------------------------------------------------

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        """The name itself: a key names its bytes, so an existing object holds the same."""
        return name

    def exists(self, name: str) -> bool:
        """Whether it can be read."""
        try:
            self._head(name)
        except FileNotFoundError:
            return False
        return True

    def size(self, name: str) -> int:
        """In bytes."""
        return int(self._head(name)["ContentLength"])

    def get_modified_time(self, name: str) -> datetime:
        """When it was stored."""
        at: datetime = self._head(name)["LastModified"]
        return at

    def delete(self, name: str) -> None:
        """Remove it, if it is there."""
        with _spoken():
            self.client.delete_object(**self.where(name))

    def _save(self, name: str, content: File) -> str:  # type: ignore[type-arg]
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        with _spoken():
            self.client.upload_fileobj(
                _Unclosed(content),
                **self.where(name),
                ExtraArgs={"ContentType": kind},
                Config=self.transfer_config,
            )
        return name

    def _open(self, name: str, mode: str = "rb") -> ObjectReader:
        assert mode == "rb"  # everything else is written whole
        found = self._head(name)
        return ObjectReader(self, found["_key"], int(found["ContentLength"]))

    def _head(self, name: str) -> dict[str, Any]:
        """What the store says of an object; of one that was put aside a moment ago, where it is now."""
        for key in (name, name + ASIDE):
            with suppress(FileNotFoundError), _spoken():
                return {**self.client.head_object(**self.where(key)), "_key": key}
        raise FileNotFoundError(f"There is no object {name}.")

    # --- what the house asks of it --------------------------------------------------------------------------

    def room(self) -> int | None:
        """A store does not tell. A small object is stored, always the same one."""
        with _spoken():
            self.client.put_object(**self.where(PROBE_KEY), Body=b"Can be written to.")
        return None

    def walk(self) -> Iterator[list[Stored]]:
        """All objects, a thousand at a time."""
        with _spoken():
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket_name, Prefix=self._prefix)
            for page in pages:
                yield [
                    Stored(one["Key"].removeprefix(self._prefix), one["LastModified"], one["Size"])
                    for one in page.get("Contents", [])
                ]

    def remove_old(self, key: str, oldest: datetime) -> Removal:
        """Put an object aside if it is still old; one that has been aside for so long is removed.

        A store cannot rename, so that somebody may store the same bytes between our look and the removal. Then they
        are still aside: they are read from there, and put back when the row is seen that names them.
        """
        try:
            with _spoken():
                found = self.client.head_object(**self.where(key))
        except FileNotFoundError:
            return Removal.KEPT
        if found["LastModified"] >= oldest:
            return Removal.KEPT
        if not key.endswith(ASIDE):
            self._copy(key, key + ASIDE)
        self.delete(key)
        return Removal.REMOVED if key.endswith(ASIDE) else Removal.ASIDE

    def put_back(self, key: str) -> None:
        """An object that is aside (``key``) and somebody's after all."""
        plain = key.removesuffix(ASIDE)
        try:
            with _spoken():
                self.client.head_object(**self.where(plain))
        except FileNotFoundError:
            self._copy(key, plain)
        self.delete(key)

    def _copy(self, key: str, to: str) -> None:
        with _spoken():
            self.client.copy(self.where(key), **self.where(to))


class ObjectReader(io.RawIOBase):
    """An object's bytes as they are asked for: from where it stands, in one answer of the store that is read on."""

    def __init__(self, store: ObjectStorage, key: str, size: int) -> None:
        super().__init__()
        self._store = store
        self._key = key
        self._size = size
        self._position = 0
        self._body: Any = None

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where it stands."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go on from another place."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        position = max(0, start + offset)
        if position != self._position:
            self._hang_up()
        self._position = position
        return position

    def readinto(self, buffer: Any) -> int:
        """The next bytes.

        Raises:
            OSError: the store has broken off, or the object is gone meanwhile.
        """
        if self._position >= self._size or not len(buffer):
            return 0
        with _spoken():
            if self._body is None:
                asked = {} if not self._position else {"Range": f"bytes={self._position}-"}
                self._body = self._store.client.get_object(**self._store.where(self._key), **asked)["Body"]
            chunk: bytes = self._body.read(len(buffer))
        if not chunk:
            raise OSError(f"The store broke off in the middle of {self._key}.")
        buffer[: len(chunk)] = chunk
        self._position += len(chunk)
        return len(chunk)

    def close(self) -> None:
        """Hang up."""
        self._hang_up()
        super().close()

    def _hang_up(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None


class _Unclosed(io.RawIOBase):
    """Reads on behalf of an upload, which would close what it has read; the caller does that."""

    def __init__(self, content: File) -> None:  # type: ignore[type-arg]
        super().__init__()
        self._content = content
        content.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._content.seek(offset, whence) or self._content.tell())

    def tell(self) -> int:
        return int(self._content.tell())

    def read(self, size: int = -1) -> bytes:
        return bytes(self._content.read(size))


@contextmanager
def _spoken() -> Iterator[None]:
    """The store's words as a disk's."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in MISSING:
            raise FileNotFoundError(f"There is no such object ({error.operation_name}).") from error
        raise OSError(f"The object store refused {error.operation_name}: {code}.") from error
    except (BotoCoreError, Boto3Error) as error:
        raise OSError(f"The object store does not answer ({type(error).__name__}).") from error
