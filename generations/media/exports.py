"""An inspected file in another size: pictures as JPEG, videos as MP4, and a still picture of a video as JPEG."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image, ImageCms, ImageColor, ImageOps

from generations.media import pictures
from generations.media.ffmpeg import run
from generations.media.info import MAX_VIDEO_PIXELS, MediaInfo, UnusableMedia
from generations.media.videos import DEMUXERS

QUALITY = 92
_LANCZOS = Image.Resampling.LANCZOS
_SRGB = ImageCms.createProfile("sRGB")


@dataclass(frozen=True, slots=True)
class Frame:
    """What a file has to come into: so many pixels, cut off (``crop``) or filled up (``pad``) with ``colour``.

    ``colour`` (#rrggbb) also stands behind what is transparent. ``dpi`` 0: it says nothing about paper.
    """

    width: int
    height: int
    fit: Literal["crop", "pad"]
    colour: str
    dpi: int = 0


def picture(path: Path, info: MediaInfo, frame: Frame, target: Path) -> None:
    """Write a picture (of an animation the first) into ``target``: a JPEG of exactly the frame's size, in sRGB.

    Raises:
        UnusableMedia: it cannot be decoded.
        OSError: ``target`` cannot be written.
    """
    decoder = pictures.decoder_of(info)
    with pictures.opened(path, decoder, decoder) as image:
        image.load()
        content = _jpeg(image, frame)
    target.write_bytes(content)


def video(path: Path, info: MediaInfo, frame: Frame, target: Path, *, seconds: int) -> None:
    """Write a video into ``target``: an MP4 (H.264, AAC) of the frame's size, made even, that plays while it loads.

    ``seconds``: of CPU that it may take; the wall clock may show five times as many.

    Raises:
        UnusableMedia: it cannot be decoded, or takes too long.
        ToolFailed: ffmpeg could not be run.
    """
    size = f"{_even(frame.width)}:{_even(frame.height)}"
    if frame.fit == "crop":
        into = f"scale={size}:force_original_aspect_ratio=increase:flags=lanczos,crop={size}"
    else:
        colour = frame.colour.replace("#", "0x")
        into = (
            f"scale={size}:force_original_aspect_ratio=decrease:flags=lanczos,"
            f"pad={size}:(ow-iw)/2:(oh-ih)/2:color={colour}"
        )
    done = run(
        path,
        DEMUXERS[info.extension],
        *("-map", "0:V:0", "-map", "0:a:0?", "-map_metadata", "-1"),
        *("-vf", f"scale=iw*sar:ih,{into},setsar=1", "-threads", "1"),
        *("-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p"),
        *("-c:a", "aac", "-b:a", "160k", "-movflags", "+faststart"),
        *("-f", "mp4", "-y", f"file:{target.resolve()}"),
        max_pixels=MAX_VIDEO_PIXELS,
        wall_seconds=5 * seconds,
        cpu_seconds=seconds,
    )
    if done.returncode:
        raise UnusableMedia("The video could not be brought into this format.")


def still(path: Path, info: MediaInfo, frame: Frame | None, target: Path) -> None:
    """Write a typical picture of a video's first second into ``target`` as a JPEG, as it is or in a frame's size.

    Raises:
        UnusableMedia, ToolFailed, OSError: as above.
    """
    raw = target.with_name(target.name + ".ppm")
    done = run(
        path,
        DEMUXERS[info.extension],
        *("-map", "0:V:0", "-t", "1", "-vf", "fps=6:round=up,scale=iw*sar:ih,thumbnail=n=6", "-frames:v", "1"),
        *("-threads", "1", "-c:v", "ppm", "-f", "image2", "-update", "1", "-y", f"file:{raw.resolve()}"),
        max_pixels=MAX_VIDEO_PIXELS,
    )
    if done.returncode or not raw.exists():
        raise UnusableMedia("No picture of the video can be shown.")
    with pictures.opened(raw, "PPM", "still") as image:
        image.load()
        content = _jpeg(image, frame)
    raw.unlink()
    target.write_bytes(content)


def _jpeg(image: Image.Image, frame: Frame | None) -> bytes:
    """A decoded picture in a frame's size, in sRGB, without the metadata of its maker."""
    colour = ImageColor.getrgb(frame.colour) if frame else (255, 255, 255)
    orientation = pictures.orientation_of(image)
    image = _on(colour, _in_srgb(pictures.eight_bits(image)))
    image = pictures.turned_upright(image, orientation)
    if frame is not None:
        size = (frame.width, frame.height)
        if frame.fit == "crop":
            image = ImageOps.fit(image, size, _LANCZOS)
        else:
            image = ImageOps.pad(image, size, _LANCZOS, color=colour)
    out = io.BytesIO()
    dpi = (frame.dpi, frame.dpi) if frame and frame.dpi else (0, 0)
    image.save(out, "JPEG", quality=QUALITY, subsampling=0, dpi=dpi, exif=b"", icc_profile=None)
    return out.getvalue()


def _in_srgb(image: Image.Image) -> Image.Image:
    """With the colours that its own profile means; a profile that is none changes nothing."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA", "CMYK", "L"):
        return image
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    return converted or image


def _on(colour: tuple[int, ...], image: Image.Image) -> Image.Image:
    """Without transparency: on ``colour``."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    ground = Image.new("RGB", image.size, colour[:3])
    ground.paste(image, mask=image.getchannel("A"))
    return ground


def _even(pixels: int) -> int:
    """H.264 in its common form has half as many pixels for the colours, so their number must be even."""
    return pixels + pixels % 2
