"""The operator's commands, as they are typed."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Price
from generations import wakeups
from generations.lifecycle import State, Status
from generations.models import Event, Generation, Heartbeat, IdempotencyKey
from tests.factories import (
    AccountFactory,
    GenerationFactory,
    SubmissionFactory,
    UserFactory,
    WalletFactory,
    completed_generation,
)

pytestmark = pytest.mark.django_db

MARKER = "darkroom:wake:dispatch:"


@pytest.fixture(autouse=True)
def services(settings: Any, tmp_path: Path) -> None:
    """A storage of the test's own, and a tick that was seen."""
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {
            "BACKEND": "generations.storage.DurableFileSystemStorage",
            "OPTIONS": {"location": str(tmp_path)},
        },
    }
    Heartbeat.beat("tick", "test")


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], set[str]]]:
    """Which providers a hint is under way for, as the broker knows it."""
    monkeypatch.setattr(wakeups, "_silent_until", 0.0)
    client = redis.Redis.from_url(django_settings.REDIS_URL, decode_responses=True)
    queues = ["celery", "dispatch"]

    def clear() -> None:
        client.delete(*queues, *client.scan_iter(f"{MARKER}*"))

    clear()
    yield lambda: {str(key).removeprefix(MARKER) for key in client.scan_iter(f"{MARKER}*")}
    clear()
    client.close()


def run(*arguments: str) -> tuple[str, int]:
    """What a command printed, and its exit code."""
    out = io.StringIO()
    try:
        call_command(*arguments, stdout=out, no_color=True)
    except SystemExit as end:
        return out.getvalue(), int(end.code or 0)
    return out.getvalue(), 0


def run_json(*arguments: str) -> tuple[Any, int]:
    text, code = run(*arguments, "--json")
    return json.loads(text), code


def retryable(**fields: Any) -> Generation:
    prompt = fields.pop("prompt", f"a boat, number {Generation.objects.count()}")
    return GenerationFactory.create(status=Status.FAILED, raw_params={"prompt": prompt}, with_events=True, **fields)


class TestRequeue:
    """``requeue``: wake what waits."""

    def test_says_when_nothing_waits(self, woken: Callable[[], set[str]]) -> None:
        GenerationFactory.create(not_before=timezone.now() + timedelta(hours=1))
        assert run("requeue") == ("Nothing waits that is due.\n", 0)
        assert woken() == set()

    def test_wakes_each_provider_once_and_says_why_each_waits(self, woken: Callable[[], set[str]]) -> None:
        AccountFactory.create(provider_id="modelslab")
        waiting = [GenerationFactory.create() for _ in range(3)]
        starting = GenerationFactory.create(provider_id="modelslab")
        missed = GenerationFactory.create(not_before=timezone.now() - timedelta(minutes=1))
        told, code = run_json("requeue")
        assert code == 0
        assert told["due"] == {"modelslab": 1, "pixverse": 4}
        assert woken() == {"modelslab", "pixverse"}
        reasons = {row["id"]: row["reason"] for row in told["oldest"]}
        assert reasons == {
            **{str(one.pk): "no_account" for one in [*waiting, missed]},
            str(starting.pk): None,
        }

    def test_prints_a_table_and_how_many_more(self, woken: Callable[[], set[str]]) -> None:
        rows = [GenerationFactory.create() for _ in range(3)]
        text, _ = run("requeue", "--limit", "2")
        assert "Woke pixverse (3): 3 waiting" in text
        assert str(rows[0].pk) in text
        assert str(rows[2].pk) not in text
        assert "... and 1 more." in text

    def test_looks_at_one_provider_only(self, woken: Callable[[], set[str]]) -> None:
        GenerationFactory.create()
        GenerationFactory.create(provider_id="modelslab")
        told, _ = run_json("requeue", "--provider", "modelslab")
        assert told["due"] == {"modelslab": 1}
        assert woken() == {"modelslab"}

    def test_wakes_nobody_in_a_dry_run(self, woken: Callable[[], set[str]]) -> None:
        GenerationFactory.create()
        text, _ = run("requeue", "--dry-run")
        assert "Would wake pixverse (1)" in text
        assert woken() == set()

    def test_says_when_the_broker_is_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        GenerationFactory.create()
        nobody = redis.Redis(port=9, socket_connect_timeout=0.5)
        monkeypatch.setattr(wakeups, "_redis", lambda: nobody)
        monkeypatch.setattr(wakeups, "_silent_until", 0.0)
        told, _ = run_json("requeue")
        assert told["hints_lost"] == 1

    @pytest.mark.parametrize("arguments", [["--provider", "pixvers"], ["--failed", "--user", "nobody"]])
    def test_refuses_a_name_that_is_not_there(self, arguments: list[str]) -> None:
        with pytest.raises(CommandError, match="There is no"):
            call_command("requeue", *arguments)

    def test_refuses_filters_of_failed_ones(self) -> None:
        with pytest.raises(CommandError, match="only together with --failed"):
            call_command("requeue", "--code", "provider_busy")


class TestRequeueFailed:
    """``requeue --failed``: retry in bulk."""

    def test_makes_a_new_generation_of_each(self, woken: Callable[[], set[str]]) -> None:
        originals = [retryable(), retryable(error_code="no_account")]
        GenerationFactory.create(status=Status.CANCELLED)
        told, code = run_json("requeue", "--failed")
        assert code == 0
        assert [row["id"] for row in told["results"]] == [str(one.pk) for one in originals]
        for row, original in zip(told["results"], originals, strict=True):
            new = Generation.objects.get(pk=row["retry"])
            assert (new.retry_of_id, new.status) == (original.pk, Status.PENDING)
            assert Event.objects.filter(generation=original, kind="retried", actor="command:requeue").exists()

    def test_changes_nothing_in_a_dry_run(self) -> None:
        retryable()
        text, code = run("requeue", "--failed", "--dry-run")
        assert code == 0
        assert "1 would be retried. Nothing was changed." in text
        assert Generation.objects.count() == 1

    def test_filters(self) -> None:
        user = UserFactory.create(username="mina")
        wanted = retryable(user=user, error_code="provider_busy")
        retryable(user=user, error_code="invalid_params")
        retryable(error_code="provider_busy")
        old = retryable(user=user, error_code="provider_busy")
        Generation.objects.filter(pk=old.pk).update(completed_at=timezone.now() - timedelta(hours=3))
        arguments = ["--code", "provider_busy", "--user", "mina", "--since", "2h", "--provider", "pixverse"]
        told, _ = run_json("requeue", "--failed", "--dry-run", *arguments)
        assert [row["id"] for row in told["results"]] == [str(wanted.pk)]
        told, _ = run_json("requeue", "--failed", "--dry-run", "--provider", "modelslab")
        assert told["results"] == []

    def test_takes_ids_or_their_beginnings(self) -> None:
        wanted, _ = retryable(), retryable()
        told, _ = run_json("requeue", "--failed", "--dry-run", str(wanted.pk))
        assert [row["id"] for row in told["results"]] == [str(wanted.pk)]

    def test_refuses_an_id_of_what_has_not_failed(self) -> None:
        with pytest.raises(CommandError, match="only failed ones"):
            call_command("requeue", "--failed", str(GenerationFactory.create().pk))
        with pytest.raises(CommandError, match="is no id"):
            call_command("requeue", "--failed", "zebra")

    def test_retries_only_the_last_of_a_chain(self) -> None:
        first = retryable()
        second = retryable(retry_of=first)
        told, _ = run_json("requeue", "--failed", "--dry-run")
        assert [row["id"] for row in told["results"]] == [str(second.pk)]

    def test_stops_at_the_limit_and_says_how_many_are_left(self) -> None:
        for _ in range(3):
            retryable()
        told, _ = run_json("requeue", "--failed", "--limit", "2")
        assert (len(told["results"]), told["left"]) == (2, 1)

    def test_goes_on_after_a_refusal_and_exits_with_1(self) -> None:
        billed = retryable()
        SubmissionFactory.create(generation=billed, state=State.UNKNOWN, abandoned_at=timezone.now())
        fine = retryable()
        told, code = run_json("requeue", "--failed")
        assert code == 1
        by_id = {row["id"]: row for row in told["results"]}
        assert by_id[str(billed.pk)]["refused"] == "possibly_billed"
        assert by_id[str(fine.pk)]["retry"]
        text, code = run("requeue", "--failed")
        assert "0 retried, 1 refused." in text

    def test_insists_where_an_attempt_may_still_be_billed(self) -> None:
        billed = retryable()
        SubmissionFactory.create(generation=billed, state=State.UNKNOWN, abandoned_at=timezone.now())
        told, code = run_json("requeue", "--failed", "--insist")
        assert code == 0
        assert told["results"][0]["retry"]

    def test_refuses_what_cannot_be_paid(self) -> None:
        Price.objects.create(provider_id="pixverse", operation_type="text_to_video", credits=10)
        retryable(user=WalletFactory.create(available=5).user)
        told, code = run_json("requeue", "--failed")
        assert (code, told["results"][0]["refused"]) == (1, "insufficient_credits")


class TestExplain:
    """``explain``: one Generation's story."""

    def test_tells_people_the_story(self) -> None:
        AccountFactory.create(label="main", cooldown_until=timezone.now() + timedelta(minutes=5, seconds=30))
        generation = GenerationFactory.create(with_events=True, raw_params={"prompt": "a red kite"})
        text, code = run("explain", str(generation.pk)[:20])
        assert code == 0
        for words in (
            str(generation.pk),
            "prompt: a red kite",
            "Why it waits: cooling_down",
            "main",
            "cooling down, until ",
            "(in 5 min ",
            "It fails with queue_timeout if it still waits",
            "The request was accepted.",
        ):
            assert words in text

    def test_shows_attempts_with_the_process_that_ran_them(self) -> None:
        submission = SubmissionFactory.create(process="host/4711 /usr/bin/python3 /srv 0.1.0", provider_job_id="job-9")
        text, _ = run("explain", str(submission.pk))
        assert "host/4711 /usr/bin/python3 /srv 0.1.0" in text
        assert "job-9" in text
        assert "the provider is asked again" in text

    def test_gives_json(self) -> None:
        generation = completed_generation()
        told, _ = run_json("explain", str(generation.pk))
        assert told["generation"]["status"] == "completed"
        assert told["story"][0]["text"] == "The request was accepted."

    def test_says_when_there_is_none(self) -> None:
        with pytest.raises(CommandError, match="There is no generation"):
            call_command("explain", "ffff")

    def test_costs_the_same_number_of_queries_however_much_waits(self) -> None:
        generation = GenerationFactory.create()

        def cost() -> int:
            with CaptureQueriesContext(connection) as queries:
                run("explain", str(generation.pk))
            return len(queries)

        few = cost()
        for _ in range(5):
            AccountFactory.create()
            GenerationFactory.create()
        assert cost() == few


class TestAudit:
    """``audit``: exit code 1 on any row."""

    def test_says_that_every_invariant_holds(self) -> None:
        completed_generation()
        text, code = run("audit", "--files")
        assert code == 0
        assert "every one holds" in text
        assert "BROKEN" not in text

    def test_names_what_is_broken_and_exits_with_1(self) -> None:
        generation = GenerationFactory.create(status=Status.CANCELLED)
        text, code = run("audit")
        assert code == 1
        assert "I12  BROKEN" in text
        assert f"generation {generation.pk} is cancelled and has no event" in text
        told, code = run_json("audit")
        assert (code, told["ok"]) == (1, False)
        [finding] = [one for one in told["checks"] if one["count"]]
        assert finding["offenders"][0]["id"] == str(generation.pk)

    def test_names_as_many_as_it_is_asked_for(self) -> None:
        for _ in range(3):
            GenerationFactory.create(status=Status.CANCELLED)
        text, _ = run("audit", "--first", "1")
        assert "... and 2 more" in text

    def test_says_what_it_skips_while_the_services_are_down(self) -> None:
        Heartbeat.objects.all().delete()
        text, code = run("audit")
        assert code == 0
        assert "the services are not up" in text


class TestCleanup:
    """``cleanup``: by age, dry first."""

    def test_prints_nothing_but_json_when_it_is_asked_to(self, capsys: pytest.CaptureFixture[str]) -> None:
        call_command("cleanup", "--json")
        assert json.loads(capsys.readouterr().out)["dry_run"] is False

    def test_tells_what_it_would_remove_and_then_removes_it(self) -> None:
        generation = GenerationFactory.create(status=Status.FAILED)
        Generation.objects.update(completed_at=timezone.now() - timedelta(days=40))
        IdempotencyKey.objects.create(
            user=generation.user,
            key="k",
            body_sha256="",
            generation=GenerationFactory.create(user=generation.user),
            reused=False,
            expires_at=timezone.now() - timedelta(hours=1),
        )
        text, _ = run("cleanup", "--days", "30", "--dry-run")
        assert "generations ended more than 30 days ago" in text
        assert "Nothing was changed." in text
        assert Generation.objects.filter(pk=generation.pk).exists()
        told, code = run_json("cleanup", "--days", "30", "--status", "failed")
        assert (code, told["generations"], told["idempotency_keys"]) == (0, 1, 1)
        assert not Generation.objects.filter(pk=generation.pk).exists()

    def test_refuses_a_status_without_an_age(self) -> None:
        with pytest.raises(CommandError, match="how old"):
            call_command("cleanup", "--status", "failed")

    @pytest.mark.parametrize("arguments", [["--days", "-1"], ["--days", "x"], ["--days", "1", "--status", "pending"]])
    def test_refuses_what_is_no_age_or_no_end(self, arguments: list[str]) -> None:
        with pytest.raises(CommandError):
            call_command("cleanup", *arguments)
