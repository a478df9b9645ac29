"""Scenes: asking for a take, choosing one, taking one out, writing what is to be seen.

A second identical request while a take is live is answered with that take, whoever of the chapter sends it: the
Scene's row is locked while this is decided. Locks are taken in the order chapter, scene, generation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction

from accounts import credits
from accounts.credits import PriceList
from generations import scene_table
from generations.execution import settle
from generations.execution.batches import let_go
from generations.intake.chapters import Access, enter, still_there
from generations.intake.errors import Conflict, Forbidden, Invalid, NotFound
from generations.intake.idempotency import Idempotency, KeyTaken, remember, seen
from generations.intake.request import Accepted, Prepared, Request, assemble, replay
from generations.intake.store import store
from generations.intake.validation import validated_params
from generations.lifecycle import LIVE, Operation, Status
from generations.models import Chapter, Event, Generation, Scene
from generations.models.clock import database_now

HIGHEST_NUMBER = 100_000

FIELDS = {
    "params.prompt": "scene_description",
    "params.aspect_ratio": "aspect_ratio",
    "params.model_id": "user_tier",
}
"""Where the params of a scene's request come from, for those who read what is wrong with them."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a picture of a scene shall be like. ``None``: the scene's own description, else the table's first.

    ``aspect_ratio`` None: as the model likes it.
    """

    description: str | None = None
    style: str | None = None
    aspect_ratio: str | None = scene_table.RATIO
    script_id: str | None = None
    user_tier: str | None = None


def ask(
    user_id: int,
    chapter_id: UUID,
    number: int,
    wanted: Wanted,
    *,
    idempotency: Idempotency | None = None,
    actor: str,
) -> Accepted:
    """Ask for a take of a scene, which is made where it is not there yet; whoever asks pays.

    Raises:
        NotFound, Forbidden: as ``enter``; it needs ``GENERATE``.
        Invalid, Conflict, KeyReused, PaymentRequired, CapReached, Unavailable: nothing was changed.
    """
    chapter = enter(user_id, chapter_id, Access.GENERATE)
    if idempotency is not None and (answered := replay(user_id, idempotency)):
        return answered
    try:
        with transaction.atomic():
            scene = _locked(chapter, number)
            prepared = take(user_id, scene, wanted)
            if wanted.description is not None:
                _describe(scene, wanted.description)
            twin = _twin(scene, prepared)
            if twin is None:
                return _new_take(scene, prepared, idempotency, actor)
            if idempotency is not None:
                remember(idempotency, twin, reused=True, now=database_now(), user_id=user_id)
            return Accepted(twin, reused=True)
    except KeyTaken:
        assert idempotency is not None
        return seen(replay(user_id, idempotency))


def request_of(scene: Scene, wanted: Wanted) -> Request:
    """What a take of this scene is, as a request: model by tier, prompt by style.

    Raises:
        Invalid: no description, or a tier or style that is not there.
    """
    description = (scene.description if wanted.description is None else wanted.description).strip()
    if not description:
        raise Invalid("invalid_request", "Say what is to be seen in the scene.", field="scene_description")
    tier = next(iter(scene_table.models())) if wanted.user_tier is None else wanted.user_tier
    model = scene_table.models().get(tier)
    if model is None:
        known = ", ".join(scene_table.models())
        raise Invalid("unknown_tier", f"There is no tier {tier!r}. Known: {known}.", field="user_tier")
    style = scene_table.style_of(wanted.style)
    if style is None:
        known = ", ".join(scene_table.styles())
        raise Invalid("unknown_style", f"There is no style {wanted.style!r}. Known: {known}.", field="style")
    params: dict[str, Any] = {"prompt": scene_table.prompt_of(description, style), "model_id": model}
    if wanted.aspect_ratio is not None:
        params["aspect_ratio"] = wanted.aspect_ratio
    return Request(
        provider_id=scene_table.PROVIDER,
        operation_type=Operation.TEXT_TO_IMAGE,
        params=params,
        reuse="in_flight",
        context={"scene": str(scene.pk), **({"script_id": wanted.script_id} if wanted.script_id else {})},
        metadata={
            "scene_description": description,
            "style": style,
            "aspect_ratio": wanted.aspect_ratio,
            "user_tier": tier,
            "script_id": wanted.script_id,
        },
    )


def take(user_id: int, scene: Scene, wanted: Wanted, prices: PriceList | None = None) -> Prepared:
    """The Generation that a take would become, not saved. One query, and none with ``prices``.

    Raises:
        Invalid: by the fields that a scene's request has.
    """
    request = request_of(scene, wanted)
    try:
        params = validated_params(request.provider_id, request.operation_type, request.params)
    except Invalid as error:
        raise _in_a_scenes_words(error) from error
    what = (request.provider_id, request.operation_type, params.model_name, params.output_count)
    price = credits.price_of(*what) if prices is None else prices.of(*what)
    prepared = assemble(user_id, request, params, (), price=price)
    prepared.generation.scene = scene
    return prepared


def choose(user_id: int, take_id: UUID, *, chosen: bool, actor: str) -> Generation:
    """Show this take as the scene's picture, or (``chosen=False``) the latest completed one again.

    Raises:
        NotFound, Forbidden: as ``enter``; it needs ``GENERATE``.
        Conflict: ``not_completed``: there is no picture to be shown.
    """
    enter(user_id, _scene_of(take_id).chapter_id, Access.GENERATE)
    return show(take_id, chosen=chosen, actor=actor)


def show(take_id: UUID, *, chosen: bool = True, actor: str) -> Generation:
    """As ``choose``, for operators, who need no access.

    Raises:
        NotFound: it is a take of no scene.
        Conflict: as ``choose``.
    """
    scene = _scene_of(take_id)
    with transaction.atomic():
        take = _locked_take(scene, take_id)
        if chosen and take.status != Status.COMPLETED:
            raise Conflict.naming("not_completed", f"It is {take.status}: there is no picture to show.", take_id)
        others = Scene.objects.exclude(chosen=take) if chosen else Scene.objects.filter(chosen=take)
        if others.filter(pk=scene.pk).update(chosen=take if chosen else None):
            _note(take, Event.Kind.CHOSEN, scene, actor, chosen=chosen)
    return take


def leave(user_id: int, take_id: UUID, *, actor: str) -> None:
    """Take a take out of its scene: nobody sees it there any more, and it answers no request of the scene's.

    Nothing is deleted. The picture stays with whoever asked (and paid) for it, as any other Generation's does, in his
    list, with its story and its bytes, until he or ``cleanup`` removes it. Where it was the chosen one, the latest
    completed take is shown again. Whoever asked for it may do so, and the chapter's owner.

    Raises:
        NotFound, Forbidden: as ``enter``; or it is another's, and the chapter too.
        Conflict: ``not_ended``: it is being made.
    """
    scene = _scene_of(take_id)
    chapter = enter(user_id, scene.chapter_id)
    with transaction.atomic():
        take = _locked_take(scene, take_id)
        if user_id not in {take.user_id, chapter.owner_id}:
            raise Forbidden("chapter_access", "Only whoever asked for it may take it out, or the chapter's owner.")
        if take.status in LIVE:
            raise Conflict.naming("not_ended", "It is being made. Cancel it, or wait for its end.", take_id)
        Scene.objects.filter(pk=scene.pk, chosen=take).update(chosen=None)
        Generation.objects.filter(pk=take_id).update(scene=None)
        _note(take, Event.Kind.LEFT_SCENE, scene, actor)


def write(user_id: int, chapter_id: UUID, number: int, description: str) -> Scene:
    """Say what is to be seen in a scene, without asking for a picture; it is made where it is not there yet.

    Raises:
        NotFound, Forbidden: as ``enter``; it needs ``GENERATE``.
        Invalid: the number is too high, or 0.
    """
    chapter = enter(user_id, chapter_id, Access.GENERATE)
    with transaction.atomic():
        scene = _locked(chapter, number)
        _describe(scene, description)
    return scene


def remove(user_id: int, chapter_id: UUID, number: int) -> None:
    """Delete a scene. Its takes go on as Generations of whoever asked for them, and the pictures stay his.

    Raises:
        NotFound, Forbidden: as ``enter``; it needs ``GENERATE``.
    """
    chapter = enter(user_id, chapter_id, Access.GENERATE)
    with transaction.atomic():
        scene = Scene.objects.select_for_update().filter(chapter=chapter, number=number).first()
        if scene is None:
            raise _no_scene(number)
        scene.delete()


def _new_take(scene: Scene, prepared: Prepared, idempotency: Idempotency | None, actor: str) -> Accepted:
    accepted = store(prepared, "in_flight", idempotency=idempotency, actor=actor)
    if accepted.reused:
        # Asked for beside the scene, with its context: it is a take of it from now on.
        Generation.objects.filter(pk=accepted.generation.pk, scene=None).update(scene=scene)
        accepted.generation.scene = scene
    return accepted


def _twin(scene: Scene, prepared: Prepared) -> Generation | None:
    """The live take that the same request was answered with, whoever sent it.

    Somebody asks for it by itself now: a batch that has made it takes it along no more when it is cancelled, and keeps
    it waiting no more when it is paused.
    """
    twin = scene.takes.live().filter(fingerprint=prepared.generation.fingerprint).order_by("pk").first()
    if twin is not None and not twin.standalone:
        twin = settle.lock([twin.pk]).get(twin.pk)
        if twin is None or not twin.is_live:
            return None
        rows = Generation.objects.filter(pk=twin.pk)
        let_go(rows)
        rows.update(standalone=True)
    return twin


def _locked(chapter: Chapter, number: int) -> Scene:
    """The scene, made where it is not there yet, locked against other takes."""
    if not 1 <= number <= HIGHEST_NUMBER:
        raise Invalid("invalid_request", f"Scenes are numbered from 1 to {HIGHEST_NUMBER}.", field="scene_number")
    still_there(chapter)
    rows = Scene.objects.select_for_update(no_key=True).filter(chapter=chapter, number=number)
    scene = rows.first()
    if scene is None:
        Scene.objects.bulk_create([Scene(chapter=chapter, number=number)], ignore_conflicts=True)
        scene = rows.get()
    return scene


def _describe(scene: Scene, description: str) -> None:
    if scene.description != description.strip():
        scene.description = description.strip()
        scene.save(update_fields=["description"])


def _scene_of(take_id: UUID) -> Scene:
    scene = Scene.objects.filter(takes=take_id).first()
    if scene is None:
        raise _no_take()
    return scene


def _locked_take(scene: Scene, take_id: UUID) -> Generation:
    """The take, kept in its scene until the end of the transaction."""
    if Scene.objects.select_for_update(no_key=True).filter(pk=scene.pk).first() is None:
        raise _no_take()
    take = Generation.objects.select_for_update(no_key=True).filter(pk=take_id, scene=scene).first()
    if take is None:
        raise _no_take()
    return take


def _note(take: Generation, kind: Event.Kind, scene: Scene, actor: str, **data: Any) -> None:
    Event.objects.create(generation=take, kind=kind, actor=actor, data={"scene": scene.number, **data})


def _in_a_scenes_words(error: Invalid) -> Invalid:
    errors: list[Mapping[str, str]] = error.extra.get("errors", [])
    told = [{**one, "field": FIELDS.get(one["field"], one["field"])} for one in errors]
    extra = {**error.extra, **({"errors": told} if told else {})}
    return Invalid(error.code, error.detail, field=FIELDS.get(error.field or "", error.field), **extra)


def _no_take() -> NotFound:
    return NotFound("not_found", "There is no such picture of a scene, or its chapter is not shared with you.")


def _no_scene(number: int) -> NotFound:
    return NotFound("not_found", f"There is no scene {number} in this chapter.")
