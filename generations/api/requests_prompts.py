"""What callers send about prompts, beside ``generations.api.requests``."""

from __future__ import annotations

from pydantic import Field

from generations.api.requests import Body
from generations.intake.prompts import LONGEST_NAME, LONGEST_TEXT


class PromptRequest(Body):
    """A text that is to be a version of a prompt."""

    text: str = Field(
        min_length=1,
        max_length=LONGEST_TEXT,
        pattern=r"\S",
        description="`{name}` is a variable: small letters, digits and _, a letter first. Other braces stay.",
        examples=["a {style} portrait of {name}"],
    )
    name: str = Field(
        default="",
        max_length=LONGEST_NAME,
        description="The prompt's. Left out: the text is looked for in all of yours, and else begins a new one.",
        examples=["portrait"],
    )
