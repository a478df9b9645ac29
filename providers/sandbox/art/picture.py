"""One picture: a scene flattened, or a given picture worked over, with its caption."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageFilter, ImageOps

from providers.sandbox.art.brush import Size, gradient
from providers.sandbox.art.caption import overlay
from providers.sandbox.art.palette import palette
from providers.sandbox.art.scene import Mote, Scene, generator, scene


def picture(uploads: Path, spec: dict[str, Any]) -> Image.Image:
    """The picture of a spec, exactly ``width`` x ``height``, RGB."""
    size = (spec["width"], spec["height"])
    prompt, seed, index = spec["prompt"], spec["seed"], spec.get("index", 0)
    if spec["mode"] == "removed":
        image = gradient(size, ((38, 38, 44), (24, 24, 28)))
    elif spec["images"]:
        image = restyled([loaded(uploads, name, size) for name in spec["images"]], prompt, seed, index)
    else:
        image = flattened(scene(prompt, seed, index, size))
    if spec.get("blurred"):
        image = image.filter(ImageFilter.GaussianBlur(max(size) / 16))
    layer = overlay(size, prompt)
    image.paste(layer, (0, 0), layer)
    return image


def flattened(painted: Scene, at: float = 0.0) -> Image.Image:
    """A scene as a picture; ``at``: where its motes are, in seconds."""
    image = painted.back.copy()
    if painted.front is not None:
        image.paste(painted.front, (0, 0), painted.front)
    scatter(image, painted.motes, at)
    return image


def scatter(image: Image.Image, motes: list[Mote], at: float) -> None:
    """Draw the motes as they are at a time."""
    width, height = image.size
    for mote in motes:
        side = max(4, round(mote.radius * height * 2.6))
        light = mote.strength * (0.55 + 0.45 * math.sin(mote.phase + at * 2.2))
        x = (mote.x + mote.drift[0] * at + 0.006 * math.sin(mote.phase + at * 1.4)) % 1.0 * width
        y = (mote.y + mote.drift[1] * at) % 1.0 * height
        image.paste(mote.colour, (round(x - side / 2), round(y - side / 2)), _dot(side, round(light * 10)))


_DOTS: dict[tuple[int, int], Image.Image] = {}


def _dot(side: int, light: int) -> Image.Image:
    """A soft dot of ``side`` pixels; ``light`` in tenths. Few sizes and strengths, so they are kept."""
    found = _DOTS.get((side, light))
    if found is None:
        curve = [round(25.5 * light * max(0.0, 1 - level / 178) ** 2.2) for level in range(256)]
        found = _DOTS[(side, light)] = Image.radial_gradient("L").point(curve).resize((side, side))
    return found


def loaded(uploads: Path, name: str, size: Size) -> Image.Image:
    """A kept upload, upright and cropped to a size."""
    with Image.open(uploads / name) as file:
        return ImageOps.fit(ImageOps.exif_transpose(file).convert("RGB"), size, Image.Resampling.LANCZOS)


def restyled(sources: list[Image.Image], prompt: str, seed: int, index: int) -> Image.Image:
    """A given picture in the prompt's colours; several side by side."""
    rng = generator(prompt, seed, index)
    colours = palette(prompt, rng)
    width, height = sources[0].size
    canvas = Image.new("RGB", (width, height))
    share = width / len(sources)
    for number, source in enumerate(sources):
        left, right = round(number * share), round((number + 1) * share)
        canvas.paste(ImageOps.fit(source, (max(1, right - left), height)), (left, 0))
    toned = ImageOps.colorize(
        ImageOps.autocontrast(canvas.convert("L"), cutoff=1), colours.near, colours.sky[2], colours.sky[1]
    )
    painted = Image.blend(canvas, toned, 0.55)
    edges = (
        canvas.filter(ImageFilter.SMOOTH_MORE)
        .filter(ImageFilter.FIND_EDGES)
        .convert("L")
        .point(lambda v: min(255, v * 2))
    )
    lines = ImageOps.colorize(edges, (0, 0, 0), colours.accent)
    result = ImageChops.screen(
        painted.filter(ImageFilter.ModeFilter(3)), lines.point(lambda level: round(level * 0.35))
    )
    return flattened(Scene(result, None, scene(prompt, seed, index, (160, 160)).motes))
