"""What makes two requests the same request."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from generations.fingerprint import fingerprint
from generations.intake.validation import validated_params

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
REQUEST: dict[str, Any] = {
    "provider_id": "pixverse",
    "operation_type": "text_to_video",
    "params": {"prompt": "a lighthouse", "duration": 5},
    "inputs": [],
    "account": None,
    "context": None,
}


def of(**changes: Any) -> str:
    return fingerprint(**{**REQUEST, **changes})


def of_raw(raw: dict[str, Any], provider: str = "modelslab", operation: str = "text_to_image") -> str:
    """The fingerprint of params as they were given."""
    params = validated_params(provider, operation, raw).canonical()
    return of(provider_id=provider, operation_type=operation, params=params)


def turned(value: Any) -> Any:
    """The same JSON with the keys of every object the other way round."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    return [turned(item) for item in value] if isinstance(value, list) else value


def test_is_a_sha256() -> None:
    assert len(of()) == 64
    assert int(of(), 16)


def test_is_the_same_in_every_process() -> None:
    # A value that changed would let a stored answer no longer answer its request.
    text = (
        '{"account":null,"context":null,"inputs":[],"operation":"text_to_video",'
        '"params":{"duration":5,"prompt":"a lighthouse"},"provider":"pixverse"}'
    )
    assert of() == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"provider_id": "modelslab"},
        {"operation_type": "image_to_video"},
        {"params": {"prompt": "a lighthouse", "duration": 8}},
        {"params": {"prompt": "A lighthouse", "duration": 5}},
        {"params": {"prompt": "a lighthouse", "duration": "5"}},
        {"params": {"prompt": "a lighthouse", "duration": 5, "seed": None}},
        {"inputs": [("image", "aa")]},
        {"account": str(uuid4())},
        {"context": {}},
        {"context": 0},
        {"context": ""},
        {"context": False},
        {"context": "scene-12"},
    ],
)
def test_differs_where_the_request_differs(change: dict[str, Any]) -> None:
    assert of(**change) != of()


@given(context=JSON)
def test_ignores_the_order_of_keys(context: Any) -> None:
    assert of(context=turned(context), params={"x": turned(context)}) == of(context=context, params={"x": context})


@given(context=JSON)
def test_is_the_same_after_a_journey_through_json(context: Any) -> None:
    assert of(context=json.loads(json.dumps(context))) == of(context=context)


@given(one=JSON, other=JSON)
def test_differs_for_every_other_context(one: Any, other: Any) -> None:
    def plain(value: Any) -> str:
        """JSON text in which 1 and 1.0, but not 1 and true, are the same."""
        if isinstance(value, dict):
            return "{" + ",".join(f"{json.dumps(key)}:{plain(value[key])}" for key in sorted(value)) + "}"
        if isinstance(value, list):
            return "[" + ",".join(map(plain, value)) + "]"
        return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)

    assume(plain(one) != plain(other))
    assert of(context=one) != of(context=other)


@pytest.mark.parametrize(
    ("one", "other"), [(1, 1.0), (0, -0.0), (7, 7.0), (10**15, 1e15), ([1, {"a": 2}], [1.0, {"a": 2.0}])]
)
def test_takes_whole_numbers_for_one(one: Any, other: Any) -> None:
    assert of(context=one) == of(context=other)
    assert of(params={"x": one}) == of(params={"x": other})


@pytest.mark.parametrize(
    ("one", "other"), [(1, True), (0, False), (1, "1"), (1, 1.5), (None, "null"), ([1], 1), ([], {})]
)
def test_tells_kinds_apart(one: Any, other: Any) -> None:
    assert of(context=one) != of(context=other)


def test_minds_the_order_and_roles_of_inputs() -> None:
    prints = {
        of(inputs=[("first_frame", "aa"), ("last_frame", "bb")]),
        of(inputs=[("first_frame", "bb"), ("last_frame", "aa")]),
        of(inputs=[("last_frame", "bb"), ("first_frame", "aa")]),
        of(inputs=[("first_frame", "aa")]),
        of(inputs=[("first_frame", "aabb")]),
    }

    assert len(prints) == 5


class TestOfParams:
    """From params as people give them."""

    def test_takes_a_default_left_out_and_one_given_for_the_same(self) -> None:
        assert of_raw({"prompt": "a fox"}) == of_raw(
            {"prompt": "a fox", "model_id": "flux", "width": 512, "height": 512, "samples": 1, "guidance_scale": 7.5}
        )
        assert of_raw({"prompt": "a fox"}, "pixverse", "text_to_video") == of_raw(
            {"aspect_ratio": "16:9", "seed": None, "duration": 5, "prompt": "a fox", "model": "v5"},
            "pixverse",
            "text_to_video",
        )

    def test_takes_one_text_in_two_forms_of_unicode_for_the_same(self) -> None:
        text = "Gemälde eines Cafés, 가"
        composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))

        assert composed != decomposed
        assert of_raw({"prompt": composed}) == of_raw({"prompt": decomposed})

    def test_takes_whole_numbers_for_one(self) -> None:
        assert of_raw({"prompt": "a fox", "width": 768, "guidance_scale": 7}) == of_raw(
            {"prompt": "a fox", "width": 768.0, "guidance_scale": 7.0}
        )

    def test_ignores_spaces_around_a_prompt(self) -> None:
        assert of_raw({"prompt": "  a fox\n"}) == of_raw({"prompt": "a fox"})

    @pytest.mark.parametrize(
        "change",
        [{"prompt": "a Fox"}, {"seed": 0}, {"seed": 1}, {"width": 520}, {"samples": 2}, {"safety_checker": False}],
    )
    def test_differs_where_the_result_may_differ(self, change: dict[str, Any]) -> None:
        assert of_raw({"prompt": "a fox", **change}) != of_raw({"prompt": "a fox"})
