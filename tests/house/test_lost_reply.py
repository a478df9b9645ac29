"""A submit whose reply is lost, through the whole house: asked for once, known in the end, the money right."""

from __future__ import annotations

from typing import Any

import pytest

from accounts import credits
from accounts.models import Wallet
from generations.models import Generation, Submission
from generations.reports import audit
from tests.factories import PriceFactory
from tests.house.world import House, Person, picture, video

PRICE, PURSE = 10, 100
LOST = "[[fault:accept_then_drop]]"
SILENT = f"{LOST}[[fault:lost_callback]]"


def asked(house: House, body: dict[str, Any]) -> tuple[Person, Generation]:
    """Somebody with credits asks for one; it is sent, and its outcome is unknown or was."""
    person = house.person()
    PriceFactory.create(provider_id=body["provider_id"], operation_type=body["operation_type"], credits=PRICE)
    credits.grant(person.user.pk, PURSE, reason="for a test", actor="test")
    house.account(body["provider_id"], limit=2)
    made = person.ask(body)
    house.wait(lambda: bool(house.sandbox.record(kind="submit")), "its submit")
    return person, Generation.objects.get(pk=made)


def inbox(house: House) -> list[dict[str, Any]]:
    """What an operator is shown."""
    operator = house.person()
    operator.user.is_staff = operator.user.is_superuser = True
    operator.user.save()
    found: list[dict[str, Any]] = operator.call("GET", "/api/v1/unknown-outcomes").json()["results"]
    return found


def was_asked_once(house: House, generation: Generation) -> bool:
    """By the sandbox's own record."""
    [attempt] = Submission.objects.filter(generation=generation)
    return [call["request_id"] for call in house.sandbox.record(kind="submit")] == [str(attempt.pk)]


@pytest.mark.parametrize(
    ("body", "known_by"),
    [(picture(f"a heron {LOST}"), "callback"), (video(f"a heron {LOST}", "360p"), "found")],
    ids=["by_callback", "by_the_providers_own_list"],
)
def test_ends_with_the_result_as_soon_as_the_job_is_known(house: House, body: dict[str, Any], known_by: str) -> None:
    person, generation = asked(house, body)

    house.wait_for_the_end()

    generation.refresh_from_db()
    assert generation.status == "completed"
    assert was_asked_once(house, generation)
    assert {"outcome_unknown", known_by} <= set(generation.events.values_list("kind", flat=True))
    wallet = Wallet.objects.get(user=person.user)
    assert (wallet.available, wallet.held) == (PURSE - PRICE, 0)
    assert inbox(house) == []


def test_ends_at_its_limit_when_nobody_tells(house: House) -> None:
    person, generation = asked(house, picture(f"a heron {SILENT}"))
    house.wait(lambda: [row["generation"] for row in inbox(house)] == [str(generation.pk)], "the inbox")
    wallet = Wallet.objects.get(user=person.user)
    assert (wallet.available, wallet.held) == (PURSE - PRICE, PRICE)

    house.wait_for_the_end()

    generation.refresh_from_db()
    assert (generation.status, generation.error_code) == ("failed", "outcome_unknown")
    assert was_asked_once(house, generation)
    [attempt] = Submission.objects.filter(generation=generation)
    assert (attempt.state, attempt.cost_at_risk) == ("failed", True)
    wallet.refresh_from_db()
    assert (wallet.available, wallet.held) == (PURSE, 0)
    [row] = inbox(house)
    assert (row["id"], row["keeps_slot"]) == (str(attempt.pk), False)
    house.wait(audit.services_are_up, "the tick")
    assert audit.run(files=True) == []
