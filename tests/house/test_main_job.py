"""The whole way, over HTTP, through real processes."""

from __future__ import annotations

import hashlib
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import imageio_ffmpeg
import pytest
import requests

from generations.models import Generation
from generations.reports import audit
from tests.house.world import House, Person, picture, video


def made(house: House, body: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Ask for one, wait for it: what the API tells of its one output, and the bytes."""
    person = house.person()
    generation_id = person.ask(body)
    house.wait(lambda: person.look(generation_id)["completed_at"] is not None, "its end", 30)
    told = person.look(generation_id)
    assert told["status"] == "completed", told
    (output,) = told["outputs"]
    with requests.Session() as anybody:
        anybody.trust_env = False
        reply = anybody.get(output["url"], timeout=10)
    assert reply.status_code == 200
    return output, reply.content


def decoded_frames(content: bytes, folder: Path) -> int:
    """How many pictures ffmpeg finds in a file, every one of them decoded without a complaint."""
    path = folder / "output"
    path.write_bytes(content)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-xerror", "-i", str(path), "-f", "framemd5", "-"]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert outcome.stderr == ""
    return len([line for line in outcome.stdout.splitlines() if not line.startswith("#")])


@pytest.mark.parametrize(
    ("provider_id", "body", "mime_type", "frames"),
    [("pixverse", video(), "video/mp4", 24), ("modelslab", picture("a heron at dawn"), "image/png", 1)],
    ids=["the_seed_request_for_a_video", "a_picture"],
)
def test_completes(
    house: House, tmp_path: Path, provider_id: str, body: dict[str, Any], mime_type: str, frames: int
) -> None:
    house.account(provider_id, limit=3)
    output, content = made(house, body)
    assert output["sha256"] == hashlib.sha256(content).hexdigest()
    assert output["bytes"] == len(content)
    assert output["mime_type"] == mime_type
    assert decoded_frames(content, tmp_path) >= frames


def at_once(people: list[Person], body: dict[str, Any]) -> list[requests.Response]:
    """The same request by all of them, sent at the same moment."""
    barrier = Barrier(len(people))

    def ask(person: Person) -> requests.Response:
        barrier.wait(timeout=30)
        return person.post(body)

    with ThreadPoolExecutor(len(people)) as pool:
        return list(pool.map(ask, people))


def test_makes_one_of_a_hundred_identical_requests_and_one_for_each_user(house: House) -> None:
    house.account("modelslab", limit=3)
    first, second = house.person(), house.person()
    replies = at_once([first] * 100, picture("a hundred times"))
    assert sorted(reply.status_code for reply in replies) == [200] * 99 + [202]
    assert len({reply.json()["id"] for reply in replies}) == 1
    assert sum(not reply.json()["reused"] for reply in replies) == 1
    house.wait_for_the_end()
    assert Generation.objects.count() == 1
    assert [call["prompt"] for call in house.sandbox.record(kind="submit")] == ["a hundred times"]

    replies = at_once([first, second] * 50, picture("by two of them"))
    assert sorted(reply.status_code for reply in replies) == [200] * 98 + [202] * 2
    house.wait_for_the_end()
    assert sorted(Generation.objects.values_list("user_id", "status")) == [
        (first.user.pk, "completed"),
        (first.user.pk, "completed"),
        (second.user.pk, "completed"),
    ]
    assert len(house.sandbox.record(kind="submit")) == 3


def test_never_has_more_in_flight_than_the_accounts_allow(house: House) -> None:
    three, two = house.account("modelslab", limit=3), house.account("modelslab", limit=2)
    person = house.person()
    house.sandbox.set_speed(0.2)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(person.ask, [picture(f"number {number}") for number in range(60)]))
    house.wait_for_the_end()
    assert set(Generation.objects.values_list("status", flat=True)) == {"completed"}
    keys = house.sandbox.summary()["keys"]
    assert (keys[three]["most_in_flight"], keys[two]["most_in_flight"]) == (3, 2)
    assert (keys[three]["refused_over_limit"], keys[two]["refused_over_limit"]) == (0, 0)
    assert keys[three]["accepted"] + keys[two]["accepted"] == 60
    assert audit.run(files=True) == []


def test_serves_a_second_user_within_one_slot_turnover(house: House) -> None:
    slots = 2
    house.account("modelslab", limit=slots)
    many, one = house.person(), house.person()
    house.sandbox.set_speed(0.5)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(many.ask, [picture(f"one of very many, {number}") for number in range(200)]))
    one.ask(picture("the only one"))
    last = house.sandbox.record(kind="submit")[-1]["id"]
    house.wait(
        lambda: "the only one" in [call["prompt"] for call in house.sandbox.record(kind="submit")], "its turn", 20
    )
    house.sandbox.set_speed(0)
    later = [call["prompt"] for call in house.sandbox.record(kind="submit", since=last)]
    # Before it come only those that held a slot when it was accepted, and those claimed in one go with it.
    assert later.index("the only one") < 2 * slots, later
    assert Generation.objects.filter(status="pending").count() > 100
    house.wait_for_the_end()
    assert set(Generation.objects.values_list("status", flat=True)) == {"completed"}
