"""The console's exports: it ..."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from generations.execution import export_work
from generations.models import Asset, Export
from tests.factories import AssetFactory, ExportFactory, completed_generation

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("hints")]

LIST = "/admin/generations/export/"


def page(client: Client, url: str) -> str:
    reply = client.get(url)
    assert reply.status_code == 200
    return reply.content.decode()


def test_shows_the_original_beside_what_was_made_of_it(console: Client) -> None:
    row = ExportFactory.create(state="done", format="tiktok", fit="pad", colour="#102030")
    shown = page(console, LIST)
    assert shown.count('class="dr-thumb"') == 2
    for words in ("TikTok", "1080 x 1920, pad #102030", "Done", str(row.user)):
        assert words in shown


def test_filters_by_state_and_finds_by_id(console: Client) -> None:
    failed, done = ExportFactory.create(state="failed", format="shopee"), ExportFactory.create(state="done")
    assert "Shopee" in page(console, f"{LIST}?state=failed")
    assert "Shopee" not in page(console, f"{LIST}?state=done")
    assert failed.asset.submission is not None
    for pk in (failed.pk, failed.asset_id, failed.asset.submission.generation_id):
        shown = page(console, f"{LIST}?q={pk}")
        assert "Shopee" in shown
        assert str(done.pk) not in shown
    assert "Shopee" not in page(console, f"{LIST}?q=nonsense")


def test_costs_as_many_queries_for_many_as_for_few(console: Client) -> None:
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            page(console, LIST)
        return len(queries)

    ExportFactory.create(state="done")
    page(console, LIST)
    before = cost()
    for _ in range(4):
        ExportFactory.create(state="done")
    assert cost() == before


def test_makes_the_chosen_ones_again(console: Client) -> None:
    failed, pending, gone = (ExportFactory.create(state=state) for state in ("failed", "pending", "done"))
    Asset.objects.filter(pk=gone.asset_id).update(expired_at=timezone.now())
    chosen = [str(row.pk) for row in (failed, pending, gone)]
    reply = console.post(LIST, {"action": "regenerate_selected", "_selected_action": chosen}, follow=True)
    assert "1 export is made again." in reply.content.decode()
    export_work.run()
    assert {row.state for row in Export.objects.all()} == {"done"}


def test_lets_only_those_do_so_who_may(staff: Callable[..., Client]) -> None:
    row = ExportFactory.create(state="failed")
    client = staff("view_export")
    assert "regenerate_selected" not in page(client, LIST)
    client.post(LIST, {"action": "regenerate_selected", "_selected_action": [str(row.pk)]})
    assert Export.objects.get().state == "failed"


def test_shows_one_with_its_files(console: Client) -> None:
    poster = AssetFactory.create(role="export")
    row = ExportFactory.create(state="done", poster=poster, user=poster.user)
    shown = page(console, reverse("admin:generations_export_change", args=[row.pk]))
    assert shown.count('class="dr-tile"') == 3
    assert reverse("admin:generations_asset_change", args=[poster.pk]) in shown
    assert str(row.token) not in shown


def test_is_shown_on_its_generations_page(console: Client) -> None:
    made = completed_generation()
    asset = Asset.objects.get()
    row = ExportFactory.create(asset=asset, state="failed", format="tiktok", error_message="It breaks the decoder.")
    url = reverse("admin:generations_generation_change", args=[made.pk])
    shown = page(console, url)
    assert reverse("admin:generations_export_change", args=[row.pk]) in shown
    assert "tiktok (Failed)" in shown
    assert "It breaks the decoder." in shown
    Asset.objects.filter(pk=asset.pk).update(expired_at=timezone.now())
    assert "was removed by its age" in page(console, url)


def test_shows_files_that_were_kept_or_have_expired(console: Client, admin: User) -> None:
    AssetFactory.create(favourite=True)
    AssetFactory.create(role="input", expired_at=timezone.now())
    shown = page(console, "/admin/generations/asset/")
    assert "favourite" in shown
    assert ">expired<" in shown
    assert "favourite" not in page(console, "/admin/generations/asset/?role=input").partition("<tbody")[2]
