"""What users say about webhooks: it ..."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from pytest_django.fixtures import Settings

from accounts.encryption import decrypt
from generations.execution import settle
from generations.execution.settle import Ending
from generations.intake import webhooks
from generations.intake.errors import Conflict, Invalid, PaymentRequired
from generations.intake.request import Idempotency, Request, accept
from generations.intake.retry import retry
from generations.intake.webhooks import Change
from generations.lifecycle import Status
from generations.models import Generation, WebhookDelivery, WebhookEndpoint, WebhookSecret
from generations.models.webhook import FILTERABLE
from tests.factories import (
    GenerationFactory,
    PriceFactory,
    UserFactory,
    WebhookDeliveryFactory,
    WebhookEndpointFactory,
)
from tests.generations.intake.conftest import Scale
from tests.together import together

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("hints")]

URL = "https://hooks.example.com/me"
OWNER, OPERATOR = WebhookEndpoint.Reason.OWNER, WebhookEndpoint.Reason.OPERATOR


@pytest.fixture
def hints(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The wake-ups that would have been sent."""
    sent: list[str] = []
    monkeypatch.setattr("generations.wakeups._wake", lambda name, **_: sent.append(name.rpartition(".")[2]))
    return sent


def add(user: User, url: str = URL, **more: Any) -> tuple[WebhookEndpoint, str]:
    return webhooks.add(user.pk, url=url, events=more.pop("events", FILTERABLE), **more)


def ask(user: User, url: str | None = URL, *, key: str = "", **more: Any) -> Generation:
    request = Request("pixverse", "text_to_video", {"prompt": "test video"}, webhook_url=url, **more)
    once = Idempotency(key, "0" * 64) if key else None
    return accept(user.pk, request, idempotency=once, actor=f"user:{user.pk}").generation


def end(generation: Generation, status: Status = Status.COMPLETED) -> None:
    settle.end([Ending(generation.pk, status)], actor="test")


def told(generation: Generation) -> list[tuple[str, str, str]]:
    """(URL, event, state) of its deliveries."""
    rows = WebhookDelivery.objects.filter(generation=generation).order_by("endpoint__url")
    return list(rows.values_list("endpoint__url", "event", "state"))


# --- endpoints -------------------------------------------------------------------------------------------


def test_stores_a_secret_encrypted_and_tells_it_once(user: User) -> None:
    endpoint, secret = add(user)
    assert secret.startswith("whsec_")
    assert endpoint.secret is not None
    stored = bytes(WebhookSecret.objects.get().secret_encrypted)
    assert secret.encode() not in stored
    assert decrypt(stored) == {"secret": secret}
    assert add(user, "https://hooks.example.com/other")[1] != secret


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://localhost:8000/",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "https://user:pw@hooks.example.com/",
        "https://hooks.example.com:6379/",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "",
        "hooks.example.com",
        "https://hooks.example.com/\r\nX: 1",
        "https://hooks.example.com/" + "a" * 2048,
    ],
)
def test_refuses_a_url_that_leads_inside_or_nowhere(url: str, user: User) -> None:
    endpoint = WebhookEndpointFactory.create(user=user)
    with pytest.raises(Invalid, match="refused") as refused:
        add(user, url)
    assert (refused.value.code, refused.value.field) == ("unsafe_url", "url")
    with pytest.raises(Invalid):
        webhooks.change(endpoint.pk, Change(url=url), by=OWNER)
    with pytest.raises(Invalid) as refused:
        ask(user, url)
    assert (refused.value.code, refused.value.field) == ("unsafe_url", "webhook_url")
    assert WebhookEndpoint.objects.count() == 1
    assert not Generation.objects.exists()


def test_takes_a_private_address_where_an_operator_has_allowed_just_that_origin(user: User, settings: Settings) -> None:
    settings.WEBHOOK_ALLOWED_ORIGINS = ["http://127.0.0.1:9000"]
    add(user, "http://127.0.0.1:9000/hook")
    with pytest.raises(Invalid):
        add(user, "http://127.0.0.1:9001/hook")


def test_makes_one_endpoint_of_a_double_click_and_a_new_one_after_it_was_removed(user: User) -> None:
    endpoint, _ = add(user)
    with pytest.raises(Conflict, match="already") as refused:
        add(user)
    assert refused.value.code == "endpoint_exists"
    other, _ = add(user, URL + "/other")
    with pytest.raises(Conflict):
        webhooks.change(other.pk, Change(url=URL), by=OWNER)
    add(UserFactory.create())
    webhooks.remove(endpoint.pk)
    add(user)


@pytest.mark.django_db(transaction=True)
def test_makes_one_endpoint_of_twenty_at_once() -> None:
    user = UserFactory.create()
    results = together([lambda: add(user)] * 20, threads=8)
    assert sum(not isinstance(result, Exception) for result in results) == 1
    assert {type(result) for result in results if isinstance(result, Exception)} == {Conflict}
    assert (WebhookEndpoint.objects.count(), WebhookSecret.objects.count()) == (1, 1)


def test_keeps_the_number_of_endpoints_within_bounds(user: User, scale: Scale) -> None:
    scale(webhook_endpoints=2)
    add(user, URL + "/1")
    endpoint, _ = add(user, URL + "/2")
    with pytest.raises(Conflict) as refused:
        add(user, URL + "/3")
    assert refused.value.code == "too_many_endpoints"
    webhooks.remove(endpoint.pk)
    add(user, URL + "/3")


def test_changes_what_is_given_and_nothing_else(user: User) -> None:
    endpoint, _ = add(user, description="mine")
    WebhookEndpoint.objects.update(changed_at=timezone.now() - timedelta(days=1))
    webhooks.change(endpoint.pk, Change(events=["generation.failed"]), by=OWNER)
    endpoint.refresh_from_db()
    assert (endpoint.url, endpoint.events, endpoint.description) == (URL, ["generation.failed"], "mine")
    assert timezone.now() - endpoint.changed_at < timedelta(minutes=1)


def test_ends_what_waits_for_an_endpoint_that_is_switched_off_but_for_what_is_on_its_way(user: User) -> None:
    endpoint, _ = add(user)
    waits = WebhookDeliveryFactory.create(endpoint=endpoint)
    on_its_way = WebhookDeliveryFactory.create(endpoint=endpoint, lease_until=timezone.now() + timedelta(minutes=1))
    webhooks.change(endpoint.pk, Change(enabled=False), by=OWNER)
    waits.refresh_from_db()
    on_its_way.refresh_from_db()
    assert (waits.state, waits.error_code, on_its_way.state) == ("failed", "endpoint_disabled", "pending")
    generation = GenerationFactory.create(user=user, status=Status.PROCESSING)
    end(generation)
    assert told(generation) == []
    webhooks.change(endpoint.pk, Change(enabled=True), by=OWNER)
    later = GenerationFactory.create(user=user, status=Status.PROCESSING)
    end(later)
    assert told(later) == [(URL, "generation.completed", "pending")]


def test_lets_only_an_operator_undo_what_an_operator_did(user: User) -> None:
    endpoint, _ = add(user)
    webhooks.change(endpoint.pk, Change(enabled=False), by=OPERATOR)
    with pytest.raises(Conflict) as refused:
        webhooks.change(endpoint.pk, Change(enabled=True), by=OWNER)
    assert refused.value.code == "switched_off"
    assert webhooks.change(endpoint.pk, Change(enabled=True), by=OPERATOR).enabled
    webhooks.change(endpoint.pk, Change(enabled=False), by=OWNER)
    assert webhooks.change(endpoint.pk, Change(enabled=True), by=OWNER).enabled


def test_forgets_the_secret_of_a_removed_endpoint_and_keeps_what_it_was_told(user: User) -> None:
    endpoint, _ = add(user)
    delivered = WebhookDeliveryFactory.create(endpoint=endpoint, state="delivered")
    waits = WebhookDeliveryFactory.create(endpoint=endpoint)
    webhooks.remove(endpoint.pk)
    assert not WebhookSecret.objects.exists()
    assert set(WebhookDelivery.objects.values_list("pk", "state")) == {
        (delivered.pk, "delivered"),
        (waits.pk, "failed"),
    }
    with pytest.raises(WebhookEndpoint.DoesNotExist):
        webhooks.remove(endpoint.pk)
    with pytest.raises(WebhookEndpoint.DoesNotExist):
        webhooks.change(endpoint.pk, Change(enabled=True), by=OWNER)


def test_lets_the_old_secret_sign_for_a_day_after_a_rotation(user: User) -> None:
    endpoint, old = add(user)
    rotated, new = webhooks.rotate(endpoint.pk)
    assert rotated.secret is not None
    now = timezone.now()
    assert rotated.secret.in_force(now) == [new, old]
    assert rotated.secret.in_force(now + timedelta(hours=23)) == [new, old]
    assert rotated.secret.in_force(now + timedelta(hours=25)) == [new]
    again, newest = webhooks.rotate(endpoint.pk)
    assert again.secret is not None
    assert again.secret.in_force(now) == [newest, new]


def test_sends_a_test_event_unless_the_endpoint_is_off(user: User) -> None:
    endpoint, _ = add(user)
    assert [webhooks.send_test(endpoint).event for _ in range(2)] == ["webhook.test"] * 2
    endpoint = webhooks.change(endpoint.pk, Change(enabled=False), by=OWNER)
    with pytest.raises(Conflict) as refused:
        webhooks.send_test(endpoint)
    assert refused.value.code == "endpoint_disabled"


# --- redelivery --------------------------------------------------------------------------------------------


def redeliver(row: WebhookDelivery) -> int:
    return webhooks.redeliver(WebhookDelivery.objects.filter(pk=row.pk))


@pytest.mark.parametrize("state", ["delivered", "failed", "pending"])
def test_sends_again_with_the_same_id_and_all_its_time_before_it(state: str) -> None:
    row = WebhookDeliveryFactory.create(
        state=state,
        tries=9,
        failures=9,
        unwritten_claims=3,
        give_up_at=timezone.now() - timedelta(days=1),
        **({"next_try_at": timezone.now() + timedelta(hours=5)} if state == "pending" else {}),
    )
    assert redeliver(row) == 1
    again = WebhookDelivery.objects.get()
    assert (again.pk, again.state, again.tries, again.failures, again.unwritten_claims) == (row.pk, "pending", 9, 0, 0)
    assert again.next_try_at is not None
    assert again.next_try_at <= timezone.now()
    assert again.give_up_at > timezone.now() + timedelta(days=2)
    assert again.ended_at is None
    assert again.token != row.token


def test_sends_nothing_again_that_is_being_sent_or_whose_endpoint_is_off() -> None:
    row = WebhookDeliveryFactory.create(lease_until=timezone.now() + timedelta(minutes=1))
    with pytest.raises(Conflict) as refused:
        redeliver(row)
    assert refused.value.code == "under_way"
    WebhookEndpoint.objects.update(disabled_at=timezone.now())
    with pytest.raises(Conflict) as refused:
        redeliver(row)
    assert refused.value.code == "endpoint_disabled"
    row.refresh_from_db()
    assert row.lease_until is not None


# --- a request's webhook_url -------------------------------------------------------------------------------


def test_tells_the_webhook_url_of_a_request_when_it_ends(user: User) -> None:
    generation = ask(user)
    assert told(generation) == []
    end(generation)
    assert told(generation) == [(URL, "generation.completed", "pending")]
    other = GenerationFactory.create(user=user, status=Status.PROCESSING)
    end(other)
    assert told(other) == []


def test_makes_no_difference_to_the_request(user: User) -> None:
    first = ask(user, URL + "/1")
    assert ask(user, URL + "/2").pk == first.pk
    assert ask(user, None).pk == first.pk
    assert ask(user, URL + "/1").pk == first.pk
    end(first)
    assert told(first) == [(f"{URL}/{number}", "generation.completed", "pending") for number in (1, 2)]


def test_tells_at_once_whoever_asks_for_what_has_ended_already(user: User, hints: list[str]) -> None:
    generation = ask(user, None)
    add(user, "https://hooks.example.com/of-later")
    end(generation)
    WebhookDelivery.objects.all().delete()
    assert ask(user).pk == generation.pk
    [row] = WebhookDelivery.objects.all()
    generation.refresh_from_db()
    assert (row.endpoint.url, row.event, row.event_at) == (URL, "generation.completed", generation.completed_at)


def test_tells_again_whoever_asks_again_with_the_same_id(user: User) -> None:
    generation = ask(user)
    end(generation)
    WebhookDelivery.objects.update(state="delivered", next_try_at=None, ended_at=timezone.now())
    [before] = WebhookDelivery.objects.all()
    ask(user)
    [row] = WebhookDelivery.objects.all()
    assert (row.pk, row.state) == (before.pk, "pending")


def test_takes_a_replay_of_an_idempotency_key_for_the_same_asking(user: User) -> None:
    generation = ask(user, key="a")
    end(generation)
    WebhookDelivery.objects.update(state="delivered", next_try_at=None, ended_at=timezone.now())
    assert ask(user, key="a").pk == generation.pk
    assert told(generation) == [(URL, "generation.completed", "delivered")]


@pytest.mark.django_db(transaction=True)
def test_tells_whoever_asks_while_it_ends_exactly_once() -> None:
    def ends(generation: Generation) -> None:
        with transaction.atomic():
            end(generation)

    for _ in range(25):
        user = UserFactory.create()
        generation = ask(user, None)
        calls: list[Callable[[], Generation | None]] = [partial(ends, generation), partial(ask, user)]
        results = together(calls)
        assert not any(isinstance(result, Exception) for result in results)
        assert told(generation) == [(URL, "generation.completed", "pending")]


def test_signs_for_all_requests_of_a_user_with_one_secret_that_can_be_rotated(user: User) -> None:
    first, second = ask(user, context=1), ask(user, context=2)
    [secret] = WebhookSecret.objects.all()
    assert {row.secret_id for row in WebhookEndpoint.objects.filter(generation__in=[first, second])} == {secret.pk}
    [old] = secret.in_force(timezone.now())
    rotated, new = webhooks.rotate_for_requests(user.pk)
    assert rotated.pk == secret.pk
    assert rotated.in_force(timezone.now()) == [new, old]
    made, _ = webhooks.rotate_for_requests(UserFactory.create().pk)
    assert made.pk != secret.pk


def test_takes_the_webhook_url_along_to_a_retry(user: User) -> None:
    generation = ask(user)
    end(generation, Status.CANCELLED)
    again = retry(generation.pk, actor="test").generation
    end(again)
    assert told(again) == [(URL, "generation.completed", "pending")]


def test_keeps_the_number_of_webhook_urls_of_one_generation_within_bounds(user: User, scale: Scale) -> None:
    scale(webhook_endpoints=2)
    generation = ask(user, URL + "/1")
    ask(user, URL + "/2")
    ask(user, URL + "/1")
    with pytest.raises(Conflict) as refused:
        ask(user, URL + "/3")
    assert refused.value.code == "too_many_endpoints"
    assert refused.value.extra["generation"] == str(generation.pk)
    assert WebhookEndpoint.objects.count() == 2


def test_keeps_nothing_of_a_request_that_costs_too_much(user: User) -> None:
    PriceFactory.create(provider_id="pixverse", operation_type="text_to_video")
    with pytest.raises(PaymentRequired):
        ask(user)
    assert not WebhookEndpoint.objects.exists()
    assert not WebhookSecret.objects.exists()


def test_asks_nothing_more_of_the_database_where_no_webhook_url_is_given(
    user: User, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(0):
        webhooks.follow(GenerationFactory.build(user=user), (), is_new=True)
