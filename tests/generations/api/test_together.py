"""Many at once, over real HTTP, against real PostgreSQL."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from django.contrib.auth.models import User
from knox.models import AuthToken
from pytest_django.live_server_helper import LiveServer

from accounts.models import LedgerEntry, Wallet
from generations.models import Event, Generation, IdempotencyKey
from tests.factories import PriceFactory, UserFactory, WalletFactory

BODY = {
    "operation_type": "text_to_video",
    "provider_id": "pixverse",
    "params": {"prompt": "test video", "quality": "720p"},
}
PostMany = Callable[..., list[tuple[int, dict[str, Any]]]]
AT_ONCE = 20
IN_ALL = 100

Reply = tuple[int, dict[str, Any]]


@pytest.fixture
def post_many(live_server: LiveServer) -> PostMany:
    """Posts the same body with each of the tokens in turn, ``AT_ONCE`` at a time; the replies."""

    def post(users: list[User], number: int = IN_ALL, **headers: str) -> list[Reply]:
        tokens = [AuthToken.objects.create(user)[1] for user in users]
        together = threading.Barrier(AT_ONCE)

        def one(index: int) -> Reply:
            if index < AT_ONCE:
                together.wait(timeout=20)
            reply = requests.post(
                f"{live_server.url}/api/v1/generations",
                data=json.dumps(BODY),
                headers={
                    "Content-Type": "application/json",
                    "Authorization": f"Bearer {tokens[index % len(tokens)]}",
                    **headers,
                },
                timeout=30,
            )
            return reply.status_code, reply.json()

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(one, range(number)))

    return post


def test_makes_one_of_a_hundred_identical_at_once(transactional_db: None, post_many: PostMany) -> None:
    user = UserFactory.create()
    PriceFactory.create(provider_id="pixverse", operation_type="text_to_video", credits=3)
    WalletFactory.create(user=user, available=100)

    replies = post_many([user])

    assert {told["id"] for _, told in replies} == {str(Generation.objects.get().pk)}
    assert sorted(status for status, _ in replies) == [200] * (IN_ALL - 1) + [202]
    assert sum(not told["reused"] for _, told in replies) == 1
    wallet = Wallet.objects.get(user=user)
    assert (wallet.available, wallet.held) == (97, 3)
    assert LedgerEntry.objects.filter(kind="hold").count() == 1
    assert Event.objects.filter(kind="accepted").count() == 1


def test_makes_two_of_the_same_from_two_users(transactional_db: None, post_many: PostMany) -> None:
    users = [UserFactory.create(), UserFactory.create()]

    replies = post_many(users)

    assert sorted(Generation.objects.values_list("user", flat=True)) == sorted(user.pk for user in users)
    assert sorted(status for status, _ in replies) == [200] * (IN_ALL - 2) + [202, 202]
    assert len({told["id"] for _, told in replies}) == 2


def test_answers_one_idempotency_key_alike_at_once(transactional_db: None, post_many: PostMany) -> None:
    replies = post_many([UserFactory.create()], 40, **{"Idempotency-Key": "the one"})

    # Who lost the race for the key is answered with the winner's Generation, or asked to send it again.
    assert {status for status, _ in replies} <= {200, 202, 409}
    assert {told["id"] for status, told in replies if status != 409} == {str(Generation.objects.get().pk)}
    assert IdempotencyKey.objects.count() == 1
