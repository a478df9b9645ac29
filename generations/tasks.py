"""Celery wrappers and nothing else: keyword-only arguments, ids and names only, one call into ``execution``."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from generations import wakeups
from generations.conf import limits
from generations.execution import accounts as account_care
from generations.execution import balances, process, recover
from generations.execution import cleanup as cleaning
from generations.execution import collect as collecting
from generations.execution import deliver as delivering
from generations.execution import dispatch as dispatching
from generations.execution import export_work as exporting
from generations.execution import poll as polling
from generations.execution import reconcile as reconciling
from generations.models import Heartbeat
from generations.reports import webhooks


@shared_task
def dispatch(*, provider_id: str, **_: Any) -> None:
    """Send what is due at a provider."""
    wakeups.awake(wakeups.DISPATCH, provider_id=provider_id)
    dispatching.dispatch(provider_id)


@shared_task
def poll(**_: Any) -> None:
    """Ask where accepted ones stand."""
    wakeups.awake(wakeups.POLL)
    Heartbeat.beat("poll", process.description())
    polling.poll(linger=limits().poll_linger)


@shared_task
def collect(**_: Any) -> None:
    """Fetch and store finished results."""
    wakeups.awake(wakeups.COLLECT)
    collecting.collect()


@shared_task
def deliver(**_: Any) -> None:
    """Send the webhooks that are due."""
    wakeups.awake(wakeups.DELIVER)
    delivering.deliver(webhooks.bodies)


@shared_task
def export(**_: Any) -> None:
    """Make the exports that are due."""
    wakeups.awake(wakeups.EXPORT)
    exporting.run()


@shared_task
def tick(**_: Any) -> None:
    """The heartbeat of everything: recover what is overdue, wake whoever has work."""
    Heartbeat.beat("tick", process.description())
    recover.tick()


@shared_task
def refresh_credits(**_: Any) -> None:
    """Look at accounts whose credentials or balance must be known better."""
    account_care.refresh_due()


@shared_task
def compare_balances(**_: Any) -> None:
    """Read each account's balance once a day, and compare it with what its attempts cost."""
    balances.compare()


@shared_task
def reconcile(**_: Any) -> None:
    """Look for attempts whose outcome is unknown in their providers' own lists."""
    wakeups.awake(wakeups.RECONCILE)
    reconciling.reconcile()


@shared_task
def cleanup(**_: Any) -> None:
    """Remove what is past its age and stored bytes that nothing refers to."""
    cleaning.run(dry_run=False)


@shared_task
def canary(*, name: str, **_: Any) -> None:
    """A round trip through a real worker, for doctor and ``/readyz``: notes that it was here."""
    Heartbeat.beat(name, process.description())
