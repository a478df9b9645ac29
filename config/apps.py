"""The Django app that brings the commands up, demo, test and doctor."""

from __future__ import annotations

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class ConfigConfig(AppConfig):
    """No models: management commands, and the wiring that needs a loaded Django."""

    name = "config"
    verbose_name = "Darkroom"

    def ready(self) -> None:
        """Make our Celery app the current one in every process, and sync its schedule after each migrate."""
        from config import checks  # noqa: F401, PLC0415  need loaded settings
        from config.celery import sync_beat_schedule  # noqa: PLC0415

        # Django tells of a migrate only for apps with models; ours are the rows of this one.
        beat = apps.get_app_config("django_celery_beat")
        post_migrate.connect(sync_beat_schedule, sender=beat, dispatch_uid="sync_beat_schedule")
