"""The scenes. Each paints a back plane and, where depth helps, a front plane that moves on its own."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from providers.sandbox.art.brush import Size, crescent, disc, firs, glow, gradient, lay, ridge, silhouette
from providers.sandbox.art.palette import Colour, Palette, hsl, mix, palette, words


@dataclass(frozen=True, slots=True)
class Mote:
    """A point of light that drifts: place and drift as shares of the picture, radius in shares of its height."""

    x: float
    y: float
    radius: float
    colour: Colour
    strength: float
    drift: tuple[float, float]
    phase: float


@dataclass(slots=True)
class Scene:
    """What a picture is flattened from and a film is moved with."""

    back: Image.Image
    front: Image.Image | None = None
    motes: list[Mote] = field(default_factory=list)


_WORDS = {
    "mountains": "mountain mountains alps valley hill hills landscape volcano desert fox deer wolf lava canyon sunrise",
    "sea": "sea ocean beach lake water wave waves ship boat sail island whale sunset river harbour harbor lighthouse",
    "forest": "forest tree trees wood woods jungle cabin bear owl firefly fireflies mist misty",
    "city": "city street town building skyline tokyo neon cyberpunk car robot office shop metropolis",
    "space": "space galaxy planet star stars astronaut moon nebula cosmic universe rocket alien",
    "bokeh": "portrait woman man girl boy person cat dog flower flowers product light party garden dress food coffee "
    "pose wedding sakura",
    "geometry": "abstract geometric logo pattern poster minimal design icon music",
}
WORDS = {word: kind for kind, known in _WORDS.items() for word in known.split()}


def generator(prompt: str, seed: int, index: int) -> random.Random:
    """The source of chance for one output of one request."""
    return random.Random(hashlib.sha256(f"{prompt}\x00{seed}\x00{index}".encode("utf-8", "replace")).digest())


def scene(prompt: str, seed: int, index: int, size: Size) -> Scene:
    """The scene of a prompt at a size."""
    named = words(prompt)
    rng = generator(prompt, seed, index)
    colours = palette(prompt, rng)
    chance = rng.choice(["mountains", "mountains", "sea", "forest", "city", "space", "bokeh"])
    kind = next((WORDS[word] for word in named if word in WORDS), chance)
    return _PAINTERS[kind](size, colours, rng)


# -- the sky ------------------------------------------------------------------------------------


def _sky(
    size: Size, colours: Palette, rng: random.Random, horizon: float, sun_y: float | None = None
) -> tuple[Image.Image, float, float]:
    """Gradient, stars or clouds, and a sun or moon; returns the canvas and where the light stands."""
    width, height = size
    canvas = Image.new("RGB", size, colours.sky[2])
    canvas.paste(gradient((width, max(2, round(height * horizon) + 1)), colours.sky), (0, 0))
    x = width * rng.choice([rng.uniform(0.2, 0.4), rng.uniform(0.6, 0.8)])
    y = height * (sun_y if sun_y is not None else horizon * rng.uniform(0.32, 0.72))
    night = colours.mood == "night"
    if night:
        _stars(canvas, rng, horizon)
        if rng.random() < 0.55:
            _aurora(canvas, colours, rng, horizon)
    glow(canvas, (x, y), height * (0.55 if night else 0.85), colours.glow, 0.35 if night else 0.55, 2.4)
    glow(canvas, (x, y), height * 0.3, colours.glow, 0.5, 2.0)
    radius = height * rng.uniform(0.045, 0.075)
    white = mix(colours.glow, (255, 255, 255), 0.55)
    if night:
        crescent(canvas, (x, y), radius, white)
    else:
        disc(canvas, (x, y), radius, white)
    if not night and rng.random() < 0.8:
        _clouds(canvas, colours, rng, horizon)
    return canvas, x, y


def _stars(canvas: Image.Image, rng: random.Random, horizon: float) -> None:
    draw = ImageDraw.Draw(canvas, "RGBA")
    width, height = canvas.size
    for _ in range(int(width * height / 1400)):
        x, y = rng.uniform(0, width), height * horizon * rng.random() ** 1.3
        light = int(40 + 200 * rng.random() ** 3)
        if rng.random() < 0.06:
            draw.ellipse((x - 1, y - 1, x + 1, y + 1), fill=(255, 255, 255, 220))
        else:
            draw.point((x, y), fill=(255, 255, 255, light))


def _aurora(canvas: Image.Image, colours: Palette, rng: random.Random, horizon: float) -> None:
    small = Image.new("RGB", (160, 96))
    draw = ImageDraw.Draw(small)
    phase, lift = rng.uniform(0, math.tau), rng.uniform(0.15, 0.3)
    for ribbon in range(3):
        colour = mix(colours.accent, hsl(150 + 40 * ribbon, 0.8, 0.6), 0.55)
        for column in range(160):
            wave = math.sin(column / 160 * 5 + phase + ribbon * 1.1) * 0.12 + math.sin(column / 160 * 13 + phase) * 0.03
            top = 96 * (lift + ribbon * 0.1 + wave)
            shine = 0.25 + 0.75 * abs(math.sin(column * 0.11 + ribbon * 2 + phase))
            draw.line((column, top, column, top + 22), fill=mix((0, 0, 0), colour, 0.5 * shine))
    cloth = small.filter(ImageFilter.GaussianBlur(3)).resize(
        (canvas.width, round(canvas.height * horizon)), Image.Resampling.BICUBIC
    )
    region = canvas.crop((0, 0, *cloth.size))
    canvas.paste(ImageChops.screen(region, cloth), (0, 0))


def _clouds(canvas: Image.Image, colours: Palette, rng: random.Random, horizon: float) -> None:
    width, height = canvas.size
    mask = Image.new("L", (width // 2, height // 2))
    draw = ImageDraw.Draw(mask)
    for _ in range(rng.randint(4, 7)):
        x, y = rng.uniform(-0.1, 1) * width / 2, height / 2 * horizon * rng.uniform(0.12, 0.8)
        long = width / 2 * rng.uniform(0.12, 0.32)
        for _puff in range(9):
            px, py = x + rng.uniform(0, long), y + rng.gauss(0, height * 0.008)
            wide = long * rng.uniform(0.15, 0.4)
            draw.ellipse((px - wide, py - wide * 0.13, px + wide, py + wide * 0.13), fill=rng.randint(60, 150))
    mask = mask.filter(ImageFilter.GaussianBlur(max(2, height / 180))).resize(canvas.size, Image.Resampling.BICUBIC)
    tint = mix(colours.sky[2], (255, 255, 255), 0.55 if colours.mood == "day" else 0.18)
    canvas.paste(tint, (0, 0), mask)


def _motes(
    rng: random.Random, count: int, colour: Colour, span: tuple[float, float], radius: float, strength: float
) -> list[Mote]:
    """So many motes between two heights (shares of the picture's)."""
    return [
        Mote(
            rng.random(),
            rng.uniform(*span),
            radius * rng.uniform(0.4, 1.3),
            colour,
            strength * rng.uniform(0.4, 1),
            (rng.uniform(-0.03, 0.05), rng.uniform(-0.05, 0.01)),
            rng.uniform(0, math.tau),
        )
        for _ in range(count)
    ]


# -- the scenes ---------------------------------------------------------------------------------


def _mountains(size: Size, colours: Palette, rng: random.Random) -> Scene:
    height = size[1]
    canvas, x, _ = _sky(size, colours, rng, 0.72)
    front = Image.new("RGBA", size)
    layers = 5
    for layer in range(layers):
        depth = layer / (layers - 1)
        line = ridge(size, 0.50 + 0.36 * depth, 0.20 - 0.10 * depth, rng, rough=0.52 if depth < 0.6 else 0.42)
        mask = silhouette(size, line)
        if layer == layers - 1:
            firs(mask, line, height * 0.11, rng)
        shade = colours.shade(0.12 + 0.88 * depth**1.15)
        fog = mix(shade, mix(colours.sky[2], colours.far, 0.35), 0.62 * (1 - depth))
        if layer < 3:
            lay(canvas, mask, (shade, fog), min(line))
            if layer == 1:
                glow(canvas, (x, height * 0.62), height * 0.6, colours.glow, 0.22, 2.2)
        else:
            plane = Image.new("RGB", size)
            lay(plane, Image.new("L", size, 255), (shade, fog), min(line))
            plane.putalpha(mask)
            front = Image.alpha_composite(front, plane)
    colour = mix(colours.glow, colours.accent, 0.3)
    return Scene(canvas, front, _motes(rng, 16, colour, (0.45, 0.95), 0.010, 0.8))


def _sea(size: Size, colours: Palette, rng: random.Random) -> Scene:
    width, height = size
    horizon = rng.uniform(0.52, 0.6)
    sun_y = horizon - rng.uniform(0.06, 0.2)
    canvas, x, _ = _sky(size, colours, rng, horizon, sun_y)
    if rng.random() < 0.75:
        for depth in (0.05, 0.3):
            line = ridge(size, horizon + 0.01, 0.05 + 0.05 * (0.3 - depth), rng, rough=0.5)
            lay(canvas, silhouette(size, line), (colours.shade(depth + 0.1), colours.shade(depth)), min(line))
    top = round(height * horizon)
    above = canvas.crop((0, max(0, 2 * top - height), width, top)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    water = above.resize((width, height - top), Image.Resampling.BICUBIC).filter(
        ImageFilter.BoxBlur((max(1, width // 90), 1))
    )
    deep = gradient(
        (width, height - top), (mix(colours.sky[2], colours.near, 0.15), mix(colours.sky[0], colours.near, 0.6))
    )
    canvas.paste(Image.blend(water, deep, 0.45), (0, top))
    _glitter(canvas, colours, rng, x, top)
    front = Image.new("RGBA", size)
    line = ridge(size, 0.955, 0.035, rng, rough=0.4)
    plane = Image.new("RGB", size, mix(colours.near, (0, 0, 0), 0.25))
    mask = silhouette(size, line)
    if rng.random() < 0.5:
        firs(mask, [y + height * 0.01 for y in line], height * 0.09, rng)
    plane.putalpha(mask)
    front = Image.alpha_composite(front, plane)
    if rng.random() < 0.7:
        _boat(canvas, x + width * rng.choice([-0.2, 0.18]), top + height * 0.055, height * 0.09, colours)
    return Scene(canvas, front, _motes(rng, 14, colours.glow, (horizon, 0.95), 0.009, 0.9))


def _glitter(canvas: Image.Image, colours: Palette, rng: random.Random, x: float, top: int) -> None:
    draw = ImageDraw.Draw(canvas, "RGBA")
    width, height = canvas.size
    for _ in range(int(width * 0.9)):
        share = rng.random() ** 1.4
        y = top + share * (height - top)
        spread = width * (0.012 + 0.11 * share)
        long = width * (0.004 + 0.022 * share) * rng.uniform(0.4, 1.4)
        place = rng.gauss(x, spread)
        light = int(150 * (1 - share * 0.75) * rng.uniform(0.3, 1))
        draw.line((place - long, y, place + long, y), fill=(*colours.glow, light), width=max(1, round(height * 0.0022)))
    for _ in range(60):
        y = rng.uniform(top, height)
        place, long = rng.uniform(0, width), width * rng.uniform(0.02, 0.09)
        draw.line((place, y, place + long, y), fill=(*mix(colours.sky[2], (255, 255, 255), 0.2), 22), width=1)


def _boat(canvas: Image.Image, x: float, y: float, tall: float, colours: Palette) -> None:
    big = Image.new("L", (canvas.width * 2, canvas.height * 2))
    draw = ImageDraw.Draw(big)
    x, y, tall = x * 2, y * 2, tall * 2
    draw.polygon(
        [
            (x - tall * 0.42, y - tall * 0.14),
            (x + tall * 0.46, y - tall * 0.14),
            (x + tall * 0.28, y),
            (x - tall * 0.3, y),
        ],
        fill=255,
    )
    draw.polygon(
        [(x + tall * 0.02, y - tall), (x + tall * 0.02, y - tall * 0.2), (x + tall * 0.4, y - tall * 0.2)], fill=235
    )
    draw.polygon(
        [(x - tall * 0.03, y - tall * 0.9), (x - tall * 0.03, y - tall * 0.2), (x - tall * 0.32, y - tall * 0.2)],
        fill=215,
    )
    canvas.paste(mix(colours.near, colours.far, 0.12), (0, 0), big.reduce(2))


def _forest(size: Size, colours: Palette, rng: random.Random) -> Scene:
    height = size[1]
    canvas, x, y = _sky(size, colours, rng, 0.85)
    front = Image.new("RGBA", size)
    layers = 5
    for layer in range(layers):
        depth = layer / (layers - 1)
        line = ridge(size, 0.60 + 0.36 * depth, 0.07, rng, rough=0.38)
        mask = silhouette(size, line)
        firs(mask, line, height * (0.13 + 0.36 * depth**1.6), rng)
        shade = colours.shade(0.15 + 0.85 * depth)
        fog = mix(shade, colours.sky[2], 0.7 * (1 - depth))
        if layer < layers - 1:
            lay(canvas, mask, (shade, fog), height * (0.45 + 0.2 * depth))
            glow(canvas, (x, y + height * 0.25), height * 0.7, colours.glow, 0.16 * (1 - depth), 1.8)
        else:
            plane = Image.new("RGB", size, mix(shade, (0, 0, 0), 0.2))
            plane.putalpha(mask)
            front = Image.alpha_composite(front, plane)
    colour = mix(colours.accent, (255, 240, 170), 0.6)
    return Scene(canvas, front, _motes(rng, 30, colour, (0.45, 0.95), 0.012, 1.0))


def _city(size: Size, colours: Palette, rng: random.Random) -> Scene:
    width, height = size
    canvas, x, _ = _sky(size, colours, rng, 0.85)
    glow(canvas, (width / 2, height * 0.9), width * 0.6, colours.accent, 0.4, 1.7)
    front = Image.new("RGBA", size)
    for layer, depth in enumerate((0.15, 0.5, 0.95)):
        plane = Image.new("RGBA", (width * 2, height * 2))
        draw = ImageDraw.Draw(plane)
        shade = mix(colours.shade(0.25 + 0.7 * depth), colours.near, 0.25)
        left = -width * 0.1
        while left < width * 2:
            wide = width * rng.uniform(0.07, 0.16) * (0.8 + 0.6 * depth)
            top = height * 2 * (rng.uniform(0.34, 0.66) + 0.12 * depth)
            draw.rectangle((left, top, left + wide, height * 2), fill=(*shade, 255))
            if rng.random() < 0.35:
                draw.line(
                    (left + wide / 2, top - height * 0.12, left + wide / 2, top),
                    fill=(*shade, 255),
                    width=max(2, width // 200),
                )
            if rng.random() < 0.3:
                draw.rectangle((left + wide * 0.25, top - height * 0.06, left + wide * 0.75, top), fill=(*shade, 255))
            _windows(draw, (left, top, wide, height * 2), colours, rng, depth)
            left += wide + (width * rng.uniform(0, 0.04))
        reduced = plane.reduce(2)
        if layer < 2:
            canvas.paste(reduced, (0, 0), reduced)
            glow(canvas, (x, height), height * 0.7, mix(colours.sky[2], colours.accent, 0.5), 0.25, 1.6)
        else:
            front = reduced
    return Scene(canvas, front, _motes(rng, 18, colours.accent, (0.3, 1.0), 0.016, 0.6))


def _windows(
    draw: ImageDraw.ImageDraw,
    box: tuple[float, float, float, float],
    colours: Palette,
    rng: random.Random,
    depth: float,
) -> None:
    left, top, wide, bottom = box
    step = max(7.0, wide / rng.randint(4, 7))
    lit = 0.16 if colours.mood == "day" else 0.42
    warm = [(255, 220, 150), (255, 200, 120), (255, 240, 205), colours.accent]
    y = top + step * 0.6
    while y < bottom:
        x = left + step * 0.35
        while x < left + wide - step * 0.6:
            if rng.random() < lit:
                draw.rectangle(
                    (x, y, x + step * 0.42, y + step * 0.5), fill=(*rng.choice(warm), int(110 + 120 * depth))
                )
            x += step
        y += step * 1.05


def _space(size: Size, colours: Palette, rng: random.Random) -> Scene:
    width, height = size
    hue = rng.uniform(0, 360)
    canvas = gradient(size, (hsl(240, 0.6, 0.03), mix(colours.sky[0], (6, 4, 22), 0.6), hsl(260, 0.6, 0.08)))
    small = Image.new("RGB", (120, 120))
    for _ in range(22):
        place = rng.gauss(60, 26)
        colour = rng.choice([colours.accent, hsl(hue, 0.8, 0.5), hsl(hue + 60, 0.8, 0.5), colours.sky[2]])
        glow(small, (place, place * 0.6 + rng.gauss(24, 14)), rng.uniform(12, 40), colour, rng.uniform(0.1, 0.42), 1.8)
    canvas = ImageChops.screen(canvas, small.filter(ImageFilter.GaussianBlur(4)).resize(size, Image.Resampling.BICUBIC))
    _stars(canvas, rng, 1.0)
    for _ in range(9):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        glow(canvas, (x, y), height * rng.uniform(0.012, 0.035), (255, 255, 255), 0.9, 4)
    front = Image.new("RGBA", size)
    radius = height * rng.uniform(0.17, 0.27)
    x, y = width * rng.uniform(0.28, 0.72), height * rng.uniform(0.34, 0.54)
    _planet(front, x, y, radius, colours, rng)
    return Scene(canvas, front, _motes(rng, 14, (255, 255, 255), (0.0, 1.0), 0.006, 1.0))


def _planet(front: Image.Image, x: float, y: float, radius: float, colours: Palette, rng: random.Random) -> None:
    side = round(radius * 2) * 2
    hue = rng.uniform(0, 360)
    bands = [mix(hsl(hue + rng.uniform(-25, 25), 0.55, rng.uniform(0.35, 0.7)), colours.accent, 0.4) for _ in range(9)]
    ball = gradient((side, side), bands).rotate(
        rng.uniform(-25, 25), Image.Resampling.BICUBIC, expand=False, fillcolor=bands[4]
    )
    shadow = Image.new("RGB", (side, side), (4, 4, 14))
    light = Image.new("L", (side, side))
    glow_mask = Image.new("RGB", (side, side))
    glow(glow_mask, (side * 0.3, side * 0.28), side * 0.86, (255, 255, 255), 1.0, 1.1)
    light.paste(glow_mask.getchannel("R"))
    ball = Image.composite(ball, shadow, light)
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).ellipse((2, 2, side - 3, side - 3), fill=255)
    halo = Image.new("RGB", front.size)
    glow(halo, (x, y), radius * 1.55, mix(colours.accent, (255, 255, 255), 0.3), 0.55, 2.6)
    tinted = Image.new("RGBA", front.size, (*mix(colours.accent, (255, 255, 255), 0.4), 0))
    tinted.putalpha(halo.convert("L"))
    front.alpha_composite(tinted)
    rings = Image.new("RGBA", (front.width * 2, front.height * 2))
    draw = ImageDraw.Draw(rings)
    for ring in range(7):
        wide, flat = radius * 2 * (1.45 + ring * 0.085), radius * 2 * (0.30 + ring * 0.021)
        box = (x * 2 - wide, y * 2 - flat, x * 2 + wide, y * 2 + flat)
        draw.ellipse(
            box, outline=(*mix(bands[ring], (255, 255, 255), 0.5), 150 - ring * 14), width=max(2, round(radius * 0.06))
        )
    rings = rings.reduce(2).rotate(rng.uniform(-24, 24), Image.Resampling.BICUBIC, center=(x, y))
    front.alpha_composite(rings)
    upper = rings.copy()
    ball_small, mask_small = ball.reduce(2), mask.reduce(2)
    front.paste(ball_small, (round(x - ball_small.width / 2), round(y - ball_small.height / 2)), mask_small)
    upper.paste((0, 0, 0, 0), (0, 0, front.width, round(y)))
    front.alpha_composite(upper)


def _bokeh(size: Size, colours: Palette, rng: random.Random) -> Scene:
    width, height = size
    base = (
        colours.sky
        if colours.mood != "day"
        else (mix(colours.sky[0], colours.near, 0.35), colours.sky[0], colours.sky[1])
    )
    canvas = gradient(size, (mix(base[0], (0, 0, 0), 0.25), base[1], mix(base[2], colours.accent, 0.25)))
    canvas = canvas.rotate(rng.choice([0, 180]))
    tones = [
        colours.accent,
        colours.glow,
        colours.sky[2],
        mix(colours.accent, colours.glow, 0.5),
        hsl(rng.uniform(0, 360), 0.8, 0.65),
    ]
    glow(canvas, (width * rng.uniform(0.3, 0.7), height * 0.45), height * 0.8, colours.glow, 0.4, 1.8)
    for blur, count, low, high, light in (
        (0.02, 13, 0.10, 0.24, 62),
        (0.006, 16, 0.05, 0.13, 92),
        (0.002, 16, 0.015, 0.05, 130),
    ):
        layer = Image.new("RGB", size)
        mask = Image.new("L", size)
        for _ in range(count):
            x, y, radius = (
                rng.uniform(0, width),
                rng.gauss(height * 0.55, height * 0.26),
                height * rng.uniform(low, high),
            )
            one = Image.new("L", size)
            ImageDraw.Draw(one).ellipse(
                (x - radius, y - radius, x + radius, y + radius),
                fill=round(light * rng.uniform(0.4, 1)),
                outline=round(light * 1.3),
                width=max(1, round(radius * 0.05)),
            )
            layer.paste(rng.choice(tones), (0, 0), one.point(lambda level: 255 if level else 0))
            mask = ImageChops.add(mask, one)
        soft = max(1.0, height * blur)
        canvas.paste(layer.filter(ImageFilter.GaussianBlur(soft)), (0, 0), mask.filter(ImageFilter.GaussianBlur(soft)))
    return Scene(canvas, None, _motes(rng, 26, colours.glow, (0.1, 0.95), 0.028, 0.55))


def _geometry(size: Size, colours: Palette, rng: random.Random) -> Scene:
    width, height = size
    canvas = gradient(size, (mix(colours.sky[1], colours.near, 0.25), mix(colours.sky[2], colours.sky[1], 0.4)))
    tones = [
        colours.accent,
        colours.sky[0],
        colours.sky[2],
        colours.far,
        mix(colours.accent, colours.glow, 0.6),
        colours.near,
    ]
    front = Image.new("RGBA", (width * 2, height * 2))
    side = max(width, height) * 2 / rng.choice([4, 5])
    rows, columns = math.ceil(height * 2 / side) + 1, math.ceil(width * 2 / side) + 1
    for row in range(rows):
        for column in range(columns):
            _tile(front, (column * side, row * side, side), rng.choice(tones), rng.choice(tones), rng)
    tiles = front.reduce(2)
    veil = Image.new("RGB", size)
    glow(veil, (width * rng.uniform(0.3, 0.7), height * 0.4), height * 0.9, (255, 255, 255), 1.0, 1.2)
    canvas.paste(tiles, (0, 0), tiles)
    canvas = Image.composite(canvas, canvas.point(lambda level: round(level * 0.72)), veil.convert("L"))
    return Scene(canvas, None, _motes(rng, 12, colours.glow, (0.1, 0.9), 0.03, 0.5))


def _tile(
    plane: Image.Image, place: tuple[float, float, float], tone: Colour, second: Colour, rng: random.Random
) -> None:
    draw = ImageDraw.Draw(plane)
    x, y, side = place
    draw.rectangle((x, y, x + side, y + side), fill=(*tone, 255))
    kind = rng.randint(0, 5)
    if kind == 0:
        draw.ellipse((x + side * 0.14, y + side * 0.14, x + side * 0.86, y + side * 0.86), fill=(*second, 255))
        draw.ellipse((x + side * 0.36, y + side * 0.36, x + side * 0.64, y + side * 0.64), fill=(*tone, 255))
    elif kind == 1:
        corner = rng.choice([(0, 90, 0, 0), (90, 180, 1, 0), (180, 270, 1, 1), (270, 360, 0, 1)])
        left, top = x + (corner[2] - 1) * side, y + (corner[3] - 1) * side
        draw.pieslice((left, top, left + side * 2, top + side * 2), corner[0], corner[1], fill=(*second, 255))
    elif kind == 2:
        draw.polygon([(x, y), (x + side, y), (x, y + side)], fill=(*second, 255))
    elif kind == 3:
        for stripe in range(4):
            draw.rectangle((x, y + side * stripe / 4, x + side, y + side * (stripe + 0.5) / 4), fill=(*second, 255))
    elif kind == 4:
        draw.pieslice((x, y - side * 0.5, x + side, y + side * 0.5), 0, 180, fill=(*second, 255))
        draw.pieslice((x, y, x + side, y + side), 0, 180, fill=(*second, 255))


_PAINTERS: dict[str, Callable[[Size, Palette, random.Random], Scene]] = {
    "mountains": _mountains,
    "sea": _sea,
    "forest": _forest,
    "city": _city,
    "space": _space,
    "bokeh": _bokeh,
    "geometry": _geometry,
}
