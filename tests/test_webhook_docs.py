"""The examples in docs/webhooks.md verify what Darkroom signs, and nothing else."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from generations.execution.webhook_call import signed
from generations.models.webhook import FILTERABLE

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "webhooks.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
BODY = '{"type": "generation.completed", "data": {"name": "Zoë"}}'


def example(number: int) -> dict[str, Any]:
    """What an example defines."""
    names: dict[str, Any] = {}
    exec(EXAMPLES[number].replace('"whsec_..."', repr(SECRET)), names)
    return names


def headers(*, at: datetime | None = None, secrets: tuple[str, ...] = (SECRET,)) -> dict[str, str]:
    return signed("an-id", BODY, secrets, at or timezone.now())


def test_show_two_examples() -> None:
    assert len(EXAMPLES) == 2


def test_verify_with_the_library() -> None:
    names, queue = example(0), list[Any]()
    names["already_done"] = lambda webhook_id: webhook_id == "another-id"
    names["put_in_a_queue"] = queue.append
    assert names["receive"](BODY.encode(), headers()) == 204
    assert queue == [json.loads(BODY)]
    assert names["receive"](BODY.encode() + b" ", headers()) == 401
    assert names["receive"](BODY.encode(), headers(secrets=(OLD,))) == 401
    assert names["receive"](BODY.encode(), headers(secrets=(OLD, SECRET))) == 204
    names["already_done"] = lambda webhook_id: webhook_id == "an-id"
    assert names["receive"](BODY.encode(), headers()) == 204
    assert len(queue) == 2


def test_verify_without_it() -> None:
    verified = example(1)["verified"]
    assert verified(BODY.encode(), headers(), SECRET) == json.loads(BODY)
    assert verified(BODY.encode(), headers(secrets=(OLD, SECRET)), SECRET) == json.loads(BODY)
    with pytest.raises(ValueError, match="not signed"):
        verified(BODY.encode().replace(b"completed", b"failed"), headers(), SECRET)
    with pytest.raises(ValueError, match="not signed"):
        verified(BODY.encode(), headers(secrets=(OLD,)), SECRET)
    with pytest.raises(ValueError, match="too old"):
        verified(BODY.encode(), headers(at=timezone.now() - timedelta(minutes=6)), SECRET)


def test_name_every_event() -> None:
    assert re.findall(r"^\| `(generation\.\w+)` \|", TEXT, re.MULTILINE) == list(FILTERABLE)
