"""System checks: what would never run is found before it is deployed."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from celery import current_app
from django.core.checks import CheckMessage, Error, register

from generations import wakeups


@register()
def sent_tasks_exist(**_: Any) -> list[CheckMessage]:
    """Every task name and argument that is sent is bound to a task's signature (darkroom.E001, E002)."""
    return list(unbound(wakeups.SENT))


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
