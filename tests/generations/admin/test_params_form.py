"""A form drawn from a params model: it"""

from __future__ import annotations

from typing import Any

import pytest
from django.http import QueryDict

from generations.admin.params_form import ParamsForm, initial_of, params_form
from generations.intake.errors import Invalid
from generations.intake.validation import validated_params
from providers import registry

OPERATIONS = [(provider.slug, operation) for provider in registry.all() for operation in provider.operations]
EXTRA: dict[tuple[str, str], dict[str, Any]] = {
    ("pixverse", "fusion"): {"prompt": "@cat runs", "references": [{"name": "cat", "type": "subject"}]},
    ("pixverse", "text_to_video"): {"water_mark": True, "seed": 7, "negative_prompt": "two\nlines"},
    ("modelslab", "text_to_image"): {"guidance_scale": 7.25, "safety_checker": False, "samples": 2},
}


def shown(provider_id: str, operation: str, params: dict[str, Any]) -> ParamsForm:
    """The form as a browser shows it and sends it back, untouched."""
    kind = params_form(registry.get(provider_id).operations[operation])
    page = kind(initial=initial_of(kind, params))
    sent = QueryDict(mutable=True)
    for field in page:
        value = field.value()
        if isinstance(value, bool):
            if value:
                sent[field.name] = "on"
        else:
            sent[field.name] = str(value).replace("\n", "\r\n")
    form = kind(sent)
    form.before = params
    return form


@pytest.mark.parametrize(("provider_id", "operation"), OPERATIONS)
def test_changes_nothing_that_nobody_touched(provider_id: str, operation: str) -> None:
    given = {"prompt": "a lighthouse\nat night", **EXTRA.get((provider_id, operation), {})}
    before = validated_params(provider_id, operation, given).canonical()

    form = shown(provider_id, operation, before)

    assert form.is_valid()
    assert validated_params(provider_id, operation, form.raw()).canonical() == before


@pytest.mark.parametrize(("provider_id", "operation"), OPERATIONS)
def test_has_a_field_with_a_name_for_people_for_each_param(provider_id: str, operation: str) -> None:
    model = registry.get(provider_id).operations[operation]

    form = params_form(model)()

    assert list(form.fields) == list(model.model_fields)
    assert all(field.label for field in form.fields.values())
    assert "<form" not in str(form)


def refused(values: dict[str, str], *, provider_id: str = "pixverse", operation: str = "text_to_video") -> ParamsForm:
    """The form with what is wrong beside its fields."""
    form = params_form(registry.get(provider_id).operations[operation])(values)
    form.before = {}
    assert form.is_valid(), form.errors
    with pytest.raises(Invalid) as error:
        validated_params(provider_id, operation, form.raw())
    form.refuse(error.value)
    return form


def test_says_what_is_wrong_beside_the_field() -> None:
    form = refused({"prompt": "", "duration": "five", "quality": "9000p", "seed": "-1"})

    assert set(form.errors) == {"prompt", "duration", "quality", "seed"}
    assert form.errors["duration"] == ["Input should be a valid integer"]


def test_puts_a_rule_over_several_fields_beside_the_one_to_change() -> None:
    form = refused({"prompt": "x", "model": "v5", "duration": "7", "quality": "540p"})

    assert form.errors["duration"] == ["model v5 makes 5 or 8 seconds"]


def test_takes_no_text_for_json() -> None:
    form = params_form(registry.get("pixverse").operations["fusion"])({"prompt": "x", "references": "{"})

    assert not form.is_valid()
    assert form.errors["references"] == ["This is not JSON."]


@pytest.mark.parametrize("text", ["9" * 5000, "1e999", "nan", "0x10", "١٢", "1_000", "\x00", "--1"])
@pytest.mark.parametrize("name", ["seed", "duration", "prompt", "model", "style"])
def test_survives_whatever_is_typed(name: str, text: str) -> None:
    form = params_form(registry.get("pixverse").operations["text_to_video"])({"prompt": "x", name: text})
    form.before = {}

    if form.is_valid():
        try:
            validated_params("pixverse", "text_to_video", form.raw())
        except Invalid as error:
            form.refuse(error)
            assert form.errors
