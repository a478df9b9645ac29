"""``/metrics`` for Prometheus: this process's counters, and gauges read from the database when asked.

Not for the world: for ``Authorization: Bearer <METRICS_TOKEN>``, or a member of staff (session or API token).
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable, Iterator

from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from rest_framework.exceptions import APIException
from rest_framework.request import Request

from generations.api.authentication import BearerAuthentication
from generations.api.plain import problem
from generations.models import HeldBack
from generations.models.clock import database_now
from generations.reports import overview
from generations.reports.balances import newest
from generations.reports.capacity import standings
from generations.reports.switches import everyone


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """All metrics as text; 401 for whoever may not see them."""
    if not _may_see(request):
        detail = "Metrics are for staff, or for the token in METRICS_TOKEN."
        return problem(request, 401, "not_authenticated", detail, WWW_Authenticate='Bearer realm="darkroom"')
    registries: Iterable[CollectorRegistry] = (_of_processes(), _of_house())
    return HttpResponse(b"".join(map(generate_latest, registries)), content_type=CONTENT_TYPE_LATEST)


def _may_see(request: HttpRequest) -> bool:
    given = request.headers.get("Authorization", "")
    if settings.METRICS_TOKEN and hmac.compare_digest(given.encode(), f"Bearer {settings.METRICS_TOKEN}".encode()):
        return True
    if given:
        try:
            found = BearerAuthentication().authenticate(Request(request))
        except APIException:
            return False
        return found is not None and found[0].is_staff
    return bool(request.user.is_active and request.user.is_staff)


def _of_processes() -> CollectorRegistry:
    """Counters: of all web processes where PROMETHEUS_MULTIPROC_DIR is set, else of this one."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


def _of_house() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(House())
    return registry


class House(Collector):
    """Gauges of the whole installation: the same whichever process answers. Cheap counts only."""

    def collect(self) -> Iterator[Metric]:
        """The gauges; ``darkroom_database_up`` alone when the database does not answer."""
        try:
            yield from [*_generations(), *_accounts(), *_heartbeats(), _up(1)]
        except (DatabaseError, InterfaceError):
            yield _up(0)


def _up(value: int) -> Metric:
    return GaugeMetricFamily("darkroom_database_up", "Whether PostgreSQL answered this scrape.", value=value)


def _generations() -> Iterator[Metric]:
    family = GaugeMetricFamily("darkroom_generations", "Generations under way, up to 10,000 each.", labels=["status"])
    for status, count in overview.counts().items():
        family.add_metric([status], count["number"])
    yield family
    failed = GaugeMetricFamily("darkroom_failures_24h", "Failed in the last 24 h, of the newest.", labels=["code"])
    for failure in overview.failures(database_now()):
        failed.add_metric([failure["code"]], failure["number"])
    yield failed
    waiting = overview.collecting()["number"]
    yield GaugeMetricFamily("darkroom_collecting", "Results that wait to be fetched, up to 10,000.", value=waiting)
    held = GaugeMetricFamily("darkroom_held_back", "1: nothing new is sent, for this reason.", labels=["reason"])
    reasons = {row["reason"] for row in overview.held_back()}
    for reason in HeldBack.Reason.values:
        held.add_metric([reason], int(reason in reasons))
    yield held
    switches = GaugeMetricFamily("darkroom_switch_on", "1: an operator has stopped it.", labels=["switch"])
    for switch in everyone():
        switches.add_metric([switch.key], int(switch.on))
    yield switches
    unseen = overview.incidents_unseen()["number"]
    yield GaugeMetricFamily("darkroom_incidents_unseen", "Incidents that nobody has looked at.", value=unseen)


def _accounts() -> Iterator[Metric]:
    labels = ["provider", "account"]
    held = GaugeMetricFamily("darkroom_account_slots_in_use", "Open attempts.", labels=labels)
    limit = GaugeMetricFamily("darkroom_account_slots", "The account's concurrency.", labels=labels)
    usable = GaugeMetricFamily("darkroom_account_usable", "Whether it may be given work.", labels=labels)
    balance = GaugeMetricFamily("darkroom_account_balance", "What it has left at the provider.", labels=labels)
    drift = GaugeMetricFamily(
        "darkroom_account_balance_drift", "Of the last day: the balance less what attempts explain.", labels=labels
    )
    readings = newest()
    for standing in standings():
        names = [standing.provider_id, standing.label]
        held.add_metric(names, standing.held)
        limit.add_metric(names, standing.limit)
        usable.add_metric(names, int(standing.usable))
        if standing.balance is not None:
            balance.add_metric(names, float(standing.balance))
        reading = readings.get(standing.id)
        if reading is not None and reading.drift is not None:
            drift.add_metric(names, float(reading.drift))
    yield from (held, limit, usable, balance, drift)


def _heartbeats() -> Iterator[Metric]:
    family = GaugeMetricFamily("darkroom_heartbeat_age_seconds", "Since it was last seen alive.", labels=["name"])
    for beat in overview.heartbeats(database_now()):
        if beat["seconds_ago"] is not None:
            family.add_metric([beat["name"]], beat["seconds_ago"])
    yield family
