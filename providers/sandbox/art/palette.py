"""Colours from words: a palette is a mood (day, dusk, night) and a hue, and its shades."""

from __future__ import annotations

import colorsys
import random
import re
from dataclasses import dataclass

Colour = tuple[int, int, int]

HUES = {
    "red": 356, "crimson": 350, "ruby": 348, "rose": 345, "fox": 22, "orange": 26, "amber": 38, "copper": 20,
    "autumn": 24, "desert": 32, "sand": 38, "brown": 24, "gold": 44, "golden": 44, "yellow": 50, "honey": 42,
    "lime": 85, "green": 135, "emerald": 150, "forest": 145, "jungle": 130, "spring": 105, "moss": 95, "mint": 160,
    "teal": 178, "turquoise": 176, "cyan": 188, "ice": 200, "winter": 205, "snow": 208, "blue": 218, "ocean": 205,
    "sea": 200, "sky": 208, "rain": 215, "indigo": 245, "violet": 272, "purple": 280, "lavender": 262, "neon": 300,
    "magenta": 312, "pink": 332, "cherry": 340, "sakura": 338, "candy": 325, "volcano": 8, "lava": 10, "fire": 14,
}  # fmt: skip
MOODS = {
    "sunset": "dusk", "sunrise": "dusk", "dawn": "dusk", "dusk": "dusk", "evening": "dusk", "twilight": "dusk",
    "golden": "dusk", "autumn": "dusk", "volcano": "dusk", "fire": "dusk", "lava": "dusk",
    "night": "night", "midnight": "night", "moon": "night", "stars": "night", "star": "night", "neon": "night",
    "cyberpunk": "night", "dark": "night", "black": "night", "space": "night", "galaxy": "night", "aurora": "night",
    "day": "day", "morning": "day", "noon": "day", "sunny": "day", "bright": "day", "white": "day", "snow": "day",
    "spring": "day", "winter": "day", "summer": "day", "beach": "day",
}  # fmt: skip
TWILIGHT = {"sunset", "sunrise", "dusk", "twilight", "evening"}
PLACES = {"ocean", "sea", "sky", "desert", "sand", "forest", "jungle", "winter", "snow", "ice", "rain", "autumn"}
PALE = {"white", "snow", "winter", "fog", "mist", "misty", "pale", "pastel", "minimal", "ice"}


@dataclass(frozen=True, slots=True)
class Palette:
    """``sky`` runs from the zenith to the horizon; ``far`` to ``near`` shades what stands before it."""

    mood: str
    sky: tuple[Colour, Colour, Colour]
    glow: Colour
    far: Colour
    near: Colour
    accent: Colour

    def shade(self, depth: float) -> Colour:
        """The colour of something at a depth: 0 at the horizon, 1 before our feet."""
        return mix(self.far, self.near, depth)


def words(prompt: str) -> list[str]:
    """The prompt's words, lower case."""
    return re.findall(r"[a-z]+", prompt.lower())


def palette(prompt: str, rng: random.Random) -> Palette:
    """The palette of a prompt: by its words where they name colours or moods, else by chance."""
    named = words(prompt)
    mood = next((MOODS[word] for word in named if word in MOODS), None) or rng.choice(["day", "dusk", "dusk", "night"])
    # The twilight that people like best has a violet sky; a named hue overrules it.
    lucky = rng.choice(
        {"day": [195, 205, 215, 170, 30], "dusk": [255, 235, 280, 320, 215], "night": [225, 250, 200, 280]}[mood]
    )
    twilight = any(word in TWILIGHT for word in named)
    # In a twilight only a word that is a colour counts: a sunset over the ocean is not blue.
    named_hue = next((HUES[word] for word in named if word in HUES and not (twilight and word in PLACES)), None)
    hue = float(named_hue if named_hue is not None else lucky + rng.uniform(-12, 12))
    if twilight and named_hue is None:
        hue = rng.choice([250.0, 262.0, 276.0])
    soft = 0.45 if any(word in PALE for word in named) else 1.0
    if mood == "day":
        sky = (hsl(hue, 0.62 * soft, 0.50), hsl(hue + 6, 0.65 * soft, 0.70), hsl(hue + 18, 0.75 * soft, 0.90))
        return Palette(mood, sky, (255, 250, 226), hsl(hue + 8, 0.34 * soft, 0.68), hsl(hue + 14, 0.50, 0.16),
                       hsl(hue + 180, 0.85, 0.62))  # fmt: skip
    if mood == "dusk":
        # From violet through rose to gold; a named hue stays itself and grows warmer, never green.
        warm = hue + 135 if named_hue is None else hue + (28 if hue < 15 or hue > 180 else -12)
        middle = hue + 78 if named_hue is None else hue + 8
        sky = (hsl(hue, 0.55 * soft, 0.20), hsl(middle, 0.55 * soft, 0.46), hsl(warm, 0.92 * soft, 0.72))
        return Palette(mood, sky, (255, 236, 196), hsl(middle - 6, 0.42, 0.50), hsl(hue, 0.50, 0.09),
                       hsl(warm + 14, 0.95, 0.66))  # fmt: skip
    sky = (hsl(hue, 0.62 * soft, 0.06), hsl(hue + 6, 0.60 * soft, 0.15), hsl(hue + 26, 0.55 * soft, 0.34))
    return Palette(mood, sky, (234, 240, 255), hsl(hue + 14, 0.42, 0.26), hsl(hue, 0.55, 0.045),
                   hsl(hue + 150 if named_hue is None else hue, 0.90, 0.64))  # fmt: skip


def hsl(hue: float, saturation: float, lightness: float) -> Colour:
    """Degrees and two fractions to 0..255."""
    red, green, blue = colorsys.hls_to_rgb(hue % 360 / 360, lightness, min(1.0, saturation))
    return round(red * 255), round(green * 255), round(blue * 255)


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """``share`` of the other colour."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue
