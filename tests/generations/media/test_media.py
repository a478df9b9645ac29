"""Files judged by their bytes: real pictures by Pillow, real videos by ffmpeg."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import imageio_ffmpeg
import pytest
from PIL import Image

from generations.media import MediaInfo, ToolFailed, UnusableMedia, ffmpeg, inspect, thumbnail

RED, GREEN, BLUE = (220, 30, 30), (30, 200, 30), (30, 30, 220)


def noise(width: int = 320, height: int = 200) -> Image.Image:
    return Image.effect_noise((width, height), 80).convert("RGB")


def saved(path: Path, image: Image.Image, kind: str, **options: object) -> Path:
    image.save(path, kind, **options)
    return path


def make_video(path: Path, *arguments: str, source: str = "testsrc2=s=320x180:r=24:d=2") -> Path:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-f", "lavfi", "-i", source]
    subprocess.run([*command, *arguments, "-threads", "1", str(path)], check=True, timeout=60)
    return path


H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
FAST = (*H264, "-movflags", "+faststart")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("videos")
    return {
        "mp4": make_video(folder / "a.mp4", *FAST),
        "mov": make_video(folder / "a.mov", *H264),
        "webm": make_video(folder / "a.webm", *VP9),
    }


def shown(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    assert image.format == "WEBP"
    image.load()
    return image


def near(pixel: object, color: tuple[int, ...]) -> bool:
    assert isinstance(pixel, tuple)
    return all(abs(a - b) < 40 for a, b in zip(pixel, color, strict=False))


# Pictures


@pytest.mark.parametrize(
    ("kind", "mime_type", "extension"),
    [
        ("PNG", "image/png", "png"),
        ("JPEG", "image/jpeg", "jpg"),
        ("WEBP", "image/webp", "webp"),
        ("GIF", "image/gif", "gif"),
        ("AVIF", "image/avif", "avif"),
    ],
)
def test_knows_a_picture_whatever_its_name(tmp_path: Path, kind: str, mime_type: str, extension: str) -> None:
    path = saved(tmp_path / "it.txt", noise(), kind)
    info = inspect(path)
    assert info == MediaInfo("image", mime_type, extension, 320, 200, None)
    small = shown(thumbnail(path, info, max_side=100))
    assert small.size in ((100, 62), (100, 63))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "AVIF"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
def test_refuses_a_picture_that_was_cut_short(tmp_path: Path, kind: str, part: float) -> None:
    path = saved(tmp_path / "it", noise(), kind)
    os.truncate(path, int(path.stat().st_size * part))
    with pytest.raises(UnusableMedia, match="damaged or cut short"):
        inspect(path)


def test_refuses_a_picture_with_a_broken_middle(tmp_path: Path) -> None:
    path = saved(tmp_path / "it.png", noise(), "PNG")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(UnusableMedia):
        inspect(path)


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1_000_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(50_000, 50_000), (10_000, 9_500), (8_400, 8_400), (20_000, 10)])
def test_refuses_a_decompression_bomb_by_its_head(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_that_claims(*size))
    with pytest.raises(UnusableMedia, match="too many pixels"):
        inspect(path)


def test_turns_a_picture_upright(tmp_path: Path) -> None:
    """As shown: red on the left, blue on the right; as stored by a camera held sideways: otherwise."""
    upright = Image.new("RGB", (40, 20), RED)
    upright.paste(BLUE, (20, 0, 40, 20))
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    for orientation, transpose in undo.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = upright if transpose is None else upright.transpose(transpose)
        path = saved(tmp_path / "it.jpg", stored, "JPEG", exif=exif, quality=95)
        info = inspect(path)
        assert (info.width, info.height) == (40, 20)
        small = shown(thumbnail(path, info))
        assert small.size == (40, 20)
        assert near(small.getpixel((5, 10)), RED)
        assert near(small.getpixel((35, 10)), BLUE)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_takes_broken_metadata_for_none(tmp_path: Path) -> None:
    path = saved(tmp_path / "it.jpg", noise(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff broken")
    info = inspect(path)
    assert (info.width, info.height) == (320, 200)
    assert shown(thumbnail(path, info)).size == (320, 200)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_shows_every_mode(tmp_path: Path, mode: str) -> None:
    deep = Image.new("I;16", (60, 30), 128 * 256)
    image = deep if mode == "I;16" else Image.new("L", (60, 30), 128).convert(mode)
    path = saved(tmp_path / "it", image, "JPEG" if mode == "CMYK" else "PNG")
    small = shown(thumbnail(path, inspect(path), max_side=20))
    assert small.size == (20, 10)
    inside = small.convert("L").crop((2, 2, 18, 8)).resize((1, 1), Image.Resampling.BOX)
    assert 110 < inside.getpixel((0, 0)) < 146  # type: ignore[operator]


def test_keeps_transparency(tmp_path: Path) -> None:
    image = Image.new("RGBA", (100, 100), (*GREEN, 0))
    image.paste((*RED, 255), (0, 0, 50, 100))
    for path in (
        saved(tmp_path / "a.png", image, "PNG"),
        saved(tmp_path / "a.gif", image.convert("P"), "GIF", transparency=image.convert("P").getpixel((90, 50))),
    ):
        small = shown(thumbnail(path, inspect(path), max_side=50))
        assert small.mode == "RGBA"
        assert small.getpixel((45, 25))[3] == 0  # type: ignore[index]
        assert small.getpixel((5, 25))[3] == 255  # type: ignore[index]


def test_never_enlarges_and_never_makes_nothing_of_a_thin_picture(tmp_path: Path) -> None:
    tiny = saved(tmp_path / "a.png", noise(10, 5), "PNG")
    assert shown(thumbnail(tiny, inspect(tiny))).size == (10, 5)
    thin = saved(tmp_path / "b.png", noise(5000, 1), "PNG")
    assert shown(thumbnail(thin, inspect(thin))).size == (480, 1)


def test_leaves_the_makers_metadata_out_of_the_thumbnail(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "the prompt"
    path = saved(tmp_path / "a.jpg", noise(), "JPEG", exif=exif)
    assert b"the prompt" not in thumbnail(path, inspect(path))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_looks_through_an_animation(tmp_path: Path, kind: str) -> None:
    frames = [noise(64, 64) for _ in range(5)]
    path = saved(tmp_path / "a", frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
    info = inspect(path)
    assert (info.width, info.height, info.duration) == (64, 64, None)
    assert shown(thumbnail(path, info)).size == (64, 64)
    os.truncate(path, int(path.stat().st_size * 0.7))
    with pytest.raises(UnusableMedia):
        inspect(path)


# What is no picture and no video


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "web page"),
        (b"\n\n <HTML>", "web page"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "SVG"),
        (b'<?xml version="1.0"?><!-- x --><svg width="1">', "SVG"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", "playlist"),
        (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "playlist"),
        (b'<?xml version="1.0"?><MPD></MPD>', "playlist"),
        (b"%PDF-1.7", "neither"),
        (b"\0" * 5000, "neither"),
        (b'{"error": "not found"}', "neither"),
        (b"BM" + b"\0" * 100, "neither"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 50, "HEIC"),
        (b"\x1a\x45\xdf\xa3\x8b\x42\x82\x88matroska", "Matroska"),
    ],
)
def test_refuses_what_is_no_media_by_its_bytes(tmp_path: Path, data: bytes, reason: str) -> None:
    for name in ("it.png", "it.mp4"):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(UnusableMedia, match=reason) as caught:
            inspect(path)
        assert caught.value.reason


@pytest.mark.parametrize(
    "head",
    [
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"GIF89a",
        b"RIFF\x10\0\0\0WEBPVP8 ",
        b"\0\0\0\x18ftypavif",
        b"\0\0\0\x18ftypisom",
        b"\0\0\0\x08moov",
        b"\x1a\x45\xdf\xa3\x42\x82\x84webm",
    ],
)
@pytest.mark.parametrize("rest", [b"", b"<html>" * 200, b"\xff" * 5000, b"#EXTM3U\nfile:///etc/passwd\n"])
def test_refuses_a_head_without_a_body(tmp_path: Path, head: bytes, rest: bytes) -> None:
    path = tmp_path / "it"
    path.write_bytes(head + rest)
    with pytest.raises(UnusableMedia):
        inspect(path)


def test_does_not_blame_the_file_when_it_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        inspect(tmp_path / "missing.png")
    for kind in (MediaInfo("image", "image/png", "png", 1, 1, None), MediaInfo("video", "video/mp4", "mp4", 1, 1, 1.0)):
        with pytest.raises(FileNotFoundError):
            thumbnail(tmp_path / "missing", kind)


# Videos


@pytest.mark.parametrize(
    ("extension", "mime_type"), [("mp4", "video/mp4"), ("mov", "video/quicktime"), ("webm", "video/webm")]
)
def test_knows_a_video_whatever_its_name(
    videos: dict[str, Path], tmp_path: Path, extension: str, mime_type: str
) -> None:
    path = Path(shutil.copy(videos[extension], tmp_path / "-i concat:x|y 'z'.png"))
    info = inspect(path)
    assert (info.kind, info.mime_type, info.extension) == ("video", mime_type, extension)
    assert (info.width, info.height) == (320, 180)
    assert info.duration == pytest.approx(2.0, abs=0.05)
    assert shown(thumbnail(path, info, max_side=160)).size == (160, 90)
    assert shown(thumbnail(path, info)).size == (320, 180)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("extension", ["mp4", "mov", "webm"])
@pytest.mark.parametrize("part", [0.05, 0.5, 0.9, 0.99])
def test_refuses_a_video_that_was_cut_short(
    videos: dict[str, Path], tmp_path: Path, extension: str, part: float
) -> None:
    path = Path(shutil.copy(videos[extension], tmp_path / "it"))
    os.truncate(path, int(path.stat().st_size * part))
    with pytest.raises(UnusableMedia, match="damaged or cut short"):
        inspect(path)


def test_notices_a_fragmented_video_that_was_cut_short(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", *H264, "-g", "12", "-movflags", "frag_keyframe+empty_moov")
    assert inspect(path).duration == pytest.approx(2.0, abs=0.1)
    os.truncate(path, int(path.stat().st_size * 0.6))
    with pytest.raises(UnusableMedia, match="cut short"):
        inspect(path)


def test_measures_a_video_that_states_no_duration(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.webm", *VP9, "-live", "1", "-f", "webm")
    assert inspect(path).duration == pytest.approx(2.0, abs=0.1)


def test_gives_the_size_as_shown_of_a_turned_video(videos: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "turned.mp4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-display_rotation", "90", "-i", str(videos["mp4"])]
    subprocess.run([*command, "-c", "copy", str(path)], check=True, timeout=60)
    info = inspect(path)
    assert (info.width, info.height) == (180, 320)
    assert shown(thumbnail(path, info)).size == (180, 320)


def test_takes_a_video_with_sound(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", "-f", "lavfi", "-i", "sine=d=2", *FAST, "-c:a", "aac")
    assert inspect(path).duration == pytest.approx(2.0, abs=0.1)


def test_refuses_a_video_with_nothing_to_see(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", "-c:a", "aac", "-brand", "isom", source="sine=d=1")
    with pytest.raises(UnusableMedia, match="no pictures"):
        inspect(path)


def test_shows_no_black_picture_of_a_video_that_fades_in(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", *H264, "-vf", "fade=in:0:8", source="color=c=red:s=320x180:r=24:d=2")
    small = shown(thumbnail(path, inspect(path)))
    assert near(small.getpixel((160, 90)), (254, 0, 0))


@pytest.mark.parametrize("frames", ["1", "2"])
def test_shows_a_video_of_hardly_a_picture(tmp_path: Path, frames: str) -> None:
    path = make_video(tmp_path / "a.mp4", *FAST, "-frames:v", frames)
    assert shown(thumbnail(path, inspect(path))).size == (320, 180)


def test_reads_no_other_file_than_the_one_given(tmp_path: Path, videos: dict[str, Path]) -> None:
    """Not even where a playlist reaches ffmpeg: the demuxer is forced, the protocols are few."""
    path = tmp_path / "list.mp4"
    path.write_text(f"ffconcat version 1.0\nfile '{videos['mp4']}'\n")
    for demuxer in ("mov", "matroska"):
        done = ffmpeg.run(path, demuxer, "-c", "copy", "-f", "null", "-", max_pixels=1_000_000)
        assert done.returncode != 0
        assert str(videos["mp4"]) not in done.stderr


def test_ends_ffmpeg_when_it_takes_too_long(videos: dict[str, Path]) -> None:
    endless = ("-vf", "loop=loop=-1:size=10,realtime", "-f", "null", "-")
    with pytest.raises(ToolFailed, match="in time"):
        ffmpeg.run(videos["mp4"], "mov", *endless, max_pixels=1_000_000, wall_seconds=0.3)


def test_ends_ffmpeg_when_it_writes_too_much(videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg, "_MAX_STDOUT", 1000)
    with pytest.raises(ToolFailed, match="wrote more"):
        ffmpeg.run(videos["mp4"], "mov", "-f", "rawvideo", "pipe:1", max_pixels=1_000_000)


def test_does_not_blame_the_file_when_ffmpeg_is_missing(
    videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: "/nowhere/ffmpeg")
    with pytest.raises(ToolFailed, match="could not be started"):
        inspect(videos["mp4"])


@pytest.mark.parametrize(("number", "blamed"), [("SEGV", True), ("ABRT", True), ("XCPU", True), ("KILL", False)])
def test_blames_the_file_when_ffmpeg_breaks_over_it_and_not_when_somebody_kills_it(
    videos: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str, blamed: bool
) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!/bin/sh\nkill -{number} $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(program))
    with pytest.raises(UnusableMedia if blamed else ToolFailed):
        inspect(videos["mp4"])
