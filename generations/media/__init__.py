"""Files judged by their bytes: what they are, whether they are whole, and a small picture of them.

Pure: no Django, no database, nothing from the network. A file's name and what a server said
about it count for nothing here.
"""

from pathlib import Path

from generations.media import pictures, videos
from generations.media.ffmpeg import ToolFailed
from generations.media.info import MediaInfo, UnusableMedia
from generations.media.sniff import recognise

__all__ = ["THUMBNAIL_MIME_TYPE", "MediaInfo", "ToolFailed", "UnusableMedia", "inspect", "thumbnail"]

THUMBNAIL_MIME_TYPE = "image/webp"


def inspect(path: Path) -> MediaInfo:
    """Say what a file is, after looking through all of it.

    Pictures are decoded; of videos every packet is read and the first picture decoded.

    Raises:
        UnusableMedia: it is none of the accepted kinds, too large, damaged or cut short.
        ToolFailed: the check itself could not be made; it says nothing about the file.
        OSError: the file cannot be read.
    """
    found = recognise(path)
    return pictures.inspect(path, found) if found.kind == "image" else videos.inspect(path, found)


def thumbnail(path: Path, info: MediaInfo, *, max_side: int = 480) -> bytes:
    """A WebP of an inspected file, as people see it (turned upright), at most ``max_side`` pixels wide and high.

    It is never larger than the original. Of a video it shows a typical picture of its first second.

    Raises:
        UnusableMedia, ToolFailed, OSError: as ``inspect``.
    """
    if info.kind == "image":
        return pictures.thumbnail(path, info, max_side)
    return videos.thumbnail(path, info, max_side)
