"""The times and limits, as the environment gives them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django.fixtures import Settings

from generations.conf import Limits, limits, seconds


@pytest.fixture(autouse=True)
def _afresh(settings: Settings) -> Iterator[None]:
    settings.DARKROOM = {}
    limits.cache_clear()
    yield
    limits.cache_clear()


def given(settings: Settings, **values: str) -> Limits:
    settings.DARKROOM = values
    return limits()


def test_has_the_documented_defaults() -> None:
    got = limits()

    assert got == Limits()
    assert (got.queue_ttl, got.lease, got.submit_timeout, got.blocking_submit_timeout) == (7 * 86400, 45, 20, 300)
    assert (got.image_deadline, got.video_deadline, got.submission_limit) == (600, 1800, 3600)
    assert (got.image_cancel_grace, got.video_cancel_grace, got.collect_ttl) == (15, 60, 86400)
    assert (got.error_retries, got.moderation_retries, got.busy_bounces) == (3, 1, 10)
    assert (got.not_sent_limit, got.max_submissions, got.collect_tries, got.last_looks) == (5, 20, 5, 3)
    assert (got.reuse_days, got.idempotency_hours) == (30, 24)


def test_keeps_its_defaults_in_order() -> None:
    got = limits()

    assert got.submission_limit >= got.video_deadline >= got.image_deadline
    assert got.lease > got.submit_timeout
    assert got.poll_timeout < got.lease


def test_takes_what_is_set(settings: Settings) -> None:
    got = given(settings, lease="1.5", error_retries="7", max_output_bytes="1000")

    assert (got.lease, got.error_retries, got.max_output_bytes) == (1.5, 7, 1000)
    assert got.queue_ttl == Limits().queue_ttl


@pytest.mark.parametrize("field", [field.name for field in fields(Limits)])
def test_can_set_each(settings: Settings, field: str) -> None:
    assert getattr(given(settings, **{field: "12"}), field) == 12


@pytest.mark.parametrize(
    ("name", "text"), [("lease", "soon"), ("lease", ""), ("error_retries", "2.5"), ("lease", "1,5")]
)
def test_refuses_what_is_no_number(settings: Settings, name: str, text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"DARKROOM_{name.upper()} must be a number"):
        given(settings, **{name: text})


def test_leaves_settings_of_others_alone(settings: Settings) -> None:
    assert given(settings, production="yes", var="folder") == Limits()


def test_reads_the_settings_once(settings: Settings) -> None:
    before: Any = limits()
    settings.DARKROOM = {"lease": "1"}

    assert limits() is before


def test_makes_timedeltas() -> None:
    assert seconds(1.5) == timedelta(milliseconds=1500)
