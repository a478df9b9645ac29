"""How a scene becomes a request: which model a tier gets, and what a style makes of the description.

Two tables, replaced as a whole by ``DARKROOM_SCENE_MODELS`` and ``DARKROOM_SCENE_STYLES``. In both, the first one is
what a request gets that names none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from generations.templating import render, variables

PROVIDER = "modelslab"
RATIO = "16:9"
"""The aspect ratio of a request that names none."""
ANY_STYLE = "*"
"""The template of a style that is not in the table."""

MODELS = {
    "free": "flux",
    "basic": "seedream-t2i",
    "standard": "seedream-4",
    "premium": "imagen-4",
    "professional": "gen4_image",
}
STYLES = {
    "cinematic": "{scene}, cinematic film still, dramatic lighting",
    "realistic": "{scene}, photorealistic, natural light, fine detail",
    "animated": "{scene}, still of an animated film, expressive, vivid colours",
    "fantasy": "{scene}, fantasy art, magical light, intricate detail",
    "comic": "{scene}, comic book panel, bold ink lines, flat colours",
    "watercolour": "{scene}, watercolour painting, soft edges, paper texture",
    ANY_STYLE: "{scene}, {style} style",
}


@cache
def models() -> dict[str, str]:
    """The model of each tier.

    Raises:
        ImproperlyConfigured: the variable holds something else.
    """
    return _table("DARKROOM_SCENE_MODELS", settings.SCENE_MODELS, MODELS)


@cache
def styles() -> dict[str, str]:
    """The template of each style; ``*``: of all others. Its variables are ``{scene}``, and ``{style}``.

    Raises:
        ImproperlyConfigured: the variable holds something else.
    """
    given = _table("DARKROOM_SCENE_STYLES", settings.SCENE_STYLES, STYLES)
    found = {name.strip().lower(): template for name, template in given.items()}
    for name, template in found.items():
        if not {"scene"} <= set(variables(template)) <= {"scene", "style"}:
            raise ImproperlyConfigured(
                f"DARKROOM_SCENE_STYLES: the template of {name!r} must hold {{scene}}, and no variable but {{style}}."
            )
    if next(iter(found)) == ANY_STYLE:
        raise ImproperlyConfigured("DARKROOM_SCENE_STYLES: the first one is what a request gets; it needs a name.")
    return found


def style_of(given: str | None) -> str | None:
    """The style that a request gets, as the table writes it; None: there is none of that name, and none for others."""
    if given is None:
        return next(iter(styles()))
    name = given.strip()
    if name.lower() in styles():
        return name.lower()
    return name if ANY_STYLE in styles() else None


def prompt_of(scene: str, style: str) -> str:
    """The description in this style."""
    template = styles().get(style) or styles()[ANY_STYLE]
    return render(template, {"scene": scene.strip(), "style": style})


def _table(variable: str, text: str, default: Mapping[str, str]) -> dict[str, str]:
    if not text:
        return dict(default)
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not found or not all(isinstance(one, str) and one for one in found.values()):
        raise ImproperlyConfigured(f'{variable} must be a JSON object of texts, such as {{"free": "flux"}}.')
    return found
