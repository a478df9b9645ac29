"""The Django app that brings the commands up, demo, test and doctor."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class ConfigConfig(AppConfig):
    """No models: management commands, and the wiring that needs a loaded Django."""

    name = "config"
    verbose_name = "Darkroom"

    def ready(self) -> None:
        """Make our Celery app the current one in every process, and sync its schedule after each migrate."""
        from config.celery import sync_beat_schedule  # noqa: PLC0415  needs loaded settings

        post_migrate.connect(sync_beat_schedule, sender=self, dispatch_uid="sync_beat_schedule")
