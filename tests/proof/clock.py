"""The database's clock, turned by hand: on this connection it is whatever time a test says.

The house has one clock, the database's (``models/clock.py``), so turning that one lets time pass for all of it, and
what happens depends on no machine's speed. Column defaults are bound to the real clock, which decides nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.db import connection

FUNCTIONS = ("now", "statement_timestamp", "clock_timestamp")
MAKE = "CREATE SCHEMA IF NOT EXISTS turned;" + "".join(
    f"CREATE OR REPLACE FUNCTION turned.{name}() RETURNS timestamptz STABLE LANGUAGE sql"
    " AS $$ SELECT current_setting('turned.now')::timestamptz $$;"
    for name in FUNCTIONS
)
# A schema that is named before pg_catalog is looked into first.
TAKE = "SET search_path TO turned, pg_catalog, public"
GIVE_BACK = "RESET search_path; DROP SCHEMA turned CASCADE"

# Every time that something waits for.
COMING = """
SELECT DISTINCT at FROM (
    SELECT unnest(ARRAY[not_before, queue_until, deadline_at, cancel_at]) AS at
      FROM generations_generation WHERE status IN ('pending', 'processing')
    UNION ALL
    SELECT unnest(ARRAY[lease_until, limit_at, collect_by, next_poll_at])
      FROM generations_submission WHERE ended_at IS NULL
    UNION ALL
    SELECT unnest(ARRAY[cooldown_until, probe_at]) FROM accounts_account
) times WHERE at > now() ORDER BY at
"""


class Clock:
    """Goes on only when it is told to."""

    def __init__(self) -> None:
        self.start = self.now = datetime.now(UTC)
        with connection.cursor() as cursor:
            cursor.execute(MAKE)
            cursor.execute(TAKE)
        self.set(self.now)

    def set(self, now: datetime) -> None:
        """It is ``now``."""
        self.now = now
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('turned.now', %s, false)", [now.isoformat()])

    def forward(self, seconds: float) -> None:
        """So much later."""
        self.set(self.now + timedelta(seconds=seconds))

    def coming(self) -> list[datetime]:
        """The times, still to come, at which something is due or over; the next one first."""
        with connection.cursor() as cursor:
            cursor.execute(COMING)
            return [row[0] for row in cursor.fetchall()]

    def give_back(self) -> None:
        """The real clock again."""
        with connection.cursor() as cursor:
            cursor.execute(GIVE_BACK)
