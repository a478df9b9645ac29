"""The processes of an instance, and the commands that start them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from config.embedded.home import ROOT, Home, read_json
from config.embedded.program import wait_until
from config.instance import choose_addresses
from config.stack import Addresses, StackError, programs, worker_sizes


def manage(folder: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """A command of ``manage.py`` on a data folder of its own, with servers of its own."""
    environment = {**os.environ, "DARKROOM_VAR": str(folder), "DATABASE_URL": "", "REDIS_URL": ""}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    return subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def test_names_the_port_that_is_taken_and_offers_another(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(StackError, match=rf"Port {port} on 127\.0\.0\.1 is taken.*--port \d+"):
            choose_addresses(tmp_path, "127.0.0.1", port)


def test_refuses_a_second_up_on_the_same_data(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.acquire("up")
    try:
        second = manage(tmp_path, "up", "--port", "0")
        out, _ = second.communicate(timeout=30)
    finally:
        home.release()
    assert second.returncode == 1
    assert f"`up` is already running on {tmp_path} (process {os.getpid()})" in out


def test_starts_a_worker_for_each_queue_that_celery_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from config.celery import QUEUES  # noqa: PLC0415

    assert tuple(worker_sizes()) == QUEUES
    monkeypatch.setenv("DARKROOM_WORKERS", "dispatch=7")
    started = {program.name: program for program in programs(Addresses("127.0.0.1", 1, 2, 3), tmp_path, "a:b")}
    assert {f"worker-{queue}" for queue in QUEUES} < set(started)
    dispatch = started["worker-dispatch"].argv
    assert dispatch[dispatch.index("-c") + 1] == "7"


@pytest.mark.parametrize("text", ["dispatch=0", "dispatch", "nobody=1", "dispatch=x"])
def test_refuses_worker_numbers_that_mean_nothing(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("DARKROOM_WORKERS", text)
    with pytest.raises(StackError, match="DARKROOM_WORKERS"):
        worker_sizes()


def test_stops_beat_then_workers_then_web_flower_and_sandbox(tmp_path: Path) -> None:
    stages = {p.name: p.stage for p in programs(Addresses("127.0.0.1", 1, 2, 3), tmp_path, "a:b")}
    assert stages["beat"] < stages["worker-poll"] < stages["web"] < stages["flower"] < stages["sandbox"] < 60


def test_puts_no_password_on_a_command_line(tmp_path: Path) -> None:
    for program in programs(Addresses("127.0.0.1", 1, 2, 3), tmp_path, "admin:secret"):
        assert not any("secret" in word for word in program.argv)


def test_reaches_an_instance_that_listens_everywhere() -> None:
    assert Addresses("0.0.0.0", 80, 2, 3).web_url == "http://127.0.0.1:80"
    assert Addresses("::1", 80, 2, 3).web_url == "http://[::1]:80"


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
    return found


@pytest.mark.timeout(180)
def test_makes_the_first_results_answers_doctor_and_leaves_nothing_when_killed(tmp_path: Path) -> None:
    up = manage(tmp_path, "up", "--port", "0")
    assert up.stdout is not None
    try:
        seen = []
        for line in up.stdout:
            seen.append(line)
            if "Ctrl-C stops everything" in line or "Error" in line:
                break
        text = "".join(seen)
        assert "Darkroom is running." in text, text
        assert "Picture" in text, text
        assert "Video" in text, text
        state, logins = read_json(tmp_path / "run.json"), read_json(tmp_path / "logins.json")
        assert logins["password"] in text
        flower = requests.get(state["flower_url"] + "/api/workers", timeout=10)
        assert flower.status_code == 401

        demo = manage(tmp_path, "demo", "--json")
        out, _ = demo.communicate(timeout=90)
        assert demo.returncode == 0, out
        told = json.loads(out)
        assert [made["status"] for made in told["generations"]] == ["completed", "completed"]
        doctor = manage(tmp_path, "doctor")
        out, _ = doctor.communicate(timeout=60)
        assert "5/5 passed" in out, out

        worker = state["processes"]["worker-poll"]
        os.kill(worker, signal.SIGKILL)
        assert wait_until(
            lambda: read_json(tmp_path / "run.json")["processes"].get("worker-poll", worker) != worker, 10
        )

        family = descendants(up)
        assert len(family) > 10
    finally:
        up.kill()
        up.wait()
        up.stdout.close()
    gone, alive = psutil.wait_procs(family, timeout=8)
    left = [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    assert left == []
    assert len(gone) + len(alive) == len(family)


def test_stops_everything_when_it_is_asked_to(tmp_path: Path) -> None:
    up = manage(tmp_path, "up", "--port", "0", "--no-demo")
    assert up.stdout is not None
    for line in up.stdout:
        if "Started" in line:
            break
    family = descendants(up)
    up.send_signal(signal.SIGINT)
    out = up.stdout.read()
    up.stdout.close()
    assert up.wait(60) == 0
    assert "Stopped." in out
    assert [process for process in family if process.is_running()] == []
    assert not (tmp_path / "run.json").exists()
