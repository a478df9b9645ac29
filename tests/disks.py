"""Disks that are really full, and storages that are really down."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FILLER = "filler"


class SmallDisk:
    """A file system of its own, of a few MB."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """Not a byte is left."""
        block = bytes(4096)
        with (self.folder / FILLER).open("ab", buffering=0) as file:
            try:
                while file.write(block):
                    pass
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017  it is what is waited for

    def make_room(self) -> None:
        """As before it was filled."""
        (self.folder / FILLER).unlink()

    def files(self) -> list[Path]:
        """What is there, but for what fills it."""
        return [path for path in self.folder.rglob("*") if path.is_file() and path.name != FILLER]


@contextmanager
def small_disk(folder: Path, megabytes: int = 4) -> Iterator[SmallDisk]:
    """A file system mounted at ``folder``; where this process may not mount one, the test is skipped (there are
    others, of a storage that is down, which need no right)."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if mount is None or os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def down(folder: Path) -> Iterator[None]:
    """``folder`` is gone, and a file lies in its place: nothing can be read or written there, not even by root."""
    aside = folder.with_name(folder.name + ".aside")
    if folder.exists():
        folder.rename(aside)
    folder.write_bytes(b"not a folder")
    try:
        yield
    finally:
        folder.unlink()
        if aside.exists():
            aside.rename(folder)
