"""Switch: an operator's hand on the whole house, read from the database at every decision."""

from __future__ import annotations

from collections.abc import Iterable

import uuid_utils.compat as uuid
from django.db import models
from django.db.models.functions import Now

INTAKE = "intake"
DISPATCH = "dispatch"
OF_PROVIDER = "dispatch:provider:"
OF_OPERATION = "dispatch:operation:"


class SwitchQuerySet(models.QuerySet["Switch"]):
    def pauses(self) -> SwitchQuerySet:
        """Those that keep something from being sent."""
        return self.filter(key__startswith=DISPATCH)


class Switch(models.Model):
    """A row that exists is on. Turned by ``generations.intake.switches`` alone, which keeps the history.

    ``key`` is ``intake`` (nothing new is accepted), ``dispatch`` (nothing is sent), ``dispatch:provider:<slug>`` or
    ``dispatch:operation:<operation_type>``.
    """

    key = models.CharField(max_length=80, primary_key=True)
    reason = models.CharField(max_length=300, help_text="Why; people see it.")
    actor = models.CharField(max_length=80)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = SwitchQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "switches"

    def __str__(self) -> str:
        return self.key


class SwitchChange(models.Model):
    """A Switch was turned on or off: who, when and why. Never changed."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    key = models.CharField(max_length=80)
    turned_on = models.BooleanField()
    reason = models.CharField(max_length=300)
    actor = models.CharField(max_length=80)
    at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return f"{self.key} {'on' if self.turned_on else 'off'}"


class Pauses:
    """Which of the switches that are on keep something from being sent."""

    def __init__(self, switches: Iterable[Switch]) -> None:
        self._on = {switch.key: switch for switch in switches}

    def of_provider(self, provider_id: str) -> Switch | None:
        """What pauses all of a provider's work; the widest first."""
        return self._on.get(DISPATCH) or self._on.get(f"{OF_PROVIDER}{provider_id}")

    def of(self, provider_id: str, operation_type: str) -> Switch | None:
        """What pauses this operation at this provider; the widest first."""
        return self.of_provider(provider_id) or self._on.get(f"{OF_OPERATION}{operation_type}")

    @property
    def operations(self) -> list[str]:
        """The operations that are paused at every provider."""
        return [key.removeprefix(OF_OPERATION) for key in self._on if key.startswith(OF_OPERATION)]
