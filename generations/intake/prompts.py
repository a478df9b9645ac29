"""Prompts: a text is found or becomes the next version of its family; a version is filled in with variables."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Max

from generations.intake.errors import Invalid
from generations.models import Prompt, PromptVersion
from generations.templating import MissingVariables, render, variables

LONGEST_TEXT = 10_000
LONGEST_NAME = 120
NAMED_BY = 60
"""So many of a text's first characters are the name of a family that was given none."""


@dataclass(frozen=True, slots=True)
class Found:
    """A version, with its family, and whether it was made just now."""

    version: PromptVersion
    created: bool


def find_or_create(user_id: int, text: str, *, name: str = "") -> Found:
    """The version that a text is, in the family of this name; of two at once one makes it, and both get it.

    Without a name: the version that it is in whichever family of the user's (the oldest); where there is none, a
    family is named by the text's beginning.

    Raises:
        Invalid: the text or the name is blank or too long.
    """
    _check(text, name)
    digest = hashlib.sha256(text.encode()).hexdigest()
    known = PromptVersion.objects.filter(prompt__user_id=user_id, text_sha256=digest).select_related("prompt")
    name = name.strip()
    if name:
        known = known.filter(prompt__name=name)
    if (version := known.order_by("pk").first()) is not None:
        return Found(version, created=False)
    with transaction.atomic():
        prompt = _locked_family(user_id, name or " ".join(text.split())[:NAMED_BY].strip())
        # Whoever held the lock before may have made it.
        version = prompt.versions.select_related("prompt").filter(text_sha256=digest).first()
        if version is not None:
            return Found(version, created=False)
        last = prompt.versions.aggregate(last=Max("number"))["last"] or 0
        return Found(prompt.versions.create(number=last + 1, text=text, text_sha256=digest), created=True)


def filled_in(version: PromptVersion, values: Mapping[str, str]) -> str:
    """The version's text with its variables filled in.

    Raises:
        Invalid: ``missing_variables`` or ``unknown_variables``; ``extra["variables"]`` names them.
    """
    known = variables(version.text)
    if unknown := [name for name in values if name not in known]:
        has = f"It has {_listed(known)}." if known else "It has none."
        raise _wrong("unknown_variables", f"The prompt has no variable {_listed(unknown)}. {has}", unknown)
    try:
        return render(version.text, values)
    except MissingVariables as error:
        detail = f"The prompt needs a text for {_listed(error.names)}: send them as variables."
        raise _wrong("missing_variables", detail, error.names) from None


def _check(text: str, name: str) -> None:
    if not text.strip() or len(text) > LONGEST_TEXT:
        raise Invalid("invalid_text", f"A prompt has 1 to {LONGEST_TEXT} characters, not only blanks.", field="text")
    if len(name.strip()) > LONGEST_NAME:
        raise Invalid("invalid_name", f"A name has at most {LONGEST_NAME} characters.", field="name")


def _locked_family(user_id: int, name: str) -> Prompt:
    """The family, made where there is none, locked: whoever else adds to it waits."""
    Prompt.objects.bulk_create([Prompt(user_id=user_id, name=name)], ignore_conflicts=True)
    return Prompt.objects.of_user(user_id).select_for_update(no_key=True).get(name=name)


def _listed(names: list[str]) -> str:
    return ", ".join(f"{{{name[:40]}}}" for name in names[:20])


def _wrong(code: str, detail: str, names: list[str]) -> Invalid:
    verb = "is missing" if code == "missing_variables" else "is no variable of the prompt"
    errors = [{"field": f"variables.{name[:40]}", "message": f"{name[:40]} {verb}"} for name in names[:20]]
    return Invalid(code, detail, field="variables", errors=errors, variables=[name[:40] for name in names[:20]])
