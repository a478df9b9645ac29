"""How the console writes times, amounts and JSON for people."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

NOTHING = "–"
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def span(length: timedelta) -> str:
    """A length of time in its one or two largest units: ``4 s``, ``2 min``, ``3 h 20 min``, ``5 d``."""
    seconds = max(0, int(length.total_seconds()))
    for position, (size, name) in enumerate(_UNITS):
        if seconds >= size:
            text = f"{seconds // size} {name}"
            rest = seconds % size
            if name in {"h", "d"} and seconds // size < 3 and rest:
                lower_size, lower = _UNITS[position + 1]
                text += f" {rest // lower_size} {lower}" if rest // lower_size else ""
            return text
    return "0 s"


def ago(at: datetime | None) -> SafeString | str:
    """How long ago, with the exact time as a tooltip; for a time to come, in how long."""
    if at is None:
        return NOTHING
    now = timezone.now()
    text = f"{span(now - at)} ago" if at <= now else f"in {span(at - now)}"
    return timed(at, text)


def timed(at: datetime, text: str) -> SafeString:
    """``text`` as a ``<time>`` that tells the exact moment."""
    return format_html('<time datetime="{}" title="{} UTC">{}</time>', at.isoformat(), f"{at:%Y-%m-%d %H:%M:%S}", text)


def amount(value: Decimal | int | None) -> str:
    """A number without meaningless zeros: ``12``, ``0.25``, ``1,250``."""
    if value is None:
        return NOTHING
    text = f"{value:,f}" if isinstance(value, Decimal) else f"{value:,}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def signed(value: int) -> str:
    """A movement: ``+5``, ``−5``, ``0``."""
    return f"+{value:,}" if value > 0 else f"−{-value:,}" if value else "0"


def pretty_json(value: Any) -> str:
    """JSON for reading; the template escapes it."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def label(text: str, tone: str) -> SafeString:
    """A coloured label. ``tone``: good, bad, warn, busy, wait or plain."""
    return format_html('<span class="dr-label dr-{}">{}</span>', tone, text)
