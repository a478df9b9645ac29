"""Draining before an upgrade: nothing more is sent, and it ends well only when no call can be cut off."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.utils import timezone

from generations.execution.claim import claim
from generations.intake.switches import turn_off, turn_on
from generations.lifecycle import State
from generations.models import Heartbeat, Submission, Switch, SwitchChange
from generations.reports.flight import Flight, in_flight
from tests.factories import AccountFactory, GenerationFactory, SubmissionFactory

pytestmark = pytest.mark.django_db

SLEEP = "generations.management.commands.drain.time.sleep"
Between = Callable[..., None]


@pytest.fixture(autouse=True)
def services_up() -> None:
    Heartbeat.beat("tick", "test")


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Between:
    """What happens while it waits between two looks; after the last of them somebody presses Ctrl-C."""

    def script(*steps: Callable[[], object]) -> None:
        left = list(steps)

        def wait(_seconds: float) -> None:
            if not left:
                raise KeyboardInterrupt
            left.pop(0)()

        monkeypatch.setattr(SLEEP, wait)

    return script


def drain(*arguments: str) -> tuple[str, int]:
    """What it printed, and its exit code."""
    out = io.StringIO()
    try:
        call_command("drain", *arguments, stdout=out, stderr=io.StringIO(), no_color=True)
    except SystemExit as end:
        return out.getvalue(), int(end.code or 0)
    return out.getvalue(), 0


def moved(submission: Submission, state: State, **fields: Any) -> Callable[[], object]:
    if state == State.SUCCEEDED:
        fields |= {"ended_at": timezone.now(), "lease_until": None}
    if state == State.ACCEPTED:
        fields |= {"provider_job_id": "job-1"}
    return lambda: Submission.objects.filter(pk=submission.pk).update(state=state, **fields)


def test_is_safe_at_once_when_no_call_is_on_its_way() -> None:
    for state in (State.UNKNOWN, State.ACCEPTED, State.COLLECTING):
        SubmissionFactory.create(state=state)
    text, code = drain("--reason", "version 0.2")
    assert code == 0
    assert "Safe to deploy" in text
    assert "1 unknown, 1 at the providers, 1 being fetched" in text
    assert "drain --resume" in text
    row = Switch.objects.get()
    assert (row.key, row.reason, row.actor.partition("/")[0]) == ("dispatch", "version 0.2", "command:drain")


def test_sends_nothing_from_then_on_and_sends_again_when_it_is_lifted() -> None:
    AccountFactory.create()
    waits = GenerationFactory.create()
    drain()
    assert claim("pixverse", uuid4(), 10) == []
    assert drain("--resume") == ("Work is sent again.\n", 0)
    [taken] = claim("pixverse", uuid4(), 10)
    assert taken.generation_id == waits.pk
    assert list(SwitchChange.objects.order_by("pk").values_list("turned_on", flat=True)) == [True, False]


@pytest.mark.parametrize("state", [State.RESERVED, State.SENDING])
def test_waits_for_what_is_leaving(between: Between, state: State) -> None:
    one = SubmissionFactory.create(state=state)
    between(lambda: None, moved(one, State.ACCEPTED))
    text, code = drain()
    assert code == 0
    words = "1 about to be sent" if state == State.RESERVED else "1 being sent"
    assert text.count(words) == 1, "a line when it changes"
    assert "1 at the providers" in text


def test_waits_until_all_is_fetched_where_that_is_asked_for(between: Between) -> None:
    one, other = SubmissionFactory.create(state=State.ACCEPTED), SubmissionFactory.create(state=State.COLLECTING)
    SubmissionFactory.create(state=State.UNKNOWN)
    done = [moved(one, State.COLLECTING), moved(one, State.SUCCEEDED), moved(other, State.SUCCEEDED)]
    between(*done)
    text, code = drain("--wait-all", "--json")
    told = json.loads(text)
    assert (code, told["ok"]) == (0, True)
    assert told["left"] == {
        **dict.fromkeys(("reserved", "sending", "accepted", "collecting"), 0),
        "unknown": 1,
        "safe": True,
        "collected": True,
    }


def test_gives_up_after_its_time_and_says_that_it_is_not_safe(between: Between) -> None:
    SubmissionFactory.create(state=State.SENDING)
    between(lambda: monotonic.append(99.0))
    monotonic: list[float] = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("generations.management.commands.drain.time.monotonic", lambda: monotonic[-1])
        text, code = drain("--timeout", "30")
    assert code == 1
    assert "Not safe to deploy" in text
    assert "Dispatch stays paused" in text
    assert Switch.objects.exists()


def test_is_safe_and_yet_fails_when_not_all_was_fetched_in_time(between: Between) -> None:
    SubmissionFactory.create(state=State.ACCEPTED)
    between()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("generations.management.commands.drain.time.monotonic", iter([0.0, 99.0, 99.0]).__next__)
        text, code = drain("--timeout", "30", "--wait-all")
    assert code == 1
    assert "Safe to deploy" in text


def test_leaves_the_pause_on_when_it_is_interrupted_and_says_so(between: Between) -> None:
    SubmissionFactory.create(state=State.SENDING)
    between()
    text, code = drain()
    assert code == 130
    assert "Dispatch stays paused. Lift it when" in text
    assert Switch.objects.exists()


def test_uses_somebody_elses_pause_and_never_lifts_it() -> None:
    turn_on("dispatch", reason="They bill twice", actor="admin:1")
    text, code = drain("--reason", "version 0.2")
    assert code == 0
    assert "paused already, by admin:1: They bill twice" in text
    with pytest.raises(CommandError, match=r"paused by admin:1 \(They bill twice\), not by a drain"):
        drain("--resume")
    assert Switch.objects.get().actor == "admin:1"


def test_notices_that_somebody_lifts_the_pause(between: Between) -> None:
    SubmissionFactory.create(state=State.SENDING)
    between(lambda: turn_off("dispatch", reason="no", actor="admin:1"))
    with pytest.raises(CommandError, match="lifted the pause"):
        drain()


def test_says_when_nobody_moves_on_what_is_left(between: Between) -> None:
    Heartbeat.objects.all().delete()
    SubmissionFactory.create(state=State.SENDING)
    between()
    assert "are the services running?" in drain()[0]


def test_waits_for_a_database_that_is_away(between: Between, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> Flight:
        raise OperationalError("gone")

    place = "generations.management.commands.drain.in_flight"
    monkeypatch.setattr(place, lost)
    monkeypatch.setattr("generations.management.commands.drain.connection.close", lambda: None)  # it is the test's own
    between(lambda: None, lambda: monkeypatch.setattr(place, in_flight))
    text, code = drain()
    assert code == 0
    assert text.count("the database does not answer") == 1


def test_resumes_nothing_where_nothing_is_paused() -> None:
    assert drain("--resume") == ("Nothing was paused.\n", 0)
    text, _ = drain("--resume", "--json")
    assert json.loads(text) == {"ok": True, "changed": False}


def test_looks_in_one_query(django_assert_num_queries: Any) -> None:
    for state in (*[State.RESERVED] * 2, State.SENDING, State.UNKNOWN, *[State.ACCEPTED] * 3, State.SUCCEEDED):
        SubmissionFactory.create(state=state)
    with django_assert_num_queries(1):
        assert in_flight() == Flight(reserved=2, sending=1, unknown=1, accepted=3, collecting=0)
    Submission.objects.all().delete()
    assert str(in_flight()) == "nothing is under way"


class TestSwitch:
    """``switch``: the same hand, for each of them."""

    @staticmethod
    def switch(*arguments: str) -> str:
        out = io.StringIO()
        call_command("switch", *arguments, stdout=out, no_color=True)
        return out.getvalue()

    def test_lists_all_with_who_and_why(self) -> None:
        turn_on("dispatch:provider:pixverse", reason="They bill twice", actor="admin:1")
        lines = self.switch().splitlines()
        [line] = [line for line in lines if line.startswith("dispatch:provider:pixverse")]
        assert ("ON" in line, "They bill twice" in line, "admin:1" in line) == (True, True, True)
        assert len([line for line in lines if " off" in line]) == len(lines) - 2
        told = json.loads(self.switch("--json"))["switches"]
        assert [one["key"] for one in told if one["on"]] == ["dispatch:provider:pixverse"]

    def test_turns_one_on_and_off(self) -> None:
        assert "Nothing new is accepted" in self.switch("on", "intake", "--reason", "closed")
        assert "It was on" in self.switch("on", "intake", "--reason", "closed")
        told = json.loads(self.switch("off", "intake", "--reason", "open", "--json"))
        assert (told["changed"], told["switch"]["on"]) == (True, False)
        assert "It was off" in self.switch("off", "intake", "--reason", "open")
        actors = set(SwitchChange.objects.values_list("actor", flat=True))
        assert [actor.partition("/")[0] for actor in actors] == ["command:switch"]

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["on", "intake"], "Say why"),
            (["on", "intakes", "--reason", "x"], "There is no switch 'intakes'"),
            (["off"], "Say which one"),
        ],
    )
    def test_says_what_is_missing(self, arguments: list[str], words: str) -> None:
        with pytest.raises(CommandError, match=words):
            self.switch(*arguments)
        assert not SwitchChange.objects.exists()
