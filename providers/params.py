"""Params: one pydantic model per provider and operation.

From it come the JSON Schema of the catalogue, the validation at the door, the canonical
dump that is hashed, and the mapping to the wire. Exactly this layer maps parameters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, StringConstraints

from providers.errors import InvalidParams


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _plain_zero(value: float) -> float:
    return value + 0.0  # -0.0 becomes 0.0: the same number must be written the same


Text = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_nfc)]
"""Text in Unicode's composed form, so that the same prompt typed on two systems is the same."""

Prompt = Annotated[str, StringConstraints(min_length=1, max_length=2048, strip_whitespace=True), AfterValidator(_nfc)]

Whole = Annotated[int, BeforeValidator(_whole)]
"""An integer; ``5.0`` is one too (JSON does not tell them apart) and becomes ``5``. ``true`` and ``"5"`` are none."""

Number = Annotated[float, AfterValidator(_plain_zero)]
"""A finite number; ``7`` and ``7.0`` become the same."""


class Params(BaseModel):
    """Base of all params. Unknown fields are refused; types are strict (``true`` is no integer).

    ``input_roles`` maps the role of each input file to how many of it are (least, most).
    ``accepted_media`` maps the same role to the kinds of media it takes (``image``, ``video``).
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    input_roles: ClassVar[dict[str, tuple[int, int]]] = {}
    accepted_media: ClassVar[dict[str, tuple[str, ...]]] = {}

    def canonical(self) -> dict[str, Any]:
        """All fields with their defaults filled in, as JSON values: what is stored and hashed."""
        return self.model_dump(mode="json")

    def check_inputs(self, counts: Mapping[str, int]) -> None:
        """Check how many inputs of each role there are; subclasses add what depends on other params.

        Raises:
            InvalidParams: a role is missing, unknown, or has too many; ``field`` is ``inputs``.
        """
        for role in counts:
            if role not in self.input_roles:
                raise InvalidParams(f"This operation takes no input with the role {role!r}.", field="inputs")
        for role, (least, most) in self.input_roles.items():
            given = counts.get(role, 0)
            if not least <= given <= most:
                wanted = str(least) if least == most else f"{least} to {most}"
                raise InvalidParams(
                    f"{wanted} input(s) with the role {role!r} are needed, not {given}.", field="inputs"
                )

    @property
    def output_count(self) -> int:
        """How many outputs a complete result has."""
        return 1

    @property
    def model_name(self) -> str:
        """The provider's model that it asks for, which may have a price of its own; empty where there is no choice."""
        return str(getattr(self, "model", "") or getattr(self, "model_id", ""))
