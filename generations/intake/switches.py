"""Turning switches on and off: who and why is asked for, and kept.

They are read from the database at every decision, so they work at once and everywhere, without a restart.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

from django.db import connection, transaction

from generations import wakeups
from generations.execution import claim
from generations.intake.errors import Invalid, Unavailable
from generations.models import Switch, SwitchChange
from generations.models.switch import INTAKE, OF_PROVIDER
from generations.reports.switches import known
from providers import registry

LONGEST_REASON = 300
RETRY_AFTER_SECONDS = 60
"""When whoever was refused by a stopped intake should come back: nobody knows, so now and then."""
LOCK_SECONDS = 30

LOOK = """
SELECT clock_timestamp(), s.reason, s.created_at
  FROM (SELECT 1) AS one LEFT JOIN generations_switch s ON s.key = 'intake'
"""


def turn_on(key: str, *, reason: str, actor: str) -> bool:
    """Turn a switch on; one that is on stays as it is, with the reason and the actor that it had.

    When a pause returns, no claim is under way that has not seen it: what was claimed before is ``reserved`` or
    ``sending`` and goes out, nothing else does.

    Returns:
        Whether it was off.

    Raises:
        Invalid: ``unknown_switch``, or ``reason_required``.
    """
    if key not in known():
        raise Invalid("unknown_switch", f"There is no switch {key!r}. There are: {', '.join(known())}.", field="key")
    reason = _checked(reason)
    with transaction.atomic():
        _wait_patiently()
        for provider_id in _providers(key):
            claim.lock(provider_id)
        _, turned = Switch.objects.get_or_create(key=key, defaults={"reason": reason, "actor": actor})
        if turned:
            SwitchChange.objects.create(key=key, turned_on=True, reason=reason, actor=actor)
    return turned


def turn_off(key: str, *, reason: str, actor: str, turned_on_by: str = "") -> bool:
    """Turn a switch off; what it kept starts at once.

    ``turned_on_by``: only if the actor who turned it on begins so.

    Returns:
        Whether it was on.

    Raises:
        Invalid: ``unknown_switch``, or ``reason_required``.
    """
    reason = _checked(reason)
    with transaction.atomic():
        turned, _ = Switch.objects.filter(key=key, actor__startswith=turned_on_by).delete()
        if turned:
            SwitchChange.objects.create(key=key, turned_on=False, reason=reason, actor=actor)
            for provider_id in _providers(key):
                transaction.on_commit(partial(wakeups.wake_dispatch, provider_id))
        elif key not in known():
            raise Invalid("unknown_switch", f"There is no switch {key!r}.", field="key")
    return bool(turned)


def look() -> tuple[datetime, Unavailable | None]:
    """The database's time, and why nothing new is accepted now (None: it is). One small query."""
    with connection.cursor() as cursor:
        cursor.execute(LOOK)
        now, reason, since = cursor.fetchone()
    return now, None if since is None else intake_stopped(reason, since)


def intake_stopped(reason: str, since: datetime) -> Unavailable:
    """The refusal of whatever would have been accepted."""
    return Unavailable(
        "intake_stopped",
        f"Nothing new is accepted since {since:%Y-%m-%d %H:%M} UTC: {reason.rstrip('.')}. What was accepted before "
        "goes on. Send it again later.",
        retry_after=RETRY_AFTER_SECONDS,
        reason=reason,
        since=since.isoformat().replace("+00:00", "Z"),
    )


def _wait_patiently() -> None:
    """A pause is wanted most when the house is busiest: it queues behind the claims for longer than others would."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'; SET LOCAL statement_timeout = '{LOCK_SECONDS}s'")


def _checked(reason: str) -> str:
    reason = " ".join(reason.split())
    if not reason:
        raise Invalid("reason_required", "Say why: everybody who wonders will read it.", field="reason")
    if len(reason) > LONGEST_REASON:
        raise Invalid("reason_required", f"At most {LONGEST_REASON} characters.", field="reason")
    return reason


def _providers(key: str) -> list[str]:
    """Whose claims it concerns, always in the same order."""
    if key == INTAKE:
        return []
    slugs = sorted(provider.slug for provider in registry.all())
    return [slug for slug in slugs if key == f"{OF_PROVIDER}{slug}" or not key.startswith(OF_PROVIDER)]
