"""A form drawn from a params model: its JSON Schema says which fields there are, and the model itself what is wrong."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from generations.intake.errors import Invalid
from providers.params import Params

LONG_TEXT = 200
_YES_NO = [("", "As usual"), ("true", "Yes"), ("false", "No")]


class ParamsForm(forms.Form):
    """One field for each param. Nothing is required here and little is checked: that is the model's matter."""

    kinds: dict[str, str]
    before: dict[str, Any]

    def raw(self) -> dict[str, Any]:
        """The params as they would be given by API; what is left empty is left out, and gets its default."""
        found = {}
        for name, kind in self.kinds.items():
            value = _value(kind, self.cleaned_data[name])
            if isinstance(value, str) and isinstance(old := self.before.get(name), str):
                # A browser sends lines as \r\n; a text that was not touched must stay the same.
                value = old if _lines(old) == value else value
            if value is not None:
                found[name] = value
        return found

    def refuse(self, error: Invalid) -> None:
        """Put what is wrong beside the fields that it is about."""
        for one in error.extra.get("errors") or [{"field": error.field or "", "message": error.detail}]:
            name = one["field"].removeprefix("params.").partition(".")[0]
            self.add_error(name if name in self.fields else None, one["message"])


def params_form(model: type[Params]) -> type[ParamsForm]:
    """The form class for this model."""
    schema = model.model_json_schema()
    fields: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    for name, given in schema["properties"].items():
        part, nullable = _plain(given, schema.get("$defs", {}))
        kinds[name], fields[name] = _field(name, part, given, nullable=nullable)
    return type("ParamsForm", (ParamsForm,), {**fields, "kinds": kinds, "__module__": __name__})


def initial_of(form: type[ParamsForm], params: dict[str, Any]) -> dict[str, Any]:
    """Canonical params as the form shows them."""
    return {name: _shown(kind, params.get(name)) for name, kind in form.kinds.items()}


def _plain(given: dict[str, Any], definitions: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The schema without its "or null", and whether it had one."""
    options = [part for part in given.get("anyOf", [given]) if part.get("type") != "null"]
    part = options[0]
    if "$ref" in part:
        part = definitions[part["$ref"].rpartition("/")[2]]
    return part, len(options) < len(given.get("anyOf", [given]))


def _field(name: str, part: dict[str, Any], given: dict[str, Any], *, nullable: bool) -> tuple[str, forms.Field]:
    facts: dict[str, Any] = {
        "label": given.get("title", name.replace("_", " ").capitalize()),
        "help_text": given.get("description", ""),
        "required": False,
    }
    kind = part.get("type", "json")
    if "enum" in part or "const" in part:
        values = [str(value) for value in part.get("enum", [part.get("const")])]
        choices = [(value, value) for value in values]
        if nullable:
            choices.insert(0, ("", "None"))
        return "choice", forms.CharField(**facts, widget=UnfoldAdminSelectWidget(choices=choices))
    if kind == "boolean" and nullable:
        return "maybe", forms.CharField(**facts, widget=UnfoldAdminSelectWidget(choices=_YES_NO))
    if kind == "boolean":
        return "boolean", forms.BooleanField(**facts, widget=UnfoldBooleanSwitchWidget)
    if kind in {"integer", "number"}:
        step = part.get("multipleOf", 1) if kind == "integer" else "any"
        limits = {"min": part.get("minimum"), "max": part.get("maximum"), "step": step}
        attrs = {attribute: limit for attribute, limit in limits.items() if limit is not None}
        return kind, forms.CharField(**facts, widget=UnfoldAdminIntegerFieldWidget(attrs=attrs))
    if kind == "string" and part.get("maxLength", 0) <= LONG_TEXT:
        return "text", forms.CharField(**facts, strip=False, widget=UnfoldAdminTextInputWidget)
    if kind == "string":
        return "text", forms.CharField(**facts, strip=False, widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}))
    facts["help_text"] = f"{facts['help_text']} As JSON."
    return "json", _Json(**facts, widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}))


class _Json(forms.CharField):
    """What is no single value."""

    def clean(self, value: Any) -> Any:
        """The parsed text; None for an empty one."""
        text = super().clean(value)
        if not text.strip():
            return None
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError("This is not JSON.") from error


def _value(kind: str, given: Any) -> Any:
    """What was typed, as the model wants it; None: left empty. What is no number stays a text, and is refused so."""
    if kind in {"boolean", "json"}:
        return given
    if given == "":
        return None
    if kind == "maybe":
        return {"true": True, "false": False}.get(given, given)
    if kind in {"integer", "number"}:
        for number in (int, float):
            try:
                return number(given)
            except ValueError:
                continue
        return given
    return _lines(given)


def _shown(kind: str, value: Any) -> Any:
    if kind == "boolean":
        return bool(value)
    if value is None:
        return ""
    if kind == "maybe":
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if kind == "json" else str(value)


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n")
