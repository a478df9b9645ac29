"""Draining a house at work: what leaves is let out, nothing more leaves, and a deploy cuts nothing off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta

from django.utils import timezone

from config.embedded.home import ROOT
from generations.lifecycle import State, Status
from generations.models import Generation, Submission, Switch
from generations.reports import audit
from tests.factories import SubmissionFactory
from tests.house.world import House, picture

INTERRUPTED = 130


def test_lets_a_deploy_cut_no_call_off(house: House) -> None:
    house.account("modelslab", limit=3)
    person = house.person()
    leaving = person.ask(picture("its reply takes long [[fault:slow_submit:2]]"))
    house.wait(lambda: bool(house.sandbox.works()), "its acceptance at the provider")

    code, told = house.manage("drain", "--json", "--reason", "version 0.2")

    assert (code, told["ok"], told["left"]["safe"]) == (0, True, True)
    attempt = Submission.objects.get()
    assert attempt.state not in {State.RESERVED, State.SENDING, State.UNKNOWN}
    house.kill("worker-dispatch")  # the roughest deploy
    waiting = person.ask(picture("came while it was drained"))
    assert person.look(waiting)["wait_reason"] == "paused"

    code, told = house.manage("drain", "--wait-all", "--json")

    assert (code, told["left"]["collected"]) == (0, True)
    assert Generation.objects.get(pk=leaving).status == Status.COMPLETED
    assert person.look(waiting)["status"] == Status.PENDING
    assert len(house.sandbox.record(kind="submit")) == 1

    assert house.manage("drain", "--resume", "--json") == (0, {"ok": True, "changed": True})

    house.wait_for_the_end()
    assert person.look(waiting)["status"] == Status.COMPLETED
    assert len(house.sandbox.record(kind="submit")) == 2
    house.wait(audit.services_are_up, "the tick")
    assert audit.run(files=True) == []


def test_leaves_the_pause_on_when_somebody_presses_ctrl_c(house: House) -> None:
    leaving = SubmissionFactory.create(state=State.SENDING, lease_until=timezone.now() + timedelta(hours=1))
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "django", "drain", "--settings", "config.settings"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **house.environment()},
        stdout=subprocess.PIPE,
        text=True,
    ) as drain:
        try:
            assert drain.stdout is not None
            assert "1 being sent" in drain.stdout.readline()
            drain.send_signal(signal.SIGINT)
            rest = drain.stdout.read()
        finally:
            drain.kill()
    assert drain.returncode == INTERRUPTED
    assert "Dispatch stays paused" in rest
    assert Switch.objects.get().key == "dispatch"
    Generation.objects.filter(pk=leaving.generation_id).delete()
