"""Chapters and scenes in the console: it"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from generations.lifecycle import Status
from generations.models import Chapter, ChapterMember, Generation, Scene
from generations.signing import content_url
from tests.factories import (
    ChapterFactory,
    GenerationFactory,
    SceneFactory,
    UserFactory,
    completed_generation,
)

CHAPTERS = reverse("admin:generations_chapter_changelist")
SCENES = reverse("admin:generations_scene_changelist")


def page_of(row: Chapter | Scene) -> str:
    return reverse(f"admin:generations_{row._meta.model_name}_change", args=[row.pk])


def thumbnail(take: Generation) -> str:
    return content_url(take.submissions.get().assets.get(), thumbnail=True)


@pytest.fixture
def scene(db: None) -> Scene:
    """A scene with two completed takes and a failed one."""
    scene = SceneFactory.create(chapter__title="The lighthouse", number=1, description="A storm at night")
    for _ in range(2):
        completed_generation(scene=scene, metadata={"style": "comic", "user_tier": "premium"})
    GenerationFactory.create(scene=scene, status=Status.FAILED)
    return scene


def test_shows_a_chapters_scenes_as_pictures(console: Client, scene: Scene) -> None:
    SceneFactory.create(chapter=scene.chapter, number=2, description="The morning after")
    latest = scene.takes.filter(status="completed").latest("pk")

    page = console.get(page_of(scene.chapter)).content.decode()

    assert thumbnail(latest) in page
    assert "no picture yet" in page
    assert "2. The morning after" in page
    assert page_of(scene) in page
    listed = console.get(CHAPTERS).content.decode()
    assert thumbnail(latest) in listed
    assert "The lighthouse" in listed


def test_shows_a_scenes_takes_side_by_side(console: Client, scene: Scene) -> None:
    takes = list(scene.takes.filter(status="completed").order_by("pk"))

    page = console.get(page_of(scene)).content.decode()

    for take in takes:
        assert thumbnail(take) in page
        assert reverse("admin:generations_generation_change", args=[take.pk]) in page
    assert "comic · premium" in page
    assert "The provider ended its job without a result." in page
    assert page.count("Show this one") == 2
    assert thumbnail(takes[1]) in console.get(SCENES).content.decode()
    assert (
        "The lighthouse, scene 1"
        in console.get(reverse("admin:generations_generation_change", args=[takes[0].pk])).content.decode()
    )


def test_chooses_a_take(console: Client, admin: User, scene: Scene) -> None:
    first = scene.takes.filter(status="completed").earliest("pk")
    url = reverse("admin:generations_scene_choose", args=[scene.pk])

    assert console.post(url, {"take": str(first.pk)}).url == page_of(scene)  # type: ignore[attr-defined]

    scene.refresh_from_db()
    assert scene.chosen == first
    assert first.events.get(kind="chosen").actor == f"admin:{admin.pk}"
    assert "Show the latest again" in console.get(page_of(scene)).content.decode()
    console.post(url, {"take": str(first.pk), "latest": "yes"})
    scene.refresh_from_db()
    assert scene.chosen is None


def test_chooses_nothing_that_is_no_picture_of_the_scene(console: Client, scene: Scene) -> None:
    url = reverse("admin:generations_scene_choose", args=[scene.pk])
    failed = scene.takes.get(status="failed")
    for take in (str(completed_generation().pk), "nonsense", "", str(failed.pk)):
        assert console.post(url, {"take": take}).status_code == 302
    scene.refresh_from_db()
    assert scene.chosen is None


def test_lets_only_those_choose_who_may(staff: Callable[..., Client], scene: Scene) -> None:
    viewer = staff("view_scene")
    first = scene.takes.filter(status="completed").earliest("pk")

    assert "Show this one" not in viewer.get(page_of(scene)).content.decode()
    url = reverse("admin:generations_scene_choose", args=[scene.pk])
    assert viewer.post(url, {"take": str(first.pk)}).status_code == 403
    assert staff("view_generation").get(page_of(scene)).status_code == 403


def test_shares_and_renames_a_chapter(console: Client, scene: Scene) -> None:
    friend = UserFactory.create()
    form = {
        "title": "The storm",
        "members-TOTAL_FORMS": "1",
        "members-INITIAL_FORMS": "0",
        "members-0-user": str(friend.pk),
        "members-0-access": "view",
    }

    reply = console.post(page_of(scene.chapter), form)

    assert reply.status_code == 302
    scene.chapter.refresh_from_db()
    assert scene.chapter.title == "The storm"
    assert ChapterMember.objects.get(chapter=scene.chapter).user == friend


def test_makes_and_deletes_a_chapter(console: Client) -> None:
    owner = UserFactory.create()
    management = {"members-TOTAL_FORMS": "0", "members-INITIAL_FORMS": "0"}
    add = reverse("admin:generations_chapter_add")
    assert console.post(add, {"title": "One", "owner": str(owner.pk), **management}).status_code == 302
    chapter = Chapter.objects.get()
    take = completed_generation(scene=SceneFactory.create(chapter=chapter))

    url = reverse("admin:generations_chapter_delete", args=[chapter.pk])
    assert console.post(url, {"post": "yes"}).status_code == 302

    assert not Chapter.objects.exists()
    take.refresh_from_db()
    assert take.scene is None


def test_lists_in_a_number_of_queries_that_does_not_grow(console: Client, scene: Scene) -> None:
    def queries(url: str) -> int:
        with CaptureQueriesContext(connection) as seen:
            assert console.get(url).status_code == 200
        return len(seen)

    urls = (CHAPTERS, SCENES, page_of(scene), page_of(scene.chapter))
    before = [queries(url) for url in urls]
    for number in range(2, 6):
        ChapterFactory.create()
        completed_generation(scene=SceneFactory.create(chapter=scene.chapter, number=number))
        completed_generation(scene=scene)
        completed_generation(scene=SceneFactory.create())

    assert [queries(url) for url in urls] == before


def test_finds_chapters_and_scenes_by_the_title(console: Client, scene: Scene) -> None:
    SceneFactory.create()
    assert list(console.get(CHAPTERS, {"q": "light"}).context["cl"].result_list) == [scene.chapter]
    assert list(console.get(SCENES, {"q": "light"}).context["cl"].result_list) == [scene]
