from django.apps import AppConfig


class GenerationsConfig(AppConfig):
    """Generations, their Submissions, Assets and Events."""

    name = "generations"
    verbose_name = "Generations"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from generations import checks  # noqa: F401, PLC0415
