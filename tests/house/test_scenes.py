"""A chapter's scene in a whole house, asked for over HTTP as requirement 25 has it."""

from __future__ import annotations

import io

import requests
from PIL import Image

from generations.reports import audit
from tests.house.world import House

ASKED = {
    "scene_description": "A ship leaves the harbour at dawn",
    "style": "cinematic",
    "aspect_ratio": "16:9",
    "script_id": "script-1",
}
TOLD = {
    *("record_id", "status", "image_url", "scene_number", "retry_count", "progress", "generation_time_seconds"),
    *("last_attempted_at", "created_at", "updated_at"),
}


def test_is_answered_at_once_and_ends_as_a_picture_that_no_stranger_sees(house: House) -> None:
    house.account("modelslab", limit=2)
    writer, stranger = house.person(), house.person()
    chapter = writer.call("POST", "/api/v1/chapters", json={"title": "The storm"}).json()["id"]
    scene = f"/api/v1/chapters/{chapter}/images/scenes/1"

    asked = writer.call("POST", scene, json=ASKED)

    told = asked.json()
    assert asked.status_code == 202, asked.text
    assert (told["status"], told["scene_number"], told["retry_count"]) == ("queued", 1, 0)
    assert told["task_id"] == told["record_id"]
    assert told["message"]
    assert told["estimated_time_seconds"] > 0
    house.wait(lambda: bool(writer.call("GET", f"{scene}/status").json()["status"] == "completed"), "the picture")
    for path in (f"{scene}/status", f"/api/v1/scene-images/{told['record_id']}"):
        record = writer.call("GET", path).json()
        assert record.keys() >= TOLD
        assert (record["record_id"], record["status"], record["progress"]) == (told["record_id"], "completed", 100)
        assert record["metadata"]["service"] == "modelslab"
        assert record["metadata"]["script_id"] == "script-1"
        with Image.open(io.BytesIO(requests.get(record["image_url"], timeout=20).content)) as picture:
            assert picture.width > picture.height
        assert stranger.call("GET", path).status_code == 404
    assert stranger.call("POST", scene, json=ASKED).status_code == 404
    assert len(house.sandbox.record(kind="submit")) == 1
    house.wait(audit.services_are_up, "the tick")
    assert audit.run(files=True) == []
