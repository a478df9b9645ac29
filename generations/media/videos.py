"""Videos, by ffmpeg (the wheel that brings it has no ffprobe)."""

from __future__ import annotations

import io
import re
from pathlib import Path

from PIL import Image

from generations.media import pictures
from generations.media.ffmpeg import run
from generations.media.info import MAX_VIDEO_PIXELS, Format, MediaInfo, UnusableMedia

_DIMENSIONS = re.compile(rb"^#dimensions 0: (\d+)x(\d+)$", re.MULTILINE)
_FIRST_FRAME = re.compile(rb"^0,", re.MULTILINE)
_STATED_DURATION = re.compile(r"^  Duration: (\d+):(\d\d):(\d\d\.\d+)", re.MULTILINE)
_MEASURED_DURATION = re.compile(r"^out_time_us=(\d+)", re.MULTILINE)
_CUT_SHORT = re.compile(r"File ended prematurely|partial file|corrupt input packet")
_NO_PICTURES = "matches no streams"
DEMUXERS = {"mp4": "mov", "mov": "mov", "webm": "matroska"}


def inspect(path: Path, found: Format) -> MediaInfo:
    """Read all packets of a video and decode its first picture. About 50 ms of CPU for some seconds of video.

    Raises:
        UnusableMedia: damaged, cut short, without pictures, or with too large ones.
        ToolFailed: ffmpeg could not be run.
    """
    if found.decoder == "mov" and not _boxes_fit(path):
        raise _damaged(found)
    done = run(
        path,
        found.decoder,
        *("-progress", "pipe:2"),
        *("-map", "0:V:0", "-map", "0:a?", "-c", "copy", "-f", "null", "-"),
        *("-map", "0:V:0", "-frames:v", "1", "-f", "framecrc", "pipe:1"),
        max_pixels=MAX_VIDEO_PIXELS,
    )
    if _NO_PICTURES in done.stderr:
        raise UnusableMedia("The video file has no pictures in it, only sound or nothing at all.")
    size = _DIMENSIONS.search(done.stdout)
    measured = _MEASURED_DURATION.findall(done.stderr)
    if done.returncode or size is None or not _FIRST_FRAME.search(done.stdout) or _CUT_SHORT.search(done.stderr):
        raise _damaged(found)
    return MediaInfo(
        "video",
        found.mime_type,
        found.extension,
        int(size[1]),
        int(size[2]),
        _duration(done.stderr, int(measured[-1]) / 1e6 if measured else 0.0),
    )


def thumbnail(path: Path, info: MediaInfo, max_side: int) -> bytes:
    """A WebP of the first second's most typical picture (of six), so that a fade-in gives no black one."""
    fit = f"scale='min({max_side},iw)':'min({max_side},ih)':force_original_aspect_ratio=decrease"
    done = run(
        path,
        DEMUXERS[info.extension],
        *("-map", "0:V:0", "-t", "1", "-vf", f"fps=6:round=up,{fit},thumbnail=n=6", "-frames:v", "1"),
        *("-threads", "1", "-c:v", "ppm", "-f", "image2pipe", "pipe:1"),
        max_pixels=MAX_VIDEO_PIXELS,
    )
    if done.returncode or not done.stdout:
        raise UnusableMedia("No picture of the video can be shown.")
    with Image.open(io.BytesIO(done.stdout), formats=("PPM",)) as image:
        return pictures.encode(image, max_side)


def _boxes_fit(path: Path) -> bool:
    """Whether the boxes of an MP4 or MOV file end where the file ends, or before.

    ffmpeg notices lost pictures, but not a fragment whose own index was cut off with them.
    """
    end = path.stat().st_size
    position = 0
    with path.open("rb") as file:
        while position + 8 <= end:
            file.seek(position)
            head = file.read(16)
            size = int.from_bytes(head[:4], "big")
            if size == 1:
                size = int.from_bytes(head[8:16], "big")
            if size == 0 or not head[4:8].isascii():
                return True  # a box to the end of the file, or something that is no box: ffmpeg's matter
            if size < 8:
                return True
            position += size
    return position <= end


def _duration(said: str, measured: float) -> float:
    """The file's own statement where what was read bears it out, else what was read; in seconds."""
    stated = _STATED_DURATION.search(said)
    if stated:
        seconds = int(stated[1]) * 3600 + int(stated[2]) * 60 + float(stated[3])
        if abs(seconds - measured) <= 0.5:
            return seconds
    return round(measured, 3)


def _damaged(found: Format) -> UnusableMedia:
    return UnusableMedia(f"The {found.title} video is damaged or cut short. Send or make it again.")
