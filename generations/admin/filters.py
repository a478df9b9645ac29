"""The filters of the list of Generations, each served by an index."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.models import Account
from generations.lifecycle import Operation, Status
from generations.models import Generation, Submission
from providers import registry

if TYPE_CHECKING:
    Dropdown = admin.SimpleListFilter
    RangeDateTime = admin.FieldListFilter
else:
    from unfold.contrib.filters.admin import DropdownFilter as Dropdown
    from unfold.contrib.filters.admin import RangeDateTimeFilter as RangeDateTime

CLOCK_SLACK = timedelta(minutes=2)
"""An id carries its web process's clock, ``created_at`` the database's."""
PROMPT_WINDOW = 5000
"""Prompts have no index: they are looked for in this many of the newest rows that the filters leave."""
_HEX = re.compile(r"[0-9a-f-]{6,36}\Z", re.IGNORECASE)


class StatusFilter(Dropdown):
    """By status, or by the two that people think of: under way, ended badly."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """All statuses, and "live"."""
        return [("live", "Under way (pending or processing)"), *Status.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Generation]) -> QuerySet[Generation]:
        """By the index on (status, -id)."""
        value = self.value()
        if value == "live":
            return queryset.filter(status__in=[Status.PENDING, Status.PROCESSING])
        return queryset.filter(status=value) if value in Status.values else queryset


class StateFilter(Dropdown):
    """By the index on the state, of a model that has a ``State``."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """All."""
        choices: list[tuple[str, str]] = model_admin.model.State.choices
        return choices

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """One of them, or nothing for what is none."""
        return queryset if self.value() is None else queryset.filter(state=self.value())


class ProviderFilter(Dropdown):
    """By provider."""

    title = "provider"
    parameter_name = "provider"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Those of the registry."""
        return [(provider.slug, provider.title) for provider in registry.all()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Generation]) -> QuerySet[Generation]:
        """By the index on (provider, -id)."""
        return queryset.filter(provider_id=self.value()) if self.value() else queryset


class OperationFilter(Dropdown):
    """By operation."""

    title = "operation"
    parameter_name = "operation"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """All operations."""
        return list(Operation.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Generation]) -> QuerySet[Generation]:
        """Read along the newest first: a page is soon full, except for an operation that is hardly ever used."""
        return queryset.filter(operation_type=self.value()) if self.value() else queryset


class CreatedFilter(RangeDateTime):
    """By time of acceptance. The ids are ordered by time, so their index finds the range."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The exact range of ``created_at``, within a slightly wider one of ids."""
        first, last = (self._moment(end) for end in ("from", "to"))
        if first:
            queryset = queryset.filter(created_at__gte=first, pk__gte=id_at(first - CLOCK_SLACK))
        if last:
            queryset = queryset.filter(created_at__lte=last, pk__lte=id_at(last + CLOCK_SLACK, last=True))
        return queryset

    def _moment(self, end: str) -> datetime | None:
        """The given day and time in UTC; None where there is none, or nonsense."""
        day, time = (self.used_parameters.get(f"{self.field_path}_{end}_{part}") for part in (0, 1))
        try:
            return datetime.fromisoformat(f"{day}T{time or '00:00:00'}+00:00")
        except ValueError:
            return None


def id_at(moment: datetime, *, last: bool = False) -> UUID:
    """The lowest (or highest) UUIDv7 of a millisecond."""
    stamp = max(0, int(moment.timestamp() * 1000)).to_bytes(6, "big")
    return UUID(bytes=stamp + (b"\xff" if last else b"\x00") * 10)


def search(queryset: QuerySet[Generation], term: str) -> QuerySet[Generation]:
    """Find by (the beginning of) an id, by the provider's job id, else by words of the prompt.

    The first two are index look-ups; the prompt is looked for in the newest ``PROMPT_WINDOW`` only.
    """
    term = term.strip()
    if _HEX.match(term):
        digits = term.replace("-", "")[:32].lower()
        by_id = queryset.filter(
            pk__gte=UUID(hex=digits.ljust(32, "0")),
            pk__lte=UUID(hex=digits.ljust(32, "f")),
        )
        if by_id.exists():
            return by_id
    # The unique index is on (account, job id): all accounts make it usable.
    attempts = Submission.objects.filter(account__in=Account.objects.values("pk"), provider_job_id=term)
    of_job = list(attempts.values_list("generation", flat=True)[:100])
    if of_job:
        return queryset.filter(pk__in=of_job)
    newest = queryset.order_by("-pk").values("pk")[:PROMPT_WINDOW]
    return queryset.filter(pk__in=newest, params__prompt__icontains=term)
