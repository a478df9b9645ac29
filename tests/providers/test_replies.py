"""Reading replies ..."""

from __future__ import annotations

from decimal import Decimal

import pytest

from providers import registry, replies
from providers.base import JobHandle, Provider, Reply
from providers.errors import Unsupported
from tests.providers.conformance import drive, fresh_id, reply

NOW = "Tue, 15 Nov 1994 08:12:31 GMT"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("5", 5),
        (" 5.5 ", 5.5),
        ("1e9", 1e9),
        ("1000000000", 1e9),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        ("Tue, 15 Nov 1994 08:13:31 GMT", 60),
        ("Tue, 15 Nov 1994 08:11:31 GMT", 0),
        ("Tue, 99 Nov 1994 08:11:31 GMT", None),
    ],
)
def test_reads_retry_after_in_every_form(text: str, seconds: float | None) -> None:
    assert replies.retry_after({"retry-after": text, "date": NOW}) == seconds


def test_does_not_guess_a_date_without_a_clock() -> None:
    assert replies.retry_after({"retry-after": "Tue, 15 Nov 1994 08:13:31 GMT"}) is None
    assert replies.retry_after({}) is None


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        (45, Decimal(45)),
        (43.6, Decimal("43.6")),
        ("43.60", Decimal("43.60")),
        (True, None),
        (-1, None),
        (float("nan"), None),
        (float("inf"), None),
        ("Infinity", None),
        ("x", None),
        (None, None),
        ([], None),
        (10**20, None),
        (0, Decimal(0)),
    ],
)
def test_reads_money(value: object, amount: Decimal | None) -> None:
    assert replies.money(value) == amount


@pytest.mark.parametrize(
    ("value", "number", "word"),
    [
        (5, "5", "5"),
        ("5", "5", "5"),
        ("007", "7", "007"),
        (2**63 - 1, str(2**63 - 1), str(2**63 - 1)),
        (2**63, None, None),
        (0, None, None),
        (-5, None, None),
        (True, None, None),
        ("abc", None, "abc"),
        ("²", None, None),
        ("a/b", None, None),
        ("a\n", None, None),
        ("x" * 65, None, None),
        ({}, None, None),
        (None, None, None),
        (5.0, None, None),
    ],
)
def test_reads_ids(value: object, number: str | None, word: str | None) -> None:
    assert (replies.number_id(value), replies.word_id(value)) == (number, word)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a  b\n c", "a b c"),
        ({"width": ["too large", "odd"]}, "width: too large odd"),
        (["a", 5, "b"], "a b"),
        (None, ""),
        (5, ""),
        ("x" * 1_000, "x" * 300),
    ],
)
def test_reads_messages(value: object, text: str) -> None:
    assert replies.message(value) == text


@pytest.mark.parametrize("body", [b"", b"[" * 100_000, b"\xff", b"9" * 5_000, b"{"])
def test_raises_only_value_errors_for_what_is_no_json(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Reply(200, {}, body).json()
    assert replies.json_object(reply(body)) is None


def test_finds_a_provider_by_its_slug() -> None:
    assert [registry.get(provider.slug) for provider in registry.all()] == list(registry.all())


def test_names_the_known_providers_when_asked_for_another() -> None:
    with pytest.raises(registry.UnknownProvider, match=r"no provider 'nope'.*pixverse, modelslab") as caught:
        registry.get("nope")
    assert isinstance(caught.value, KeyError)


def test_says_unsupported_for_what_an_adapter_leaves_out() -> None:
    nothing = Provider()
    job = JobHandle("1", "text_to_image")
    for story in (nothing.poll(job, {}), nothing.cancel(job, {}), nothing.balance({}, fresh_id)):
        with pytest.raises(Unsupported):
            drive(story, lambda _: reply({}))
    with pytest.raises(Unsupported):
        nothing.parse_callback({}, b"")
