"""Deliveries are made in the commit that they report: it ..."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from generations.execution import deliver, recover, settle
from generations.execution.settle import Ending
from generations.intake.cancel import cancel
from generations.lifecycle import State, Status
from generations.models import Generation, WebhookDelivery, WebhookEndpoint
from tests.factories import GenerationFactory, SubmissionFactory, UserFactory, WebhookEndpointFactory
from tests.generations.execution.studio import Studio

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("hints")]


def end(*generations: Generation, status: Status = Status.COMPLETED) -> None:
    with transaction.atomic():
        settle.end([Ending(one.pk, status, "a_code", "why") for one in generations], actor="test")


def told() -> set[tuple[Any, Any, str]]:
    """(endpoint, generation, event) of each delivery."""
    return set(WebhookDelivery.objects.values_list("endpoint", "generation", "event"))


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.CANCELLED])
def test_tells_every_endpoint_of_the_user_of_an_end(status: Status) -> None:
    one = GenerationFactory.create(status=Status.PROCESSING)
    first, second = (WebhookEndpointFactory.create(user=one.user) for _ in range(2))
    end(one, status=status)
    event = f"generation.{status}"
    assert told() == {(first.pk, one.pk, event), (second.pk, one.pk, event)}
    delivery = WebhookDelivery.objects.first()
    one.refresh_from_db()
    assert delivery is not None
    assert (delivery.state, delivery.user_id, delivery.host) == ("pending", one.user_id, "hooks.example.com")
    assert delivery.event_at == one.completed_at
    assert delivery.next_try_at is not None
    assert delivery.give_up_at - delivery.next_try_at == timedelta(days=3)


def test_tells_each_endpoint_what_it_wants_to_know_and_nobody_elses() -> None:
    user, other = UserFactory.create(), UserFactory.create()
    mine = [GenerationFactory.create(user=user, status=Status.PROCESSING) for _ in range(2)]
    theirs = GenerationFactory.create(user=other, status=Status.PROCESSING)
    failures = WebhookEndpointFactory.create(user=user, events=["generation.failed"])
    results = WebhookEndpointFactory.create(user=user, events=["generation.completed"])
    of_one = WebhookEndpointFactory.create(user=user, generation=mine[0])
    of_other = WebhookEndpointFactory.create(user=other)
    WebhookEndpointFactory.create(user=user, disabled_at=timezone.now())
    WebhookEndpointFactory.create(user=user, removed_at=timezone.now(), secret=None)
    with transaction.atomic():
        settle.end(
            [
                Ending(mine[0].pk, Status.COMPLETED),
                Ending(mine[1].pk, Status.FAILED, "a", "b"),
                Ending(theirs.pk, Status.CANCELLED),
            ],
            actor="test",
        )
    assert told() == {
        (failures.pk, mine[1].pk, "generation.failed"),
        (results.pk, mine[0].pk, "generation.completed"),
        (of_one.pk, mine[0].pk, "generation.completed"),
        (of_other.pk, theirs.pk, "generation.cancelled"),
    }


def test_makes_nothing_of_an_end_that_is_rolled_back(hints: list[str]) -> None:
    one = GenerationFactory.create(status=Status.PROCESSING)
    WebhookEndpointFactory.create(user=one.user)
    with transaction.atomic():
        settle.end([Ending(one.pk, Status.COMPLETED)], actor="test")
        assert WebhookDelivery.objects.count() == 1
        transaction.set_rollback(True)
    assert not WebhookDelivery.objects.exists()
    assert hints == []


def test_tells_an_end_once_however_often_it_is_noticed() -> None:
    one = GenerationFactory.create(status=Status.PROCESSING)
    WebhookEndpointFactory.create(user=one.user)
    end(one)
    end(one, status=Status.FAILED)
    assert [event for _, _, event in told()] == ["generation.completed"]


def test_wakes_a_deliverer_once_it_is_committed_and_only_then(
    hints: list[str], django_capture_on_commit_callbacks: Any
) -> None:
    one, quiet = (GenerationFactory.create(status=Status.PROCESSING) for _ in range(2))
    WebhookEndpointFactory.create(user=one.user)
    with django_capture_on_commit_callbacks(execute=True):
        end(quiet)
    assert hints == []
    with django_capture_on_commit_callbacks(execute=True):
        end(one)
        assert hints == []
    assert hints == ["deliver"]


def test_costs_one_query_where_nobody_listens_and_two_for_any_number_of_endpoints() -> None:
    def queries(listen: bool) -> int:
        rows = [GenerationFactory.create(status=Status.PROCESSING) for _ in range(5)]
        if listen:
            for row in rows:
                WebhookEndpointFactory.create(user=row.user)
                WebhookEndpointFactory.create(user=row.user, generation=row)
        with CaptureQueriesContext(connection) as caught:
            end(*rows)
        return len([query for query in caught if "webhook" in query["sql"]])

    assert (queries(listen=False), queries(listen=True)) == (1, 2)
    assert WebhookDelivery.objects.count() == 10


def test_tells_of_a_cancel_and_of_what_waited_too_long() -> None:
    user = UserFactory.create()
    endpoint = WebhookEndpointFactory.create(user=user)
    cancelled = GenerationFactory.create(user=user)
    late = GenerationFactory.create(user=user, queue_until=timezone.now() - timedelta(minutes=1))
    cancel(cancelled.pk, actor="test")
    recover.queued_too_long()
    assert told() == {
        (endpoint.pk, cancelled.pk, "generation.cancelled"),
        (endpoint.pk, late.pk, "generation.failed"),
    }


def test_tells_of_a_result_that_came_after_the_end(studio: Studio) -> None:
    studio.account()
    generation, attempt = studio.start()
    endpoint = WebhookEndpointFactory.create(user=generation.user)
    studio.past(generation, "deadline_at")
    Generation.objects.filter(pk=generation.pk).update(status=Status.FAILED, completed_at=timezone.now())
    type(attempt).objects.filter(pk=attempt.pk).update(abandoned_at=timezone.now())
    studio.poll_to_the_end(attempt)
    studio.collect()
    attempt.refresh_from_db()
    assert attempt.state == State.SUCCEEDED
    assert told() == {(endpoint.pk, generation.pk, "generation.late_result")}


def test_finds_what_is_due_at_each_tick(hints: list[str]) -> None:
    recover.tick()
    assert "deliver" not in hints
    one = SubmissionFactory.create(state=State.ACCEPTED).generation
    WebhookEndpointFactory.create(user=one.user)
    end(one)
    hints.clear()
    assert deliver.due()
    recover.tick()
    assert "deliver" in hints


def test_reads_the_endpoints_by_their_indexes() -> None:
    user = UserFactory.create()
    one = GenerationFactory.create(user=user)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        plan = WebhookEndpoint.objects.concerned({user.pk}, {one.pk}).explain()
    assert "BitmapOr" in plan
    assert "webhook_endpoint_url_once" in plan
    assert "webhook_endpoint_of_request_once" in plan
