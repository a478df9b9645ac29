"""Pictures, by Pillow."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from generations.media.info import MAX_PIXELS, MAX_SIDE, Format, MediaInfo, UnusableMedia

_ORIENTATION = 0x0112
_TURNED = frozenset({5, 6, 7, 8})
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FRAME_PIXELS = 2 * MAX_PIXELS
"""How many pixels of an animation are decoded in all: its first picture, and what follows up to here."""
_QUALITY = 80


def inspect(path: Path, found: Format) -> MediaInfo:
    """Decode a picture (of an animation as much as the budget allows).

    Raises:
        UnusableMedia: too large, damaged or cut short.
    """
    with opened(path, found.decoder, found.title) as image:
        image.verify()  # PNG's checksums, which decoding ignores; afterwards it must be opened anew
    with opened(path, found.decoder, found.title) as image:
        width, height = image.size
        turned = orientation_of(image) in _TURNED
        budget = _FRAME_PIXELS
        for frame in range(getattr(image, "n_frames", 1)):
            budget -= width * height
            if frame and budget < 0:
                break
            image.seek(frame)
            image.load()
    if turned:
        width, height = height, width
    return MediaInfo("image", found.mime_type, found.extension, width, height, None)


def thumbnail(path: Path, info: MediaInfo, max_side: int) -> bytes:
    """A WebP of a picture's first frame, upright, with its transparency."""
    decoder = decoder_of(info)
    with opened(path, decoder, decoder) as image:
        image.draft("RGB", (max_side, max_side))  # JPEG alone: decodes no more than is needed
        image.load()
        return encode(image, max_side)


def encode(image: Image.Image, max_side: int) -> bytes:
    """Shrink a decoded picture and write it as WebP, without the metadata of its maker."""
    orientation = orientation_of(image)
    has_alpha = image.has_transparency_data
    mode = "RGBA" if has_alpha else "RGB"
    image = eight_bits(image)
    # Of the small picture alone it is cheap to change the mode; palettes can't be shrunk smoothly.
    if image.mode in ("P", "PA", "1", "LA", "La", "RGBa") or has_alpha:
        image = image.convert(mode)
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    image = turned_upright(image.convert(mode), orientation)
    out = io.BytesIO()
    # method 0: a third of the time of the usual 4, for files hardly larger.
    image.save(out, "WEBP", quality=_QUALITY, method=0, exif=b"", icc_profile=None)
    return out.getvalue()


def decoder_of(info: MediaInfo) -> str:
    """Pillow's name for what decodes an inspected picture."""
    return info.extension.upper().replace("JPG", "JPEG")


def eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits and more as grey of 8; everything else as it is."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return image.convert("F").point(lambda value: value / 256).convert("L")
    return image


def turned_upright(image: Image.Image, orientation: int) -> Image.Image:
    """As people see it, by EXIF's orientation."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


@contextmanager
def opened(path: Path, decoder: str, title: str) -> Iterator[Image.Image]:
    """The picture with its size judged; whatever fails while it is open is the file's fault (UnusableMedia)."""
    with path.open("rb") as file:
        try:
            with Image.open(file, formats=(decoder,)) as image:
                _check_size(*image.size)
                yield image
        except (UnusableMedia, MemoryError):
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise UnusableMedia(_TOO_LARGE) from error
        except Exception as error:  # Pillow's decoders raise nearly anything for bad bytes
            raise UnusableMedia(f"The {title} picture is damaged or cut short. Send or make it again.") from error


_TOO_LARGE = (
    f"The picture has too many pixels; at most {MAX_PIXELS // 1_000_000} million "
    f"and {MAX_SIDE:,} a side are accepted. Send a smaller one."
)


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise UnusableMedia("The picture has no pixels.")
    if width > MAX_SIDE or height > MAX_SIDE or width * height > MAX_PIXELS:
        raise UnusableMedia(_TOO_LARGE)


def orientation_of(image: Image.Image) -> int:
    """EXIF's orientation, 1 (upright) to 8; 1 where the metadata is missing or broken."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001  broken metadata spoils no picture
        return 1
    return value if value in range(1, 9) else 1
