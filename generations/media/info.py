"""The words of this package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["image", "video"]

MAX_SIDE = 16_384
MAX_PIXELS = 70_000_000
"""Of a picture: room for 8192 x 8192. Decoded, it takes 4 bytes of memory a pixel."""
MAX_VIDEO_PIXELS = 36_000_000
"""Of a video's picture: room for 8K."""


class UnusableMedia(Exception):
    """A file that is not kept. ``reason`` is a sentence for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file that is accepted; ``decoder`` is Pillow's or ffmpeg's name for it."""

    kind: Kind
    title: str
    mime_type: str
    extension: str
    decoder: str


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What a file is. Width and height are in pixels, as people see it (turned upright).

    ``extension`` has no dot. ``duration`` is a video's, in seconds; None for pictures.
    """

    kind: Kind
    mime_type: str
    extension: str
    width: int
    height: int
    duration: float | None
