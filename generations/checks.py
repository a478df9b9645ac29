"""System checks: what would never run is found before it is deployed."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from celery import current_app
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured
from pydantic import ValidationError

from generations import scene_table, wakeups
from providers import registry


@register()
def sent_tasks_exist(**_: Any) -> list[CheckMessage]:
    """Every task name and argument that is sent is bound to a task's signature (darkroom.E001, E002)."""
    return list(unbound(wakeups.SENT))


@register()
def scene_tables_work(**_: Any) -> list[CheckMessage]:
    """Every tier's model takes what a scene is asked for with, and every style is a template (darkroom.E003)."""
    hint = "Correct DARKROOM_SCENE_MODELS or DARKROOM_SCENE_STYLES; docs/chapters-and-scenes.md tells their form."
    model = registry.get(scene_table.PROVIDER).operations["text_to_image"]
    try:
        scene_table.styles()
        for tier, name in scene_table.models().items():
            try:
                model.model_validate({"prompt": "a lake", "model_id": name, "aspect_ratio": scene_table.RATIO})
            except ValidationError as error:
                raise ImproperlyConfigured(f"The model {name!r} of the tier {tier!r} is of no use: {error}") from error
    except ImproperlyConfigured as error:
        return [Error(str(error), hint=hint, id="darkroom.E003")]
    return []


def unbound(sent: Mapping[str, Iterable[str]]) -> Iterable[CheckMessage]:
    """The names and arguments of ``sent`` that no registered task would take."""
    from generations import tasks  # noqa: F401, PLC0415  registers them; needs loaded models

    for name, arguments in sent.items():
        task = current_app.tasks.get(name)
        if task is None:
            yield Error(
                f"The task {name!r} is sent, but no such task exists.",
                hint="Correct the name in generations/wakeups.py, or write the task in generations/tasks.py.",
                id="darkroom.E001",
            )
            continue
        parameters = inspect.signature(task.run).parameters.values()
        # A task takes **kwargs for rolling deploys, so binding alone would let a wrong name pass.
        named = {one.name for one in parameters if one.kind is not one.VAR_KEYWORD}
        required = {one.name for one in parameters if one.name in named and one.default is one.empty}
        if not required <= set(arguments) <= named:
            yield Error(
                f"The task {name!r} is sent with {sorted(arguments)}, and it takes {sorted(named)}.",
                hint="Make the arguments in generations/wakeups.py and the signature in generations/tasks.py agree.",
                id="darkroom.E002",
            )
