"""The supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.embedded.home import ROOT
from config.embedded.program import Program, wait_until
from config.supervisor import Supervisor


@pytest.fixture
def lines() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def supervisor(lines: list[tuple[str, str]]) -> Iterator[Supervisor]:
    supervisor = Supervisor(lambda name, text: lines.append((name, text)))
    yield supervisor
    if supervisor.children:
        supervisor.stop_requests += 1
        supervisor.shutdown()


def shell(name: str, script: str, stage: int = 10, **options: float) -> Program:
    return Program(name=name, argv=("sh", "-c", script), stage=stage, **options)  # type: ignore[arg-type]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def until(supervisor: Supervisor, check: object, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not check():  # type: ignore[operator]
        assert time.monotonic() < end
        supervisor.step(0.05)


def test_passes_on_each_line_under_its_name(supervisor: Supervisor, lines: list[tuple[str, str]]) -> None:
    supervisor.add(shell("talker", "echo one; echo two >&2; printf three"))
    until(supervisor, lambda: len(lines) >= 2)
    assert lines[:2] == [("talker", "one"), ("talker", "two")]
    until(supervisor, lambda: ("talker", "three") in lines)


def test_starts_a_dead_one_again_later_each_time(supervisor: Supervisor, lines: list[tuple[str, str]]) -> None:
    supervisor.add(shell("weak", "exit 3"))
    until(supervisor, lambda: supervisor.children["weak"].starts == 3)
    waits = [text for _, text in lines if "starting it again" in text]
    assert waits[0] == "ended with exit code 3; starting it again in 0.5 s"
    assert waits[1].endswith("in 1 s")


def test_says_which_signal_ended_it(supervisor: Supervisor, lines: list[tuple[str, str]]) -> None:
    supervisor.add(shell("victim", "exec sleep 60"))
    os.kill(supervisor.pids()["victim"], signal.SIGKILL)
    until(supervisor, lambda: lines)
    assert lines[0][1].startswith("ended with SIGKILL")


def test_stops_stage_by_stage(lines: list[tuple[str, str]], tmp_path: Path) -> None:
    supervisor = Supervisor(lambda name, text: lines.append((name, text)))
    order = tmp_path / "order"
    script = "trap 'sleep 0.2; echo {0} >> {1}; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    for name, stage in (("last", 30), ("first", 10), ("second", 20)):
        supervisor.add(shell(name, script.format(name, order), stage))
    until(supervisor, lambda: len(lines) == 3)
    supervisor.shutdown()
    assert order.read_text().split() == ["first", "second", "last"]
    assert supervisor.pids() == {}


def test_kills_what_does_not_stop_in_its_time(lines: list[tuple[str, str]]) -> None:
    supervisor = Supervisor(lambda name, text: lines.append((name, text)))
    supervisor.add(shell("stubborn", "trap '' TERM; echo up; while :; do sleep 0.05; done", stop_seconds=0.3))
    until(supervisor, lambda: lines)
    supervisor.shutdown()
    assert ("stubborn", "does not stop; killing it") in lines
    assert supervisor.pids() == {}


def test_a_second_request_does_not_wait_for_programs(lines: list[tuple[str, str]]) -> None:
    supervisor = Supervisor(lambda name, text: lines.append((name, text)))
    supervisor.add(shell("stubborn", "trap '' TERM; echo up; while :; do sleep 0.05; done", stop_seconds=60))
    until(supervisor, lambda: lines)
    supervisor.line = lambda name, text: lines.append((name, text))
    supervisor.request_stop()
    read = supervisor._read

    def ask_again(seconds: float) -> None:
        read(seconds)
        supervisor.request_stop()

    supervisor._read = ask_again  # type: ignore[method-assign]
    started = time.monotonic()
    supervisor.shutdown()
    assert time.monotonic() - started < 5


def test_adopts_a_running_process_and_restarts_it(supervisor: Supervisor) -> None:
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    supervisor.adopt(shell("server", "exec sleep 60"), process)
    process.kill()
    until(supervisor, lambda: supervisor.children["server"].starts == 2)
    assert supervisor.pids()["server"] != process.pid


def test_leaves_nothing_running_when_it_is_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = (
        "from config.embedded.program import Program\nfrom config.supervisor import Supervisor\nimport sys\n"
        "supervisor = Supervisor(lambda name, text: None)\n"
        # A child that ignores SIGTERM, and grandchildren that no leash holds.
        f"supervisor.add(Program(name='parent', argv=('sh', '-c', \"trap '' TERM; sleep 300 & echo $$ $! >> {pids};"
        ' wait"), stage=1))\n'
        "print('up', flush=True)\nsupervisor.run()"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    assert wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2, 10)
    started = [int(pid) for pid in pids.read_text().split()]
    assert all(runs(pid) for pid in started)
    process.kill()
    process.wait()
    process.stdout.close()
    assert wait_until(lambda: not any(runs(pid) for pid in started), 8)
