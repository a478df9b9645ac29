"""Strokes that the scenes are made of: gradients, glows, ridges, all smooth-edged."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import lru_cache

from PIL import Image, ImageDraw

from providers.sandbox.art.palette import Colour, mix

Size = tuple[int, int]
# Shapes are drawn this much larger and reduced, which smooths their edges.
FINE = 2


def gradient(size: Size, stops: Sequence[Colour]) -> Image.Image:
    """Top to bottom through the stops."""
    column = Image.new("RGB", (1, 256))
    for row in range(256):
        place = row / 255 * (len(stops) - 1)
        index = min(int(place), len(stops) - 2)
        column.putpixel((0, row), mix(stops[index], stops[index + 1], place - index))
    return column.resize(size, Image.Resampling.BICUBIC)


@lru_cache(maxsize=16)
def _falloff(power: float) -> Image.Image:
    """256 x 256: 255 in the middle, 0 at the rim of the inscribed circle."""
    curve = [round(255 * max(0.0, 1 - level / 180) ** power) for level in range(256)]
    return Image.radial_gradient("L").point(curve)


def glow(
    image: Image.Image, centre: tuple[float, float], radius: float, colour: Colour, strength: float, power: float = 2.0
) -> None:
    """Light around a point."""
    side = max(2, round(radius * 2))
    mask = _falloff(power).resize((side, side), Image.Resampling.BICUBIC).point(lambda level: round(level * strength))
    image.paste(colour, (round(centre[0] - side / 2), round(centre[1] - side / 2)), mask)


def disc(image: Image.Image, centre: tuple[float, float], radius: float, colour: Colour) -> None:
    """A filled circle with a smooth edge."""
    side = max(2, math.ceil(radius * 2) + 2)
    mask = Image.new("L", (side * 4, side * 4))
    ImageDraw.Draw(mask).ellipse((4, 4, side * 4 - 5, side * 4 - 5), fill=255)
    image.paste(colour, (round(centre[0] - side / 2), round(centre[1] - side / 2)), mask.reduce(4))


def crescent(image: Image.Image, centre: tuple[float, float], radius: float, colour: Colour) -> None:
    """A moon's sickle with a smooth edge; what it leaves dark stays as it was."""
    side = max(2, math.ceil(radius * 2) + 2)
    mask = Image.new("L", (side * 4, side * 4))
    draw = ImageDraw.Draw(mask)
    draw.ellipse((4, 4, side * 4 - 5, side * 4 - 5), fill=255)
    shift = radius * 4
    draw.ellipse((shift * 0.56, -shift * 0.3, shift * 2.3, shift * 1.44), fill=0)
    image.paste(colour, (round(centre[0] - side / 2), round(centre[1] - side / 2)), mask.reduce(4))


def ridge(size: Size, height: float, swing: float, rng: random.Random, *, rough: float = 0.5) -> list[float]:
    """Heights in pixels from the top, one per 1/160 of the width: a mountain's or a hill's line.

    ``height`` and ``swing`` are shares of the picture's height; ``rough`` 0.35 rolls, 0.6 is jagged.
    """
    steps, width = 160, size[0]
    line = [0.0] * (steps + 1)
    amplitude = 1.0
    for octave in range(6):
        frequency, phase = 1.1 * 2**octave * width / size[1] / 1.6, rng.uniform(0, math.tau)
        for step in range(steps + 1):
            angle = step / steps * frequency * 2.2 + phase
            # Folding the sine gives peaks instead of waves.
            line[step] += amplitude * ((1 - 2 * abs(math.sin(angle))) if rough > 0.45 else math.sin(angle))
        amplitude *= rough
    top = max(abs(value) for value in line) or 1.0
    return [(height - value / top * swing) * size[1] for value in line]


def silhouette(size: Size, line: Sequence[float]) -> Image.Image:
    """The mask of everything below a line."""
    width, height = size[0] * FINE, size[1] * FINE
    mask = Image.new("L", (width, height))
    points = [(step / (len(line) - 1) * width, y * FINE) for step, y in enumerate(line)]
    ImageDraw.Draw(mask).polygon([(0, height), *points, (width, height)], fill=255)
    return mask.reduce(FINE)


def firs(mask: Image.Image, line: Sequence[float], tall: float, rng: random.Random) -> None:
    """Add fir trees to a silhouette, standing on a line; ``tall`` in pixels."""
    big = Image.new("L", (mask.width * FINE, mask.height * FINE))
    draw = ImageDraw.Draw(big)
    x = -tall * 0.2
    while x < mask.width + tall * 0.2:
        place = min(max(x / mask.width, 0.0), 1.0) * (len(line) - 1)
        foot = line[int(place)] + tall * 0.1
        height = tall * rng.uniform(0.55, 1.15)
        _fir(draw, x * FINE, foot * FINE, height * FINE, rng)
        x += height * rng.uniform(0.2, 0.5)
    mask.paste(255, (0, 0), big.reduce(FINE))


def _fir(draw: ImageDraw.ImageDraw, x: float, foot: float, height: float, rng: random.Random) -> None:
    tiers = 6
    for tier in range(tiers):
        share = tier / tiers
        top = foot - height * (1 - share * 0.86)
        bottom = top + height * 0.27
        half = height * (0.045 + 0.16 * share) * rng.uniform(0.85, 1.15)
        draw.polygon([(x, top), (x - half, bottom), (x, bottom - height * 0.04), (x + half, bottom)], fill=255)
    draw.rectangle((x - height * 0.012, foot - height * 0.12, x + height * 0.012, foot), fill=255)


def lay(canvas: Image.Image, mask: Image.Image, stops: Sequence[Colour], top: float) -> None:
    """Fill a mask with a gradient that begins at ``top`` (pixels) and ends at the bottom."""
    top_row = max(0, min(round(top), canvas.height - 2))
    fill = Image.new("RGB", canvas.size, stops[0])
    fill.paste(gradient((canvas.width, canvas.height - top_row), stops), (0, top_row))
    canvas.paste(fill, (0, 0), mask)
