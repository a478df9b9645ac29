"""``manage.py resolve``: the inbox at a terminal."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from generations.lifecycle import State
from tests.factories import SubmissionFactory

pytestmark = pytest.mark.django_db


def run(*arguments: str, **options: Any) -> str:
    out = io.StringIO()
    call_command("resolve", *arguments, stdout=out, **options)
    return out.getvalue()


def test_says_when_nothing_waits() -> None:
    assert "every outcome is known" in run()


def test_lists_what_waits() -> None:
    one = SubmissionFactory.create(state=State.UNKNOWN, generation__price=7)
    text = run()
    for words in (str(one.pk), str(one.account), "7 credits held", "a slot", "has not been read yet"):
        assert words in text
    [told] = json.loads(run("--json"))["unknown_outcomes"]
    assert (told["id"], told["held_credits"]) == (str(one.pk), 7)


@pytest.mark.parametrize("by", ["attempt", "generation"])
def test_settles_one(by: str) -> None:
    one = SubmissionFactory.create(state=State.UNKNOWN)
    which = str(one.pk if by == "attempt" else one.generation_id)
    assert "is pending" in run(which, "not-billed", "--note", "It is not there.")
    one.refresh_from_db()
    assert one.resolution == "not_billed"


def test_takes_job_id_and_cost_and_tells_json() -> None:
    one = SubmissionFactory.create(state=State.UNKNOWN)
    told = json.loads(run(str(one.pk), "billed", "--note", "n", "--job-id", "4711", "--cost", "0.5", "--json"))
    assert (told["state"], told["resolution"], told["status"]) == ("accepted", "billed", "processing")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("{id}",), "Say what you found out"),
        (("{id}", "billed"), "on what grounds"),
        (("{id}", "not-billed", "--note", "n", "--job-id", "1"), "“billed” only"),
        (("{id}", "billed", "--note", "n", "--cost", "much"), "is no amount"),
        (("nothing", "billed", "--note", "n"), "is no id"),
        (("{known}", "billed", "--note", "n"), "every outcome is known"),
    ],
)
def test_says_what_is_wrong(arguments: tuple[str, ...], complaint: str) -> None:
    one = SubmissionFactory.create(state=State.UNKNOWN)
    known = SubmissionFactory.create(state=State.ACCEPTED)
    with pytest.raises(CommandError, match=complaint):
        run(*(word.format(id=one.pk, known=known.generation_id) for word in arguments))
    one.refresh_from_db()
    assert (one.state, one.resolution) == (State.UNKNOWN, "")
