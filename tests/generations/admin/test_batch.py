"""Batches in the console."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from generations.lifecycle import Status
from generations.models import Batch, Generation
from tests.factories import BatchFactory, BatchItemFactory, completed_generation

LIST = "admin:generations_batch_changelist"
pytestmark = pytest.mark.django_db


def page(batch: Batch, action: str = "") -> str:
    where = reverse("admin:generations_batch_change", args=[batch.pk])
    return where.replace("/change/", f"/{action}/") if action else where


def body(client: Client, url: str) -> str:
    reply = client.get(url)
    assert reply.status_code == 200
    return reply.content.decode()


@pytest.fixture
def batch() -> Batch:
    """Two items: one completed, with a picture; one failed."""
    batch = BatchFactory.create(name="Towers <b>")
    BatchItemFactory.create(batch=batch, variation_key="text-v0", generation=completed_generation(user=batch.user))
    BatchItemFactory.create(batch=batch, variation_key="text-v1", generation__status=Status.FAILED)
    return batch


def test_are_listed_with_a_bar_and_in_as_many_queries_as_one(
    console: Client, batch: Batch, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_max_num_queries(20) as few:
        shown = body(console, reverse(LIST))
        number = len(few)
    assert "Towers &lt;b&gt;" in shown
    assert "Partial" in shown
    assert "1 of 2" in shown
    for _ in range(3):
        BatchItemFactory.create()

    with django_assert_max_num_queries(number):
        body(console, reverse(LIST))


def test_show_their_pictures_and_how_far_each_is(console: Client, batch: Batch) -> None:
    shown = body(console, page(batch))

    assert "<img" in shown
    assert "text-v0" in shown
    assert "text-v1" in shown
    assert "50 % of 2 completed" in shown
    assert f"{page(batch)}".split("/change/")[0]
    assert "Retry what failed" in shown


def test_are_named_on_their_generations_pages(console: Client, batch: Batch) -> None:
    row = Generation.objects.filter(status=Status.FAILED).get()

    assert page(batch) in body(console, reverse("admin:generations_generation_change", args=[row.pk]))


def test_offer_what_is_possible_only(console: Client) -> None:
    waiting = BatchItemFactory.create().batch

    shown = body(console, page(waiting))

    assert "Cancel" in shown
    assert "Pause" in shown
    assert "Retry what failed" not in shown
    assert "Resume" not in shown


@pytest.mark.parametrize("action", ["retry", "pause", "resume", "cancel"])
def test_ask_before_they_do_it_and_then_do_it(console: Client, action: str) -> None:
    status = Status.FAILED if action == "retry" else Status.PENDING
    item = BatchItemFactory.create(
        generation__status=status, batch__paused_at=timezone.now() if action == "resume" else None
    )
    batch = item.batch
    assert "What will happen" in body(console, page(batch, action))
    assert Generation.objects.count() == 1

    reply = console.post(page(batch, action), follow=True)

    assert reply.status_code == 200
    batch.refresh_from_db()
    done = {
        "retry": Generation.objects.count() == 2,
        "pause": batch.paused_at is not None,
        "resume": batch.paused_at is None,
        "cancel": batch.cancelled_at is not None and not Generation.objects.live().exists(),
    }
    assert done[action]


def test_say_what_is_refused(console: Client) -> None:
    batch = BatchItemFactory.create(
        generation__status=Status.FAILED, batch__closed_at=timezone.now(), batch__cancelled_at=timezone.now()
    ).batch
    assert "This is not possible now" in body(console, page(batch, "cancel"))

    reply = console.post(page(batch, "cancel"), follow=True)

    assert "nothing is left to cancel" in reply.content.decode()


def test_are_left_alone_by_who_may_only_look(staff: Callable[..., Client], batch: Batch) -> None:
    looker = staff("view_batch")

    assert "Retry what failed" not in body(looker, page(batch))
    assert looker.post(page(batch, "retry")).status_code == 403
    assert staff("view_generation").get(page(batch)).status_code in (302, 403)
    assert Generation.objects.count() == 2
