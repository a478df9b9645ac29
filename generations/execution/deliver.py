"""Deliver: what users asked to be told is sent to their endpoints, tried again for three days, and written down.

Claimed in a short transaction (token, lease), sent in threads outside every transaction, recorded as answers arrive,
fenced by the token. A worker that dies in between leaves a lease behind: the same delivery is sent again, with the same
``webhook-id``, by which its receiver can tell.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
import uuid_utils.compat as uuid
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, QuerySet, Value
from django.db.models.functions import Now

from accounts.encryption import UndecryptableCredentials
from generations import wakeups
from generations.backoff import delivery_delay
from generations.conf import limits, seconds
from generations.execution import poison
from generations.execution.lanes import Due, choose
from generations.execution.leases import FREE
from generations.execution.persist import apart, patiently
from generations.execution.waves import Wave
from generations.execution.webhook_call import Outcome, send, signed
from generations.models import Incident, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from generations.models.away import AWAY
from generations.models.bulk import storable, update_rows
from generations.models.clock import database_now
from generations.models.generation import SUSPECT_AFTER

LOOK_SECONDS = 1
"""While calls are under way, this often it is looked what else is due."""
RUN_SECONDS = 20
"""A run takes on nothing more after this, and the next one begins: with those that must be alone.

With a try's own limit it ends before a worker that is to stop is killed.
"""
LONGEST_MESSAGE = 500

Render = Callable[[Sequence[WebhookDelivery]], dict[UUID, str]]
"""Gives the bodies of deliveries, by their ids."""

# A loose index scan over the lanes (a user's deliveries to one host) that have any pending, then the oldest due ones
# of each: a lane with a hundred thousand of them costs no more than one with four.
DUE = """
WITH RECURSIVE lanes(user_id, host) AS (
    (SELECT d.user_id, d.host FROM generations_webhookdelivery d
      WHERE d.state = 'pending' ORDER BY d.user_id, d.host LIMIT 1)
    UNION ALL
    SELECT n.user_id, n.host FROM lanes l CROSS JOIN LATERAL (
        SELECT d.user_id, d.host FROM generations_webhookdelivery d
         WHERE d.state = 'pending' AND (d.user_id, d.host) > (l.user_id, l.host)
         ORDER BY d.user_id, d.host LIMIT 1) n
)
SELECT c.id, l.user_id, l.host, c.next_try_at
  FROM lanes l
  CROSS JOIN LATERAL (
    SELECT d.id, d.next_try_at FROM generations_webhookdelivery d
     WHERE d.state = 'pending' AND d.user_id = l.user_id AND d.host = l.host AND d.next_try_at <= statement_timestamp()
       AND (d.lease_until IS NULL OR d.lease_until <= statement_timestamp()) AND d.unwritten_claims < %(suspect)s
     ORDER BY d.next_try_at LIMIT %(size)s) c
"""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Try:
    """One try under way: its delivery (with the endpoint), and the row in the log that it has."""

    delivery: WebhookDelivery
    attempt: WebhookAttempt


def deliver(render: Render) -> int:
    """Send everything that is due, until nothing is. Gives how many tries were made.

    New ones join as connections become free, so that a slow endpoint keeps nobody else waiting. Those whose
    deliverers have died come first, each alone in this process (see ``poison``).
    """
    tried = 0
    token = uuid.uuid4()
    wave: Wave[Try, Outcome] = Wave()
    started_at = time.monotonic()
    while True:
        going_on = time.monotonic() - started_at < RUN_SECONDS
        batch = _next(token, wave) if going_on else []
        tried += len(batch)
        bodies = _bodies(batch, render)
        for one in batch:
            wave.start(one, _work(one, bodies.get(one.delivery.pk)))
        if not wave:
            if not going_on:
                wakeups.wake_deliver()
            return tried
        _write(token, wave.arrived(timeout=LOOK_SECONDS))


def due() -> bool:
    """Whether anything waits for a deliverer."""
    return WebhookDelivery.objects.filter(FREE, state=WebhookDelivery.State.PENDING, next_try_at__lte=Now()).exists()


# --- before the call ----------------------------------------------------------------------------------


def _next(token: UUID, wave: Wave[Try, Outcome]) -> list[Try]:
    """What this process takes on beside what it has."""
    if not wave:
        return _claim(token, _suspect) or _claim(token, lambda: _fair(limits().connections, []))
    if any(one.delivery.unwritten_claims >= SUSPECT_AFTER for one in wave.items()):
        return []
    room = limits().connections - len(wave)
    lanes = [(one.delivery.user_id, one.delivery.host) for one in wave.items()]
    return _claim(token, lambda: _fair(room, lanes)) if room else []


def _suspect() -> list[UUID]:
    """The one that waits longest of those whose deliverers have died."""
    rows = WebhookDelivery.objects.filter(
        FREE, state=WebhookDelivery.State.PENDING, unwritten_claims__gte=SUSPECT_AFTER, next_try_at__lte=Now()
    )
    return list(rows.order_by("next_try_at").values_list("pk", flat=True)[:1])


def _fair(room: int, under_way: Sequence[tuple[int, str]]) -> list[UUID]:
    with connection.cursor() as cursor:
        cursor.execute(DUE, {"size": limits().webhooks_per_host, "suspect": SUSPECT_AFTER})
        found = [Due(*row) for row in cursor.fetchall()]
    most = max(1, limits().connections // 2)
    return choose(found, under_way, room=room, per_lane=limits().webhooks_per_host, per_user=most)


def _claim(token: UUID, candidates: Callable[[], list[UUID]]) -> list[Try]:
    """Those of them that nobody is at: owned by ``token`` for a lease, each with a row in the log."""
    with transaction.atomic():
        chosen = candidates()
        if not chosen:
            return []
        locked = (
            WebhookDelivery.objects.select_for_update(skip_locked=True, of=("self",), no_key=True)
            .filter(FREE, pk__in=chosen, state=WebhookDelivery.State.PENDING)
            .select_related("endpoint__secret")
            .order_by("pk")
        )
        rows = _without_hopeless(list(locked))
        if not rows:
            return []
        WebhookDelivery.objects.filter(pk__in=[row.pk for row in rows]).update(
            token=token,
            lease_until=Now() + Value(seconds(limits().webhook_timeout + limits().lease)),
            tried_at=Now(),
            tries=F("tries") + 1,
            unwritten_claims=poison.one_more(),
        )
        now = database_now()
        tries = [
            Try(row, WebhookAttempt(delivery=row, number=row.tries + 1, url=row.endpoint.url, started_at=now))
            for row in rows
        ]
        WebhookAttempt.objects.bulk_create(one.attempt for one in tries)
        return tries


def _without_hopeless(rows: list[WebhookDelivery]) -> list[WebhookDelivery]:
    """Those that may be sent. The others end: their endpoint is told nothing any more, or workers die over them."""
    off = [row for row in rows if not row.endpoint.enabled]
    if off:
        end_all(WebhookDelivery.objects.filter(pk__in=[row.pk for row in off]))
    deadly = [row for row in rows if row.endpoint.enabled and row.unwritten_claims >= poison.most_claims()]
    if deadly:
        message = f"Workers died {poison.most_claims()} times while they sent it; it is not sent again by itself."
        _end(WebhookDelivery.objects.filter(pk__in=[row.pk for row in deadly]), "poison", message)
        Incident.objects.bulk_create(
            Incident(kind=Incident.Kind.POISON, generation_id=row.generation_id, detail=f"Webhook {row.pk}: {message}")
            for row in deadly
        )
    left_out = {row.pk for row in [*off, *deadly]}
    return [row for row in rows if row.pk not in left_out]


def end_all(deliveries: QuerySet[WebhookDelivery]) -> None:
    """End these pending deliveries, of endpoints that are told nothing any more.

    One that is being sent may still arrive: what comes of it is written down first.
    """
    _end(deliveries, "endpoint_disabled", "The endpoint was switched off or removed before this was delivered.")


def _end(deliveries: QuerySet[WebhookDelivery], code: str, message: str) -> None:
    deliveries.filter(FREE, state=WebhookDelivery.State.PENDING).update(
        state=WebhookDelivery.State.FAILED,
        next_try_at=None,
        lease_until=None,
        token=uuid.uuid4(),
        ended_at=Now(),
        error_code=code,
        error_message=message,
    )


def _bodies(batch: Sequence[Try], render: Render) -> dict[UUID, str]:
    """What each is to say; one that cannot be rendered (and is left out) harms no other."""
    if not batch:
        return {}
    try:
        return render([one.delivery for one in batch])
    except AWAY:
        raise
    except Exception:
        if len(batch) == 1:
            log.exception("webhook_not_rendered", delivery=str(batch[0].delivery.pk))
            return {}
        return {pk: body for one in batch for pk, body in _bodies([one], render).items()}


def _work(one: Try, body: str | None) -> Callable[[], Outcome]:
    """The call of one try, for a thread. It is signed here; what went wrong before the call is an outcome too."""
    if body is None:
        failed = Outcome(error_code="internal_error", error_message="It could not be written: a fault of ours; logged.")
        return lambda: failed
    try:
        now = one.attempt.started_at
        headers = signed(str(one.delivery.pk), body, _secrets(one.delivery.endpoint, now), now)
    except UndecryptableCredentials as error:
        failed = Outcome(error_code="undecryptable_secret", error_message=str(error))
        return lambda: failed
    url, timeout, allowed = one.attempt.url, limits().webhook_timeout, tuple(settings.WEBHOOK_ALLOWED_ORIGINS)
    return lambda: send(url, body.encode(), headers, timeout, allowed)


def _secrets(endpoint: WebhookEndpoint, now: datetime) -> list[str]:
    assert endpoint.secret is not None  # only a removed one has none
    return endpoint.secret.in_force(now)


# --- after the call -------------------------------------------------------------------------------------


def _write(token: UUID, arrived: Sequence[tuple[Try, Outcome | Exception]]) -> None:
    told = [(one, _outcome(one, result)) for one, result in arrived]
    for one, outcome in told:
        log.info(
            "webhook_tried",
            delivery=str(one.delivery.pk),
            generation=str(one.delivery.generation_id),
            host=one.delivery.host,
            status=outcome.status,
            code=outcome.error_code,
        )
    # What the database does not take is tried again when its lease is over.
    apart(lambda some: _record(token, some), told)


def _outcome(one: Try, result: Outcome | Exception) -> Outcome:
    if isinstance(result, Outcome):
        return result
    log.error("webhook_failed", delivery=str(one.delivery.pk), exc_info=result)
    return Outcome(error_code="internal_error", error_message=f"A fault of ours ({type(result).__name__}); logged.")


@patiently
@transaction.atomic
def _record(token: UUID, told: Sequence[tuple[Try, Outcome]]) -> None:
    """The log, the deliveries, and the endpoints that are gone (which are locked first, as everywhere)."""
    gone = {one.delivery.endpoint_id for one, outcome in told if outcome.error_code == "gone"}
    if gone:
        WebhookEndpoint.objects.listening().filter(pk__in=gone).update(
            disabled_at=Now(), disabled_reason=WebhookEndpoint.Reason.GONE, changed_at=Now()
        )
    now = database_now()
    update_rows(
        WebhookDelivery,
        {one.delivery.pk: _what_follows(one.delivery, outcome, now) for one, outcome in told},
        guard="t.state = 'pending' AND t.token = %(token)s AND t.lease_until IS NOT NULL",
        params={"token": token},
        also=(
            "lease_until = NULL, unwritten_claims = 0, token = gen_random_uuid(),"
            " ended_at = CASE WHEN v.state <> 'pending' THEN now() END"
        ),
    )
    # The log tells of every try, also of one whose worker was too slow and lost the delivery to another.
    update_rows(
        WebhookAttempt,
        {
            one.attempt.pk: {
                "elapsed": round(outcome.elapsed, 3),
                "status": outcome.status,
                "error_code": outcome.error_code,
                "error_message": outcome.error_message[:LONGEST_MESSAGE],
                "answer": storable(outcome.answer),
            }
            for one, outcome in told
        },
        guard="t.elapsed IS NULL",
    )
    if gone:
        end_all(WebhookDelivery.objects.filter(endpoint__in=gone))


def _what_follows(delivery: WebhookDelivery, outcome: Outcome, now: datetime) -> dict[str, Any]:
    delay = None
    if outcome.error_code not in {"", "gone"}:
        delay = delivery_delay(
            delivery.failures,
            left=(delivery.give_up_at - now).total_seconds(),
            base=limits().webhook_backoff_base,
            cap=limits().webhook_backoff_cap,
            retry_after=outcome.retry_after,
            jitter=random.random,
        )
    state = WebhookDelivery.State.DELIVERED if not outcome.error_code else WebhookDelivery.State.FAILED
    return {
        "state": str(state if delay is None else WebhookDelivery.State.PENDING),
        "next_try_at": None if delay is None else now + seconds(delay),
        "failures": delivery.failures + bool(outcome.error_code),
        "error_code": outcome.error_code,
        "error_message": outcome.error_message[:LONGEST_MESSAGE],
    }
