"""Users of a house: the API as each of them sees it, and what they note of it."""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import requests
from django.contrib.auth import get_user_model
from knox.models import AuthToken

from config.drill.plan import Wish

ASKING_AT_ONCE = 16
PAUSE_SECONDS = 0.5
PATIENCE_SECONDS = 120
"""How long a person asks again for an answer."""


class Person:
    """A new user with a token. Made where Django's connection leads to the house; its calls need none."""

    def __init__(self, url: str) -> None:
        self.user = get_user_model().objects.create_user(f"person-{secrets.token_hex(6)}")
        self.token: str = AuthToken.objects.create(self.user, expiry=None)[1]
        self._url = url

    def call(self, method: str, path: str, *, key: str = "", **options: Any) -> requests.Response:
        """One request on a connection of its own; may be made in any thread. ``key`` is an Idempotency-Key."""
        with requests.Session() as session:
            session.trust_env = False  # a proxy has no business between us and our own house
            headers = {"Authorization": f"Bearer {self.token}"}
            if key:
                headers["Idempotency-Key"] = key
            return session.request(method, self._url + path, headers=headers, timeout=30, **options)

    def post(self, body: Mapping[str, Any], *, key: str = "", path: str = "/api/v1/generations") -> requests.Response:
        """Ask for one Generation, or, at another ``path``, for something else."""
        return self.call("POST", path, key=key, json=body)


@dataclass(slots=True)
class Note:
    """What a person was told about one request: the last answer, and what had come instead of one before.

    ``generation``: the id of what was accepted, a batch's too.
    """

    wish: Wish
    copy: int
    status: int = 0
    generation: str = ""
    reused: bool = False
    detail: str = ""
    unanswered: Counter[str] = field(default_factory=Counter)
    seconds: float = 0

    @property
    def accepted(self) -> bool:
        """Whether the API took it on, as a new one or as one that it had."""
        return self.status in (200, 202)


class Crowd:
    """All people of a drill, who ask in threads and keep their own books."""

    def __init__(self, people: Sequence[Person], seed: int) -> None:
        self.people = people
        self.seed = seed
        self.notes: list[Note] = []
        self.leaving = threading.Event()
        self._pool = ThreadPoolExecutor(ASKING_AT_ONCE, thread_name_prefix="person")
        self._under_way: list[Future[None]] = []

    def ask(self, wish: Wish) -> None:
        """Have it asked for, as often as it says, at the same moment; returns at once."""
        for copy in range(wish.copies):
            note = Note(wish, copy)
            self.notes.append(note)
            self._under_way.append(self._pool.submit(self._ask, note))

    def waiting(self) -> int:
        """How many have no final answer yet."""
        self._under_way = [future for future in self._under_way if not future.done()]
        return len(self._under_way)

    def close(self) -> None:
        """Nobody asks any more."""
        self.leaving.set()
        self._pool.shutdown(cancel_futures=True)

    def _ask(self, note: Note) -> None:
        """Until there is an answer, with the same Idempotency-Key: what came of a lost answer is not known."""
        person = self.people[note.wish.person]
        key = f"drill-{self.seed}-{note.wish.number}-{note.copy}"
        started = time.monotonic()
        while not self.leaving.is_set():
            reply = self._once(person, note, key)
            if reply is not None:
                note.seconds = time.monotonic() - started
                note.status = reply.status_code
                told = _object(reply)
                note.generation = str(told.get("id") or told.get("generation") or "")
                note.reused = bool(told.get("reused"))
                note.detail = str(told.get("code") or "")
                return
            if time.monotonic() - started > PATIENCE_SECONDS:
                note.detail = "no answer, however often it was asked"
                return
            self.leaving.wait(PAUSE_SECONDS)

    def _once(self, person: Person, note: Note, key: str) -> requests.Response | None:
        """One POST; None when its answer says nothing (or none came): then it is made again."""
        try:
            reply = person.post(note.wish.body, key=key, path=note.wish.path)
        except requests.RequestException as error:
            note.unanswered[type(error).__name__] += 1
            return None
        if reply.status_code == 503 or (reply.status_code == 409 and _object(reply).get("code") == "try_again"):
            note.unanswered[str(reply.status_code)] += 1
            return None
        return reply


def _object(reply: requests.Response) -> dict[str, Any]:
    """The JSON object of an answer; what is none says nothing but its status."""
    try:
        told = reply.json()
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
