"""Takes of scenes: ask, list, look, choose, take out."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404
from rest_framework.request import Request
from rest_framework.response import Response

from generations.api import body, query, requests
from generations.api import docs_chapters as docs
from generations.api.answers_chapters import SceneImagePage, SceneQueuedAnswer
from generations.api.requests_chapters import ChooseRequest, MissingRequest, SceneImageRequest
from generations.api.views.base import ApiView, actor, answer, caller, here, plain
from generations.api.views.batches import told_batches
from generations.api.views.chapters import scene_of
from generations.intake import chapters, scene_batches, scenes
from generations.intake.request import Accepted
from generations.models import Chapter, Generation
from generations.reports.eta import eta_of
from generations.reports.scene_answers import SceneImageAnswer
from generations.reports.scenes import images, takes

ROUGH_GUESS = 30
"""Seconds that a picture is told to take where we have no history."""


class ChapterImageListView(ApiView):
    """All takes of a chapter."""

    query_names = query.PAGING

    @docs.list_images
    def get(self, given: Request, chapter_id: UUID) -> Response:
        """A page of them, latest first."""
        http, user = plain(given), caller(given)
        chapter = chapters.enter(user.pk, chapter_id)
        rows = takes().filter(scene__chapter=chapter)
        found, links = query.page(http, rows, scope=f"takes of {chapter.pk} for {user.pk}")
        return answer(SceneImagePage.of(results=images(here(given), found), **links))


class GenerateMissingView(ApiView):
    """The pictures that a chapter lacks."""

    @docs.generate_missing
    def post(self, given: Request, chapter_id: UUID) -> Response:
        """202 with the batch of them."""
        http = plain(given)
        sent = body.json_object(http, optional=True)
        wanted = requests.read(MissingRequest, sent)
        accepted = scene_batches.generate_missing(
            caller(given).pk,
            chapter_id,
            wanted.to_intake(),
            idempotency=requests.idempotency(http, {"chapter": str(chapter_id), "missing": sent}),
            actor=actor(given),
        )
        (told,) = told_batches(given, [accepted.batch])
        headers = {"Idempotent-Replayed": "true"} if accepted.replayed else {}
        return answer(told, 202, Location=told.links.self, **headers)


class SceneTakesView(ApiView):
    """The takes of a scene."""

    query_names = query.PAGING

    @docs.list_takes
    def get(self, given: Request, chapter_id: UUID, scene_number: int) -> Response:
        """A page of them, latest first."""
        http, user = plain(given), caller(given)
        scene = scene_of(chapters.enter(user.pk, chapter_id), scene_number)
        rows = takes().filter(scene=scene)
        found, links = query.page(http, rows, scope=f"takes of {scene.pk} for {user.pk}")
        return answer(SceneImagePage.of(results=images(here(given), found), **links))

    @docs.create_take
    def post(self, given: Request, chapter_id: UUID, scene_number: int) -> Response:
        """202 at once, with the record to follow; the same one where the same picture is being made already."""
        http = plain(given)
        sent = body.json_object(http)
        wanted = requests.read(SceneImageRequest, sent)
        accepted = scenes.ask(
            caller(given).pk,
            chapter_id,
            scene_number,
            wanted.to_intake(),
            # With the scene: the same body for another one is another request.
            idempotency=requests.idempotency(http, {"chapter": str(chapter_id), "scene": scene_number, "body": sent}),
            actor=actor(given),
        )
        headers = {"Idempotent-Replayed": "true"} if accepted.replayed else {}
        location = http.build_absolute_uri(f"/api/v1/scene-images/{accepted.generation.pk}")
        return answer(_queued(accepted, scene_number), 202, Location=location, **headers)


class SceneStatusView(ApiView):
    """How far a scene is."""

    @docs.get_status
    def get(self, given: Request, chapter_id: UUID, scene_number: int) -> Response:
        """The take that is current: the latest."""
        scene = scene_of(chapters.enter(caller(given).pk, chapter_id), scene_number)
        return answer(_one(given, takes().filter(scene=scene).order_by("-pk").first()))


class SceneImageView(ApiView):
    """One take."""

    @docs.get_image
    def get(self, given: Request, record_id: UUID) -> Response:
        """How far it is."""
        return answer(_take(given, record_id))

    @docs.leave_image
    def delete(self, given: Request, record_id: UUID) -> Response:
        """204: it is no take of its scene any more."""
        scenes.leave(caller(given).pk, record_id, actor=actor(given))
        return Response(status=204)


class ChooseView(ApiView):
    """The picture that a scene shows."""

    @docs.choose_image
    def post(self, given: Request, record_id: UUID) -> Response:
        """200 with the take."""
        wanted = requests.read(ChooseRequest, body.json_object(plain(given), optional=True))
        scenes.choose(caller(given).pk, record_id, chosen=wanted.chosen, actor=actor(given))
        return answer(_take(given, record_id))


def _take(given: Request, record_id: UUID) -> SceneImageAnswer:
    """A take of a chapter to which the caller has access."""
    seen = Chapter.objects.accessible_to(caller(given).pk)
    return _one(given, takes().filter(pk=record_id, scene__chapter__in=seen).first())


def _one(given: Request, row: Generation | None) -> SceneImageAnswer:
    if row is None:
        raise Http404
    [told] = images(here(given), [row])
    return told


def _queued(accepted: Accepted, scene_number: int) -> SceneQueuedAnswer:
    row = accepted.generation
    eta = eta_of(row)
    return SceneQueuedAnswer.of(
        task_id=row.pk,
        status="queued",
        message=(
            "The same picture is being made already; this is its record."
            if accepted.reused
            else f"The picture of scene {scene_number} is queued and will be made in the background."
        ),
        estimated_time_seconds=ROUGH_GUESS if eta is None else round(eta),
        record_id=row.pk,
        scene_number=scene_number,
        retry_count=row.retry_count,
        reused=accepted.reused,
    )
