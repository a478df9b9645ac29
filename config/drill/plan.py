"""What is asked and what is struck, and when: the same for the same seed and form. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from config.drill.forms import BAD_DAY, BATCH, Form, Kind

VIDEO_SHARE = 0.2
BATCHES_FROM = 1_000_000
"""What the numbers of batches begin with."""
WORKERS = ("worker-dispatch", "worker-poll", "worker-collect", "worker-maintenance")
LOST = "[[fault:accept_then_drop]] [[fault:lost_callback]]"
# These last: they begin sooner, so that they are over when the others are.
LASTING = frozenset({Kind.ROLLING_RESTART, Kind.CHILDREN_STOPPED})


@dataclass(frozen=True, slots=True)
class Wish:
    """One thing that a person asks for, ``copies`` times at the same moment, ``at`` seconds after the beginning.

    With ``items`` it is a batch of so many.
    """

    number: int
    person: int
    at: float
    body: dict[str, Any]
    copies: int = 1
    items: int = 0

    @property
    def path(self) -> str:
        """Where it is asked for."""
        return "/api/v1/batches" if self.items else "/api/v1/generations"


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault of a process or server; ``target`` is empty where the kind says it all."""

    at: float
    kind: Kind
    target: str = ""


def wishes(form: Form, seed: int) -> list[Wish]:
    """All requests in the order of their times.

    Each fault of a bad day is asked for once by name, early, the slow ones first; beside that it comes as its rate
    has it.
    """
    rng = random.Random(f"wishes {form.name} {seed}")
    numbers = range(form.generations)
    twice = set(rng.sample(numbers, form.duplicates))
    markers = [marker(name) for name in BAD_DAY] + [LOST] * form.lost_for_good
    marked = dict(zip(sorted(rng.sample(range(form.generations // 2), len(markers))), markers, strict=True))
    return [
        Wish(
            number=number,
            person=rng.randrange(form.people),
            at=form.seconds * (number + rng.random()) / form.generations,
            body=_body(rng, seed, number, marked.get(number, "")),
            copies=2 if number in twice else 1,
        )
        for number in numbers
    ]


def batches(form: Form, seed: int, poses: Sequence[Sequence[int]]) -> list[Wish]:
    """All batches in the order of their times. ``poses``: each person's library items, by their ids."""
    rng = random.Random(f"batches {form.name} {seed}")
    _items, variations = BATCH
    made = []
    for number in range(form.batches):
        person = rng.randrange(form.people)
        prompt = f"drill {seed}, batch {number}"
        made.append(
            Wish(
                number=BATCHES_FROM + number,
                person=person,
                at=form.seconds * (number + rng.random()) / form.batches,
                body={
                    **picture(prompt),
                    "mode": "gallery",
                    "items": [{"library_item": pose, "variations": variations} for pose in poses[person]],
                },
                items=len(poses[person]) * variations,
            )
        )
    return made


def marker(fault: str) -> str:
    """What in a prompt asks for a fault, once: as by its rate, another attempt meets it no more."""
    return f"[[fault:{fault}*1]]"


def beyond(seed: int, number: int, at: float, words: str) -> Wish:
    """A request beyond the plan, of the first person, for a picture whose submit goes wrong in a certain way."""
    body = picture(f"drill {seed}, extra {number} {words}")
    return Wish(number, 0, at, {**body, "priority": 9})


def strikes(form: Form, seed: int) -> list[Strike]:
    """All strikes in the order of their times: evenly, and each kind over the whole time."""
    rng = random.Random(f"strikes {form.name} {seed}")
    places: list[tuple[float, Kind, str]] = []
    for kind, times in sorted(form.strikes.items()):
        targets = _targets(rng, kind)
        for number in range(times):
            place = (number + rng.random() * (0.5 if kind in LASTING else 1)) / times
            places.append((place, kind, next(targets)))
    step = (form.last_strike - form.first_strike) / len(places)
    return [
        Strike(form.first_strike + step * (number + rng.uniform(0.1, 0.9)), kind, target)
        for number, (_place, kind, target) in enumerate(sorted(places))
    ]


def _targets(rng: random.Random, kind: Kind) -> Iterator[str]:
    """Whom this kind hits, one after another; the dispatcher, who may pay, first."""
    if kind in {Kind.WORKER_KILLED, Kind.CHILD_KILLED}:
        first, *others = WORKERS
    elif kind == Kind.CHILDREN_STOPPED:
        first, *others = WORKERS[:3]
    elif kind == Kind.BEAT_KILLED:
        first, *others = "beat", "beat-2"
    else:
        first, others = "", []
    while True:
        yield from (first, *rng.sample(others, len(others)))


def _body(rng: random.Random, seed: int, number: int, words: str) -> dict[str, Any]:
    prompt = f"drill {seed}, number {number}"
    if not words and rng.random() < VIDEO_SHARE:
        return video(prompt)
    return picture(f"{prompt} {words}".strip())


def picture(prompt: str) -> dict[str, Any]:
    """A request for a small picture, which is not ready in the reply to its submit."""
    params = {"prompt": prompt, "width": 264, "height": 264}
    return {"operation_type": "text_to_image", "provider_id": "modelslab", "params": params}


def video(prompt: str) -> dict[str, Any]:
    """A request for a video."""
    params = {"prompt": prompt, "quality": "540p"}
    return {"operation_type": "text_to_video", "provider_id": "pixverse", "params": params}
