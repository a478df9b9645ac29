"""The switches in words: what each stops, and which are on, since when, by whom and why."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from django.contrib.auth.models import User
from django.db.models import Case, F, Func, IntegerField, OuterRef, QuerySet, Subquery, TextField, Value, When
from django.db.models.functions import Cast

from generations.lifecycle import Operation
from generations.models import Switch, SwitchChange
from generations.models.switch import DISPATCH, INTAKE, OF_OPERATION, OF_PROVIDER
from generations.reports.sentences import provider_title
from providers import registry

PERSON = r"^(admin|user):[0-9]{1,9}$"
COMMAND = re.compile(r"command:(?P<name>\w+)/(?P<who>.+)")


@dataclass(frozen=True, slots=True)
class SwitchTold:
    """A switch as people see it. ``since`` None: it is off, and nobody's."""

    key: str
    title: str
    effect: str
    """What it does while it is on, as a sentence."""
    reason: str = ""
    actor: str = ""
    who: str = ""
    """The actor's name for people."""
    since: datetime | None = None

    @property
    def on(self) -> bool:
        """Whether it is on."""
        return self.since is not None

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "key": self.key,
            "title": self.title,
            "on": self.on,
            "effect": self.effect,
            "reason": self.reason or None,
            "actor": self.actor or None,
            "who": self.who or None,
            "since": self.since.isoformat().replace("+00:00", "Z") if self.since else None,
        }


def known() -> list[str]:
    """The keys of all switches that there are, the widest first."""
    return [
        INTAKE,
        DISPATCH,
        *(f"{OF_PROVIDER}{provider.slug}" for provider in registry.all()),
        *(f"{OF_OPERATION}{operation}" for operation in Operation.values),
    ]


def told(switch: Switch | None, key: str = "") -> SwitchTold:
    """A switch in words; without a row, the one of this key, which is off. Asks nothing (see ``with_names``)."""
    if switch is None:
        return SwitchTold(key, *_words(key))
    return SwitchTold(
        switch.key,
        *_words(switch.key),
        reason=switch.reason,
        actor=switch.actor,
        who=who(switch),
        since=switch.created_at,
    )


def turned_on() -> list[SwitchTold]:
    """Those that are on, the widest first. One query."""
    on = [told(switch) for switch in with_names(Switch.objects.all())]
    return sorted(on, key=lambda one: (one.key != INTAKE, one.key != DISPATCH, one.key))


def everyone() -> list[SwitchTold]:
    """Every switch that there is, and those that are on although their provider is gone. One query."""
    on = {one.key: one for one in turned_on()}
    return [on.pop(key) if key in on else told(None, key) for key in known()] + list(on.values())


def history() -> QuerySet[SwitchChange]:
    """Every turn of every switch, newest first, with names."""
    return with_names(SwitchChange.objects.order_by("-pk"))


def with_names(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Rows that have an ``actor``, with that person's ``username`` (None: no person, or one who is gone)."""
    number = Cast(
        Func(F("actor"), Value(":"), Value(2), function="split_part", output_field=TextField()), IntegerField()
    )
    person = User.objects.filter(pk=OuterRef("person_id")).values("username")[:1]
    rows = rows.annotate(person_id=Case(When(actor__regex=PERSON, then=number)))
    return cast("QuerySet[Any]", rows.annotate(username=Subquery(person)))


def who(row: Switch | SwitchChange) -> str:
    """The name of whoever did it: a user's, or of whom a command was run by."""
    if username := getattr(row, "username", None):
        return str(username)
    command = COMMAND.fullmatch(row.actor)
    return f"{command['who']} (manage.py {command['name']})" if command else row.actor


def _words(key: str) -> tuple[str, str]:
    """Title and effect."""
    if key == INTAKE:
        return "Intake", "Nothing new is accepted; what was accepted before goes on."
    if key.startswith(OF_PROVIDER):
        name = provider_title(key.removeprefix(OF_PROVIDER))
        return f"Dispatch to {name}", f"Nothing is sent to {name}; what is there already is followed to its end."
    if key.startswith(OF_OPERATION):
        operation = key.removeprefix(OF_OPERATION)
        name = Operation(operation).label if operation in Operation.values else operation
        return f"Dispatch of {name}", f"Nothing of “{name}” is sent to any provider; what runs is followed to its end."
    return "Dispatch", "Nothing is sent to any provider; what is there already is followed to its end."
