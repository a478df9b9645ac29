"""Turning switches: who and why is kept, doing it twice is doing it once, and a stopped intake takes nothing in."""

from __future__ import annotations

from functools import partial

import pytest
from django.contrib.auth.models import User

from accounts.models import LedgerEntry, Wallet
from generations.intake.errors import Conflict, Invalid, Unavailable
from generations.intake.inputs import InputRef
from generations.intake.request import Idempotency
from generations.intake.retry import retry
from generations.intake.switches import turn_off, turn_on
from generations.lifecycle import State, Status
from generations.models import Asset, Event, Generation, IdempotencyKey, Switch, SwitchChange
from generations.reports.switches import everyone, known, told, turned_on
from tests.factories import GenerationFactory, PriceFactory, SubmissionFactory, UserFactory, WalletFactory
from tests.generations.intake.conftest import Ask
from tests.together import together

pytestmark = pytest.mark.django_db

WHY = "The studio is closed"


def on(key: str = "intake", *, reason: str = WHY, actor: str = "admin:1") -> bool:
    return turn_on(key, reason=reason, actor=actor)


def off(key: str = "intake", *, reason: str = "it is open again", actor: str = "admin:2", by: str = "") -> bool:
    return turn_off(key, reason=reason, actor=actor, turned_on_by=by)


def changes() -> list[tuple[str, bool, str, str]]:
    rows = SwitchChange.objects.order_by("pk")
    return [(row.key, row.turned_on, row.actor, row.reason) for row in rows]


def test_keeps_who_turned_it_and_why() -> None:
    assert on()
    assert off()
    assert not Switch.objects.exists()
    assert changes() == [("intake", True, "admin:1", WHY), ("intake", False, "admin:2", "it is open again")]


def test_leaves_one_that_is_on_as_it_is() -> None:
    on()
    assert not on(reason="another reason", actor="admin:7")
    row = Switch.objects.get()
    assert (row.reason, row.actor) == (WHY, "admin:1")
    assert len(changes()) == 1


def test_turns_nothing_off_that_is_off() -> None:
    assert not off()
    assert changes() == []


def test_turns_off_only_what_the_same_hand_turned_on_where_that_is_asked_for() -> None:
    on("dispatch")
    assert not off("dispatch", by="command:drain")
    assert Switch.objects.exists()
    assert off("dispatch", by="admin:")


@pytest.mark.parametrize(
    "key", ["", "dispatch:", "dispatch:provider:nobody", "dispatch:operation:text_to_song", "Intake"]
)
def test_knows_no_other_switches(key: str) -> None:
    for turn in (on, off):
        with pytest.raises(Invalid) as refused:
            turn(key)
        assert (refused.value.code, refused.value.field) == ("unknown_switch", "key")


@pytest.mark.parametrize("reason", ["", "  \n\t ", "x" * 301])
def test_wants_a_reason_of_a_readable_length(reason: str) -> None:
    with pytest.raises(Invalid, match=r"why|characters"):
        on(reason=reason)
    on()
    with pytest.raises(Invalid, match=r"why|characters"):
        off(reason=reason)
    assert Switch.objects.exists()


def test_turns_off_what_is_on_for_a_provider_that_is_no_more() -> None:
    Switch.objects.create(key="dispatch:provider:gone", reason=WHY, actor="admin:1")
    assert "dispatch:provider:gone" in {one.key for one in everyone()}
    assert off("dispatch:provider:gone")


def test_tells_every_switch_and_who_turned_it_by_name(django_assert_num_queries: object) -> None:
    person = UserFactory.create(username="mina")
    for key, actor in {
        "dispatch": f"admin:{person.pk}",
        "intake": "command:switch/ops",
        "dispatch:operation:fusion": "admin:999999",
    }.items():
        on(key, actor=actor)
    with django_assert_num_queries(1):  # type: ignore[operator]
        found = turned_on()
    assert [(one.key, one.who) for one in found] == [
        ("intake", "ops (manage.py switch)"),
        ("dispatch", "mina"),
        ("dispatch:operation:fusion", "admin:999999"),
    ]
    assert [one.key for one in everyone()] == known()
    assert sum(one.on for one in everyone()) == 3
    titles = {key: told(None, key).title for key in known()}
    assert titles["dispatch:provider:pixverse"] == "Dispatch to Pixverse"
    assert titles["dispatch:operation:text_to_video"] == "Dispatch of Text to video"


@pytest.mark.django_db(transaction=True)
def test_turns_once_for_many_at_once() -> None:
    results = together([partial(on, "dispatch", actor=f"admin:{number}") for number in range(8)])
    assert sorted(results, key=str) == [False] * 7 + [True]
    results = together([partial(off, "dispatch", actor=f"admin:{number}") for number in range(8)])
    assert sorted(results, key=str) == [False] * 7 + [True]
    assert [change[1] for change in changes()] == [True, False]


class TestIntakeStopped:
    """Nothing new is accepted, and what is there is told all the same."""

    def test_accepts_nothing_and_changes_nothing(self, ask: Ask, user: User) -> None:
        PriceFactory.create(credits=10)
        WalletFactory.create(user=user, available=100)
        on()
        with pytest.raises(Unavailable) as refused:
            ask(idempotency=Idempotency("key", "0" * 64))
        assert (refused.value.code, refused.value.extra["reason"]) == ("intake_stopped", WHY)
        assert WHY in refused.value.detail
        assert (refused.value.retry_after or 0) > 0
        assert not Generation.objects.exists()
        assert not IdempotencyKey.objects.exists()
        assert Wallet.objects.get(user=user).available == 100
        assert not LedgerEntry.objects.filter(kind="hold").exists()

    def test_accepts_again_when_it_is_lifted(self, ask: Ask) -> None:
        on()
        off()
        assert not ask().reused

    def test_answers_what_was_asked_before(self, ask: Ask) -> None:
        first = ask()
        on()
        again = ask(idempotency=Idempotency("key", "0" * 64))
        assert (again.reused, again.generation.pk) == (True, first.generation.pk)
        assert ask(idempotency=Idempotency("key", "0" * 64)).replayed

    def test_replays_an_answer(self, ask: Ask) -> None:
        first = ask(idempotency=Idempotency("key", "0" * 64))
        on()
        again = ask(idempotency=Idempotency("key", "0" * 64))
        assert (again.replayed, again.generation.pk) == (True, first.generation.pk)

    @pytest.mark.parametrize("reuse", ["none", "in_flight"])
    def test_takes_no_claim_away_from_a_completed_one(self, ask: Ask, reuse: str) -> None:
        generation = ask().generation
        Generation.objects.filter(pk=generation.pk).update(status=Status.COMPLETED, completed_at="2026-01-01T00:00Z")
        on()
        with pytest.raises(Unavailable):
            ask(reuse=reuse)
        generation.refresh_from_db()
        assert generation.active_fingerprint == generation.fingerprint
        assert not Event.objects.filter(kind="claim_lost").exists()

    def test_fetches_no_input(self, ask: Ask) -> None:
        on()
        with pytest.raises(Unavailable):
            ask(
                operation_type="image_to_image",
                params={"prompt": "a boat"},
                inputs=(InputRef("image", url="http://127.0.0.1:9/boat.png"),),
            )
        assert not Asset.objects.exists()

    def test_retries_nothing(self) -> None:
        failed = GenerationFactory.create(status=Status.FAILED, raw_params={"prompt": "a boat"})
        on()
        with pytest.raises(Unavailable):
            retry(failed.pk, actor="test")
        assert Generation.objects.count() == 1
        assert not Event.objects.filter(kind="retried").exists()

    def test_says_first_what_would_not_be_retried_anyway(self) -> None:
        attempt = SubmissionFactory.create(state=State.UNKNOWN, abandoned=True)
        on()
        with pytest.raises(Conflict):
            retry(attempt.generation_id, actor="test")

    def test_lets_what_was_accepted_go_on(self, ask: Ask) -> None:
        generation = ask().generation
        on("intake")
        assert not Switch.objects.pauses().exists()
        assert Generation.objects.get(pk=generation.pk).status == Status.PENDING
