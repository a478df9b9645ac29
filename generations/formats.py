"""The formats of exports: what they are called, how large they are, and how an output comes into them. Pure.

Sizes are in pixels. Those of posts are what each platform recommends for a picture in the feed (its help pages name
them), so that it scales nothing itself; those of prints are the paper at 300 dots per inch, upright.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

Fit = Literal["crop", "pad"]
"""``crop`` cuts off what is too much, ``pad`` fills up with a colour."""

ORIGINAL = "original"
WHITE = "#ffffff"
COLOUR = re.compile(r"#[0-9a-f]{6}")
DPI = 300
"""Of the prints."""


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """``width`` and ``height`` are 0 for the original, which stays as it is. ``printed``: on paper, so no video."""

    name: str
    title: str
    width: int
    height: int
    fit: Fit
    printed: bool = False

    @property
    def as_it_is(self) -> bool:
        """Whether the file itself is meant."""
        return not self.width


@dataclass(frozen=True, slots=True)
class Wanted:
    """A format, and how an output comes into it; the canonical form, by which two that are equal are one."""

    format: str
    fit: Fit
    colour: str

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """From the form that is stored.

        Raises:
            ValueError: it is none, or of a format that there is no more.
        """
        wanted = cls(facts.get("format", ""), facts.get("fit", "crop"), str(facts.get("colour")))
        if wanted.format not in FORMATS or wanted.fit not in ("crop", "pad") or not COLOUR.fullmatch(wanted.colour):
            raise ValueError(f"{dict(facts)!r:.200} is no wanted format")
        return wanted

    def as_dict(self) -> dict[str, str]:
        """The form that is stored."""
        return {"format": self.format, "fit": self.fit, "colour": self.colour}


# What fills the screen or the feed is cropped; a shop's picture shows the whole thing, on white; paper loses nothing.
_ALL = (
    ExportFormat("instagram_story", "Instagram story", 1080, 1920, "crop"),
    ExportFormat("instagram_feed", "Instagram post, square", 1080, 1080, "crop"),
    ExportFormat("instagram_portrait", "Instagram post, portrait", 1080, 1350, "crop"),
    ExportFormat("tiktok", "TikTok", 1080, 1920, "crop"),
    ExportFormat("facebook_post", "Facebook post", 1200, 630, "crop"),
    ExportFormat("twitter_post", "Twitter post", 1600, 900, "crop"),
    ExportFormat("linkedin_post", "LinkedIn post", 1200, 627, "crop"),
    ExportFormat("shopee", "Shopee product", 1000, 1000, "pad"),
    ExportFormat("tokopedia", "Tokopedia product", 1200, 1200, "pad"),
    ExportFormat("lazada", "Lazada product", 1000, 1000, "pad"),
    ExportFormat("print_a4", "Print, A4 (210 x 297 mm)", 2480, 3508, "pad", printed=True),
    ExportFormat("print_4x6", "Print, 4 x 6 inches", 1200, 1800, "pad", printed=True),
    ExportFormat(ORIGINAL, "The file as it is", 0, 0, "crop"),
)
FORMATS: dict[str, ExportFormat] = {one.name: one for one in _ALL}
"""By name, in the order in which people see them."""


def canonical(given: Any) -> Wanted:
    """One format as it was asked for: its name, or ``{"format": ..., "fit": ..., "colour": ...}``.

    Raises:
        ValueError: it is none; a sentence for people.
    """
    facts: Any = {"format": given} if isinstance(given, str) else given
    if not isinstance(facts, Mapping):
        raise ValueError("a format is a name, or an object with format, fit and colour")  # noqa: TRY004
    unknown = sorted(str(name) for name in set(facts) - {"format", "fit", "colour"})
    if unknown:
        raise ValueError(f"a format has no {unknown[0][:40]!r}; it has format, fit and colour")
    found = FORMATS.get(facts["format"]) if isinstance(facts.get("format"), str) else None
    if found is None:
        raise ValueError(f"there is no format {str(facts.get('format'))[:40]!r}; there are {', '.join(FORMATS)}")
    fit, colour = facts.get("fit"), facts.get("colour")
    if found.as_it_is and (fit is not None or colour is not None):
        raise ValueError(f"{ORIGINAL} is the file as it is: it takes no fit and no colour")
    if fit not in (None, "crop", "pad"):
        raise ValueError(f"fit is crop or pad, not {str(fit)[:40]!r}")
    if colour is not None and not (isinstance(colour, str) and COLOUR.fullmatch(colour.lower())):
        raise ValueError(f"colour is such as {WHITE}, not {str(colour)[:40]!r}")
    return Wanted(found.name, fit or found.fit, (colour or WHITE).lower())


def distinct(wanted: Iterable[Wanted]) -> list[Wanted]:
    """Each once, in their order."""
    return list(dict.fromkeys(wanted))
