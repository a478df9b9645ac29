"""System checks about how the house is put together."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, register

from config.celery import BEAT
from generations.checks import unbound


@register()
def scheduled_tasks_exist(**_: Any) -> list[CheckMessage]:
    """Every task of the beat schedule exists and runs without arguments (darkroom.E001, E002)."""
    return list(unbound({task: () for task, _ in BEAT.values()}))
