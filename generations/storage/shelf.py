"""What the house needs of a storage beside Django's own: to look through it, and to remove without a race."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

ASIDE = ".aside"
"""The end of the name of what is put aside, to be removed."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says when there is no room: on the disk, in the user's quota, for a file of that size."""
_FOLDER = re.compile(r"[0-9a-f]{2}(/[0-9a-f]{2})?")


class Removal(StrEnum):
    """What came of a removal: ``ASIDE`` is removed later, unless somebody turns out to need it."""

    REMOVED = "removed"
    ASIDE = "aside"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Stored:
    """A file in the storage; ``size`` in bytes."""

    key: str
    modified_at: datetime
    size: int


class Shelf(Protocol):
    """A storage that the house can look after."""

    def room(self) -> int | None:
        """How many bytes can still be stored; None where it does not tell.

        Raises:
            OSError: nothing can be stored, and not for want of room.
        """

    def walk(self) -> Iterator[list[Stored]]:
        """What is in it, some at a time."""

    def remove_old(self, key: str, oldest: datetime) -> Removal:
        """Remove what was last stored before ``oldest``, without a race with who stores the same bytes."""

    def put_back(self, key: str) -> None:
        """Bring back what was put aside under this key."""


def is_folder(path: str) -> bool:
    """Whether a folder is named as ours are: ``ab`` or ``ab/cd``."""
    return bool(_FOLDER.fullmatch(path))
