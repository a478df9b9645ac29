"""Texts with variables: ``a {style} portrait of {name}``. Pure.

A variable is a name in braces: small letters, digits and ``_``, with a letter first. All other braces stay as they
are, so that a provider's own syntax (``{red|blue}``) passes through.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

VARIABLE = re.compile(r"\{([a-z][a-z0-9_]{0,39})\}")


class MissingVariables(Exception):
    """Values are missing for variables of the text: ``names``, in their order."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        super().__init__(f"There is no value for {', '.join(f'{{{name}}}' for name in names)}.")


def variables(text: str) -> list[str]:
    """The variables of a text, in their order, each once."""
    return list(dict.fromkeys(VARIABLE.findall(text)))


def render(text: str, values: Mapping[str, str]) -> str:
    """The text with its variables filled in; a value's own braces are left alone.

    Raises:
        MissingVariables: some have no value.
    """
    missing = [name for name in variables(text) if name not in values]
    if missing:
        raise MissingVariables(missing)
    return VARIABLE.sub(lambda match: values[match.group(1)], text)
