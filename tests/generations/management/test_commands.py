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
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from generations import wakeups
from generations.lifecycle import Status
from generations.models import Event, Generation, Heartbeat, IdempotencyKey
from generations.reports.audit import examine
from tests.factories import (
    AccountFactory,
    GenerationFactory,
    SubmissionFactory,
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

    def test_refuses_a_name_that_is_not_there(self) -> None:
        with pytest.raises(CommandError, match="There is no"):
            call_command("requeue", "--provider", "pixvers")


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


class TestAuditWatch:
    """``audit --watch``: what changes, until Ctrl-C."""

    @pytest.fixture
    def between(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        """What happens while it waits between its rounds; after the last of them somebody presses Ctrl-C."""

        def script(*steps: Callable[[], object]) -> None:
            left = list(steps)

            def wait(_seconds: float) -> None:
                if not left:
                    raise KeyboardInterrupt
                left.pop(0)()

            monkeypatch.setattr("generations.management.commands.audit.time.sleep", wait)

        return script

    def test_ends_well_when_everything_held(self, between: Callable[..., None]) -> None:
        between(lambda: None)
        text, code = run("audit", "--watch")
        assert code == 0
        assert "Looked 2 times. Everything held all the time." in text
        assert len(text.splitlines()) == 3, "a first line, an empty one and the verdict"

    def test_prints_what_changes_and_exits_with_1_though_it_is_well_again(self, between: Callable[..., None]) -> None:
        made: list[Generation] = []

        def mend() -> None:
            Event.objects.create(generation=made[0], kind=Event.Kind.CANCELLED, actor="test")

        between(lambda: made.append(GenerationFactory.create(status=Status.CANCELLED)), lambda: None, mend)
        text, code = run("audit", "--watch", "3")
        assert code == 1
        lines = [line for line in text.splitlines() if "I12" in line]
        assert [("BROKEN" in line, "holds" in line) for line in lines] == [(True, False), (False, True)]
        assert f"generation {made[0].pk} is cancelled and has no event" in text
        assert "(was 1)" in lines[1]
        assert "every 3 s" in text

    def test_gives_a_line_of_json_for_each_change(self, between: Callable[..., None]) -> None:
        between(lambda: GenerationFactory.create(status=Status.CANCELLED))
        text, code = run("audit", "--watch", "--json")
        told = [json.loads(line) for line in text.splitlines()]
        assert code == 1
        assert [(one.get("id"), one.get("now"), one.get("ok")) for one in told] == [
            ("I12", "broken", None),
            (None, None, False),
        ]
        assert all(one["at"] for one in told)

    def test_waits_for_a_database_that_is_away(
        self, between: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def lost(*_args: object, **_options: object) -> None:
            raise OperationalError("gone")

        place = "generations.reports.watch.examine"
        monkeypatch.setattr(place, lost)
        monkeypatch.setattr("generations.management.commands.audit.connection.close", lambda: None)  # it is the test's
        between(lambda: None, lambda: monkeypatch.setattr(place, examine))
        text, code = run("audit", "--watch")
        assert code == 0
        assert text.count("does not answer") == text.count("answers again") == 1


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
