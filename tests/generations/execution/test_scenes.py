"""The scene flow over HTTP, from the request to the picture; and many who ask at once."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from django.contrib.auth.models import User
from knox.models import AuthToken
from PIL import Image
from pytest_django.fixtures import Settings
from pytest_django.live_server_helper import LiveServer

from accounts.models import Wallet
from generations.models import Batch, Chapter, ChapterMember, Generation, Scene
from generations.reports import audit
from tests.factories import ChapterFactory, SceneFactory, UserFactory, WalletFactory
from tests.generations.execution.studio import PRICE, PURSE, Studio

Call = Callable[..., tuple[int, dict[str, Any]]]
AT_ONCE = 8
BODY = {
    "scene_description": "A young wizard discovering magic",
    "style": "cinematic",
    "aspect_ratio": "16:9",
    "script_id": "script-uuid",
}


@pytest.fixture
def call(transactional_db: None, live_server: LiveServer, settings: Settings, tmp_path: Any) -> Call:
    """Calls the API as somebody: status and body."""
    settings.STATIC_ROOT = str(tmp_path)
    tokens: dict[int, str] = {}

    def made(user: User, method: str, path: str, sent: Any = None) -> tuple[int, dict[str, Any]]:
        token = tokens.setdefault(user.pk, "") or AuthToken.objects.create(user)[1]
        tokens[user.pk] = token
        headers = {"Authorization": f"Bearer {token}"}
        url = path if path.startswith("http") else f"{live_server.url}/api/v1{path}"
        reply = requests.request(method, url, json=sent, headers=headers, timeout=30)
        return reply.status_code, reply.json() if reply.content else {}

    return made


@pytest.fixture
def chapter(studio: Studio, call: Call) -> Chapter:
    """The studio's user's."""
    return ChapterFactory.create(owner=studio.user)


def member(chapter: Chapter) -> User:
    """Somebody who may generate, with credits."""
    user = UserFactory.create()
    WalletFactory.create(user=user, available=PURSE)
    ChapterMember.objects.create(chapter=chapter, user=user, access="generate")
    return user


def test_goes_from_the_request_to_the_picture(studio: Studio, call: Call, chapter: Chapter) -> None:
    studio.account()
    scene = f"/chapters/{chapter.pk}/images/scenes/1"

    status, queued = call(studio.user, "POST", scene, BODY)

    assert status == 202
    assert {*queued} >= {
        "task_id", "status", "message", "estimated_time_seconds", "record_id", "scene_number", "retry_count",
    }  # fmt: skip
    assert (queued["status"], queued["task_id"], queued["scene_number"]) == ("queued", queued["record_id"], 1)
    _, now = call(studio.user, "GET", f"{scene}/status")
    assert (now["record_id"], now["status"], now["image_url"]) == (queued["record_id"], "pending", None)
    assert studio.wallet == (PURSE - PRICE, PRICE)

    studio.finish(Generation.objects.get(pk=queued["record_id"]))

    _, now = call(studio.user, "GET", f"{scene}/status")
    assert now == call(studio.user, "GET", f"/scene-images/{queued['record_id']}")[1]
    assert {*now} >= {
        "record_id", "status", "image_url", "scene_number", "retry_count", "progress", "generation_time_seconds",
        "last_attempted_at", "created_at", "updated_at",
    }  # fmt: skip
    assert (now["status"], now["progress"], now["scene_number"]) == ("completed", 100, 1)
    assert now["metadata"]["script_id"] == "script-uuid"
    assert (now["metadata"]["model_used"], now["metadata"]["service"]) == ("flux", "modelslab")
    assert now["metadata"]["generation_time"] == now["generation_time_seconds"] > 0
    picture = requests.get(now["image_url"], timeout=10)
    with Image.open(io.BytesIO(picture.content)) as image:
        assert image.size == (1024, 576)
    assert studio.wallet == (PURSE - PRICE, 0)

    stranger = UserFactory.create()
    for path in (scene, f"{scene}/status", f"/scene-images/{queued['record_id']}"):
        assert call(stranger, "GET", path)[0] == 404
    assert call(stranger, "POST", scene, BODY)[0] == 404
    assert audit.run() == []


def test_makes_one_of_many_clicks_at_once_of_two_members(studio: Studio, call: Call, chapter: Chapter) -> None:
    people = [studio.user, member(chapter)]
    together = threading.Barrier(AT_ONCE)
    scene = f"/chapters/{chapter.pk}/images/scenes/1"
    for person in people:
        call(person, "GET", "/credits")  # makes the tokens

    def click(index: int) -> tuple[int, dict[str, Any]]:
        together.wait(timeout=20)
        return call(people[index % 2], "POST", scene, BODY)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        replies = list(pool.map(click, range(AT_ONCE)))

    assert [status for status, _ in replies] == [202] * AT_ONCE
    made = Generation.objects.get()
    assert {told["record_id"] for _, told in replies} == {str(made.pk)}
    assert sum(not told["reused"] for _, told in replies) == 1
    assert Scene.objects.count() == 1
    held = dict(Wallet.objects.values_list("user", "held"))
    assert sorted(held.values()) == [0, PRICE]
    assert held[made.user_id] == PRICE


def test_asks_for_what_is_missing_once_when_two_ask_at_once(studio: Studio, call: Call, chapter: Chapter) -> None:
    people = [studio.user, member(chapter)]
    scenes = SceneFactory.create_batch(3, chapter=chapter)
    together = threading.Barrier(3)
    for person in people:
        call(person, "GET", "/credits")
    where = f"/chapters/{chapter.pk}/images"
    works: list[tuple[User, str, Any]] = [
        (people[0], f"{where}/generate-missing", {}),
        (people[1], f"{where}/generate-missing", {}),
        (people[1], f"{where}/scenes/{scenes[0].number}", {}),
    ]

    def click(work: tuple[User, str, Any]) -> tuple[int, dict[str, Any]]:
        together.wait(timeout=20)
        return call(work[0], "POST", work[1], work[2])

    with ThreadPoolExecutor(3) as pool:
        replies = list(pool.map(click, works))

    assert sorted(status for status, _ in replies) == [202, 202, 409]
    assert Generation.objects.count() == 3
    assert {scene.takes.count() for scene in scenes} == {1}
    assert Batch.objects.count() == 1
    assert audit.run() == []


def test_deletes_a_chapter_while_somebody_asks_for_a_picture_in_it(
    studio: Studio, call: Call, chapter: Chapter
) -> None:
    person = member(chapter)
    together = threading.Barrier(2)
    for one in (studio.user, person):
        call(one, "GET", "/credits")
    SceneFactory.create_batch(3, chapter=chapter)

    def ask() -> int:
        together.wait(timeout=20)
        return call(person, "POST", f"/chapters/{chapter.pk}/images/scenes/77", BODY)[0]

    def delete() -> int:
        together.wait(timeout=20)
        return call(studio.user, "DELETE", f"/chapters/{chapter.pk}")[0]

    with ThreadPoolExecutor(2) as pool:
        asked, deleted = pool.submit(ask), pool.submit(delete)
        assert (deleted.result(), asked.result() in {202, 404}) == (204, True)

    assert not Scene.objects.exists()
    assert set(Generation.objects.values_list("scene", flat=True)) <= {None}
