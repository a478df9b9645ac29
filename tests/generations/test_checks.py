"""What would never run is found before it is deployed."""

from __future__ import annotations

import inspect

import pytest
from celery import current_app
from django.core.checks import CheckMessage, run_checks

from config.celery import BEAT
from config.checks import scheduled_tasks_exist
from generations import tasks, wakeups
from generations.checks import sent_tasks_exist, unbound


def ours(messages: list[CheckMessage]) -> list[str | None]:
    return [message.id for message in messages if (message.id or "").startswith("darkroom.")]


def test_finds_nothing_wrong_with_the_house() -> None:
    assert ours(run_checks()) == []


def test_finds_a_name_that_no_task_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeups, "SENT", {**wakeups.SENT, "generations.tasks.dispach": frozenset({"provider_id"})})

    (found,) = sent_tasks_exist()

    assert found.id == "darkroom.E001"
    assert "'generations.tasks.dispach'" in found.msg
    assert found.hint


@pytest.mark.parametrize(
    "arguments", [{"provider"}, {"provider_id", "account_id"}, set()], ids=["misnamed", "one too many", "left out"]
)
def test_finds_arguments_that_the_task_does_not_take(monkeypatch: pytest.MonkeyPatch, arguments: set[str]) -> None:
    monkeypatch.setattr(wakeups, "SENT", {**wakeups.SENT, wakeups.DISPATCH: frozenset(arguments)})

    (found,) = sent_tasks_exist()

    assert found.id == "darkroom.E002"
    assert wakeups.DISPATCH in found.msg
    assert "provider_id" in found.msg
    assert found.hint


def test_is_run_with_all_other_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeups, "SENT", {"generations.tasks.nothing": frozenset(), wakeups.POLL: frozenset({"x"})})

    assert ours(run_checks()) == ["darkroom.E001", "darkroom.E002"]


def test_finds_a_beat_entry_that_no_task_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BEAT, "tock", ("generations.tasks.tock", 5.0))

    assert [(found.id, "generations.tasks.tock" in found.msg) for found in scheduled_tasks_exist()] == [
        ("darkroom.E001", True)
    ]


def test_finds_a_beat_entry_whose_task_needs_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BEAT, "dispatch", (wakeups.DISPATCH, 5.0))

    assert [found.id for found in scheduled_tasks_exist()] == ["darkroom.E002"]


def test_takes_an_argument_with_a_default_given_or_left_out() -> None:
    def sometimes(*, provider_id: str, limit: int = 3, **_: object) -> None: ...

    name = "tests.sometimes"
    current_app.task(name=name)(sometimes)
    try:
        assert list(unbound({name: {"provider_id"}})) == []
        assert list(unbound({name: {"provider_id", "limit"}})) == []
        assert [found.id for found in unbound({name: {"limit"}})] == ["darkroom.E002"]
    finally:
        current_app.tasks.pop(name)


def test_has_tasks_that_outlive_a_rolling_deploy() -> None:
    names = [name for name in current_app.tasks if name.startswith(f"{tasks.__name__}.")]

    assert {wakeups.DISPATCH, wakeups.POLL, wakeups.COLLECT, wakeups.REFRESH} < set(names)
    for name in names:
        kinds = {one.kind for one in inspect.signature(current_app.tasks[name].run).parameters.values()}
        assert inspect.Parameter.VAR_KEYWORD in kinds, f"{name} fails on an argument of a newer version"
        assert kinds <= {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
