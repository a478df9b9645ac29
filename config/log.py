"""Logging: structlog for ours and everybody else's lines alike; JSON in production, readable ones otherwise."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any

import structlog

SECRET = re.compile(r"authorization|api_?key|password|secret|credential|cookie|(^|_)token$", re.IGNORECASE)
_CAPABILITY = re.compile(r"(/hooks/[^/\s]+/|/content/)[^/?\s]+")

Event = MutableMapping[str, Any]


def hide_secrets(_logger: Any, _method: str, event: Event) -> Event:
    """A processor: what is named like a secret is not written down, whoever logs it."""
    for name in event:
        if SECRET.search(name):
            event[name] = "***"
    return event


def without_capabilities(path: str) -> str:
    """A path as it may be logged: without its query, and without tokens that open what they name."""
    return _CAPABILITY.sub(r"\1***", path.partition("?")[0])


SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
    hide_secrets,
]


def configure(*, json: bool, level: str) -> dict[str, Any]:
    """Set structlog up, and give what belongs into ``settings.LOGGING``."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    render: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if json
        else [
            # Plain tracebacks: those with local variables would show credentials that are on the stack.
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
                "foreign_pre_chain": SHARED,
            }
        },
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "structured"}},
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            "django": {"handlers": [], "level": "INFO", "propagate": True},
            # Every request is logged once, by config.middleware, with its tokens hidden; Django would add a
            # line of its own with the whole path for each answer from 400 on.
            "django.request": {"level": "CRITICAL"},
            "django.server": {"handlers": [], "level": "WARNING", "propagate": True},
            # At DEBUG it writes whole URLs, with whatever they open.
            "urllib3": {"level": "INFO"},
            # One line per message of the beat, in every process that it passes: too much to find anything in.
            "celery.beat": {"level": "WARNING"},
            "celery.worker.strategy": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING"},
        },
    }
