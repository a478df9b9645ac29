"""Files in other sizes: real pictures by Pillow, real videos by ffmpeg."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest
from PIL import Image, ImageCms

from generations.media import ToolFailed, UnusableMedia, inspect
from generations.media.exports import Frame, picture, still, video

RED, GREEN, BLUE = (220, 30, 30), (30, 200, 30), (30, 30, 220)
SQUARE = Frame(100, 100, "crop", "#ffffff")
PADDED = Frame(100, 100, "pad", "#00ff00")


def saved(path: Path, image: Image.Image, kind: str = "PNG", **options: object) -> Path:
    image.save(path, kind, **options)
    return path


def thirds(width: int = 300, height: int = 100) -> Image.Image:
    """Red, green and blue beside each other."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 3, 0, 2 * width // 3, height))
    image.paste(BLUE, (2 * width // 3, 0, width, height))
    return image


def made(path: Path, frame: Frame) -> Image.Image:
    target = path.with_name("made")
    picture(path, inspect(path), frame, target)
    image = Image.open(target)
    assert image.format == "JPEG"
    image.load()
    return image


def near(pixel: object, colour: tuple[int, ...], by: int = 25) -> bool:
    assert isinstance(pixel, tuple)
    return all(abs(a - b) < by for a, b in zip(pixel, colour, strict=False))


# Pictures


def test_cuts_off_what_is_too_much_around_the_middle(tmp_path: Path) -> None:
    image = made(saved(tmp_path / "a", thirds()), SQUARE)
    assert image.size == (100, 100)
    assert all(near(image.getpixel((x, 50)), GREEN) for x in (3, 50, 96))


def test_fills_up_with_the_colour(tmp_path: Path) -> None:
    image = made(saved(tmp_path / "a", thirds()), PADDED)
    assert image.size == (100, 100)
    assert near(image.getpixel((50, 10)), (0, 255, 0))
    assert near(image.getpixel((50, 90)), (0, 255, 0))
    assert [near(image.getpixel((x, 50)), colour) for x, colour in ((10, RED), (50, GREEN), (90, BLUE))] == [True] * 3


def test_enlarges_what_is_too_small(tmp_path: Path) -> None:
    assert made(saved(tmp_path / "a", thirds(30, 10)), Frame(1080, 1920, "crop", "#ffffff")).size == (1080, 1920)


def test_turns_a_picture_upright_before_it_is_cut(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    path = saved(tmp_path / "a", thirds(), "JPEG", exif=exif, quality=95)
    image = made(path, PADDED)
    assert [near(image.getpixel((50, y)), colour) for y, colour in ((10, RED), (50, GREEN), (90, BLUE))] == [True] * 3
    assert near(image.getpixel((10, 50)), (0, 255, 0))
    assert not image.getexif()


def test_puts_the_colour_behind_what_is_transparent(tmp_path: Path) -> None:
    path = saved(tmp_path / "a", Image.new("RGBA", (50, 50), (0, 0, 0, 0)))
    image = made(path, Frame(100, 100, "crop", "#0000ff"))
    assert near(image.getpixel((50, 50)), (0, 0, 255))


@pytest.mark.parametrize("mode", ["L", "P", "LA", "CMYK", "I;16", "1"])
def test_takes_pictures_of_every_kind(tmp_path: Path, mode: str) -> None:
    image = Image.new("I;16", (60, 40), 65_000) if mode == "I;16" else Image.new("RGB", (60, 40), "white").convert(mode)
    path = saved(tmp_path / "a", image, "JPEG" if mode == "CMYK" else "PNG")
    assert near(made(path, SQUARE).getpixel((50, 50)), (255, 255, 255))


def test_keeps_the_colours_that_its_profile_means(tmp_path: Path) -> None:
    """With a profile in which red and blue have changed places, what is red by its numbers is seen as blue."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"....", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"....", b"bXYZ", 1)
    seen = []
    for number, profile in enumerate((b"", srgb, swapped, srgb[:50])):
        given: dict[str, Any] = {"icc_profile": profile} if profile else {}
        image = made(saved(tmp_path / str(number), Image.new("RGB", (60, 60), RED), **given), SQUARE)
        assert "icc_profile" not in image.info
        seen.append([near(image.getpixel((50, 50)), colour, 40) for colour in (RED, BLUE)])
    assert seen == [[True, False], [True, False], [False, True], [True, False]]


def test_says_how_large_a_print_is(tmp_path: Path) -> None:
    image = made(saved(tmp_path / "a", thirds()), Frame(1200, 1800, "pad", "#ffffff", dpi=300))
    assert tuple(round(float(value)) for value in image.info["dpi"]) == (300, 300)


def test_refuses_what_cannot_be_decoded(tmp_path: Path) -> None:
    path = saved(tmp_path / "a", Image.effect_noise((200, 200), 90))
    info = inspect(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UnusableMedia):
        picture(path, info, SQUARE, tmp_path / "made")


# Videos


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of 320 x 180 in green, with sound."""
    path = tmp_path_factory.mktemp("film") / "a.mp4"
    sources = ("-f", "lavfi", "-i", "color=c=0x1ec81e:s=320x180:r=12:d=1", "-f", "lavfi", "-i", "sine=d=1")
    coded = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", "-shortest")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *sources, *coded, "-threads", "1", str(path)]
    subprocess.run(command, check=True, timeout=60)
    return path


@pytest.mark.parametrize(("frame", "corner"), [(SQUARE, GREEN), (Frame(100, 100, "pad", "#0000ff"), (0, 0, 255))])
def test_brings_a_video_into_the_frame(film: Path, tmp_path: Path, frame: Frame, corner: tuple[int, ...]) -> None:
    target = tmp_path / "made"
    video(film, inspect(film), frame, target, seconds=20)
    info = inspect(target)
    assert (info.mime_type, info.width, info.height) == ("video/mp4", 100, 100)
    assert info.duration == pytest.approx(1, abs=0.2)
    assert target.read_bytes().index(b"moov") < target.read_bytes().index(b"mdat")
    shown = tmp_path / "still"
    still(target, info, None, shown)
    with Image.open(shown) as image:
        assert near(image.getpixel((50, 4)), corner, 40)
        assert near(image.getpixel((50, 50)), GREEN, 40)


def test_keeps_the_sound(film: Path, tmp_path: Path) -> None:
    video(film, inspect(film), SQUARE, tmp_path / "made", seconds=20)
    assert b"mp4a" in (tmp_path / "made").read_bytes()


def test_makes_an_odd_size_even_as_the_coding_needs_it(film: Path, tmp_path: Path) -> None:
    video(film, inspect(film), Frame(120, 63, "crop", "#ffffff"), tmp_path / "made", seconds=20)
    info = inspect(tmp_path / "made")
    assert (info.width, info.height) == (120, 64)


def test_gives_a_still_picture_in_a_frame_or_as_it_is(film: Path, tmp_path: Path) -> None:
    sizes = []
    for frame in (Frame(50, 90, "pad", "#ffffff"), None):
        still(film, inspect(film), frame, tmp_path / "still")
        with Image.open(tmp_path / "still") as image:
            assert image.format == "JPEG"
            sizes.append(image.size)
    assert sizes == [(50, 90), (320, 180)]
    assert [path.name for path in tmp_path.iterdir()] == ["still"]


def test_gives_up_a_video_that_takes_too_long(film: Path, tmp_path: Path) -> None:
    with pytest.raises((UnusableMedia, ToolFailed)):
        video(film, inspect(film), Frame(2160, 3840, "crop", "#ffffff"), tmp_path / "made", seconds=0)
