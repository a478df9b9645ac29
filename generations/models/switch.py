"""Switch: an operator's hand on the whole house, read from the database at every decision."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class Switch(models.Model):
    """A row that exists is on.

    ``key`` is ``intake`` (nothing new is accepted), ``dispatch`` (nothing is sent), ``dispatch:provider:<slug>`` or
    ``dispatch:operation:<operation_type>``.
    """

    key = models.CharField(max_length=80, primary_key=True)
    reason = models.CharField(max_length=300, help_text="Why; people see it.")
    actor = models.CharField(max_length=80)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return self.key
