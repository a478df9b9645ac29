"""The prompt as a caption, wrapped to the picture, in whatever script it is; and the sandbox's mark."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from providers.sandbox.art.brush import Size

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
# Tried in this order, by file name, for characters that Pillow's own font lacks; none need exist.
OTHERS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "arial.ttf")
LINES = 3
MARK = "sandbox"


@lru_cache(maxsize=32)
def _fonts(size: int) -> tuple[Font, ...]:
    found: list[Font] = [ImageFont.load_default(size)]
    for name in OTHERS:
        try:
            found.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return tuple(found)


@lru_cache(maxsize=4096)
def _has(index: int, size: int, character: str) -> bool:
    font = _fonts(size)[index]
    try:
        drawn = bytes(font.getmask(character))
        missing = bytes(font.getmask("\U0010ffff"))
    except (UnicodeError, ValueError, OSError):
        return False
    return character.isspace() or (bool(drawn) and drawn != missing)


def _font_for(text: str, size: int) -> Font:
    """The font that can draw the most of a text."""
    fonts = _fonts(size)
    best = max(range(len(fonts)), key=lambda index: (sum(_has(index, size, one) for one in set(text)), -index))
    return fonts[best]


def cleaned(text: str) -> str:
    """Text that can be laid out: no control characters, no lone surrogates, one kind of space."""
    kept = "".join(" " if unicodedata.category(one)[0] in "CZ" else one for one in text)
    return " ".join(kept.split())


def wrapped(text: str, font: Font, width: float, lines: int = LINES) -> list[str]:
    """The text in lines of at most ``width`` pixels; what does not fit is cut, with an ellipsis."""
    result: list[str] = []
    rest = text
    while rest and len(result) < lines:
        fit = _fitting(rest, font, width)
        if fit < len(rest) and " " in rest[: fit + 1]:
            fit = rest.rindex(" ", 0, fit + 1)
        result.append(rest[:fit].strip())
        rest = rest[fit:].strip()
    if rest and result:
        last = result[-1]
        while last and font.getlength(last + "…") > width:
            last = last[:-1]
        result[-1] = last.rstrip(" ,.;:") + "…"
    return result


def _fitting(text: str, font: Font, width: float) -> int:
    """How many characters of the text fit (at least one)."""
    low, high = 1, min(len(text), 400)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle]) <= width:
            low = middle
        else:
            high = middle - 1
    return low


def overlay(size: Size, prompt: str) -> Image.Image:
    """A transparent layer with the caption at the bottom left and the mark at the top right."""
    width, height = size
    layer = Image.new("RGBA", size)
    text = cleaned(prompt)[:500]
    em = max(9, round(min(width, height) * 0.046))
    margin = round(em * 1.1)
    if text and height >= 64:
        font = _font_for(text, em)
        text = "".join(one if any(_has(index, em, one) for index in range(len(_fonts(em)))) else "·" for one in text)
        lines = wrapped(text, font, width - 2 * margin)
        step = round(em * 1.32)
        top = height - margin - step * len(lines)
        shade_top = max(0, top - 3 * em)
        fade = Image.linear_gradient("L").resize((width, height - shade_top)).point(lambda level: round(level * 0.68))
        shade = Image.new("RGBA", (width, height - shade_top), (0, 0, 0, 0))
        shade.putalpha(fade)
        layer.paste(shade, (0, shade_top))
        draw = ImageDraw.Draw(layer)
        for number, line in enumerate(lines):
            draw.text((margin, top + number * step), line, font=font, fill=(255, 255, 255, 238))
    _mark(layer, em, margin)
    return layer


def _mark(layer: Image.Image, em: int, margin: int) -> None:
    size = max(8, round(em * 0.62))
    font = _fonts(size)[0]
    long = font.getlength(MARK)
    pad = round(size * 0.55)
    right, top = layer.width - round(margin * 0.7), round(margin * 0.7)
    box = (right - long - 2 * pad, top, right, top + size + pad)
    pill = Image.new("RGBA", layer.size)
    draw = ImageDraw.Draw(pill)
    draw.rounded_rectangle(box, radius=(size + pad) / 2, fill=(0, 0, 0, 70))
    draw.text((right - long - pad, top + (size + pad) / 2), MARK, font=font, fill=(255, 255, 255, 205), anchor="lm")
    layer.alpha_composite(pill)
