"""Edit and replay in the console: it"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Price, Wallet
from generations.lifecycle import State, Status
from generations.models import Event, Generation
from tests.factories import (
    GenerationFactory,
    PriceFactory,
    SubmissionFactory,
    WalletFactory,
    completed_generation,
)

GIVEN = {"prompt": "a lighthouse", "quality": "720p", "duration": 5, "model": "v5"}


@pytest.fixture
def letter(db: None) -> Generation:
    """One that failed, of somebody with credits, at 10 a video."""
    PriceFactory.create(provider_id="pixverse", operation_type="text_to_video", credits=10)
    user = WalletFactory.create(available=100).user
    return GenerationFactory.create(user=user, status=Status.FAILED, raw_params=GIVEN)


def page_of(generation: Generation) -> str:
    return reverse("admin:generations_generation_edit", args=[generation.pk])


def typed(client: Client, generation: Generation, **changes: str) -> dict[str, str]:
    """The page's form as it is sent when some fields were changed."""
    form = client.get(page_of(generation)).context["form"]
    values = {field.name: field.value() for field in form}
    return {
        **{name: str(value) for name, value in values.items() if value is not False},
        "retries": str(generation.retries.count()),
        **changes,
    }


def check(client: Client, generation: Generation, **changes: str) -> tuple[Any, dict[str, str]]:
    """Press "check": the page, and the form to send next."""
    sent = typed(client, generation, **changes)
    page = client.post(page_of(generation), {**sent, "check": "yes"})
    assert page.status_code == 200
    return page, {**sent, "checked": page.context.get("token", ""), "replay": "yes"}


def test_shows_the_params_as_they_were(console: Client, letter: Generation) -> None:
    page = console.get(page_of(letter))

    form = page.context["form"]
    assert (form["prompt"].value(), form["quality"].value(), form["duration"].value()) == ("a lighthouse", "720p", "5")
    assert "data-once" in page.content.decode()
    assert Generation.objects.count() == 1


def test_shows_what_changes_and_what_it_costs_before_it_makes_anything(console: Client, letter: Generation) -> None:
    Price.objects.create(provider_id="pixverse", operation_type="text_to_video", model="v6", credits=40)

    page, _ = check(console, letter, prompt="a lighthouse by day", model="v6")

    assert page.context["changes"] == [
        ("Model", "v5", "v6"),
        ("Prompt", "a lighthouse", "a lighthouse by day"),
    ], "what has only got a default since is no change"
    text = page.content.decode()
    assert "<strong>40 credits</strong>; 100 are available" in text
    assert "<del>a lighthouse</del> <ins>a lighthouse by day</ins>" in text
    assert Generation.objects.count() == 1


def test_makes_a_new_one_with_the_changed_params(console: Client, letter: Generation, admin: User) -> None:
    _, form = check(console, letter, prompt="a lighthouse by day")

    response = console.post(page_of(letter), form)

    made = letter.retries.get()
    assert response["Location"] == reverse("admin:generations_generation_change", args=[made.pk])
    assert (made.params["prompt"], made.params["quality"], made.price) == ("a lighthouse by day", "720p", 10)
    assert made.fingerprint != letter.fingerprint
    told = letter.events.get(kind=Event.Kind.RETRIED)
    assert (told.actor, told.data["changed"]) == (f"admin:{admin.pk}", ["prompt"])
    assert Wallet.objects.get(user=letter.user).held == 10


def test_makes_nothing_that_was_not_looked_at(console: Client, letter: Generation) -> None:
    _, form = check(console, letter, prompt="a lighthouse by day")

    for unseen in ({"prompt": "something else"}, {"checked": ""}):
        page = console.post(page_of(letter), {**form, **unseen})
        assert page.status_code == 200
    Price.objects.update(credits=99)
    page = console.post(page_of(letter), form)

    assert "<strong>99 credits</strong>" in page.content.decode()
    assert Generation.objects.count() == 1


def test_says_what_is_wrong_beside_the_field(console: Client, letter: Generation) -> None:
    page, _ = check(console, letter, duration="7", prompt="  ")
    assert page.context["form"].errors["prompt"]
    page, _ = check(console, letter, duration="7")

    assert page.context["form"].errors == {"duration": ["model v5 makes 5 or 8 seconds"]}
    assert "token" not in page.context
    assert Generation.objects.count() == 1


def test_makes_one_for_two_clicks(console: Client, letter: Generation) -> None:
    _, form = check(console, letter, prompt="a lighthouse by day")
    console.post(page_of(letter), form)
    made = letter.retries.get()
    # Even when the first one has ended before the second click arrives.
    Generation.objects.filter(pk=made.pk).update(
        status=Status.FAILED, completed_at=timezone.now(), active_fingerprint=None
    )

    response = console.post(page_of(letter), form, follow=True)

    assert "nothing more was done" in response.content.decode()
    assert letter.retries.count() == 1


def test_insists_only_with_a_tick_while_an_attempt_may_be_billed(console: Client, letter: Generation) -> None:
    SubmissionFactory.create(generation=letter, state=State.UNKNOWN, abandoned_at=timezone.now())
    page, form = check(console, letter, prompt="a lighthouse by day")
    assert "may still be billed" in page.content.decode()

    page = console.post(page_of(letter), form)
    assert "Nothing was made." in page.content.decode()
    assert not letter.retries.exists()
    console.post(page_of(letter), {**form, "insist": "yes"})

    assert letter.retries.count() == 1


def test_names_the_answer_that_is_there_already_and_pays_for_none(console: Client, letter: Generation) -> None:
    _, form = check(console, letter, prompt="a lighthouse by day")
    console.post(page_of(letter), form)
    made = letter.retries.get()
    Generation.objects.filter(pk=made.pk).update(status=Status.COMPLETED, completed_at=timezone.now())
    other = GenerationFactory.create(user=letter.user, status=Status.FAILED, raw_params=GIVEN)

    _, form = check(console, other, prompt="a lighthouse by day")
    page = console.post(page_of(other), form).content.decode()

    assert "was completed already" in page
    assert str(made.pk) in page
    assert not other.retries.exists()
    console.post(page_of(other), {**form, "insist": "yes"})
    assert other.retries.count() == 1


def test_says_when_the_user_cannot_pay(console: Client, letter: Generation) -> None:
    Price.objects.update(credits=1000)
    page, form = check(console, letter, prompt="a lighthouse by day")
    assert "has not enough credits" in page.content.decode()

    console.post(page_of(letter), form)

    assert not letter.retries.exists()


def test_is_not_offered_for_what_has_an_answer_or_no_end(console: Client) -> None:
    for row in (completed_generation(), GenerationFactory.create()):
        assert "This is not possible now" in console.get(page_of(row)).content.decode()
        console.post(page_of(row), {"prompt": "x", "replay": "yes", "checked": "x"})
    assert Generation.objects.count() == 2


def test_survives_a_provider_that_is_gone(console: Client) -> None:
    row = GenerationFactory.create(status=Status.FAILED, provider_id="closed_down")

    assert "has no text_to_video any more" in console.get(page_of(row)).content.decode()


def test_is_forbidden_for_whoever_may_only_look(staff: Callable[..., Client], letter: Generation) -> None:
    looker = staff("view_generation")
    assert looker.get(page_of(letter)).status_code == 403
    assert looker.post(page_of(letter), {"prompt": "x"}).status_code == 403
