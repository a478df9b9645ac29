"""Four were asked for and three arrived: completed, paid in full, and nobody is left in the dark about it."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from generations.lifecycle import Status
from generations.models import Generation
from generations.pages.views import cards
from generations.reports import audit, representation
from generations.reports.explain import explain
from generations.reports.timeline import timeline
from tests.factories import UserFactory
from tests.generations.execution.studio import PRICE, PURSE, Studio

pytestmark = pytest.mark.django_db


@pytest.fixture
def partial(studio: Studio) -> Generation:
    """Four pictures of which the provider delivers three."""
    studio.account()
    generation = studio.finish(studio.ask("partial", samples=4))
    assert generation.status == Status.COMPLETED
    return generation


def test_is_completed_and_paid_in_full(partial: Generation, studio: Studio) -> None:
    assert len(studio.assets(partial)) == 3
    assert studio.money(partial) == ["capture", "hold"]
    assert studio.wallet == (PURSE - 4 * PRICE, 0)
    assert audit.run() == []


def test_is_flagged_in_the_api(partial: Generation) -> None:
    for told in (representation.one("http://here", partial), *representation.page("http://here", [partial])):
        assert (told.partial, told.outputs_expected, told.outputs_arrived) == (True, 4, 3)
        assert len(told.outputs) == 3


def test_is_flagged_in_the_timeline_and_explained(partial: Generation) -> None:
    lines = {line["kind"]: line for line in timeline(partial)}
    assert lines["completed"]["text"] == "Completed with 3 of 4 outputs."
    assert lines["completed"]["data"] == {"outputs": 3, "expected": 4, "partial": True}
    assert "It is completed with 3 of 4 outputs" in explain(partial)["summary"]


def test_is_flagged_in_the_console(partial: Generation, settings: object, tmp_path: object) -> None:
    settings.STATIC_ROOT = str(tmp_path)  # type: ignore[attr-defined]
    client = Client()
    client.force_login(UserFactory.create(is_staff=True, is_superuser=True))
    page = client.get(reverse("admin:generations_generation_change", args=[partial.pk])).content.decode()
    assert '<span class="dr-label dr-warn">3 of 4 outputs</span>' in page
    assert "3 of 4 outputs" in client.get(reverse("admin:generations_generation_changelist")).content.decode()
    refund = client.get(reverse("admin:generations_generation_refund", args=[partial.pk])).content.decode()
    assert "3 of 4 outputs arrived; it was paid in full." in refund


def test_is_flagged_on_the_users_own_page(partial: Generation) -> None:
    assert [card.words for card in cards(partial.user_id)] == ["3 of 4 outputs"]


def test_flags_nothing_where_all_arrived(studio: Studio) -> None:
    studio.account()
    generation = studio.finish(studio.ask(samples=2))
    told = representation.one("http://here", generation)
    assert (told.partial, told.outputs_expected, told.outputs_arrived) == (False, 2, 2)
    waiting = representation.one("http://here", studio.ask())
    assert (waiting.partial, waiting.outputs_expected, waiting.outputs_arrived) == (False, None, None)
