"""What the sandbox delivers..."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest
from PIL import Image, ImageStat

from providers.sandbox.art.picture import picture
from providers.sandbox.process import SandboxProcess
from providers.sandbox.studio import stamped
from tests.providers.sandbox.support import Speaker


def drawn(prompt: str, seed: int = 3, size: tuple[int, int] = (256, 256)) -> Image.Image:
    spec = {"medium": "picture", "prompt": prompt, "seed": seed, "images": [], "mode": "plain"}
    return picture(Path(), {**spec, "width": size[0], "height": size[1]})


def test_is_the_same_for_the_same_prompt_and_seed_and_no_other() -> None:
    assert drawn("a fox").tobytes() == drawn("a fox").tobytes()
    assert drawn("a fox").tobytes() != drawn("a fox", seed=4).tobytes()
    assert drawn("a fox").tobytes() != drawn("a hen").tobytes()


def decoded(file: Path, size: tuple[int, int]) -> list[bytes]:
    """The frames of a video, RGB. Fails on any complaint of ffmpeg's, and on a part of a frame."""
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    command = [ffmpeg, "-v", "error", "-xerror", "-i", str(file), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stderr == b""
    length = size[0] * size[1] * 3
    assert len(done.stdout) % length == 0
    return [done.stdout[start : start + length] for start in range(0, len(done.stdout), length)]


@pytest.mark.parametrize(("word", "channel"), [("red", 0), ("green", 1), ("blue", 2)])
def test_takes_its_colours_from_the_prompt(word: str, channel: int) -> None:
    for seed in range(5):
        means = ImageStat.Stat(drawn(f"{word} hills in the morning", seed)).mean
        assert means[channel] == max(means), (seed, means)


def test_is_darker_by_night() -> None:
    light = ImageStat.Stat(drawn("a valley at noon, bright").convert("L")).mean[0]
    assert ImageStat.Stat(drawn("a valley at night").convert("L")).mean[0] < light / 2


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "日本の山と川、夕日",
        "שלום עולם مرحبا",
        "👩‍🚀🚀 emoji",
        "\x00\x07\n\t controls",
        "\ud800 lone surrogate",
        "\uff57" * 3000,
        "a" * 2048,
        "word " * 500,
    ],
)
@pytest.mark.parametrize("size", [(256, 256), (64, 64), (640, 272)])
def test_bears_any_prompt_at_any_size(prompt: str, size: tuple[int, int]) -> None:
    assert drawn(prompt, size=size).size == size


@pytest.mark.parametrize("scene", ["mountain", "sea", "forest", "city", "space", "flower", "abstract"])
@pytest.mark.parametrize("mood", ["day", "sunset", "night"])
def test_is_no_plain_area(scene: str, mood: str) -> None:
    image = drawn(f"{scene} {mood}")
    assert image.getcolors(2000) is None  # more than 2,000 colours


def test_plays(caller: Speaker, tmp_path: Path) -> None:
    result = caller.video_result(caller.text_video("a boat at sunset", quality="540p").json()["Resp"]["video_id"])
    file = tmp_path / "video.mp4"
    file.write_bytes(caller.get(result["url"]).content)
    assert file.stat().st_size < 1_000_000
    assert (result["outputWidth"], result["outputHeight"]) == (480, 270)
    pictures = decoded(file, (480, 270))
    assert len(pictures) == 60
    assert pictures[0] != pictures[30] != pictures[59]


def test_shows_the_image_that_was_given(caller: Speaker, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (320, 320), (250, 20, 20)).save(buffer, "PNG")
    body = {"img_id": caller.upload(buffer.getvalue()), "prompt": "go", "model": "v5", "duration": 5, "quality": "360p"}
    result = caller.video_result(caller.pixverse("/video/img/generate", body).json()["Resp"]["video_id"])
    file = tmp_path / "video.mp4"
    file.write_bytes(caller.get(result["url"]).content)
    size = (result["outputWidth"], result["outputHeight"])
    red, green, _ = ImageStat.Stat(Image.frombytes("RGB", size, decoded(file, size)[0]).crop((60, 60, 80, 80))).mean
    assert red > 200
    assert green < 80


def test_is_cheap_but_never_the_same_in_light_mode(tmp_path: Path) -> None:
    with SandboxProcess(tmp_path, "--speed", "0", "--light") as process:
        speaker = Speaker(process.base_url)
        files = []
        for number in range(12):
            reply = speaker.picture(f"prompt {number}", width=256, height=256).json()
            files.append(speaker.get(reply["output"][0]).content)
        assert len(set(files)) == 12
        assert len({Image.open(io.BytesIO(data)).tobytes() for data in files}) <= 8
        speaker.close()


def test_stays_valid_when_it_is_stamped(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    marked = stamped(buffer.getvalue(), "mark")
    with Image.open(io.BytesIO(marked)) as image:
        image.load()
        assert image.info["Comment"] == "mark"
