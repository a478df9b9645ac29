"""The page of one Generation: it"""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.html import escape

from accounts import credits
from accounts.credits import Movement
from generations.lifecycle import State, Status
from generations.models import Generation, Incident
from generations.signing import content_url
from tests.factories import (
    AccountFactory,
    AssetFactory,
    GenerationFactory,
    GenerationInputFactory,
    SubmissionFactory,
    WalletFactory,
    completed_generation,
)


def page_of(generation: Generation) -> str:
    """Its address."""
    return reverse("admin:generations_generation_change", args=[generation.pk])


def test_tells_the_whole_story(console: Client) -> None:
    made = completed_generation(prompt="a lighthouse", price=10)
    WalletFactory.create(user=made.user, available=100)
    movement = Movement(made.user_id, made.pk, 10)
    credits.hold([movement], actor="user:1")
    credits.capture([movement], actor="worker:a/1")
    attempt = made.submissions.get()
    attempt.request = {"headers": {"API-KEY": "***"}, "json": {"prompt": "a <b>lighthouse</b>"}}
    attempt.response = {"status": 200}
    attempt.choice = {"among": 2, "held": 1, "limit": 3}
    attempt.save()
    given = GenerationInputFactory.create(generation=made)
    successor = GenerationFactory.create(retry_of=made)
    Incident.objects.create(kind=Incident.Kind.COST_AT_RISK, generation=made, detail="Look at the usage ledger.")

    page = console.get(page_of(made)).content.decode()

    asset = attempt.assets.get()
    assert content_url(asset) in page
    assert len(console.get(content_url(asset)).getvalue()) == asset.size
    assert asset.sha256 in page
    assert content_url(given.asset, thumbnail=True) in page
    assert "a &lt;b&gt;lighthouse&lt;/b&gt;" in page
    assert "&quot;API-KEY&quot;: &quot;***&quot;" in page
    assert "the best of 2 with a free slot" in page
    assert "10 credits were set aside" in page
    assert "Capture" in page
    assert made.fingerprint in page
    assert str(successor.pk) in page
    assert "Look at the usage ledger." in page
    assert str(made.submissions.get().provider_job_id) in page


def test_says_why_it_waits_and_what_comes_next(console: Client) -> None:
    account = AccountFactory.create(limit=1, label="busy one")
    SubmissionFactory.create(account=account, state=State.ACCEPTED)
    waiting = GenerationFactory.create()
    response = console.get(page_of(waiting))
    page = response.content.decode()
    assert "Why it waits" in page
    assert "busy one" in page
    assert "1 / 1" in page
    assert escape(response.context["explained"]["waiting"]["accounts"][0]["why_not"]) in page
    assert "queue_timeout" in page


def test_makes_as_many_queries_for_a_long_story_as_for_a_short_one(console: Client) -> None:
    short, long = completed_generation(), completed_generation()
    for _ in range(4):
        SubmissionFactory.create(generation=long, state=State.FAILED)
        GenerationInputFactory.create(generation=long)
    for index in (1, 2, 3):
        AssetFactory.create(submission=long.submissions.get(state=State.SUCCEEDED), index=index)
    # The caches of sessions and content types are warm after the first page.
    console.get(page_of(short))
    counts = []
    for made in (short, long):
        with CaptureQueriesContext(connection) as caught:
            assert console.get(page_of(made)).status_code == 200
        counts.append(len(caught))
    assert counts[0] == counts[1]


def test_offers_only_what_is_legal(console: Client) -> None:
    rows = {
        "completed": completed_generation(),
        "failed": GenerationFactory.create(status=Status.FAILED),
        "cancelled": GenerationFactory.create(status=Status.CANCELLED),
        "pending": GenerationFactory.create(),
        "running": SubmissionFactory.create(state=State.ACCEPTED).generation,
        "collecting": SubmissionFactory.create(state=State.COLLECTING).generation,
    }
    offered = {
        name: {action.name for action in console.get(page_of(row)).context["actions"]} for name, row in rows.items()
    }
    assert offered == {
        "completed": set(),
        "failed": {"retry", "edit", "dismiss"},
        "cancelled": {"retry", "edit"},
        "pending": {"cancel"},
        "running": {"cancel"},
        "collecting": set(),
    }


def test_offers_nothing_to_whoever_may_only_look(staff: Callable[..., Client]) -> None:
    failed = GenerationFactory.create(status=Status.FAILED)
    looker = staff("view_generation")
    response = looker.get(page_of(failed))
    assert response.status_code == 200
    assert response.context["actions"] == []
    assert "Retry</a>" not in response.content.decode()
    assert looker.get(page_of(failed).replace("change", "retry")).status_code == 403
    assert looker.post(page_of(failed).replace("change", "retry"), {"retries": "0"}).status_code == 403
    assert Generation.objects.count() == 1


def test_is_not_found_for_an_unknown_or_impossible_id(console: Client) -> None:
    assert console.get(reverse("admin:generations_generation_change", args=[uuid4()])).status_code == 404
    assert console.get("/admin/generations/generation/no-id/change/").status_code == 404


def test_cannot_be_added_changed_or_deleted(console: Client) -> None:
    made = GenerationFactory.create()
    assert console.get(reverse("admin:generations_generation_add")).status_code == 403
    assert (
        console.post(reverse("admin:generations_generation_delete", args=[made.pk]), {"post": "yes"}).status_code == 403
    )
    console.post(page_of(made), {"status": "completed", "priority": "9"})
    made.refresh_from_db()
    assert (made.status, made.priority) == (Status.PENDING, 5)


def test_shows_its_family_as_a_tree_with_pictures(console: Client) -> None:
    still = completed_generation(prompt="a still lake")
    moving = GenerationFactory.create(
        user=still.user, parent=still, status=Status.FAILED, prompt="the lake, moving", operation_type="image_to_video"
    )
    again = GenerationFactory.create(user=still.user, parent=still, retry_of=moving)
    GenerationFactory.create(user=still.user, parent=again, prompt="the lake, longer", operation_type="video_extend")

    response = console.get(page_of(again))

    branches = response.context["family"]["branches"]
    assert [(one.indent, one.how, one.is_this) for one in branches] == [
        (0, "Text to video", False),
        (1, "Image to video", False),
        (2, "retry", True),
        (3, "Extend a video", False),
    ]
    page = response.content.decode()
    assert content_url(still.submissions.get().assets.get(), thumbnail=True) in page
    assert "the lake, longer" in page
    assert console.get(page_of(GenerationFactory.create())).context["family"] is None
