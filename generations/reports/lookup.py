"""Finding the Generation that a person means."""

from __future__ import annotations

import re
from uuid import UUID

from generations.models import Generation, Submission

HEX = re.compile(r"[0-9a-f]{1,32}")
MOST_NAMED = 5


class IdError(LookupError):
    """No Generation is meant by this, or more than one."""


def find(text: str) -> Generation:
    """The Generation with this id, or the only one whose id begins with it, or the one of this attempt.

    Ids are time-ordered, so a prefix is a range of the primary key; it needs to be long enough to be unique.

    Raises:
        IdError: there is none, it can't be an id at all, or several begin with it (the message names some).
    """
    digits = text.strip().lower().replace("-", "")
    if not HEX.fullmatch(digits):
        raise IdError(f"{text!r} is no id: ids are made of the digits 0 to 9 and a to f.")
    first, last = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
    rows = list(Generation.objects.filter(pk__range=(first, last)).order_by("pk")[: MOST_NAMED + 1])
    if len(rows) == 1:
        return rows[0]
    if rows:
        named = ", ".join(str(row.pk) for row in rows[:MOST_NAMED])
        more = " and more" if len(rows) > MOST_NAMED else ""
        raise IdError(f"Several ids begin with {text!r}: {named}{more}. Give more of it.")
    if first == last:
        attempt = Submission.objects.filter(pk=first).select_related("generation").first()
        if attempt is not None:
            return attempt.generation
    raise IdError(f"There is no generation {text!r} (and no attempt with that id).")
