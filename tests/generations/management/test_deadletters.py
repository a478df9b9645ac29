"""``deadletters``: what failed for good, as it is typed."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts.models import Price
from generations.lifecycle import State, Status
from generations.models import Event, Generation
from tests.factories import AccountFactory, GenerationFactory, SubmissionFactory, UserFactory, WalletFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("account")]


@pytest.fixture
def account(db: None) -> Any:
    """One that may serve everybody."""
    return AccountFactory.create(label="main")


def run(*arguments: str) -> tuple[str, int]:
    """What the command printed, and its exit code."""
    out = io.StringIO()
    try:
        call_command("deadletters", *arguments, stdout=out, no_color=True)
    except SystemExit as end:
        return out.getvalue(), int(end.code or 0)
    return out.getvalue(), 0


def run_json(*arguments: str) -> tuple[Any, int]:
    text, code = run(*arguments, "--json")
    return json.loads(text), code


def failed(**fields: Any) -> Generation:
    return GenerationFactory.create(status=Status.FAILED, **fields)


def possibly_billed() -> Generation:
    letter = failed()
    SubmissionFactory.create(generation=letter, state=State.UNKNOWN, abandoned_at=timezone.now())
    return letter


class TestLooking:
    """What there is."""

    def test_says_when_there_is_none(self) -> None:
        assert run() == ("No dead letters.\n", 0)

    def test_groups_them(self, account: Any) -> None:
        for number in range(2):
            SubmissionFactory.create(
                generation=failed(price=10, error_message=f"no. {number}"), account=account, state=State.FAILED
            )
        failed(error_code="queue_timeout")

        text, code = run()
        told, _ = run_json()

        assert code == 0
        assert "3 dead letters." in text
        assert "no. 1" in text
        rows = [(row["code"], row["account_label"], row["number"], row["price"]) for row in told["groups"]]
        assert rows == [("queue_timeout", "", 1, 0), ("provider_failed", "main", 2, 20)]
        assert list(told["groups"][1]["hours"].values()) == [2]

    def test_lists_them(self) -> None:
        letter = failed(prompt="a quiet harbour")

        text, _ = run("--list")
        told, _ = run_json("--list")

        assert "a quiet harbour" in text
        assert [row["id"] for row in told["dead_letters"]] == [str(letter.pk)]

    def test_looks_at_the_last_day_unless_it_is_told_otherwise(self) -> None:
        old = failed()
        Generation.objects.filter(pk=old.pk).update(completed_at=timezone.now() - timedelta(hours=30))

        assert run_json()[0]["number"] == 0
        assert run_json("--since", "2d")[0]["number"] == 1
        assert run_json("--since", "2d", "--until", "29h")[0]["number"] == 1
        assert run_json("--since", "3d", "--until", "31h")[0]["number"] == 0
        assert [row["id"] for row in run_json(str(old.pk))[0]["dead_letters"]] == [str(old.pk)]

    def test_filters(self, account: Any) -> None:
        user = UserFactory.create(username="mina")
        wanted = failed(user=user, error_code="no_output")
        SubmissionFactory.create(generation=wanted, account=account, state=State.FAILED)
        failed(user=user)
        failed(error_code="no_output", provider_id="modelslab")

        for arguments in (
            ["--code", "no_output", "--user", "mina"],
            ["--code", "no_output", "--provider", "pixverse"],
            ["--account", "pixverse/main"],
        ):
            told, _ = run_json("--list", *arguments)
            assert [row["id"] for row in told["dead_letters"]] == [str(wanted.pk)]
        assert len(run_json("--list", "--account", "none")[0]["dead_letters"]) == 2

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--provider", "pixvers"], "There is no provider"),
            (["--user", "nobody"], "There is no user"),
            (["--account", "main"], "There is no account"),
            (["--since", "90d"], "At most 31 days"),
            (["--since", "yesterday"], "is no time"),
            (["--replay", "--rate", "0"], "above 0"),
            (["--replay", "--rate", "1000000"], "At most 6000"),
            (["--replay", "--insist"], "for single letters"),
            (["zebra"], "is no id"),
            (["--dismiss", " "], "Say why"),
            (["--replay", "--restore"], "not allowed with"),
        ],
    )
    def test_refuses_what_makes_no_sense(self, arguments: list[str], words: str) -> None:
        letter = failed()

        with pytest.raises(CommandError, match=words):
            call_command("deadletters", *arguments)

        assert Generation.objects.get() == letter

    def test_says_why_one_is_none(self) -> None:
        retried, answered, dismissed = failed(), failed(), failed(dismissed_at=timezone.now())
        retry = GenerationFactory.create(retry_of=retried)
        Generation.objects.filter(pk=answered.pk).update(created_at=timezone.now() - timedelta(minutes=1))
        GenerationFactory.create(user=answered.user, raw_params=answered.raw_params)

        for row, words in (
            (retry, "it is pending"),
            (retried, f"it was retried as {retry.pk}"),
            (answered, "asked for again since"),
            (dismissed, "it was dismissed"),
        ):
            with pytest.raises(CommandError, match=words):
                call_command("deadletters", str(row.pk), "--replay")


class TestReplaying:
    """``--replay``."""

    def test_makes_a_new_generation_of_each(self) -> None:
        letters = [failed(), failed(error_code="no_account")]
        GenerationFactory.create(status=Status.CANCELLED)

        told, code = run_json("--replay")

        assert code == 0
        assert [row["id"] for row in told["results"]] == [str(one.pk) for one in letters]
        for row, letter in zip(told["results"], letters, strict=True):
            assert Generation.objects.get(pk=row["retry"]).retry_of == letter
            assert Event.objects.get(generation=letter, kind="retried").actor.startswith("command:")
        assert run("--replay") == ("No dead letter matches.\n", 0)

    def test_changes_nothing_in_a_dry_run_and_says_what_it_would_cost(self) -> None:
        Price.objects.create(provider_id="pixverse", operation_type="text_to_video", credits=10)
        poor = WalletFactory.create(available=15, user__username="mina").user
        for _ in range(3):
            failed(user=poor)
        possibly_billed()

        text, code = run("--replay", "--dry-run", "--rate", "30")
        told, _ = run_json("--replay", "--dry-run", "--rate", "30")

        assert code == 0
        assert "1 of 4 would be replayed, for 10 credits." in text
        assert "2 not (insufficient_credits)" in text
        assert "1 not (possibly_billed)" in text
        assert [line.split() for line in text.splitlines() if line.startswith("mina")] == [
            ["mina", "3", "30", "15", "15"]
        ]
        assert "Nothing was changed." in text
        assert (told["replayable"], told["refused"]["insufficient_credits"]) == (1, 2)
        assert not Generation.objects.filter(retry_of__isnull=False).exists()

    def test_keeps_to_the_rate(self) -> None:
        for _ in range(3):
            failed()

        assert "it takes 4 s at 30 a minute" in run("--replay", "--dry-run", "--rate", "30")[0]
        text, _ = run("--replay", "--rate", "30")

        assert "3 replayed, the last one in" in text
        times = list(
            Generation.objects.filter(retry_of__isnull=False).order_by("pk").values_list("scheduled_at", flat=True)
        )
        assert times[2] - times[0] == timedelta(seconds=4)  # type: ignore[operator]

    def test_goes_on_after_a_refusal_and_exits_with_1(self) -> None:
        billed, fine = possibly_billed(), failed()

        told, code = run_json("--replay")

        assert code == 1
        by_id = {row["id"]: row for row in told["results"]}
        assert by_id[str(billed.pk)]["refused"] == "possibly_billed"
        assert by_id[str(fine.pk)]["retry"]
        text, code = run("--replay")
        assert (code, "0 replayed; 1 refused." in text) == (1, True)

    def test_insists_for_the_one_that_is_named(self) -> None:
        billed, other = possibly_billed(), possibly_billed()

        assert run(str(billed.pk), "--replay")[1] == 1
        assert "1 of 1 would be replayed" in run(str(billed.pk), "--replay", "--insist", "--dry-run")[0]
        text, code = run(str(billed.pk), "--replay", "--insist")

        assert code == 0
        assert f"{billed.pk} is replayed as {billed.retries.get().pk}" in text
        assert not other.retries.exists()


class TestDismissing:
    """``--dismiss`` and ``--restore``."""

    def test_is_done_and_taken_back(self) -> None:
        letter, other = failed(), failed(error_code="no_output")

        assert run("--code", "provider_failed", "--dismiss", "known", "--dry-run")[0].startswith("1 would be dismissed")
        assert run("--code", "provider_failed", "--dismiss", "known") == ("1 dismissed.\n", 0)
        letter.refresh_from_db()
        assert letter.dismissed_at is not None
        assert letter.events.get().data == {"message": "known"}
        assert run_json()[0]["number"] == 1
        assert run_json("--restore") == ({"dry_run": False, "restored": 1}, 0)
        assert Generation.objects.get(pk=letter.pk).dismissed_at is None
        assert not other.events.exists()
