"""Cancel in every state and by every entrance, each followed to its end: one end, and the money right.

The attempts are real ones at the sandbox. What two threads do at the same moment is in ``tests/proof/test_races.py``;
here is every order of a cancel, its grace and the result, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from knox.models import AuthToken
from rest_framework.test import APIClient

from generations.execution import recover
from generations.execution.claim import claim
from generations.execution.dispatch import send
from generations.lifecycle import BILLABLE, State, Status
from generations.models import Generation, Submission
from generations.reports import audit
from tests.factories import UserFactory
from tests.generations.execution.studio import PRICE, PURSE, Studio

pytestmark = pytest.mark.django_db

AT_ONCE = ["pending", "scheduled", "backing_off", "reserved"]
AFTER_A_GRACE = ["sending", "unknown", "accepted"]
TOO_LATE = ["collecting"]
ENDED = ["completed", "failed", "cancelled"]
CANCELLED = (["hold", "release"], (PURSE, 0))
CAPTURED = (["capture", "hold"], (PURSE - PRICE, 0))
STILL_HELD = (["hold"], (PURSE - PRICE, PRICE))


# --- the states ---------------------------------------------------------------------------------------


def _asked(studio: Studio, fault: str = "", **more: Any) -> Generation:
    studio.account(limit=3)
    return studio.ask(fault, **more)


def _pending(studio: Studio) -> Generation:
    return _asked(studio)


def _scheduled(studio: Studio) -> Generation:
    return _asked(studio, scheduled_at=timezone.now() + timedelta(hours=1))


def _backing_off(studio: Studio) -> Generation:
    """Its first attempt was refused for good, without a job."""
    generation = _asked(studio, "503_before:1")
    studio.dispatch()
    return generation


def _reserved(studio: Studio) -> Generation:
    generation = _asked(studio)
    claim("modelslab", uuid4(), 1)
    return generation


def _sending(studio: Studio) -> Generation:
    """It is about to leave, or has: its dispatcher says nothing more."""
    generation = _asked(studio)
    token = uuid4()
    send(claim("modelslab", token, 1), token)
    return generation


def _unknown(studio: Studio) -> Generation:
    generation = _asked(studio, "accept_then_drop lost_callback")
    studio.dispatch()
    return generation


def _accepted(studio: Studio) -> Generation:
    generation = _asked(studio, "never_finishes")
    studio.dispatch()
    return generation


def _collecting(studio: Studio) -> Generation:
    generation = _asked(studio)
    studio.dispatch()
    studio.poll_to_the_end(studio.attempt(generation))
    return generation


def _completed(studio: Studio) -> Generation:
    return studio.finish(_asked(studio))


def _failed(studio: Studio) -> Generation:
    return studio.finish(_asked(studio, "moderated_input"))


def _cancelled(studio: Studio) -> Generation:
    generation = _asked(studio)
    by_api(generation)
    return generation


IN_STATE: dict[str, Callable[[Studio], Generation]] = {
    "pending": _pending,
    "scheduled": _scheduled,
    "backing_off": _backing_off,
    "reserved": _reserved,
    "sending": _sending,
    "unknown": _unknown,
    "accepted": _accepted,
    "collecting": _collecting,
    "completed": _completed,
    "failed": _failed,
    "cancelled": _cancelled,
}


def _is_in(state: str, generation: Generation, studio: Studio) -> bool:
    """Whether it really stands where its name says."""
    studio.look(generation)
    match state:
        case "pending":
            return generation.status == Status.PENDING and generation.not_before is None
        case "scheduled":
            return generation.status == Status.PENDING and generation.not_before == generation.scheduled_at
        case "backing_off":
            return generation.status == Status.PENDING and generation.error_retries == 1 and bool(generation.not_before)
        case "completed" | "failed" | "cancelled":
            return generation.status == state
        case _:
            return generation.status == Status.PROCESSING and studio.attempt(generation).state == state


# --- the entrances --------------------------------------------------------------------------------------


def by_api(generation: Generation) -> str:
    """``POST /api/v1/generations/{id}/cancel`` by its owner."""
    _, token = AuthToken.objects.create(generation.user)
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    reply = api.post(f"/api/v1/generations/{generation.pk}/cancel")
    return {200: "cancelled", 202: "asked"}.get(reply.status_code) or reply.json()["code"]


def _console() -> Client:
    console = Client()
    console.force_login(UserFactory.create(is_staff=True, is_superuser=True))
    return console


def _answer(generation: Generation, before: Generation, messages: list[str]) -> str:
    """What the console's words come to, by what has become of it."""
    generation.refresh_from_db()
    if generation.status != before.status:
        return "cancelled"
    if generation.cancel_requested_at != before.cancel_requested_at:
        return "asked"
    told = " ".join(messages)
    return "already_ended" if "already" in told else "too_late" if "result is being fetched" in told else told


def by_its_page(generation: Generation) -> str:
    """The console's button, through the page that asks first."""
    console, before = _console(), Generation.objects.get(pk=generation.pk)
    place = reverse("admin:generations_generation_cancel", args=[generation.pk])
    assert console.get(place).status_code == 200
    reply = console.post(place, {"retries": "0"}, follow=True)
    return _answer(generation, before, [str(message) for message in reply.context["messages"]])


def by_the_list(generation: Generation) -> str:
    """The console's action on selected rows."""
    console, before = _console(), Generation.objects.get(pk=generation.pk)
    place = reverse("admin:generations_generation_changelist")
    form = {"action": "cancel_selected", "select_across": "0", "_selected_action": [str(generation.pk)]}
    token = console.post(place, form).context["token"]
    reply = console.post(place, {**form, "progress": token}, follow=True)
    return _answer(generation, before, [str(message) for message in reply.context["messages"]])


ENTRANCES = [by_api, by_its_page, by_the_list]
Entrance = Callable[[Generation], str]
by_every_entrance = pytest.mark.parametrize("entrance", ENTRANCES, ids=lambda entrance: entrance.__name__)


# --- what must hold ---------------------------------------------------------------------------------------


def money(studio: Studio, generation: Generation) -> tuple[list[str], tuple[int, int]]:
    """The ledger of one, and the purse."""
    return studio.money(generation), studio.wallet


def ends(studio: Studio, generation: Generation) -> list[str]:
    return [kind for kind in studio.events(generation) if kind in ENDED]


def the_grace_is_over(studio: Studio, generation: Generation) -> None:
    studio.past(generation, "cancel_at")
    recover.recover()


def let_everything_end(studio: Studio) -> None:
    """Whatever is left of it at the provider comes to its end, by its limit at the latest."""
    for _ in range(3):
        for row in Submission.objects.filter(state=State.SENDING):
            studio.past(row, "lease_until")  # its dispatcher is dead
        recover.recover()
        for row in Submission.objects.open():
            studio.past(row, "limit_at", "next_poll_at")
        recover.recover()
        studio.poll()
        studio.collect()


def all_is_well(studio: Studio) -> None:
    """No slot is held any more, and no invariant broken."""
    let_everything_end(studio)
    assert not Submission.objects.holding_slot().exists()
    assert audit.run(files=True) == []


@by_every_entrance
@pytest.mark.parametrize("state", AT_ONCE)
def test_ends_at_once_what_has_not_left(studio: Studio, state: str, entrance: Entrance) -> None:
    generation = IN_STATE[state](studio)
    assert _is_in(state, generation, studio)
    asked = studio.submits(generation)

    assert entrance(generation) == "cancelled"

    assert studio.look(generation).status == Status.CANCELLED
    assert money(studio, generation) == CANCELLED
    studio.due()
    studio.dispatch()
    assert studio.look(generation).status == Status.CANCELLED, "it came back to life"
    assert studio.submits(generation) == asked, "nothing was sent after it"
    assert ends(studio, generation) == ["cancelled"]
    all_is_well(studio)


@by_every_entrance
@pytest.mark.parametrize("state", AFTER_A_GRACE)
def test_ends_after_its_grace_what_may_have_left(studio: Studio, state: str, entrance: Entrance) -> None:
    generation = IN_STATE[state](studio)
    assert _is_in(state, generation, studio)

    assert entrance(generation) == "asked"

    assert studio.look(generation).status == Status.PROCESSING
    assert money(studio, generation) == STILL_HELD
    recover.recover()
    assert studio.look(generation).status == Status.PROCESSING, "the grace is not over"
    the_grace_is_over(studio, generation)
    assert studio.look(generation).status == Status.CANCELLED
    assert money(studio, generation) == CANCELLED
    attempt = studio.attempt(generation)
    assert (attempt.state in BILLABLE, attempt.abandoned_at is not None) == (True, True), (
        "it may be billed: followed on"
    )
    assert generation.active_fingerprint == generation.fingerprint, "the same request is not paid for beside it"
    all_is_well(studio)
    assert ends(studio, generation) == ["cancelled"]
    assert studio.look(generation).active_fingerprint is None
    assert money(studio, generation) == CANCELLED


@by_every_entrance
@pytest.mark.parametrize("state", TOO_LATE)
def test_keeps_a_result_that_is_being_fetched(studio: Studio, state: str, entrance: Entrance) -> None:
    generation = IN_STATE[state](studio)
    assert _is_in(state, generation, studio)

    assert entrance(generation) == "too_late"

    assert studio.look(generation).cancel_requested_at is None
    studio.collect()
    assert studio.look(generation).status == Status.COMPLETED
    assert (ends(studio, generation), money(studio, generation)) == (["completed"], CAPTURED)
    all_is_well(studio)


@by_every_entrance
@pytest.mark.parametrize("state", ENDED)
def test_changes_nothing_of_what_has_ended(studio: Studio, state: str, entrance: Entrance) -> None:
    generation = IN_STATE[state](studio)
    assert _is_in(state, generation, studio)
    before = Generation.objects.filter(pk=generation.pk).values().get(), money(studio, generation)

    assert entrance(generation) == "already_ended"

    assert (Generation.objects.filter(pk=generation.pk).values().get(), money(studio, generation)) == before
    assert ends(studio, generation) == [state]
    all_is_well(studio)


@by_every_entrance
@pytest.mark.parametrize("state", AFTER_A_GRACE)
def test_asks_once_however_often_it_is_asked(studio: Studio, state: str, entrance: Entrance) -> None:
    generation = IN_STATE[state](studio)
    entrance(generation)
    first = studio.look(generation).cancel_at
    for again in ENTRANCES:
        again(generation)
    assert studio.look(generation).cancel_at == first
    assert studio.events(generation).count("cancel_requested") == 1
    the_grace_is_over(studio, generation)
    assert (ends(studio, generation), money(studio, generation)) == (["cancelled"], CANCELLED)
    all_is_well(studio)


# --- the cancel, its grace and the result, in every order -------------------------------------------------


@by_every_entrance
def test_lets_a_result_within_the_grace_win(studio: Studio, entrance: Entrance) -> None:
    """The provider is done before the grace is over, which then ends while the result is fetched."""
    generation = _asked(studio)
    studio.dispatch()
    assert entrance(generation) == "asked"
    studio.poll_to_the_end(studio.attempt(generation))

    the_grace_is_over(studio, generation)
    assert studio.look(generation).status == Status.PROCESSING, "the result is there: it wins"
    assert entrance(generation) == "too_late"
    studio.collect()

    assert studio.look(generation).status == Status.COMPLETED
    assert (ends(studio, generation), money(studio, generation)) == (["completed"], CAPTURED)
    all_is_well(studio)


@by_every_entrance
@pytest.mark.parametrize("fault", ["job_failed", "404_url"])
def test_asks_for_nothing_more_when_there_is_no_result(
    studio: Studio, limits: Callable[..., None], fault: str, entrance: Entrance
) -> None:
    """Its job fails, or what it made cannot be had: another attempt would follow, were it not for the cancel."""
    limits(collect_tries=1)
    generation = _asked(studio, fault)
    studio.dispatch()
    assert entrance(generation) == "asked"
    studio.poll_to_the_end(studio.attempt(generation))
    studio.collect()

    assert studio.look(generation).status == Status.CANCELLED
    assert (ends(studio, generation), money(studio, generation)) == (["cancelled"], CANCELLED)
    assert len(studio.submits(generation)) == 1
    all_is_well(studio)


@by_every_entrance
def test_keeps_a_result_after_the_grace_and_charges_nothing(studio: Studio, entrance: Entrance) -> None:
    generation = _asked(studio)
    studio.dispatch()
    attempt = studio.attempt(generation)
    assert entrance(generation) == "asked"
    the_grace_is_over(studio, generation)
    assert studio.look(generation).status == Status.CANCELLED

    studio.poll_to_the_end(attempt)
    studio.collect()

    assert studio.attempt(generation).state == State.SUCCEEDED
    assert len(studio.assets(generation)) == 1
    assert studio.incidents(attempt) == ["late_result"]
    assert studio.look(generation).status == Status.CANCELLED
    assert (ends(studio, generation), money(studio, generation)) == (["cancelled"], CANCELLED)
    all_is_well(studio)
