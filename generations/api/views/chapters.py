"""Chapters: make, list, look, change, delete; and their scenes."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404
from rest_framework.request import Request
from rest_framework.response import Response

from generations.api import body, query, requests
from generations.api import docs_chapters as docs
from generations.api.answers_chapters import ChapterPage, ScenePage
from generations.api.requests_chapters import ChapterChange, ChapterRequest, SceneRequest
from generations.api.views.base import ApiView, answer, caller, here, plain
from generations.intake import chapters, scenes
from generations.models import Chapter, Scene
from generations.reports import chapters as told
from generations.reports import scenes as looks
from generations.reports.scene_answers import ChapterAnswer, SceneAnswer


class ChapterListView(ApiView):
    """Make one; list those that one may see."""

    query_names = query.PAGING

    @docs.list_chapters
    def get(self, given: Request) -> Response:
        """A page of the caller's chapters and of those shared with him, newest first."""
        http, user = plain(given), caller(given)
        rows = Chapter.objects.accessible_to(user.pk).with_access_of(user.pk).select_related("owner")
        found, links = query.page(http, rows, scope=f"chapters for {user.pk}")
        return answer(ChapterPage.of(results=_told(user.pk, found), **links))

    @docs.create_chapter
    def post(self, given: Request) -> Response:
        """201 with the new chapter."""
        http, user = plain(given), caller(given)
        wanted = requests.read(ChapterRequest, body.json_object(http))
        row = chapters.create(user.pk, wanted.title, wanted.by_name())
        location = http.build_absolute_uri(f"/api/v1/chapters/{row.pk}")
        return answer(_one(user.pk, row), 201, Location=location)


class ChapterView(ApiView):
    """One chapter."""

    @docs.get_chapter
    def get(self, given: Request, chapter_id: UUID) -> Response:
        """As it is."""
        user = caller(given)
        return answer(_one(user.pk, chapters.enter(user.pk, chapter_id)))

    @docs.change_chapter
    def patch(self, given: Request, chapter_id: UUID) -> Response:
        """As it is now."""
        user = caller(given)
        wanted = requests.read(ChapterChange, body.json_object(plain(given)))
        return answer(_one(user.pk, chapters.change(user.pk, chapter_id, wanted.to_intake())))

    @docs.delete_chapter
    def delete(self, given: Request, chapter_id: UUID) -> Response:
        """204: it is gone."""
        chapters.delete(caller(given).pk, chapter_id)
        return Response(status=204)


class SceneListView(ApiView):
    """A chapter's scenes."""

    query_names = query.PAGING

    @docs.list_scenes
    def get(self, given: Request, chapter_id: UUID) -> Response:
        """A page of them, by number, with what each shows."""
        http, user = plain(given), caller(given)
        chapter = chapters.enter(user.pk, chapter_id)
        scope = f"scenes of {chapter.pk} for {user.pk}"
        rows, links = query.page(
            http, Scene.objects.filter(chapter=chapter), scope=scope, by="number", oldest_first=True
        )
        return answer(ScenePage.of(results=looks.scenes(here(given), rows), **links))


class SceneView(ApiView):
    """One scene."""

    @docs.get_scene
    def get(self, given: Request, chapter_id: UUID, scene_number: int) -> Response:
        """What it shows, and what is current."""
        chapter = chapters.enter(caller(given).pk, chapter_id)
        return answer(_scene(given, scene_of(chapter, scene_number)))

    @docs.write_scene
    def put(self, given: Request, chapter_id: UUID, scene_number: int) -> Response:
        """200 with the scene; it is made where it was not there."""
        wanted = requests.read(SceneRequest, body.json_object(plain(given)))
        row = scenes.write(caller(given).pk, chapter_id, scene_number, wanted.description)
        return answer(_scene(given, row))

    @docs.delete_scene
    def delete(self, given: Request, chapter_id: UUID, scene_number: int) -> Response:
        """204: it is gone."""
        scenes.remove(caller(given).pk, chapter_id, scene_number)
        return Response(status=204)


def scene_of(chapter: Chapter, number: int) -> Scene:
    """The scene with this number."""
    # What is no number of a scene is not looked for: the database could not read it.
    row = Scene.objects.filter(chapter=chapter, number=number).first() if number <= scenes.HIGHEST_NUMBER else None
    if row is None:
        raise Http404
    return row


def _scene(given: Request, row: Scene) -> SceneAnswer:
    [one] = looks.scenes(here(given), [row])
    return one


def _one(user_id: int, row: Chapter) -> ChapterAnswer:
    [one] = _told(user_id, [row])
    return one


def _told(user_id: int, rows: list[Chapter]) -> list[ChapterAnswer]:
    access = {row.pk: (chapters.access_of(user_id, row) or chapters.Access.VIEW).name.lower() for row in rows}
    return told.chapters(rows, access)
