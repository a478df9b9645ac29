"""What users say about webhooks: where to be told, of what, with which secret, and "send it again"."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import uuid_utils.compat as uuid
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet, Value
from django.db.models.functions import Now

from generations import wakeups
from generations.conf import limits, seconds
from generations.execution import deliver, settle
from generations.execution.announce import delivery, insert
from generations.execution.leases import FREE
from generations.intake.errors import Conflict, Invalid
from generations.lifecycle import LIVE, Status
from generations.models import Generation, WebhookDelivery, WebhookEndpoint, WebhookEvent, WebhookSecret
from generations.models.clock import database_now
from generations.models.webhook import EVENT_OF, FILTERABLE
from providers import post

HOUR = 3600


@dataclass(frozen=True, slots=True)
class Change:
    """What shall be different; None: as it is."""

    url: str | None = None
    events: Collection[str] | None = None
    description: str | None = None
    enabled: bool | None = None


def check_url(url: str, *, field: str = "url") -> None:
    """Refuse at the door what would never be sent to, as far as the text alone tells.

    Raises:
        Invalid: ``unsafe_url``.
    """
    try:
        post.check_url(url, allowed_origins=settings.WEBHOOK_ALLOWED_ORIGINS)
    except post.UnsafeURL as error:
        raise Invalid("unsafe_url", error.detail, field=field) from error


# --- endpoints ----------------------------------------------------------------------------------------


def add(user_id: int, *, url: str, events: Collection[str], description: str = "") -> tuple[WebhookEndpoint, str]:
    """A new endpoint, and its secret, which is told this once.

    Raises:
        Invalid: ``unsafe_url``.
        Conflict: ``endpoint_exists``, ``too_many_endpoints``.
    """
    check_url(url)
    if WebhookEndpoint.objects.of_user(user_id).count() >= limits().webhook_endpoints:
        raise Conflict("too_many_endpoints", f"You have {limits().webhook_endpoints} already. Remove one first.")
    secret = WebhookSecret(user_id=user_id)
    told = secret.make()
    endpoint = WebhookEndpoint(
        user_id=user_id, secret=secret, url=url, events=_in_order(events), description=description
    )
    with _url_once(), transaction.atomic():
        secret.save(force_insert=True)
        endpoint.save(force_insert=True)
    return endpoint, told


def change(endpoint_id: UUID, wanted: Change, *, by: WebhookEndpoint.Reason) -> WebhookEndpoint:
    """Change an endpoint. Switched off, it is told nothing any more, what waits for it included.

    ``by``: who does so, ``OWNER`` or ``OPERATOR``.

    Raises:
        Invalid: ``unsafe_url``.
        Conflict: ``endpoint_exists``; ``switched_off``: by an operator, who alone switches it on again.
        WebhookEndpoint.DoesNotExist: it was removed.
    """
    if wanted.url is not None:
        check_url(wanted.url)
    with _url_once(), transaction.atomic():
        endpoint = _locked(endpoint_id)
        if wanted.url is not None:
            endpoint.url = wanted.url
        if wanted.events is not None:
            endpoint.events = _in_order(wanted.events)
        if wanted.description is not None:
            endpoint.description = wanted.description
        if wanted.enabled is False and endpoint.enabled:
            endpoint.disabled_at, endpoint.disabled_reason = database_now(), by
            deliver.end_all(endpoint.deliveries.all())
        elif wanted.enabled is True:
            if endpoint.disabled_reason == WebhookEndpoint.Reason.OPERATOR != by:
                raise Conflict("switched_off", "An operator switched this endpoint off. Ask your administrator.")
            endpoint.disabled_at, endpoint.disabled_reason = None, ""
        endpoint.changed_at = database_now()
        endpoint.save(update_fields=["url", "events", "description", "disabled_at", "disabled_reason", "changed_at"])
    return endpoint


def remove(endpoint_id: UUID) -> None:
    """Nobody tells it anything any more, and its secret is forgotten; what it was told stays readable for a while.

    Raises:
        WebhookEndpoint.DoesNotExist: it was removed before.
    """
    with transaction.atomic():
        endpoint = _locked(endpoint_id)
        secret, endpoint.secret, endpoint.removed_at = endpoint.secret, None, database_now()
        endpoint.save(update_fields=["secret", "removed_at"])
        deliver.end_all(endpoint.deliveries.all())
        if secret is not None:
            secret.delete()


def rotate(endpoint_id: UUID) -> tuple[WebhookEndpoint, str]:
    """A new secret, told this once; the one before signs too for ``webhook_secret_hours``.

    Raises:
        WebhookEndpoint.DoesNotExist: it was removed.
    """
    with transaction.atomic():
        endpoint = _locked(endpoint_id)
        assert endpoint.secret is not None  # only a removed one has none
        endpoint.secret, told = _rotated(endpoint.secret)
    return endpoint, told


def rotate_for_requests(user_id: int) -> tuple[WebhookSecret, str]:
    """The same for the secret of a user's ``webhook_url``s; makes it where there is none yet."""
    with transaction.atomic():
        return _rotated(_of_requests(user_id))


def send_test(endpoint: WebhookEndpoint) -> WebhookDelivery:
    """Send a test event to an endpoint.

    Raises:
        Conflict: ``endpoint_disabled``.
    """
    if not endpoint.enabled:
        raise Conflict("endpoint_disabled", "The endpoint is switched off, so nothing is sent to it. Switch it on.")
    made = delivery(endpoint, WebhookEvent.TEST, None)
    with transaction.atomic():
        insert([made])
    return WebhookDelivery.objects.select_related("endpoint").get(pk=made.pk)


def redeliver(deliveries: QuerySet[WebhookDelivery]) -> int:
    """Send them (again) now, each with the same ``webhook-id`` and its tries so far, for another three days.

    Gives how many: those whose endpoint is off, and those that are being sent at this moment, are left out.

    Raises:
        Conflict: none is left; ``endpoint_disabled`` or ``under_way``.
    """
    reachable = deliveries.filter(endpoint__disabled_at=None, endpoint__removed_at=None)
    with transaction.atomic():
        number = _due_again(reachable)
        if not number and not reachable.exists():
            raise Conflict("endpoint_disabled", "The endpoint was switched off or removed, so nothing is sent to it.")
        if not number:
            raise Conflict("under_way", "It is being sent at this moment. Look at what comes of it.")
    return number


# --- a request's webhook_url ------------------------------------------------------------------------------


def follow(generation: Generation, urls: Sequence[str], *, is_new: bool) -> None:
    """Inside the caller's transaction: tell these URLs when the Generation ends; if it has ended already, tell now.

    The same URL twice is one endpoint. Whoever asks again is told again (with the same ``webhook-id``).

    Raises:
        Conflict: ``too_many_endpoints``.
    """
    if not urls:
        return
    if not is_new:
        # Whoever ends it at this moment is waited for, or will find the endpoint.
        locked = settle.lock([generation.pk]).get(generation.pk)
        if locked is None:
            raise Conflict("try_again", "What answered the same request was removed just now. Send it again.")
        generation = locked
        known = WebhookEndpoint.objects.filter(generation=generation).exclude(url__in=urls).count()
        if known + len(urls) > limits().webhook_endpoints:
            raise Conflict(
                "too_many_endpoints",
                f"It tells {known} other webhook_urls already. Leave webhook_url out, or use an endpoint.",
                generation=str(generation.pk),
            )
    secret = _of_requests(generation.user_id)
    WebhookEndpoint.objects.bulk_create(
        [
            WebhookEndpoint(
                user_id=generation.user_id, generation=generation, secret=secret, url=url, events=list(FILTERABLE)
            )
            for url in urls
        ],
        ignore_conflicts=True,
    )
    if generation.status in LIVE:
        return
    event = EVENT_OF[Status(generation.status)]
    endpoints = list(WebhookEndpoint.objects.listening().filter(generation=generation, url__in=urls))
    _due_again(WebhookDelivery.objects.filter(generation=generation, endpoint__in=endpoints, event=event))
    insert([delivery(one, event, generation.pk, generation.completed_at) for one in endpoints])


# --- helpers ----------------------------------------------------------------------------------------------


def _due_again(deliveries: QuerySet[WebhookDelivery]) -> int:
    """Due now, whatever came of them, but for those that are being sent. Gives how many."""
    number = deliveries.filter(FREE).update(
        state=WebhookDelivery.State.PENDING,
        token=uuid.uuid4(),
        lease_until=None,
        unwritten_claims=0,
        failures=0,
        next_try_at=Now(),
        give_up_at=Now() + Value(seconds(limits().webhook_ttl)),
        ended_at=None,
    )
    if number:
        transaction.on_commit(wakeups.wake_deliver)
    return number


def _locked(endpoint_id: UUID) -> WebhookEndpoint:
    rows = WebhookEndpoint.objects.select_for_update(of=("self",), no_key=True).select_related("secret")
    return rows.get(pk=endpoint_id, removed_at=None)


def _of_requests(user_id: int) -> WebhookSecret:
    """The secret of a user's ``webhook_url``s, made where there is none yet."""
    mine = WebhookSecret.objects.filter(user=user_id, for_requests=True)
    found = mine.first()
    if found is None:
        found = WebhookSecret(user_id=user_id, for_requests=True)
        found.make()
        WebhookSecret.objects.bulk_create([found], ignore_conflicts=True)
        found = mine.get()
    return found


def _rotated(secret: WebhookSecret) -> tuple[WebhookSecret, str]:
    secret = WebhookSecret.objects.select_for_update(no_key=True).get(pk=secret.pk)
    told = secret.rotate(database_now() + seconds(limits().webhook_secret_hours * HOUR))
    secret.save(update_fields=["secret_encrypted", "previous_encrypted", "previous_until"])
    return secret, told


@contextmanager
def _url_once() -> Iterator[None]:
    """The one constraint that a caller can run into, in words; any other is a fault of ours."""
    try:
        yield
    except IntegrityError as error:
        if "webhook_endpoint_url_once" not in str(error):
            raise
        raise Conflict("endpoint_exists", "You have an endpoint with this URL already. Change that one.") from error


def _in_order(events: Collection[str]) -> list[str]:
    return [event for event in FILTERABLE if event in events]
