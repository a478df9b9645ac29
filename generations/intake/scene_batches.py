"""All pictures that a chapter lacks, as one batch."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef

from accounts.credits import PriceList
from generations import scene_table
from generations.conf import limits
from generations.intake import batches
from generations.intake.batch_plan import Planned
from generations.intake.batches import AcceptedBatch
from generations.intake.chapters import Access, enter, still_there
from generations.intake.errors import Conflict, Invalid
from generations.intake.idempotency import Idempotency
from generations.intake.scenes import Wanted, take
from generations.lifecycle import LIVE, Operation, Status
from generations.models import Batch, Chapter, Generation, Scene
from generations.models.bulk import update_rows


def generate_missing(
    user_id: int, chapter_id: UUID, wanted: Wanted, *, idempotency: Idempotency | None = None, actor: str
) -> AcceptedBatch:
    """Ask for a take of every scene that has a description and neither a completed take nor a live one.

    All alike but for their descriptions, accepted in one commit with the whole hold. The scenes are locked meanwhile,
    so that of two who ask at once the second finds nothing missing.

    Raises:
        NotFound, Forbidden: as ``enter``; it needs ``GENERATE``.
        Conflict: ``nothing_missing``.
        Invalid, Conflict, KeyReused, PaymentRequired, CapReached, Unavailable: nothing was changed.
    """
    chapter = enter(user_id, chapter_id, Access.GENERATE)
    if idempotency is not None and (answered := batches.replay(user_id, idempotency)):
        return answered
    batch = Batch(
        user_id=user_id,
        name=f"{chapter.title[:180]}: missing pictures",
        mode=Batch.Mode.SCENES,
        provider_id=scene_table.PROVIDER,
        operation_type=Operation.TEXT_TO_IMAGE,
        params={"style": wanted.style, "aspect_ratio": wanted.aspect_ratio, "user_tier": wanted.user_tier},
        metadata={"chapter": str(chapter.pk), "script_id": wanted.script_id},
    )
    with transaction.atomic():
        still_there(chapter)
        try:
            scenes = _missing(chapter)
        except Conflict:
            # The same call, which was waited for, has asked for them.
            if idempotency is not None and (answered := batches.replay(user_id, idempotency)):
                return answered
            raise
        prices = PriceList.today()
        planned = [_planned(user_id, scene, wanted, prices) for scene in scenes]
        accepted = batches.accept_items(batch, planned, "in_flight", idempotency=idempotency, actor=actor)
        _adopt(accepted.batch, {one.variation_key: scene for one, scene in zip(planned, scenes, strict=True)})
    return accepted


def _planned(user_id: int, scene: Scene, wanted: Wanted, prices: PriceList) -> Planned:
    try:
        return Planned(f"scene-{scene.number}-v0", 0, take(user_id, scene, wanted, prices))
    except Invalid as error:
        detail = f"scene {scene.number}: {error.detail}"
        raise Invalid(error.code, detail, field=error.field, **error.extra) from error


def _missing(chapter: Chapter) -> list[Scene]:
    """The scenes without a picture, locked against other takes, by number."""
    described = Scene.objects.filter(chapter=chapter).exclude(description="")
    # All are locked first: whether one has a take can be seen only when nobody else adds one any more.
    locked = [scene.pk for scene in described.select_for_update(no_key=True).order_by("pk")]
    served = Generation.objects.filter(scene=OuterRef("pk"), status__in=[Status.COMPLETED, *LIVE])
    most = limits().batch_items
    found = list(Scene.objects.filter(~Exists(served), pk__in=locked).order_by("number")[: most + 1])
    if not found:
        raise Conflict(
            "nothing_missing", "Every scene that has a description has a picture, or one is being made for it."
        )
    if len(found) > most:
        raise Invalid("too_many_items", f"More than {most:,} scenes lack a picture, and a batch has at most so many.")
    return found


def _adopt(batch: Batch, scenes: dict[str, Scene]) -> None:
    """What was asked for beside its scene, with its context, is a take of it from now on."""
    apart = batch.items.filter(generation__scene=None).values_list("generation", "variation_key")
    rows = {pk: {"scene_id": scenes[key].pk} for pk, key in apart if key in scenes}
    update_rows(Generation, rows, guard="t.scene_id IS NULL")
