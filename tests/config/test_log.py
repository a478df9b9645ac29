"""What is written down, and what never is."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import structlog

from config.log import SHARED, hide_secrets, without_capabilities


@pytest.mark.parametrize(
    ("path", "logged"),
    [
        ("/hooks/pixverse/Xy-12_secret", "/hooks/pixverse/***"),
        ("/content/0123o:1abc:sig?x=1", "/content/***"),
        ("/api/v1/generations?cursor=abc", "/api/v1/generations"),
        ("/", "/"),
    ],
)
def test_hides_what_opens_something(path: str, logged: str) -> None:
    assert without_capabilities(path) == logged


def test_hides_what_is_named_like_a_secret() -> None:
    event = {"event": "x", "api_key": "1", "Authorization": "2", "callback_token": "3", "credentials": {}, "tokens": 4}

    hidden = hide_secrets(None, "info", event)

    assert {name for name, value in hidden.items() if value == "***"} == {
        "api_key",
        "Authorization",
        "callback_token",
        "credentials",
    }


@pytest.fixture
def json_formatter() -> structlog.stdlib.ProcessorFormatter:
    """As production writes."""
    return structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        foreign_pre_chain=SHARED,
    )


def test_writes_other_libraries_lines_as_json_too(json_formatter: structlog.stdlib.ProcessorFormatter) -> None:
    record = logging.LogRecord("celery.beat", logging.WARNING, __file__, 1, "late by %s s", (5,), None)
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        line: dict[str, Any] = json.loads(json_formatter.format(record))

    assert (line["event"], line["level"], line["logger"], line["request_id"]) == (
        "late by 5 s",
        "warning",
        "celery.beat",
        "r1",
    )
    assert line["timestamp"].endswith("Z")
