"""Which accepted kind of file this is, by its first bytes."""

from __future__ import annotations

import re
from pathlib import Path

from generations.media.info import Format, UnusableMedia

PNG = Format("image", "PNG", "image/png", "png", "PNG")
JPEG = Format("image", "JPEG", "image/jpeg", "jpg", "JPEG")
WEBP = Format("image", "WebP", "image/webp", "webp", "WEBP")
GIF = Format("image", "GIF", "image/gif", "gif", "GIF")
AVIF = Format("image", "AVIF", "image/avif", "avif", "AVIF")
MP4 = Format("video", "MP4", "video/mp4", "mp4", "mov")
MOV = Format("video", "QuickTime", "video/quicktime", "mov", "mov")
WEBM = Format("video", "WebM", "video/webm", "webm", "matroska")

_HEAD = 4096
_ACCEPTED = "Accepted are PNG, JPEG, WebP, GIF and AVIF pictures, and MP4, WebM and MOV videos."
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"})
_AUDIO_BRANDS = frozenset({b"M4A ", b"M4B ", b"M4P "})
_QUICKTIME_BOXES = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
_PLAYLIST = re.compile(
    rb"#EXTM3U|ffconcat version|\[playlist\]|\[InternetShortcut\]|<MPD|<\?xml[^>]*\?>\s*<MPD|<smil", re.IGNORECASE
)
_SVG = re.compile(rb"<svg[\s>]|<!DOCTYPE svg", re.IGNORECASE)
_HTML = re.compile(rb"<(!doctype html|html|head|body|script|title|h1|p)[\s>]", re.IGNORECASE)
_DOCTYPE_WEBM = b"\x42\x82\x84webm"


def recognise(path: Path) -> Format:
    """The file's kind.

    Raises:
        UnusableMedia: it is empty or of no accepted kind.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise UnusableMedia("The file is empty. Send or make it again.")
    found = _picture(head) or _video(head)
    if found is None:
        raise UnusableMedia(f"{_what_else(head)} {_ACCEPTED}")
    return found


def _picture(head: bytes) -> Format | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    if head.startswith(b"\xff\xd8\xff"):
        return JPEG
    if head.startswith((b"GIF87a", b"GIF89a")):
        return GIF
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WEBP
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"):
        return AVIF
    return None


def _video(head: bytes) -> Format | None:
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return WEBM if _DOCTYPE_WEBM in head[:128] else None
    box, brand = head[4:8], head[8:12]
    if box == b"ftyp":
        if brand in _HEIF_BRANDS:
            return AVIF if b"avif" in head[16 : int.from_bytes(head[:4], "big")] else None
        if brand in _AUDIO_BRANDS:
            return None
        return MOV if brand == b"qt  " else MP4
    return MOV if box in _QUICKTIME_BOXES else None


def _what_else(head: bytes) -> str:
    """What the file is instead, where that is easy to tell."""
    if _PLAYLIST.search(head[:1024]):
        return "This is a playlist, which only names other files."
    if _SVG.search(head):
        return "This is an SVG drawing, which can contain programs."
    if _HTML.search(head[:1024]):
        return "This is a web page, not a picture or video (often an error page behind a link)."
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "This is a Matroska video, but not WebM."
    if head[4:8] == b"ftyp":
        return "This is a HEIC picture or a sound file."
    return "This is neither a picture nor a video of a known kind."
