"""ProviderSetting: what an operator decides about a provider as a whole."""

from __future__ import annotations

from django.db import models


class ProviderSetting(models.Model):
    """Without a row, a provider has the defaults."""

    class OnUnknown(models.TextChoices):
        """What follows when nobody can tell whether a submit arrived."""

        FAIL = "fail", "Never ask again by itself"
        RESUBMIT_ONCE = "resubmit_once", "Ask once more (for providers that bill nobody)"

    provider_id = models.CharField("provider", max_length=40, primary_key=True)
    on_unknown = models.CharField(
        max_length=16,
        choices=OnUnknown,
        default=OnUnknown.FAIL,
        help_text="Asking once more may pay twice where the first call has arrived after all.",
    )

    def __str__(self) -> str:
        return self.provider_id
