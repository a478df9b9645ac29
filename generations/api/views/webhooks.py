"""Webhooks: endpoints, their secrets, what they were told, and "send it again"."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from generations.api import body, docs, query, requests
from generations.api.answers import (
    DeliveryAnswer,
    DeliveryDetailAnswer,
    DeliveryPage,
    NewWebhookAnswer,
    SecretAnswer,
    TryAnswer,
    WebhookAnswer,
    WebhookPage,
)
from generations.api.requests import WebhookChange, WebhookRequest
from generations.api.views.base import ApiView, answer, caller, here, plain
from generations.intake import webhooks
from generations.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookSecret

PATH = "/api/v1/webhooks"


class WebhookListView(ApiView):
    """Add an endpoint; list one's own."""

    query_names = query.PAGING

    @docs.list_webhooks
    def get(self, given: Request) -> Response:
        """A page of the caller's endpoints, newest first."""
        http, user = plain(given), caller(given)
        rows = WebhookEndpoint.objects.of_user(user.pk).select_related("secret")
        found, links = query.page(http, rows, scope=f"webhooks of {user.pk}")
        return answer(WebhookPage.of(results=[WebhookAnswer.of(**_facts(row)) for row in found], **links))

    @docs.create_webhook
    def post(self, given: Request) -> Response:
        """201 with the endpoint and its secret, which is never told again."""
        wanted = requests.read(WebhookRequest, body.json_object(plain(given)))
        row, secret = webhooks.add(
            caller(given).pk, url=wanted.url, events=wanted.events, description=wanted.description
        )
        told = NewWebhookAnswer.of(**_facts(row), secret=secret)
        return answer(told, 201, Location=f"{here(given)}{PATH}/{row.pk}")


class WebhookView(ApiView):
    """One endpoint."""

    @docs.get_webhook
    def get(self, given: Request, endpoint_id: UUID) -> Response:
        """As it is."""
        return answer(WebhookAnswer.of(**_facts(_own(given, endpoint_id))))

    @docs.change_webhook
    def patch(self, given: Request, endpoint_id: UUID) -> Response:
        """As it is now."""
        wanted = requests.read(WebhookChange, body.json_object(plain(given)))
        found = _own(given, endpoint_id)
        row = webhooks.change(found.pk, wanted.to_intake(), by=WebhookEndpoint.Reason.OWNER)
        return answer(WebhookAnswer.of(**_facts(row)))

    @docs.remove_webhook
    def delete(self, given: Request, endpoint_id: UUID) -> Response:
        """204: it is told nothing any more."""
        webhooks.remove(_own(given, endpoint_id).pk)
        return Response(status=204)


class RotateView(ApiView):
    """An endpoint's secret."""

    @docs.rotate_webhook
    def post(self, given: Request, endpoint_id: UUID) -> Response:
        """200 with the new one, which is never told again."""
        _nothing(plain(given))
        row, secret = webhooks.rotate(_own(given, endpoint_id).pk)
        return _secret(row.secret, secret)


class RequestSecretView(ApiView):
    """The secret of the ``webhook_url``s of one's requests."""

    @docs.rotate_request_secret
    def post(self, given: Request) -> Response:
        """200 with the new one, which is never told again."""
        _nothing(plain(given))
        return _secret(*webhooks.rotate_for_requests(caller(given).pk))


class TestView(ApiView):
    """A test event."""

    @docs.test_webhook
    def post(self, given: Request, endpoint_id: UUID) -> Response:
        """202 with its delivery."""
        _nothing(plain(given))
        row = webhooks.send_test(_own(given, endpoint_id))
        return _on_its_way(given, row)


class DeliveryListView(ApiView):
    """What one's endpoints were told."""

    query_names = query.PAGING | {"endpoint", "generation", "state"}

    @docs.list_deliveries
    def get(self, given: Request) -> Response:
        """A page of the caller's deliveries, newest first."""
        http, user = plain(given), caller(given)
        rows = _deliveries(user.pk)
        if (endpoint := query.identifier(http.GET, "endpoint")) is not None:
            rows = rows.filter(endpoint=endpoint)
        if (generation := query.identifier(http.GET, "generation")) is not None:
            rows = rows.filter(generation=generation)
        if states := query.choices(http.GET, "state", WebhookDelivery.State.values):
            rows = rows.filter(state__in=states)
        found, links = query.page(http, rows, scope=f"deliveries of {user.pk}")
        return answer(DeliveryPage.of(results=[DeliveryAnswer.of(**_delivery(row)) for row in found], **links))


class DeliveryView(ApiView):
    """One delivery."""

    @docs.get_delivery
    def get(self, given: Request, delivery_id: UUID) -> Response:
        """With all its tries."""
        row = _own_delivery(given, delivery_id)
        tries = [_try(one) for one in row.in_order()]
        return answer(DeliveryDetailAnswer.of(**_delivery(row), attempts=tries))


class RedeliverView(ApiView):
    """Send it again."""

    @docs.redeliver
    def post(self, given: Request, delivery_id: UUID) -> Response:
        """202 with the delivery, which is due now."""
        _nothing(plain(given))
        row = _own_delivery(given, delivery_id)
        webhooks.redeliver(WebhookDelivery.objects.filter(pk=row.pk))
        row.refresh_from_db()
        return _on_its_way(given, row)


def _own(given: Request, endpoint_id: UUID) -> WebhookEndpoint:
    """The caller's endpoint; somebody else's, and a removed one, is as good as none."""
    return get_object_or_404(WebhookEndpoint.objects.of_user(caller(given).pk).select_related("secret"), pk=endpoint_id)


def _deliveries(user_id: int) -> QuerySet[WebhookDelivery]:
    return WebhookDelivery.objects.filter(user_id=user_id).select_related("endpoint")


def _own_delivery(given: Request, delivery_id: UUID) -> WebhookDelivery:
    return get_object_or_404(_deliveries(caller(given).pk), pk=delivery_id)


def _nothing(http: HttpRequest) -> None:
    """No body, or an empty object."""
    requests.read(requests.Body, body.json_object(http, optional=True))


def _secret(row: WebhookSecret | None, secret: str) -> Response:
    return answer(SecretAnswer.of(secret=secret, previous_secret_until=row.previous_until if row else None))


def _on_its_way(given: Request, row: WebhookDelivery) -> Response:
    where = f"{here(given)}{PATH}/deliveries/{row.pk}"
    return answer(DeliveryAnswer.of(**_delivery(row)), 202, Location=where)


def _facts(row: WebhookEndpoint) -> dict[str, Any]:
    return {
        "id": row.pk,
        "url": row.url,
        "events": row.events,
        "description": row.description,
        "enabled": row.enabled,
        "disabled_at": row.disabled_at,
        "disabled_reason": row.disabled_reason or None,
        "previous_secret_until": row.secret.previous_until if row.secret else None,
        "created_at": row.created_at,
    }


def _delivery(row: WebhookDelivery) -> dict[str, Any]:
    return {
        "id": row.pk,
        "event": row.event,
        "event_at": row.event_at,
        "state": row.state,
        "endpoint": None if row.endpoint.generation_id else row.endpoint_id,
        "url": row.endpoint.url,
        "generation": row.generation_id,
        "tries": row.tries,
        "next_try_at": row.next_try_at,
        "error_code": row.error_code or None,
        "error_message": row.error_message or None,
        "created_at": row.created_at,
        "ended_at": row.ended_at,
    }


def _try(row: WebhookAttempt) -> TryAnswer:
    return TryAnswer.of(
        number=row.number,
        url=row.url,
        started_at=row.started_at,
        elapsed=row.elapsed,
        status=row.status,
        error_code=row.error_code or None,
        error_message=row.error_message or None,
        answer=row.answer,
    )
