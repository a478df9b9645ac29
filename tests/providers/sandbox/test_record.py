"""As a witness, the sandbox..."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
import requests

from providers.sandbox.process import ROOT, SandboxProcess
from providers.sandbox.state import key_label
from tests.providers.sandbox.support import PIXVERSE_TEXT, Speaker, until


def test_writes_down_what_was_asked(caller: Speaker) -> None:
    request_id = str(uuid.uuid4())
    reply = caller.pixverse(
        "/video/text/generate", {"prompt": "a witness", **PIXVERSE_TEXT}, **{"X-Request-Id": request_id}
    ).json()
    (call,) = caller.control.record(request_id=request_id)
    assert call["kind"] == "submit"
    assert call["prompt"] == "a witness"
    assert call["remote_id"] == str(reply["Resp"]["video_id"])
    assert call["key"] == key_label("pixverse", caller.key)
    assert call["http_status"] == 200
    assert len(call["body_sha256"]) == 64
    (work,) = caller.control.works(request_id=request_id)
    assert work["finish_at"] > work["accepted_at"]


def test_counts_submits_per_request_id(tmp_path: Path) -> None:
    with SandboxProcess(tmp_path, "--speed", "0") as process:
        speaker = Speaker(process.base_url)
        for request_id in ("a", "b", "b"):
            speaker.modelslab("/v6/images/text2img", {"model_id": "m", "prompt": "x"}, **{"X-Request-Id": request_id})
        submits = speaker.control.summary()["submits"]
        assert (submits["total"], submits["accepted"], submits["max_per_request_id"]) == (3, 3, 2)
        assert submits["repeated_request_ids"] == [{"request_id": "b", "submits": 2, "created": 2}]
        speaker.control.reset()
        assert speaker.control.summary()["submits"]["total"] == 0
        speaker.close()


def test_keeps_every_accepted_work_over_a_kill_9(tmp_path: Path) -> None:
    process = SandboxProcess(tmp_path, "--speed", "0.5").start()
    accepted: list[int] = []
    stop = threading.Event()

    def ask(number: int) -> None:
        speaker = Speaker(process.base_url)
        while not stop.is_set():
            try:
                accepted.append(speaker.text_video(f"from {number} [[fault:no_url]]").json()["Resp"]["video_id"])
            except requests.RequestException:
                break
        speaker.close()

    askers = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for asker in askers:
        asker.start()
    until(lambda: len(accepted), lambda count: count > 40)
    process.kill()
    stop.set()
    for asker in askers:
        asker.join()
    with process:
        speaker = Speaker(process.base_url)
        known = {work["remote_id"] for work in speaker.control.works()}
        submits = {int(call["remote_id"]) for call in speaker.control.record(kind="submit")}
        assert set(accepted) <= known
        assert set(accepted) <= submits
        assert speaker.video_result(accepted[-1])["status"] == 1
        speaker.close()


def test_goes_on_with_running_work_after_a_kill_9(tmp_path: Path) -> None:
    process = SandboxProcess(tmp_path, "--speed", "1").start()
    speaker = Speaker(process.base_url)
    speaker.control.set_key("modelslab", speaker.key, limit=1)
    reply = speaker.picture("still there", samples=2).json()
    process.kill()
    with process:
        again = speaker.picture("no room")
        assert again.status_code == 429  # both the limit and the running work were remembered
        assert len(speaker.fetched(reply)["output"]) == 2
        label = key_label("modelslab", speaker.key)
        assert speaker.control.summary()["keys"][label]["most_in_flight"] == 1
    speaker.close()


def test_remembers_a_balance_and_what_was_taken_from_it(tmp_path: Path) -> None:
    process = SandboxProcess(tmp_path, "--speed", "0").start()
    speaker = Speaker(process.base_url)
    speaker.picture("before the balance was set", samples=4)
    speaker.control.set_key("modelslab", speaker.key, balance=1)
    speaker.picture("after it")
    process.kill()
    with process:
        assert speaker.modelslab("/wallet_balance", {}).json()["data"]["balance"] == 0.9953
    speaker.close()


def test_knows_the_most_that_was_ever_in_flight(caller: Speaker) -> None:
    for _ in range(3):
        caller.text_video("[[fault:never_finishes]]")
    label = key_label("pixverse", caller.key)
    until(lambda: caller.control.summary()["keys"][label]["in_flight"], lambda count: count == 0)
    caller.text_video("one more")
    assert caller.control.summary()["keys"][label]["most_in_flight"] == 3
    assert [work["in_flight"] for work in caller.control.works(key=label)] == [1, 2, 3, 1]


def test_never_stores_a_key(tmp_path: Path) -> None:
    secret = "sandbox-very-secret-text"
    with SandboxProcess(tmp_path, "--speed", "0") as process:
        speaker = Speaker(process.base_url, secret)
        speaker.text_video("x")
        speaker.picture("x")
        speaker.control.set_key("pixverse", secret, limit=3)
        speaker.close()
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes(), file


def test_has_it_on_the_disk_before_it_answers(tmp_path: Path) -> None:
    with SandboxProcess(tmp_path, "--speed", "0") as process:
        speaker = Speaker(process.base_url)
        db = sqlite3.connect(tmp_path / "record.sqlite3")
        for number in range(1, 6):
            speaker.picture("x")
            assert db.execute("SELECT count(*) FROM works").fetchone() == (number,)
        db.close()
        speaker.close()


def test_refuses_a_data_folder_in_use(tmp_path: Path) -> None:
    with SandboxProcess(tmp_path), pytest.raises(RuntimeError, match="Another sandbox is using"):
        SandboxProcess(tmp_path).start()


def test_names_a_port_that_is_taken(tmp_path: Path) -> None:
    with (
        SandboxProcess(tmp_path / "one") as process,
        pytest.raises(RuntimeError, match=f"cannot listen on .*{process.port}"),
    ):
        SandboxProcess(tmp_path / "two", port=process.port).start()


def test_stops_at_once_even_while_it_drips(tmp_path: Path) -> None:
    process = SandboxProcess(tmp_path, "--speed", "0").start()
    speaker = Speaker(process.base_url)
    url = speaker.picture("[[fault:slow_drip]]", width=256, height=256).json()["output"][0]
    with requests.get(url, stream=True, timeout=10) as reply:
        reply.raw.read(1)
        started = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - started < 3
    speaker.close()


def test_prints_one_line_and_imports_no_framework(tmp_path: Path) -> None:
    code = "import sys, providers.sandbox.app; print(sorted({name.split('.')[0] for name in sys.modules}))"
    seen = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "'django'" not in seen
    assert "'celery'" not in seen
    code = "import sys, providers.sandbox.app; print('\\n'.join(sys.modules))"
    seen = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {name for name in seen.split() if name.startswith("providers.") and "sandbox" not in name} == set()


def test_shows_a_page_that_escapes_what_it_was_told(caller: Speaker) -> None:
    caller.text_video("<script>alert(1)</script>")
    page = caller.get(f"{caller.base_url}/").text
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"hello\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", b"431"),
    ],
)
def test_survives_what_is_no_proper_request(sandbox: SandboxProcess, raw: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=5) as connection:
        connection.sendall(raw)
        assert connection.recv(100).split(b" ")[1] == status
