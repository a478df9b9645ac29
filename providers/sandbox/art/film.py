"""One video: the planes of a scene drift at their own speeds; given pictures are travelled over or blended."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
from PIL import Image, ImageFilter, ImageOps

from providers.sandbox.art.brush import Size
from providers.sandbox.art.caption import overlay
from providers.sandbox.art.picture import loaded, picture, scatter
from providers.sandbox.art.scene import Scene, scene

FRAMES_PER_SECOND = 24
SECONDS = 2.5
# The planes are painted this much larger than the frame, so that the camera has room to move.
ROOM = 1.14
ENCODE_SECONDS = 60.0

View = Callable[[float], Image.Image]


def film(path: Path, uploads: Path, spec: dict[str, Any]) -> None:
    """Write the mp4 (H.264, yuv420p, no sound) of a spec. Raises RuntimeError when ffmpeg fails."""
    size = (spec["width"], spec["height"])
    view = _view(uploads, spec, size)
    layer = overlay(size, spec["prompt"])
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24",
        "-s", f"{size[0]}x{size[1]}", "-r", str(FRAMES_PER_SECOND), "-i", "-", "-an", "-c:v", "libx264",
        "-preset", "ultrafast", "-tune", "fastdecode", "-crf", "24", "-threads", "1", "-pix_fmt", "yuv420p",
        "-movflags", "+faststart", "-f", "mp4", str(path),
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as encoder:
        assert encoder.stdin is not None
        assert encoder.stderr is not None
        try:
            for frame in _frames(view, layer):
                encoder.stdin.write(frame)
            encoder.stdin.close()
        except BrokenPipeError:
            pass
        said = encoder.stderr.read().decode("utf-8", "replace")
        if encoder.wait(ENCODE_SECONDS) != 0:
            raise RuntimeError(f"ffmpeg: {said.strip()[-400:]}")


def _frames(view: View, layer: Image.Image) -> Iterator[bytes]:
    count = round(FRAMES_PER_SECOND * SECONDS)
    # The mark above and the caption below, without the empty middle.
    pieces = []
    for top, bottom in ((0, layer.height // 4), (layer.height // 4, layer.height)):
        box = layer.crop((0, top, layer.width, bottom)).getbbox()
        if box is not None:
            box = (box[0], box[1] + top, box[2], box[3] + top)
            pieces.append((layer.crop(box), box))
    for number in range(count):
        frame = view(number / (count - 1))
        for piece, box in pieces:
            frame.paste(piece, box, piece)
        yield frame.tobytes()


def _view(uploads: Path, spec: dict[str, Any], size: Size) -> View:
    """What is seen at a moment, 0 to 1."""
    prompt, seed = spec["prompt"], spec["seed"]
    mode, large = spec["mode"], (round(size[0] * ROOM), round(size[1] * ROOM))
    pictures = [loaded(uploads, name, large) for name in spec["images"]]
    if mode == "removed":
        still = picture(uploads, {**spec, "prompt": ""})
        return lambda _moment: still.copy()
    if mode == "transition" and len(pictures) > 1:
        first, last = _travel(Scene(pictures[0]), size), _travel(Scene(pictures[-1]), size, back=True)
        return lambda moment: Image.blend(first(moment), last(moment), _ease(moment))
    own = scene(prompt, seed, 0, large)
    if mode == "extend" and "before" in spec:
        before = spec["before"]
        earlier = Scene(pictures[0]) if pictures else scene(before["prompt"], before["seed"], 0, large)
        start, then = _travel(earlier, size), _travel(own, size)
        return lambda moment: Image.blend(start(moment), then(moment), _ease(min(1.0, moment * 1.6)))
    if mode == "fusion" and pictures:
        return _with_cards(_travel(own, size), pictures, size)
    if pictures:
        return _travel(Scene(pictures[0], None, own.motes), size)
    return _travel(own, size)


def _ease(moment: float) -> float:
    return 0.5 - 0.5 * math.cos(math.pi * moment)


def _travel(painted: Scene, size: Size, *, back: bool = False) -> View:
    """A slow move over a scene: the front plane goes further than the back one, the motes drift."""
    room = (painted.back.width - size[0], painted.back.height - size[1])
    highest = (painted.front.getbbox() or (0, 0, 0, 0))[1] if painted.front is not None else 0

    def look(moment: float) -> Image.Image:
        way = _ease(1 - moment if back else moment)
        zoom = 1.0 + 0.05 * way
        frame = _seen(painted.back, size, room[0] * (0.3 + 0.4 * way), room[1] * 0.4, zoom)
        if painted.front is not None:
            # Above the highest thing in front there is nothing to move; the camera only ever magnifies.
            cut = max(0, highest - round(room[1]) - size[1] // 20)
            place = (room[0] * way, room[1] * 0.5)
            plane = _seen(painted.front, size, *place, zoom * (1 + 0.02 * way), cut)
            frame.paste(plane, (0, cut), plane)
        scatter(frame, painted.motes, moment * SECONDS)
        return frame

    return look


def _seen(plane: Image.Image, size: Size, left: float, top: float, zoom: float, cut: int = 0) -> Image.Image:
    """The part of a plane that the camera sees, at any fraction of a pixel (a move by whole ones would shake).

    ``cut`` rows at the top are left out.
    """
    scale = 1 / zoom
    x, y = left + size[0] * (1 - scale) / 2, top + size[1] * (1 - scale) / 2
    data = (scale, 0, x, 0, scale, y + cut * scale)
    return plane.transform((size[0], size[1] - cut), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)


def _with_cards(look: View, pictures: list[Image.Image], size: Size) -> View:
    """The references as cards before the scene, floating gently."""
    width, height = size
    side = round(min(height * 0.5, width / (len(pictures) + 1)))
    cards = []
    for source in pictures:
        card = ImageOps.expand(ImageOps.fit(source, (side, side)), border=max(2, side // 28), fill="white").convert(
            "RGBA"
        )
        shadow = Image.new("RGBA", (card.width + 24, card.height + 24))
        shadow.paste((0, 0, 0, 130), (12, 16, 12 + card.width, 16 + card.height))
        shadow = shadow.filter(ImageFilter.GaussianBlur(6))
        shadow.alpha_composite(card, (12, 10))
        cards.append(shadow)

    def seen(moment: float) -> Image.Image:
        frame = look(moment)
        for number, card in enumerate(cards):
            x = width * (number + 1) / (len(cards) + 1) - card.width / 2
            y = height * 0.4 - card.height / 2 + math.sin(moment * math.tau * 0.5 + number * 1.3) * height * 0.025
            frame.paste(card, (round(x), round(y)), card)
        return frame

    return seen
