"""Stored bytes: durable, whole, and named by themselves."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.base import ContentFile
from pytest_django.fixtures import Settings

from generations import storage
from tests.disks import down, small_disk


@pytest.fixture(autouse=True)
def folder(settings: Settings, tmp_path: Path) -> Path:
    """A storage of the test's own."""
    media = tmp_path / "media"
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {
            "BACKEND": "generations.storage.DurableFileSystemStorage",
            "OPTIONS": {"location": str(media)},
        },
    }
    return media


def kept(folder: Path, content: bytes, name: str = "incoming", extension: str = "png") -> str:
    source = folder.parent / name
    source.write_bytes(content)
    return storage.keep(source, hashlib.sha256(content).hexdigest(), extension)


def read(key: str) -> bytes:
    with storage.open_key(key) as file:
        return file.read()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("extension", ["png", ".png"])
def test_names_bytes_by_their_hash(extension: str) -> None:
    assert storage.key_of("abcd" + "0" * 60, extension) == f"ab/cd/abcd{'0' * 60}.png"


def test_gives_back_what_was_kept(folder: Path) -> None:
    content = os.urandom(300_000)

    assert read(kept(folder, content)) == content


def test_keeps_bytes_in_memory_too(folder: Path) -> None:
    digest = hashlib.sha256(b"thumb").hexdigest()

    key = storage.keep_bytes(b"thumb", digest, "webp")

    assert key == storage.key_of(digest, "webp")
    assert read(key) == b"thumb"


def test_keeps_equal_bytes_once(folder: Path) -> None:
    first, second = kept(folder, b"the same", "one"), kept(folder, b"the same", "two")

    assert first == second
    assert [path.read_bytes() for path in files(folder)] == [b"the same"]


def test_makes_kept_bytes_young_again(folder: Path) -> None:
    key = kept(folder, b"old")
    path = folder / key
    os.utime(path, (1_000_000_000, 1_000_000_000))

    kept(folder, b"old")

    assert path.stat().st_mtime > 1_700_000_000


def test_says_that_bytes_are_gone() -> None:
    with pytest.raises(FileNotFoundError):
        storage.open_key("ab/cd/nothing.png")


def test_leaves_nothing_of_a_write_that_broke(folder: Path) -> None:
    class Broken(ContentFile):  # type: ignore[type-arg]
        def chunks(self, chunk_size: int | None = None):  # type: ignore[no-untyped-def]
            yield b"a beginning"
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        storage.storage().save("ab/cd/whole.png", Broken(b""))

    assert files(folder) == []


def test_leaves_nothing_of_a_write_that_a_full_disk_broke(settings: Settings, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small") as disk:
        location = {"OPTIONS": {"location": str(disk.folder)}}
        settings.STORAGES = {**settings.STORAGES, "default": {**settings.STORAGES["default"], **location}}
        before = storage.keep_bytes(b"before", hashlib.sha256(b"before").hexdigest(), "png")
        content = os.urandom(5 * 1024**2)  # more than there is room for

        with pytest.raises(OSError, match="No space left"):
            storage.keep_bytes(content, hashlib.sha256(content).hexdigest(), "png")

        assert disk.files() == [disk.folder / before]
        assert read(before) == b"before"


def test_tells_how_much_room_there_is(folder: Path) -> None:
    free = os.statvfs(folder.parent)

    assert abs((storage.room() or 0) - free.f_bavail * free.f_frsize) < 2**30
    assert files(folder) == []


def test_has_no_room_on_a_full_disk(settings: Settings, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small") as disk:
        location = {"OPTIONS": {"location": str(disk.folder)}}
        settings.STORAGES = {**settings.STORAGES, "default": {**settings.STORAGES["default"], **location}}
        disk.fill()

        assert storage.room() == 0


def test_tells_that_it_is_down(folder: Path) -> None:
    with down(folder), pytest.raises(OSError, match=r"File exists|Not a directory"):
        storage.room()


def test_leaves_what_was_there_when_a_rewrite_breaks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = kept(folder, b"whole")

    def full(_: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="the disk is full"):
        kept(folder, b"whole")

    assert read(key) == b"whole"
    assert len(files(folder)) == 1


def test_can_be_read_by_a_server_that_is_somebody_else(folder: Path) -> None:
    assert (folder / kept(folder, b"served")).stat().st_mode & 0o777 == 0o644


def test_keeps_the_same_bytes_from_many_threads(folder: Path) -> None:
    content = os.urandom(200_000)
    digest = hashlib.sha256(content).hexdigest()
    barrier = threading.Barrier(8)
    keys: list[str] = []

    def keep() -> None:
        barrier.wait(timeout=10)
        keys.append(storage.keep_bytes(content, digest, "png"))

    threads = [threading.Thread(target=keep) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)

    assert keys == [storage.key_of(digest, "png")] * 8
    assert [path.read_bytes() for path in files(folder)] == [content]


@pytest.mark.parametrize("key", ["../outside.png", "/etc/outside.png"])
def test_refuses_a_key_that_leaves_the_folder(folder: Path, key: str) -> None:
    with pytest.raises(SuspiciousFileOperation):
        storage.open_key(key)
