"""JSON answers, written by pydantic's serializer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json
from rest_framework.renderers import BaseRenderer


class JSONRenderer(BaseRenderer):
    """Answers, problem documents and plain values as UTF-8 JSON."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        """``data`` as bytes; nothing for no data (304)."""
        return b"" if data is None else to_json(data)
