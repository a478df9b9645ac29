"""Webhooks are sent to real HTTP servers: it ..."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django.fixtures import Settings
from pytest_httpserver import HTTPServer
from standardwebhooks import Webhook, WebhookVerificationError
from werkzeug import Request, Response

from generations.execution import deliver, poison
from generations.execution.waves import Wave
from generations.execution.webhook_call import signed
from generations.models import (
    Generation,
    Incident,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEvent,
)
from generations.reports import representation, webhooks
from tests.factories import (
    UserFactory,
    WebhookDeliveryFactory,
    WebhookEndpointFactory,
    completed_generation,
)

pytestmark = pytest.mark.django_db

VECTOR_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
VECTOR_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
VECTOR_BODY = '{"test": 2432232314}'


@pytest.fixture(scope="module")
def make_httpserver() -> Iterator[HTTPServer]:
    """The receiver: one that answers several at once."""
    with HTTPServer(host="127.0.0.1", threaded=True) as server:
        yield server


@pytest.fixture(autouse=True)
def _own_world(settings: Settings, tmp_path: Any, httpserver: HTTPServer, hints: list[str]) -> None:
    folder = {"OPTIONS": {"location": str(tmp_path / "media")}}
    settings.STORAGES = {**settings.STORAGES, "default": {**settings.STORAGES["default"], **folder}}
    settings.WEBHOOK_ALLOWED_ORIGINS = [httpserver.url_for("").rstrip("/")]
    settings.PUBLIC_URL = "https://studio.example.org"


def run() -> int:
    return deliver.deliver(webhooks.bodies)


def due(server: HTTPServer, path: str = "/hook", **fields: Any) -> WebhookDelivery:
    """One that is due at the server."""
    if "endpoint" not in fields:
        user = fields.pop("user", None)
        named = {"user": user} if user else {}
        fields["endpoint"] = WebhookEndpointFactory.create(url=server.url_for(path), **named)
    return WebhookDeliveryFactory.create(**fields)


def at_once(*rows: WebhookDelivery) -> None:
    """Their wait is over."""
    WebhookDelivery.objects.filter(pk__in=[row.pk for row in rows]).update(
        next_try_at=timezone.now() - timedelta(minutes=1), lease_until=None
    )


def look(row: WebhookDelivery) -> WebhookDelivery:
    row.refresh_from_db()
    return row


def log_of(row: WebhookDelivery) -> list[tuple[int, int | None, str]]:
    return list(row.attempts.order_by("number").values_list("number", "status", "error_code"))


def requests_to(server: HTTPServer) -> list[Request]:
    return [request for request, _ in server.log]


def secret_of(endpoint: WebhookEndpoint) -> str:
    assert endpoint.secret is not None
    return endpoint.secret.in_force(timezone.now())[0]


def verified(request: Request, secret: str) -> dict[str, Any]:
    """What the request says, if its signature is right."""
    told: dict[str, Any] = Webhook(secret).verify(request.get_data(), dict(request.headers))
    return told


# --- signing ------------------------------------------------------------------------------------------


def test_signs_as_the_published_vector_of_standard_webhooks_says() -> None:
    headers = signed(VECTOR_ID, VECTOR_BODY, [VECTOR_SECRET], datetime.fromtimestamp(1614265330, UTC))
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == (VECTOR_ID, "1614265330")


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": None},
        {"webhook-timestamp": None},
        {"webhook-signature": None},
        {"webhook-timestamp": "hello"},
        {"webhook-timestamp": "1614265330"},
        {"webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA="},
        {"webhook-id": "msg_another"},
    ],
    ids=["no id", "no time", "no signature", "nonsense for a time", "an old time", "a wrong signature", "another id"],
)
def test_signs_so_that_the_published_library_refuses_what_was_changed(change: dict[str, str | None]) -> None:
    headers = signed(VECTOR_ID, VECTOR_BODY, [VECTOR_SECRET], timezone.now())
    assert Webhook(VECTOR_SECRET.removeprefix("whsec_")).verify(VECTOR_BODY, headers) == {"test": 2432232314}
    changed = {name: value for name, value in {**headers, **change}.items() if value is not None}
    with pytest.raises(WebhookVerificationError):
        Webhook(VECTOR_SECRET).verify(VECTOR_BODY, changed)


def test_signs_with_the_secret_before_a_rotation_too_until_its_time_is_over(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/hook").respond_with_data("")
    endpoint = WebhookEndpointFactory.create(url=httpserver.url_for("/hook"))
    assert endpoint.secret is not None
    old = secret_of(endpoint)
    new = endpoint.secret.rotate(timezone.now() + timedelta(hours=1))
    endpoint.secret.save()
    due(httpserver, endpoint=endpoint)
    run()
    endpoint.secret.previous_until = timezone.now() - timedelta(minutes=1)
    endpoint.secret.save()
    due(httpserver, endpoint=endpoint)
    run()
    during, after = requests_to(httpserver)
    assert len(during.headers["webhook-signature"].split(" ")) == 2
    assert verified(during, old) == verified(during, new)
    assert verified(after, new)
    with pytest.raises(WebhookVerificationError):
        verified(after, old)


# --- what is sent ----------------------------------------------------------------------------------------


def test_tells_what_the_api_tells_signed_and_writes_it_down(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/hook", method="POST").respond_with_data("thank you")
    made = completed_generation()
    endpoint = WebhookEndpointFactory.create(url=httpserver.url_for("/hook"), user=made.user)
    row = due(httpserver, endpoint=endpoint, generation=made)
    assert run() == 1
    [request] = requests_to(httpserver)
    told = verified(request, secret_of(endpoint))
    assert request.content_type == "application/json"
    assert request.headers["webhook-id"] == str(row.pk)
    assert set(told) == {"type", "timestamp", "data"}
    assert told["type"] == "generation.completed"
    assert datetime.fromisoformat(told["timestamp"]) == look(row).event_at
    assert told["data"] == representation.one("https://studio.example.org", made).model_dump(mode="json")
    assert told["data"]["outputs"][0]["url"].startswith("https://studio.example.org/content/")
    assert (row.state, row.next_try_at, row.error_code, row.tries) == ("delivered", None, "", 1)
    assert row.ended_at is not None
    attempt = row.attempts.get()
    assert (attempt.number, attempt.status, attempt.error_code, attempt.answer) == (1, 200, "", "thank you")
    assert attempt.elapsed is not None
    assert attempt.url == endpoint.url
    assert run() == 0


def test_sends_a_test_event_that_tells_of_no_generation(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/hook").respond_with_data("")
    row = due(httpserver, generation=None, event=WebhookEvent.TEST)
    run()
    told = verified(requests_to(httpserver)[0], secret_of(row.endpoint))
    assert told["type"] == "webhook.test"
    assert told["data"]["endpoint"] == str(row.endpoint_id)
    assert look(row).state == "delivered"


def test_sends_the_same_id_and_event_time_on_every_try_and_makes_the_rest_anew(httpserver: HTTPServer) -> None:
    httpserver.expect_ordered_request("/hook").respond_with_data("", status=500)
    httpserver.expect_ordered_request("/hook").respond_with_data("", status=503)
    httpserver.expect_ordered_request("/hook").respond_with_data("", status=204)
    made = completed_generation()
    row = due(httpserver, user=made.user, generation=made)
    for number in (1, 2, 3):
        Generation.objects.filter(pk=made.pk).update(metadata={"try": number})
        run()
        at_once(*WebhookDelivery.objects.filter(state="pending"))
    told = [verified(request, secret_of(row.endpoint)) for request in requests_to(httpserver)]
    assert {request.headers["webhook-id"] for request in requests_to(httpserver)} == {str(row.pk)}
    assert len({one["timestamp"] for one in told}) == 1
    assert [one["data"]["metadata"]["try"] for one in told] == [1, 2, 3]
    assert log_of(row) == [(1, 500, "http_error"), (2, 503, "http_error"), (3, 204, "")]
    assert look(row).state == "delivered"


# --- what counts as success --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_takes_2xx_for_success(httpserver: HTTPServer, status: int) -> None:
    httpserver.expect_request("/hook").respond_with_data("", status=status)
    row = due(httpserver)
    run()
    assert look(row).state == "delivered"


@pytest.mark.parametrize(
    ("status", "code"),
    [(301, "redirect"), (302, "redirect"), (307, "redirect"), (308, "redirect"), (304, "redirect")]
    + [(status, "http_error") for status in (400, 401, 404, 408, 418, 429, 500, 502, 599)],
)
def test_tries_again_after_anything_else_and_follows_nothing(httpserver: HTTPServer, status: int, code: str) -> None:
    elsewhere = {"Location": httpserver.url_for("/elsewhere")}
    httpserver.expect_request("/hook").respond_with_data("", status=status, headers=elsewhere)
    httpserver.expect_request("/elsewhere").respond_with_data("")
    row = due(httpserver)
    before = timezone.now()
    run()
    assert (look(row).state, row.error_code, row.failures) == ("pending", code, 1)
    assert row.next_try_at is not None
    assert timedelta(seconds=2) < row.next_try_at - before < timedelta(seconds=60)
    assert row.lease_until is None
    assert str(status) in row.error_message
    assert [request.path for request in requests_to(httpserver)] == ["/hook"]
    assert log_of(row) == [(1, status, code)]


def test_waits_as_long_as_the_endpoint_wishes(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/hook").respond_with_data("", status=429, headers={"Retry-After": "1800"})
    row = due(httpserver)
    before = timezone.now()
    run()
    assert look(row).next_try_at is not None
    assert timedelta(seconds=1790) < (row.next_try_at or before) - before < timedelta(seconds=1900)


def test_gives_up_when_its_time_is_over(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/hook").respond_with_data("no", status=500)
    row = due(httpserver, give_up_at=timezone.now() + timedelta(seconds=1), failures=6)
    run()
    assert (look(row).state, row.next_try_at, row.error_code) == ("failed", None, "http_error")
    assert row.ended_at is not None
    at_once(*WebhookDelivery.objects.filter(state="pending"))
    assert run() == 0


def test_switches_an_endpoint_off_that_is_gone_and_ends_what_waits_for_it(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/gone").respond_with_data("", status=410)
    row = due(httpserver, "/gone")
    later = due(httpserver, endpoint=row.endpoint, next_try_at=timezone.now() + timedelta(hours=5))
    other = due(httpserver, "/other", user=row.user, next_try_at=timezone.now() + timedelta(hours=5))
    assert run() == 1
    assert (look(row).state, row.error_code) == ("failed", "gone")
    assert (look(later).state, later.error_code) == ("failed", "endpoint_disabled")
    assert look(other).state == "pending"
    row.endpoint.refresh_from_db()
    assert (row.endpoint.enabled, row.endpoint.disabled_reason) == (False, "gone")
    assert other.endpoint.enabled


@pytest.mark.parametrize("change", [{"disabled_at": timezone.now()}, {"removed_at": timezone.now(), "secret": None}])
def test_sends_nothing_to_an_endpoint_that_was_switched_off_or_removed(
    httpserver: HTTPServer, change: dict[str, Any]
) -> None:
    row = due(httpserver)
    WebhookEndpoint.objects.filter(pk=row.endpoint_id).update(**change)
    assert run() == 0
    assert (look(row).state, row.error_code, row.tries) == ("failed", "endpoint_disabled", 0)
    assert requests_to(httpserver) == []


# --- what goes wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/", "http://127.1/", "http://[::ffff:127.0.0.1]/", "http://169.254.169.254/latest"]
)
def test_judges_the_address_at_each_try(url: str) -> None:
    row = WebhookDeliveryFactory.create(endpoint=WebhookEndpointFactory.create(url=url))
    run()
    assert (look(row).state, row.error_code) == ("pending", "unsafe_url")
    assert log_of(row) == [(1, None, "unsafe_url")]


def test_tells_an_endpoint_that_cannot_be_reached_from_one_that_does_not_answer(
    httpserver: HTTPServer, settings: Settings, limits: Callable[..., None]
) -> None:
    limits(webhook_timeout=0.3)
    settings.WEBHOOK_ALLOWED_ORIGINS += ["http://127.0.0.1:1"]
    released = threading.Event()

    def hang(_request: Request) -> Response:
        released.wait(20)
        return Response("")

    httpserver.expect_request("/hang").respond_with_handler(hang)
    away = WebhookDeliveryFactory.create(endpoint=WebhookEndpointFactory.create(url="http://127.0.0.1:1/"))
    silent = due(httpserver, "/hang")
    run()
    released.set()
    assert (look(away).error_code, look(silent).error_code) == ("not_delivered", "no_answer")
    assert "0.3 s" in silent.error_message


def test_tries_again_later_when_the_secret_cannot_be_decrypted(httpserver: HTTPServer, settings: Settings) -> None:
    row, other = due(httpserver), due(httpserver)
    settings.CREDENTIAL_KEYS = ["another key"]
    assert other.endpoint.secret is not None
    other.endpoint.secret.make()
    other.endpoint.secret.save()
    httpserver.expect_request("/hook").respond_with_data("")
    run()
    assert (look(row).state, row.error_code) == ("pending", "undecryptable_secret")
    assert look(other).state == "delivered"


def test_lets_one_that_cannot_be_rendered_harm_no_other(
    httpserver: HTTPServer, caplog: pytest.LogCaptureFixture
) -> None:
    httpserver.expect_request("/hook").respond_with_data("")
    bad, good = due(httpserver), due(httpserver)

    def render(rows: Sequence[WebhookDelivery]) -> dict[UUID, str]:
        if bad.pk in {row.pk for row in rows}:
            raise ValueError("a fault of ours")
        return webhooks.bodies(rows)

    assert deliver.deliver(render) == 2
    assert (look(bad).state, bad.error_code) == ("pending", "internal_error")
    assert look(good).state == "delivered"
    assert "webhook_not_rendered" in caplog.text


def test_keeps_the_beginning_of_whatever_the_endpoint_says(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/hook").respond_with_data(b"no\x00\xff" + b"x" * 100_000, status=500)
    row = due(httpserver)
    run()
    answer = row.attempts.get().answer
    assert answer.startswith("no\ufffdx")
    assert len(answer) <= 1000


def test_logs_neither_secret_nor_url(httpserver: HTTPServer, caplog: pytest.LogCaptureFixture) -> None:
    httpserver.expect_request("/hook").respond_with_data("", status=500)
    row = due(httpserver, "/hook?key=hush-hush")
    caplog.set_level("DEBUG", logger="generations")
    run()
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name != "werkzeug")
    assert "webhook_tried" in ours
    assert "hush-hush" not in ours
    assert secret_of(row.endpoint) not in ours


# --- crashes and rivals --------------------------------------------------------------------------------------


def test_sends_the_same_id_again_after_a_crash_between_call_and_record(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    httpserver.expect_request("/hook").respond_with_data("")
    row = due(httpserver)
    with monkeypatch.context() as dying:

        def die(*_: Any) -> None:
            raise SystemExit

        dying.setattr(deliver, "_write", die)
        with pytest.raises(SystemExit):
            run()
    assert run() == 0, "its lease has not expired"
    assert log_of(row) == [(1, None, "")]
    at_once(row)
    assert run() == 1
    assert [request.headers["webhook-id"] for request in requests_to(httpserver)] == [str(row.pk)] * 2
    assert look(row).state == "delivered"
    assert log_of(row) == [(1, None, ""), (2, 200, "")]
    assert row.attempts.get(number=1).elapsed is None


def test_stops_after_five_workers_that_died_over_one_and_tells_a_person(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/hook").respond_with_data("")
    deadly = due(httpserver, unwritten_claims=poison.most_claims())
    fine = due(httpserver, unwritten_claims=0)
    assert run() == 1
    assert (look(deadly).state, deadly.error_code) == ("failed", "poison")
    assert look(fine).state == "delivered"
    incident = Incident.objects.get()
    assert (incident.kind, incident.generation_id) == ("poison", deadly.generation_id)


def test_takes_one_whose_workers_have_died_alone(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    httpserver.expect_request("/hook").respond_with_data("")
    suspect = due(httpserver, unwritten_claims=2)
    others = [due(httpserver) for _ in range(3)]
    together: list[set[UUID]] = []

    def render(rows: Sequence[WebhookDelivery]) -> dict[UUID, str]:
        together.append({row.pk for row in rows})
        return webhooks.bodies(rows)

    assert deliver.deliver(render) == 4
    assert together == [{suspect.pk}, {row.pk for row in others}]
    assert (look(suspect).state, suspect.unwritten_claims) == ("delivered", 0)


def test_begins_anew_after_a_while_so_that_those_get_their_turn(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, hints: list[str]
) -> None:
    monkeypatch.setattr(deliver, "RUN_SECONDS", 0)
    due(httpserver)
    assert run() == 0
    assert hints == ["deliver"]


@pytest.mark.django_db(transaction=True)
def test_records_nothing_once_somebody_else_owns_it(httpserver: HTTPServer) -> None:
    def taken_meanwhile(_request: Request) -> Response:
        WebhookDelivery.objects.update(token=uuid4())
        connection.close()
        return Response("")

    httpserver.expect_request("/hook").respond_with_handler(taken_meanwhile)
    row = due(httpserver)
    assert run() == 1
    assert (look(row).state, row.unwritten_claims) == ("pending", 1)
    assert row.lease_until is not None
    assert log_of(row) == [(1, 200, "")], "the log tells of it all the same"


@pytest.mark.django_db(transaction=True)
def test_sends_each_once_when_several_deliver_at_once(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/hook").respond_with_data("")
    rows = [due(httpserver) for _ in range(20)]
    threads = []

    def work() -> None:
        try:
            run()
        finally:
            connection.close()

    for _ in range(4):
        threads.append(threading.Thread(target=work))
        threads[-1].start()
    for thread in threads:
        thread.join(60)
    sent = [request.headers["webhook-id"] for request in requests_to(httpserver)]
    assert sorted(sent) == sorted(str(row.pk) for row in rows)
    assert set(WebhookDelivery.objects.values_list("state", "tries")) == {("delivered", 1)}


# --- fairness ------------------------------------------------------------------------------------------------


def test_lets_an_endpoint_that_hangs_hold_up_nobody_else(httpserver: HTTPServer, limits: Callable[..., None]) -> None:
    limits(connections=4, webhooks_per_host=2)
    everybody_else, seen = threading.Event(), []

    def hang(_request: Request) -> Response:
        return Response("", status=200 if everybody_else.wait(20) else 500)

    def quick(request: Request) -> Response:
        seen.append(request.headers["webhook-id"])
        if len(seen) == 12:
            everybody_else.set()
        return Response("")

    httpserver.expect_request("/hang").respond_with_handler(hang)
    httpserver.expect_request("/quick").respond_with_handler(quick)
    slow = WebhookEndpointFactory.create(url=httpserver.url_for("/hang"))
    for _ in range(6):
        WebhookDeliveryFactory.create(endpoint=slow, next_try_at=timezone.now() - timedelta(hours=1))
    for _ in range(3):
        fast = WebhookEndpointFactory.create(url=httpserver.url_for("/quick"))
        for _ in range(4):
            WebhookDeliveryFactory.create(endpoint=fast)
    assert run() == 18
    assert set(WebhookDelivery.objects.values_list("state", flat=True)) == {"delivered"}


def test_has_no_more_under_way_to_one_host_than_it_may(httpserver: HTTPServer, limits: Callable[..., None]) -> None:
    limits(webhooks_per_host=3)
    lock, now, most = threading.Lock(), 0, 0

    def count(_request: Request) -> Response:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        return Response("")

    httpserver.expect_request("/hook").respond_with_handler(count)
    user = UserFactory.create()
    for number in range(4):
        endpoint = WebhookEndpointFactory.create(user=user, url=httpserver.url_for(f"/hook?{number}"))
        for _ in range(3):
            due(httpserver, endpoint=endpoint)
    assert run() == 12
    assert 1 <= most <= 3


def test_asks_the_database_as_often_for_many_as_for_one(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/hook").respond_with_data("")

    def queries(number: int) -> int:
        for _ in range(number):
            due(httpserver)
        with CaptureQueriesContext(connection) as caught:
            tries = deliver._next(uuid4(), Wave())
            bodies = webhooks.bodies([one.delivery for one in tries])
        assert len(bodies) == len(tries) == number
        return len(caught)

    assert queries(1) == queries(10)


def pages_read() -> int:
    """How many pages PostgreSQL looks at for a claim, by its indexes also while there is little to read."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + deliver.DUE, {"size": 4, "suspect": 2})
        plan = cursor.fetchone()[0][0]["Plan"]
        return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def test_claims_as_cheaply_however_many_wait_for_one_host() -> None:
    endpoint = WebhookEndpointFactory.create()

    def fill(number: int) -> None:
        WebhookDelivery.objects.bulk_create(
            WebhookDeliveryFactory.build(endpoint=endpoint, user=endpoint.user, generation=None, event="webhook.test")
            for _ in range(number)
        )

    fill(50)
    few = pages_read()
    fill(2000)
    assert pages_read() <= 2 * few


def test_knows_whether_anything_waits(httpserver: HTTPServer) -> None:
    assert not deliver.due()
    row = due(httpserver, next_try_at=timezone.now() + timedelta(hours=1))
    assert not deliver.due()
    at_once(row)
    assert deliver.due()
    WebhookDelivery.objects.update(lease_until=timezone.now() + timedelta(minutes=1))
    assert not deliver.due()


def test_says_json_that_any_receiver_reads(httpserver: HTTPServer) -> None:
    row = due(httpserver)
    Generation.objects.update(metadata={"name": "Zoë 🎞"})
    [body] = webhooks.bodies([row]).values()
    assert json.loads(body)["data"]["metadata"] == {"name": "Zoë 🎞"}
    assert WebhookAttempt.objects.count() == 0
