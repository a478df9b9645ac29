"""The list of Generations: it"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from generations.admin.filters import id_at
from generations.admin.generation import GenerationAdmin
from generations.lifecycle import State, Status
from generations.models import Generation
from tests.factories import GenerationFactory, SubmissionFactory, UserFactory, completed_generation

LIST = reverse("admin:generations_generation_changelist")


def shown(client: Client, **query: str) -> list[Generation]:
    """The rows of a page."""
    response = client.get(LIST, query)
    assert response.status_code == 200
    return list(response.context["cl"].result_list)


def queries(client: Client, url: str) -> int:
    """How many queries a page makes."""
    with CaptureQueriesContext(connection) as caught:
        assert client.get(url).status_code == 200
    return len(caught)


def test_shows_prompt_status_reason_account_and_picture(console: Client) -> None:
    done = completed_generation(prompt="a quiet harbour", price=45)
    failed = GenerationFactory.create(status=Status.FAILED, error_code="content_moderated")
    page = console.get(LIST).content.decode()
    assert "a quiet harbour" in page
    assert str(done.pk) in page
    assert str(failed.pk) in page
    assert "content moderated" in page
    assert "45 credits" in page
    assert str(done.submissions.get().account) in page
    assert page.count('<img src="/content/') == 1


def test_escapes_what_users_wrote(console: Client) -> None:
    made = completed_generation(prompt="<script>alert(1)</script>")
    for url in (LIST, reverse("admin:generations_generation_change", args=[made.pk]), reverse("admin:index")):
        page = console.get(url).content.decode()
        assert "<script>alert(1)" not in page
        assert "&lt;script&gt;alert(1)" in page


def test_makes_as_many_queries_for_many_rows_as_for_few(console: Client) -> None:
    def more() -> None:
        completed_generation()
        SubmissionFactory.create(state=State.ACCEPTED)
        GenerationFactory.create()
        GenerationFactory.create(status=Status.FAILED)

    more()
    few = queries(console, LIST)
    for _ in range(6):
        more()
    assert queries(console, LIST) == few
    assert few <= 13


def test_pages_by_id_without_counting(console: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [GenerationFactory.create() for _ in range(7)]
    newest_first = [row.pk for row in reversed(rows)]
    monkeypatch.setattr(GenerationAdmin, "list_per_page", 3)
    with CaptureQueriesContext(connection) as caught:
        first = console.get(LIST).context["cl"]
    assert not [query for query in caught if "COUNT(*)" in query["sql"] and "generations_generation" in query["sql"]]
    assert [row.pk for row in first.result_list] == newest_first[:3]
    assert first.newer_url is None
    second = console.get(LIST + first.older_url).context["cl"]
    assert [row.pk for row in second.result_list] == newest_first[3:6]
    third = console.get(LIST + second.older_url).context["cl"]
    assert [row.pk for row in third.result_list] == newest_first[6:]
    assert third.older_url is None
    back = console.get(LIST + third.newer_url).context["cl"]
    assert [row.pk for row in back.result_list] == newest_first[3:6]


def test_ignores_an_edge_that_is_no_id(console: Client) -> None:
    response = console.get(LIST, {"before": "'; drop table"})
    assert response.status_code == 302
    assert response["Location"].endswith("?e=1")


def test_filters_by_status_provider_operation_user_and_time(console: Client) -> None:
    user = UserFactory.create()
    mine = GenerationFactory.create(user=user, provider_id="modelslab", operation_type="text_to_image")
    failed = GenerationFactory.create(status=Status.FAILED)
    running = SubmissionFactory.create(state=State.ACCEPTED).generation
    old = GenerationFactory.create(id=id_at(timezone.now() - timedelta(days=3)))
    Generation.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=3))
    assert shown(console, status="failed") == [failed]
    assert set(shown(console, status="live")) == {mine, running, old}
    assert shown(console, provider="modelslab") == [mine]
    assert shown(console, operation="text_to_image") == [mine]
    assert shown(console, user__id__exact=str(user.pk)) == [mine]
    yesterday = timezone.now() - timedelta(days=1)
    lately = shown(console, created_at_from_0=f"{yesterday:%Y-%m-%d}", created_at_from_1="00:00:00")
    assert set(lately) == {mine, failed, running}
    before = shown(
        console,
        created_at_from_0="2020-01-01",
        created_at_from_1="00:00:00",
        created_at_to_0=f"{yesterday:%Y-%m-%d}",
        created_at_to_1="00:00:00",
    )
    assert before == [old]


def test_finds_by_id_its_beginning_the_job_id_and_words_of_the_prompt(console: Client) -> None:
    attempt = SubmissionFactory.create(state=State.ACCEPTED, provider_job_id="318633193768896")
    other = GenerationFactory.create(prompt="A Violin in the snow", id=id_at(timezone.now() - timedelta(days=9)))
    assert shown(console, q=str(other.pk)) == [other]
    assert shown(console, q=str(other.pk)[:9]) == [other]
    assert shown(console, q="318633193768896") == [attempt.generation]
    assert shown(console, q="violin in") == [other]
    assert shown(console, q="100%_' OR 1=1") == []


@pytest.mark.parametrize("who", ["nobody", "user", "other staff"])
def test_refuses_whoever_may_not_see_it(who: str, client: Client, staff: Callable[..., Client]) -> None:
    if who == "user":
        client.force_login(UserFactory.create())
    if who == "other staff":
        client = staff("view_price")
    made = GenerationFactory.create()
    for url in (LIST, reverse("admin:generations_generation_change", args=[made.pk])):
        assert client.get(url).status_code == (403 if who == "other staff" else 302)
