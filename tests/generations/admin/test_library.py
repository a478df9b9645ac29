"""The library in the console: it"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from generations.models import Asset, BatchItem, LibraryFavourite, LibraryItem
from tests.factories import AssetFactory, BatchItemFactory, LibraryItemFactory, UserFactory, picture

LIST = reverse("admin:generations_libraryitem_changelist")
ADD = reverse("admin:generations_libraryitem_add")
UPLOAD = reverse("admin:generations_libraryitem_upload")
POSE = {"name": "Arms raised", "category": "pose", "tags": "Standing, full body", "prompt": "arms raised"}


def page_of(item: LibraryItem, what: str = "change") -> str:
    return reverse(f"admin:generations_libraryitem_{what}", args=[item.pk])


def shown(client: Client, **query: str) -> list[str]:
    return [row.name for row in client.get(LIST, query).context["cl"].result_list]


def shared(**fields: object) -> LibraryItem:
    return LibraryItemFactory.create(owner=None, **fields)


def test_shows_a_gallery_with_likings_and_uses(console: Client) -> None:
    item = shared(name="<b>Kneeling</b>", picture=AssetFactory.create(role="input"))
    LibraryItemFactory.create(prompt="in words only")
    LibraryFavourite.objects.create(user=UserFactory.create(), item=item)
    BatchItemFactory.create(library_item=item)

    page = console.get(LIST).content.decode()

    assert "&lt;b&gt;Kneeling" in page
    assert page.count('<img src="/content/') == 1
    assert "in words only" in page
    assert "♥ 1 · used 1 time<" in page


def test_takes_as_many_queries_for_many_as_for_few(console: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as caught:
            console.get(LIST)
        return len(caught)

    shared(picture=AssetFactory.create(role="input"))
    few = queries()
    for _ in range(4):
        shared(picture=AssetFactory.create(role="input"))
    assert queries() == few


def test_finds_by_words_category_and_owner(console: Client) -> None:
    shared(name="Kneeling", category="pose")
    LibraryItemFactory.create(name="Garden", category="place")

    assert shown(console) == ["Garden", "Kneeling"]
    assert shown(console, q="kne") == ["Kneeling"]
    assert shown(console, q="!") == []
    assert shown(console, category="place") == ["Garden"]
    assert shown(console, of="all") == ["Kneeling"]
    assert shown(console, of="users") == ["Garden"]


def test_adds_a_shared_item_with_a_picture(console: Client) -> None:
    file = SimpleUploadedFile("pose.png", picture())

    assert console.post(ADD, {**POSE, "file": file})["Location"] == LIST

    item = LibraryItem.objects.get()
    assert (item.owner, item.name, item.tags) == (None, "Arms raised", ["standing", "full body"])
    assert item.picture == Asset.objects.get()


@pytest.mark.parametrize(
    "fields",
    [
        {"name": " "},
        {"category": ""},
        {"prompt": ""},
        {"tags": "x" * 41},
        {"file": SimpleUploadedFile("pose.png", b"no picture")},
    ],
)
def test_says_what_is_wrong_with_an_item(fields: dict[str, object], console: Client) -> None:
    page = console.post(ADD, {**POSE, **fields}).content.decode()

    assert "errorlist" in page
    assert not LibraryItem.objects.exists()


def test_changes_a_shared_item_and_takes_its_picture_away(console: Client) -> None:
    item = shared(picture=AssetFactory.create(role="input"))
    assert "It shall have no picture any more" in console.get(page_of(item)).content.decode()

    console.post(page_of(item), POSE)
    item.refresh_from_db()
    assert (item.name, item.picture is None) == ("Arms raised", False)

    assert "errorlist" in console.post(page_of(item), {**POSE, "prompt": "", "no_picture": "on"}).content.decode()
    console.post(page_of(item), {**POSE, "no_picture": "on"})
    item.refresh_from_db()
    assert item.picture is None


def test_leaves_users_items_to_their_owners(console: Client) -> None:
    item = LibraryItemFactory.create(prompt="a secret pose")

    page = console.get(page_of(item)).content.decode()

    assert "a secret pose" in page
    assert "own, and changed by its owner" in page
    assert console.post(page_of(item), POSE).status_code == 403
    assert console.post(page_of(item, "delete"), {"post": "yes"}).status_code == 403
    assert LibraryItem.objects.get().prompt == "a secret pose"


def test_deletes_a_shared_item_that_is_liked_and_used(console: Client) -> None:
    item = shared()
    LibraryFavourite.objects.create(user=UserFactory.create(), item=item)
    BatchItemFactory.create(library_item=item)
    assert console.get(page_of(item, "delete")).status_code == 200

    console.post(page_of(item, "delete"), {"post": "yes"})

    assert not LibraryItem.objects.exists()
    assert BatchItem.objects.get().library_item is None


def test_uploads_several_and_tells_of_those_that_are_none(console: Client) -> None:
    files = [
        SimpleUploadedFile("arms_raised.png", picture()),
        SimpleUploadedFile("broken.png", b"no picture"),
        SimpleUploadedFile("sitting.png", picture()),
    ]

    page = console.post(UPLOAD, {"pictures": files, "category": "pose", "tags": "new"}, follow=True).content.decode()

    assert sorted(LibraryItem.objects.shared().values_list("name", flat=True)) == ["arms raised", "sitting"]
    assert "2 items are kept." in page
    assert "broken.png: " in page


def test_says_so_when_none_of_them_is_a_picture(console: Client) -> None:
    page = console.post(UPLOAD, {"pictures": [SimpleUploadedFile("a.png", b"x")], "category": "pose"})
    empty = console.post(UPLOAD, {"category": "pose"})

    assert "a.png: " in page.content.decode()
    assert "errorlist" in empty.content.decode()
    assert not LibraryItem.objects.exists()


def test_shows_and_does_what_each_person_may(staff: Callable[..., Client]) -> None:
    item = shared()
    looker, changer = staff("view_libraryitem"), staff("view_libraryitem", "change_libraryitem")

    assert looker.get(LIST).status_code == 200
    assert "Upload several" not in looker.get(LIST).content.decode()
    assert "<textarea" not in looker.get(page_of(item)).content.decode()
    for client in (looker, changer):
        assert client.get(ADD).status_code == 403
        assert client.get(UPLOAD).status_code == 403
        assert client.post(page_of(item, "delete"), {"post": "yes"}).status_code == 403
    assert looker.post(page_of(item), POSE).status_code == 403
    assert changer.post(page_of(item), POSE).status_code == 302
    assert staff("view_prompt").get(page_of(item)).status_code == 403


@pytest.mark.parametrize("what", ["x", "0", "9" * 40, "-1"])
def test_knows_no_item_of_a_number_that_is_none(what: str, console: Client) -> None:
    assert console.get(f"{LIST}{what}/change/").status_code == 404
