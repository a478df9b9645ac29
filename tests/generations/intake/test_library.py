"""The library: what a batch may use, and what stays right when two do things at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from generations.execution import cleanup
from generations.intake import library
from generations.intake.errors import Invalid, NotFound
from generations.models import Asset, BatchItem, Generation, LibraryFavourite, LibraryItem
from generations.storage import storage
from tests.factories import AssetFactory, BatchItemFactory, LibraryItemFactory, UserFactory, completed_generation
from tests.generations.intake.conftest import Scale
from tests.together import together, until_somebody_waits

pytestmark = pytest.mark.django_db


class TestUsable:
    """What a user may make a batch of."""

    def test_is_his_own_and_what_is_shared_with_pictures_in_one_query(self, user: User) -> None:
        own = LibraryItemFactory.create(owner=user, picture=AssetFactory.create(role="input", user=user))
        shared = LibraryItemFactory.create(owner=None, picture=AssetFactory.create(role="input"))
        words = LibraryItemFactory.create(owner=user)
        other = LibraryItemFactory.create()

        with CaptureQueriesContext(connection) as caught:
            found = library.usable(user.pk, [own.pk, shared.pk, words.pk, other.pk, 10**9])
            pictures = [row.picture for row in found.values()]

        assert len(caught) == 1
        assert list(found) == [own.pk, shared.pk, words.pk]
        assert pictures == [own.picture, shared.picture, None]

    @pytest.mark.django_db(transaction=True)
    def test_stays_for_whoever_holds_it(self, user: User) -> None:
        item = LibraryItemFactory.create(owner=user, picture=AssetFactory.create(role="input", user=user))
        ready = threading.Event()

        def use() -> None:
            with transaction.atomic():
                held = library.usable(user.pk, [item.pk], lock=True)
                ready.set()
                until_somebody_waits()
                BatchItemFactory.create(batch__user=user, library_item=held[item.pk])

        def remove() -> None:
            assert ready.wait(30)
            library.remove(item.pk, user.pk)

        assert together([use, remove]) == [None, None]
        assert BatchItem.objects.get().library_item is None
        assert not LibraryItem.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_keeps_something_to_use_when_two_take_away_a_half_each(user: User) -> None:
    item = LibraryItemFactory.create(owner=user, picture=AssetFactory.create(role="input", user=user))

    found = together(
        [
            partial(library.change, item.pk, user.pk, {"prompt": ""}, by=user.pk),
            partial(library.change, item.pk, user.pk, {"picture_id": None}, by=user.pk),
        ]
    )

    assert sorted(type(one).__name__ for one in found) == ["Invalid", "LibraryItem"]


@pytest.mark.django_db(transaction=True)
def test_likes_once_however_often_at_once_and_never_what_is_gone(user: User) -> None:
    item = LibraryItemFactory.create(owner=user)

    found = together([partial(library.like, user.pk, item.pk, liked=True)] * 4)
    assert [type(one) for one in found] == [LibraryItem] * 4, found
    assert LibraryFavourite.objects.count() == 1

    calls: list[Callable[[], object]] = [partial(library.like, user.pk, item.pk, liked=True)] * 3
    calls.append(partial(library.remove, item.pk, user.pk))
    ends = together(calls)
    assert {type(one) for one in ends} <= {LibraryItem, NotFound, type(None)}, ends
    assert not LibraryFavourite.objects.exists()


def test_counts_no_download_of_what_is_not_there(user: User) -> None:
    other = LibraryItemFactory.create(picture=AssetFactory.create(role="input"))

    with pytest.raises(NotFound):
        library.downloaded(user.pk, other.pk)
    other.refresh_from_db()
    assert other.downloads == 0


def test_changes_nothing_that_it_refuses(user: User) -> None:
    item = LibraryItemFactory.create(owner=user, tags=["a"])

    with pytest.raises(Invalid):
        library.change(item.pk, user.pk, {"name": "b", "tags": ["x" * 41]}, by=user.pk)
    with pytest.raises(NotFound):
        library.change(item.pk, None, {"name": "b"}, by=user.pk)

    item.refresh_from_db()
    assert (item.name, item.tags) == (item.name, ["a"])


class TestCleanup:
    """What an item refers to stays, row and bytes."""

    def test_keeps_an_upload_that_an_item_shows(self, user: User, scale: Scale) -> None:
        scale(orphan_hours=0)
        asset = AssetFactory.create(role="input", user=user)
        LibraryItemFactory.create(owner=user, picture=asset)

        cleanup.run(dry_run=False, days=0)

        assert Asset.objects.get() == asset
        assert storage().exists(asset.key)
        assert storage().exists(asset.thumbnail_key)

    def test_keeps_a_generation_whose_result_an_item_shows(self, user: User, scale: Scale, tmp_path: Path) -> None:
        scale(orphan_hours=0)
        shown, gone = completed_generation(user=user), completed_generation(user=user)
        asset = Asset.objects.get(submission__generation=shown)
        LibraryItemFactory.create(owner=UserFactory.create(), picture=asset)

        counted = cleanup.run(dry_run=True, days=0, files=False)
        cleaned = cleanup.run(dry_run=False, days=0)

        assert (counted.generations, counted.kept_generations) == (1, 1)
        assert (cleaned.generations, cleaned.kept_generations) == (1, 1)
        assert [row.pk for row in Generation.objects.all()] == [shown.pk]
        assert gone.pk != shown.pk
        assert storage().exists(asset.key)
