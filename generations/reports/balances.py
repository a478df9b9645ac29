"""What the daily comparison of balances says, for people."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from accounts.models import BalanceReading
from generations.execution.balances import decimal_text


def newest(account_ids: Collection[UUID] | None = None) -> dict[UUID, BalanceReading]:
    """Of each of these accounts (None: of all) the newest reading that could be compared. One query."""
    rows = BalanceReading.objects.filter(drift__isnull=False)
    if account_ids is not None:
        rows = rows.filter(account__in=account_ids)
    return {row.account_id: row for row in rows.order_by("account", "-day").distinct("account")}


def words(reading: BalanceReading) -> str:
    """A reading's drift as a sentence."""
    drift = reading.drift
    if drift is None:
        return "The first reading; there is nothing to compare it with." if reading.settled_at else "Not compared yet."
    if reading.is_too_low:
        text = "Less than its attempts explain: an incident was opened." if reading.settled_at else "Too low so far."
    elif drift < 0 and reading.tolerated is None:
        text = f"{_attempts(reading.unpriced)} did not say what they cost, so nobody can tell whether it is right."
    elif drift < 0:
        text = "A little less than expected, within what is tolerated."
    elif drift > reading.failed:
        text = f"More than expected: it was topped up, by about {decimal_text(drift - reading.failed)} or more."
    elif drift > 0:
        text = "More than expected: the provider gave back what failed attempts had cost."
    else:
        text = "As expected."
    return text if reading.settled_at else f"{text} Some attempts are under way, so this may still change."


def tone(reading: BalanceReading) -> str:
    """The same as the console's colours say it: good, bad, warn, busy or plain."""
    if reading.drift is None:
        return "plain"
    if reading.is_too_low:
        return "bad" if reading.settled_at else "warn"
    if reading.drift < 0 and reading.tolerated is None:
        return "plain"
    return "busy" if reading.drift > 0 else "good"


def _attempts(number: int) -> str:
    return "1 attempt" if number == 1 else f"{number:,} attempts"
