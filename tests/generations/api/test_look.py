"""Looking at Generations: one, lists, the timeline; cancel and retry."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from generations.lifecycle import State, Status
from generations.models import Event, Generation
from tests.factories import (
    AccountFactory,
    AssetFactory,
    GenerationFactory,
    GenerationInputFactory,
    SubmissionFactory,
    completed_generation,
)
from tests.generations.api.helpers import GENERATIONS, assert_problem


def test_tells_everything_of_a_completed_one(api: APIClient, user: User) -> None:
    row = completed_generation(user=user)
    submission = row.submissions.get()
    asset = submission.assets.get()

    told = api.get(f"{GENERATIONS}/{row.pk}").json()

    assert (told["status"], told["progress"], told["retry_count"], told["error_code"]) == ("completed", 100, 0, None)
    [output] = told["outputs"]
    assert {name: output[name] for name in ("id", "mime_type", "bytes", "sha256", "width", "height", "duration")} == {
        "id": str(asset.pk),
        "mime_type": "image/png",
        "bytes": asset.size,
        "sha256": asset.sha256,
        "width": 64,
        "height": 48,
        "duration": None,
    }
    assert output["url"].startswith("http://testserver/content/")
    assert output["thumbnail_url"].startswith("http://testserver/content/")
    [attempt] = told["attempts"]
    assert (attempt["number"], attempt["account"], attempt["state"]) == (1, submission.account.label, "succeeded")
    assert attempt["started_at"]
    assert attempt["ended_at"]
    assert told["late_outputs"] == []
    assert told["links"]["cancel"] is None


def test_tells_why_one_failed_and_shows_a_late_result_apart(api: APIClient, user: User) -> None:
    row = GenerationFactory.create(
        user=user, status="failed", error_code="deadline_exceeded", error_message="Too late."
    )
    late = SubmissionFactory.create(generation=row, state=State.SUCCEEDED, abandoned=True)
    AssetFactory.create(submission=late)

    told = api.get(f"{GENERATIONS}/{row.pk}").json()

    assert (told["status"], told["error_code"], told["error_message"]) == ("failed", "deadline_exceeded", "Too late.")
    assert (len(told["outputs"]), len(told["late_outputs"])) == (0, 1)
    assert told["links"]["retry"]


def test_tells_the_progress_that_the_provider_gives(api: APIClient, user: User) -> None:
    row = GenerationFactory.create(user=user, status="processing")
    SubmissionFactory.create(generation=row, state=State.FAILED, progress=90)
    SubmissionFactory.create(generation=row, state=State.ACCEPTED, progress=40)

    assert api.get(f"{GENERATIONS}/{row.pk}").json()["progress"] == 40


def test_tells_why_it_waits(api: APIClient, user: User) -> None:
    row = GenerationFactory.create(user=user)
    assert api.get(f"{GENERATIONS}/{row.pk}").json()["wait_reason"] == "no_account"

    account = AccountFactory.create(limit=1)
    SubmissionFactory.create(account=account)
    assert api.get(f"{GENERATIONS}/{row.pk}").json()["wait_reason"] == "no_capacity"


def test_answers_304_until_something_changes(api: APIClient, user: User) -> None:
    row = GenerationFactory.create(user=user)
    path = f"{GENERATIONS}/{row.pk}"
    tag = api.get(path).headers["ETag"]

    unchanged = api.get(path, HTTP_IF_NONE_MATCH=f'"other", {tag}')
    assert (unchanged.status_code, unchanged.content, unchanged.headers["ETag"]) == (304, b"", tag)

    Generation.objects.filter(pk=row.pk).update(metadata={"changed": True})
    changed = api.get(path, HTTP_IF_NONE_MATCH=tag)
    assert changed.status_code == 200
    assert changed.headers["ETag"] != tag


def test_lists_page_by_page_newest_first(api: APIClient, user: User) -> None:
    rows = [str(GenerationFactory.create(user=user).pk) for _ in range(5)]

    first = api.get(f"{GENERATIONS}?limit=2&status=pending").json()
    second = api.get(first["next"]).json()
    third = api.get(f"{GENERATIONS}?limit=2&cursor={second['next_cursor']}").json()

    seen = [row["id"] for page in (first, second, third) for row in page["results"]]
    assert seen == rows[::-1]
    assert "status=pending" in first["next"]
    assert (third["next"], third["next_cursor"]) == (None, None)
    assert "count" not in first


def test_clamps_the_limit(api: APIClient, user: User) -> None:
    GenerationFactory.create_batch(101, user=user)

    assert len(api.get(f"{GENERATIONS}?limit=1000000000").json()["results"]) == 100
    assert len(api.get(f"{GENERATIONS}?limit={'9' * 5000}").json()["results"]) == 100


def test_takes_a_cursor_only_for_its_own_list(api: APIClient, user: User) -> None:
    GenerationFactory.create_batch(3, user=user)
    cursor = api.get(f"{GENERATIONS}?limit=1").json()["next_cursor"]

    assert_problem(api.get(f"/api/v1/assets?cursor={cursor}"), 400, "invalid_parameter")
    flipped = ("B" if cursor[0] == "A" else "A") + cursor[1:]
    assert_problem(api.get(f"{GENERATIONS}?cursor={flipped}"), 400, "invalid_parameter")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("status=failed", {"failed"}),
        ("status=failed&status=cancelled", {"failed", "cancelled"}),
        ("status=failed,cancelled", {"failed", "cancelled"}),
        ("provider_id=modelslab", {"picture"}),
        ("operation_type=text_to_image", {"picture"}),
        ("created_before=2020-06-01T00:00:00Z", {"old"}),
        ("created_before=2020-06-01", {"old"}),
        ("created_after=2020-01-01T02:00:00+02:00&created_before=2020-01-02", {"old"}),
        ("provider_id=nobody", set()),
    ],
)
def test_filters(query: str, expected: set[str], api: APIClient, user: User) -> None:
    made = {
        "pending": GenerationFactory.create(user=user),
        "failed": GenerationFactory.create(user=user, status="failed"),
        "cancelled": GenerationFactory.create(user=user, status="cancelled"),
        "picture": GenerationFactory.create(user=user, provider_id="modelslab", operation_type="text_to_image"),
        "old": GenerationFactory.create(user=user, created_at=datetime(2020, 1, 1, tzinfo=UTC)),
    }
    names = {str(row.pk): name for name, row in made.items()}

    found = api.get(f"{GENERATIONS}?{query}").json()["results"]

    assert {names[row["id"]] for row in found} == expected


def test_lists_in_a_number_of_queries_that_does_not_grow(api: APIClient, user: User) -> None:
    def make() -> None:
        row = completed_generation(user=user)
        GenerationInputFactory.create(generation=row)
        GenerationFactory.create(user=user, status="failed", retry_of=row)
        GenerationFactory.create(user=user)

    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert api.get(GENERATIONS).status_code == 200
        return len(captured)

    make()
    few = queries()
    for _ in range(5):
        make()

    assert queries() == few
    assert few <= 10


def test_tells_the_timeline(api: APIClient, user: User) -> None:
    row = completed_generation(user=user)

    told = api.get(f"{GENERATIONS}/{row.pk}/timeline").json()

    kinds = [line["kind"] for line in told["lines"]]
    assert (kinds[0], told["id"], told["status"]) == ("accepted", str(row.pk), "completed")
    assert "completed" in kinds
    assert all(line["text"] for line in told["lines"])


def test_cancels_a_pending_one_at_once(api: APIClient, user: User) -> None:
    row = GenerationFactory.create(user=user)

    reply = api.post(f"{GENERATIONS}/{row.pk}/cancel")

    assert (reply.status_code, reply.json()["status"]) == (200, "cancelled")
    assert Event.objects.filter(generation=row, kind="cancelled", actor=f"user:{user.pk}").count() == 1


def test_asks_for_the_cancel_of_one_at_the_provider(api: APIClient, user: User) -> None:
    row = GenerationFactory.create(user=user, status="processing")
    SubmissionFactory.create(generation=row, state=State.ACCEPTED)

    reply = api.post(f"{GENERATIONS}/{row.pk}/cancel", {}, format="json")

    assert (reply.status_code, reply.json()["status"]) == (202, "processing")
    assert reply.json()["cancel_requested_at"]
    assert reply.json()["links"]["cancel"] is None


def test_retries_with_other_params(api: APIClient, user: User) -> None:
    row = GenerationFactory.create(user=user, status="failed")
    given = {"prompt": "a lighthouse by day", "quality": "720p"}

    reply = api.post(f"{GENERATIONS}/{row.pk}/retry", {"params": given}, format="json")

    told = reply.json()
    assert reply.status_code == 202, told
    assert (told["retry_of"], told["raw_params"], told["params"]["quality"]) == (str(row.pk), given, "720p")
    again = api.post(f"{GENERATIONS}/{row.pk}/retry", {"params": given}, format="json")
    assert_problem(again, 409, "live_twin")


def test_says_what_is_wrong_with_other_params_field_by_field(api: APIClient, user: User) -> None:
    row = GenerationFactory.create(user=user, status="failed")
    wrong = {"prompt": "x", "quality": "9000p", "duration": "5"}

    reply = api.post(f"{GENERATIONS}/{row.pk}/retry", {"params": wrong}, format="json")

    told = assert_problem(reply, 400, "invalid_params")
    assert {error["field"] for error in told["errors"]} == {"params.quality", "params.duration"}
    rule = {"prompt": "x", "model": "v5", "duration": 7}
    told = assert_problem(
        api.post(f"{GENERATIONS}/{row.pk}/retry", {"params": rule}, format="json"), 400, "invalid_params"
    )
    assert told["errors"] == [{"field": "params.duration", "message": "model v5 makes 5 or 8 seconds"}]
    assert Generation.objects.count() == 1


def test_does_not_pay_again_for_what_other_params_were_answered_with(api: APIClient, user: User) -> None:
    given = {"prompt": "a lighthouse by day"}
    first = GenerationFactory.create(user=user, status="failed")
    made = api.post(f"{GENERATIONS}/{first.pk}/retry", {"params": given}, format="json").json()
    Generation.objects.filter(pk=made["id"]).update(status="completed", completed_at=timezone.now())
    row = GenerationFactory.create(user=user, status="failed")

    told = assert_problem(
        api.post(f"{GENERATIONS}/{row.pk}/retry", {"params": given}, format="json"), 409, "already_answered"
    )

    assert told["generation"] == made["id"]
    insisted = api.post(f"{GENERATIONS}/{row.pk}/retry", {"params": given, "insist": True}, format="json")
    assert insisted.status_code == 202


def test_hides_somebody_elses_from_a_retry_with_other_params(api: APIClient) -> None:
    row = GenerationFactory.create(status="failed")

    reply = api.post(f"{GENERATIONS}/{row.pk}/retry", {"params": {"prompt": "mine"}}, format="json")

    assert_problem(reply, 404, "not_found")
    assert Generation.objects.count() == 1


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_refuses_to_cancel_what_has_ended(status: str, api: APIClient, user: User) -> None:
    row = GenerationFactory.create(user=user, status=status)

    told = assert_problem(api.post(f"{GENERATIONS}/{row.pk}/cancel"), 409, "already_ended")

    assert told["generation"] == str(row.pk)


def test_refuses_to_cancel_what_is_being_collected(api: APIClient, user: User) -> None:
    row = GenerationFactory.create(user=user, status="processing")
    SubmissionFactory.create(generation=row, state=State.COLLECTING)

    assert_problem(api.post(f"{GENERATIONS}/{row.pk}/cancel"), 409, "too_late")


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_retries_with_a_new_generation(status: str, api: APIClient, user: User) -> None:
    row = GenerationFactory.create(user=user, status=status)

    reply = api.post(f"{GENERATIONS}/{row.pk}/retry")

    assert reply.status_code == 202, reply.content
    told = reply.json()
    assert (told["retry_of"], told["status"], told["reused"]) == (str(row.pk), "pending", False)
    assert reply.headers["Location"] == told["links"]["self"]
    assert api.get(f"{GENERATIONS}/{row.pk}").json()["retries"] == [told["id"]]
    assert api.get(f"{GENERATIONS}/{row.pk}").json()["status"] == status


def test_retries_once(api: APIClient, user: User) -> None:
    row = GenerationFactory.create(user=user, status="failed")
    first = api.post(f"{GENERATIONS}/{row.pk}/retry").json()

    told = assert_problem(api.post(f"{GENERATIONS}/{row.pk}/retry"), 409, "live_twin")

    assert told["generation"] == first["id"]
    assert Generation.objects.count() == 2


def test_retries_what_may_be_billed_only_when_it_is_insisted(api: APIClient, user: User) -> None:
    row = GenerationFactory.create(user=user, status="failed")
    SubmissionFactory.create(generation=row, state=State.UNKNOWN, abandoned=True)

    assert_problem(api.post(f"{GENERATIONS}/{row.pk}/retry"), 409, "possibly_billed")
    insisted = api.post(f"{GENERATIONS}/{row.pk}/retry", {"insist": True}, format="json")

    assert insisted.status_code == 202


@pytest.mark.parametrize("status", ["pending", "processing", "completed"])
def test_refuses_to_retry_what_has_not_failed(status: str, api: APIClient, user: User) -> None:
    row = GenerationFactory.create(user=user, status=status)

    assert_problem(api.post(f"{GENERATIONS}/{row.pk}/retry"), 409, "not_retryable")


def test_estimates_from_history_for_one(api: APIClient, user: User) -> None:
    AccountFactory.create(limit=3)
    now = timezone.now()
    for _ in range(3):
        GenerationFactory.create(
            status=Status.COMPLETED, started_at=now - timedelta(seconds=40), completed_at=now, params={"prompt": "x"}
        )
    row = GenerationFactory.create(user=user)

    assert api.get(f"{GENERATIONS}/{row.pk}").json()["eta_seconds"] == 40
    assert api.get(GENERATIONS).json()["results"][0]["eta_seconds"] is None
