"""CodeOverride: an operator's own answer to "does another attempt follow an error with this code?"."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class CodeOverride(models.Model):
    """Without a row the table of ``generations.execution.verdicts`` holds. Read anew whenever an attempt fails.

    There is none for ``outcome_unknown``: what may have arrived is never sent again by itself.
    """

    code = models.CharField(max_length=40, primary_key=True)
    retryable = models.BooleanField(
        "another attempt follows",
        help_text="Yes: within the usual number of errors. No: the generation fails at once.",
    )
    reason = models.CharField(max_length=300, help_text="Why; people see it.")
    actor = models.CharField(max_length=80, editable=False)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = "rule for an error"  # the words that people see
        verbose_name_plural = "rules for errors"
        constraints = [
            # What may have been billed is never asked for again by a rule.
            models.CheckConstraint(condition=~Q(code="outcome_unknown"), name="code_override_never_unknown")
        ]

    def __str__(self) -> str:
        return f"{self.code}: {'another attempt' if self.retryable else 'fails at once'}"

    @staticmethod
    def in_force() -> dict[str, bool]:
        """Whether another attempt follows, by code; only codes that somebody has decided about."""
        return dict(CodeOverride.objects.values_list("code", "retryable"))
