"""What a person says of an unknown outcome is done, once, and the money follows."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from accounts import credits
from accounts.credits import Movement
from generations.execution import recover
from generations.intake.errors import Conflict, Invalid, NotFound, PaymentRequired
from generations.intake.resolve import Answer, Resolution, resolve
from generations.lifecycle import State, Status
from generations.models import Event, Generation, Incident, Submission, UnknownOutcome
from generations.reports import audit
from tests.factories import SubmissionFactory, WalletFactory
from tests.generations.execution.studio import PRICE, PURSE, Studio
from tests.together import together

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("hints")]
NOTE = "I looked into the provider's console."


def say(one: Submission, decision: str, **more: Any) -> Generation:
    """A person says it; the Generation to look at."""
    done = resolve(one.pk, Answer(Resolution(decision), more.pop("note", NOTE), **more), actor="user:1")
    one.refresh_from_db()
    one.generation.refresh_from_db()
    return done.generation


def lost(studio: Studio) -> Submission:
    """An attempt whose answer was lost, of a Generation that still lives."""
    studio.account()
    _, one = studio.start("accept_then_drop*1")
    assert one.state == State.UNKNOWN
    return one


def given_up(studio: Studio) -> Submission:
    """The same after its limit: failed, its cost at risk."""
    one = lost(studio)
    studio.past(one, "limit_at", "next_poll_at")
    recover.recover()
    one.refresh_from_db()
    assert (one.state, one.cost_at_risk, one.generation.status) == (State.FAILED, True, Status.FAILED)
    return one


def told(one: Submission) -> dict[str, Any]:
    """What its timeline keeps."""
    event = Event.objects.get(generation=one.generation_id, kind="resolved")
    assert (event.actor, event.attempt) == ("user:1", one.number)
    return dict(event.data)


# --- while it is unknown ------------------------------------------------------------------------------------


def test_follows_on_the_job_that_a_person_has_found(studio: Studio) -> None:
    one = lost(studio)
    [work] = studio.sandbox.works(request_id=str(one.pk))
    say(one, "billed", job_id=str(work["remote_id"]), cost=Decimal("0.5"))
    assert (one.state, one.provider_job_id, one.resolution) == (State.ACCEPTED, str(work["remote_id"]), "billed")
    studio.finish(one.generation)
    assert one.generation.status == Status.COMPLETED
    assert (studio.submits(one.generation), studio.wallet) == ([str(one.pk)], (PURSE - PRICE, 0))
    assert told(one) == {
        "decision": "billed", "message": NOTE, "job_id": str(work["remote_id"]), "cost": "0.5",
    }  # fmt: skip


def test_ends_what_was_billed_and_cannot_be_had(studio: Studio) -> None:
    one = lost(studio)
    say(one, "billed", cost=Decimal("0.25"))
    assert (one.state, one.cost, one.cost_at_risk) == (State.FAILED, Decimal("0.25"), False)
    assert (one.generation.status, one.generation.error_code) == (Status.FAILED, "outcome_unknown")
    assert (studio.money(one.generation), studio.wallet) == (["hold", "release"], (PURSE, 0))
    assert not one.account.submissions.holding_slot().exists()
    assert one.generation.active_fingerprint is None


def test_keeps_a_cost_at_risk_that_nobody_can_tell(studio: Studio) -> None:
    one = lost(studio)
    say(one, "billed")
    assert (one.state, one.cost, one.cost_at_risk) == (State.FAILED, None, True)
    assert not UnknownOutcome.objects.exists()
    assert not Incident.objects.filter(seen_at=None).exists(), "whoever has said it has seen it"


def test_asks_again_by_itself_when_it_was_never_taken(studio: Studio) -> None:
    one = lost(studio)
    say(one, "not_billed")
    assert (one.state, one.error_code, one.cost, one.cost_at_risk) == (State.FAILED, "not_billed", Decimal(0), False)
    assert (one.generation.status, one.generation.error_retries) == (Status.PENDING, 0)
    studio.finish(one.generation)
    assert (one.generation.status, studio.money(one.generation)) == (Status.COMPLETED, ["capture", "hold"])
    assert studio.states(one.generation) == ["failed", "succeeded"]


def test_asks_again_all_the_same(studio: Studio) -> None:
    one = lost(studio)
    say(one, "resubmit")
    assert (one.state, one.abandoned_at is not None, one.resolution) == (State.UNKNOWN, True, "resubmit")
    assert (one.generation.status, one.generation.resubmits) == (Status.PENDING, 1)
    assert not UnknownOutcome.objects.exists()
    studio.finish(one.generation)
    assert (one.generation.status, studio.wallet) == (Status.COMPLETED, (PURSE - PRICE, 0))
    assert len(studio.submits(one.generation)) == 2
    assert audit.run() == []


def test_sends_nothing_more_of_what_is_being_cancelled(studio: Studio) -> None:
    one = lost(studio)
    Generation.objects.update(cancel_requested_at=one.sent_at, cancel_at=one.limit_at)
    with pytest.raises(Conflict, match="being cancelled"):
        say(one, "resubmit")
    say(one, "not_billed")
    assert (one.state, one.generation.status) == (State.FAILED, Status.CANCELLED)
    assert studio.wallet == (PURSE, 0)


def test_settles_an_attempt_whose_generation_has_ended(studio: Studio) -> None:
    one = lost(studio)
    studio.past(one.generation, "deadline_at")
    studio.past(one, "next_poll_at")
    recover.recover()
    say(one, "not_billed")
    assert (one.state, one.generation.status) == (State.FAILED, Status.FAILED)
    assert one.generation.active_fingerprint is None, "the same request may be made anew"
    assert studio.wallet == (PURSE, 0)


def test_makes_a_new_generation_where_the_old_one_has_ended(studio: Studio) -> None:
    one = lost(studio)
    studio.past(one.generation, "deadline_at")
    studio.past(one, "next_poll_at")
    recover.recover()
    made = say(one, "resubmit")
    assert (made.retry_of_id, made.status, made.price) == (one.generation_id, Status.PENDING, PRICE)
    assert told(one)["generation"] == str(made.pk)
    assert (one.state, one.resolution) == (State.UNKNOWN, "resubmit")
    studio.finish(made)
    assert (made.status, studio.wallet) == (Status.COMPLETED, (PURSE - PRICE, 0))


# --- after it was given up --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decision", "more", "cost", "at_risk"),
    [
        ("billed", {"cost": Decimal("1.5")}, Decimal("1.5"), False),
        ("billed", {}, None, True),
        ("not_billed", {}, Decimal(0), False),
    ],
)
def test_closes_a_cost_at_risk(
    studio: Studio, decision: str, more: dict[str, Any], cost: Decimal | None, at_risk: bool
) -> None:
    one = given_up(studio)
    assert UnknownOutcome.objects.get().pk == one.pk
    say(one, decision, **more)
    assert (one.state, one.cost, one.cost_at_risk, one.resolution) == (State.FAILED, cost, at_risk, decision)
    assert (one.generation.status, studio.wallet) == (Status.FAILED, (PURSE, 0))
    assert not UnknownOutcome.objects.exists()
    assert Incident.objects.get(kind="cost_at_risk").seen_by == "user:1"


def test_follows_on_no_job_of_one_that_has_ended(studio: Studio) -> None:
    one = given_up(studio)
    with pytest.raises(Invalid, match="has ended"):
        say(one, "billed", job_id="4711")
    assert UnknownOutcome.objects.exists()


def test_asks_again_when_what_was_said_turns_out_wrong(studio: Studio) -> None:
    one = lost(studio)
    say(one, "resubmit")
    studio.past(one, "limit_at", "next_poll_at")
    recover.recover()
    one.refresh_from_db()
    assert (one.state, one.cost_at_risk) == (State.FAILED, True)
    assert UnknownOutcome.objects.get().pk == one.pk
    say(one, "billed", cost=Decimal(1))
    assert not UnknownOutcome.objects.exists()


def test_asks_anew_for_what_was_given_up(studio: Studio) -> None:
    one = given_up(studio)
    made = say(one, "resubmit")
    assert (made.retry_of_id, one.resolution) == (one.generation_id, "resubmit")


def test_changes_nothing_when_the_new_one_cannot_be_paid(studio: Studio) -> None:
    one = given_up(studio)
    credits.hold([Movement(studio.user.pk, uuid4(), PURSE)], actor="test")
    with pytest.raises(PaymentRequired):
        say(one, "resubmit")
    one.refresh_from_db()
    assert (one.resolution, Generation.objects.count()) == ("", 1)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [one for one in State if one != State.UNKNOWN])
def test_refuses_what_is_known(state: State) -> None:
    one = SubmissionFactory.create(state=state)
    with pytest.raises(Conflict, match="outcome is known"):
        say(one, "not_billed")


def test_refuses_a_second_word() -> None:
    one = SubmissionFactory.create(state=State.UNKNOWN)
    say(one, "not_billed")
    with pytest.raises(Conflict, match="already said"):
        say(one, "billed")


def test_refuses_what_is_not_there() -> None:
    with pytest.raises(NotFound):
        resolve(uuid4(), Answer(Resolution.BILLED, NOTE), actor="user:1")


@pytest.mark.parametrize(
    ("decision", "more", "field"),
    [
        ("billed", {"note": " "}, "note"),
        ("billed", {"note": "x" * 501}, "note"),
        ("billed", {"note": "a\x00"}, "note"),
        ("not_billed", {"job_id": "1"}, "decision"),
        ("resubmit", {"cost": Decimal(1)}, "decision"),
        ("billed", {"job_id": "x" * 256}, "job_id"),
        ("billed", {"job_id": "a\nb"}, "job_id"),
        ("billed", {"job_id": "ä"}, "job_id"),
        ("billed", {"cost": Decimal(-1)}, "cost"),
        ("billed", {"cost": Decimal("NaN")}, "cost"),
        ("billed", {"cost": Decimal(10) ** 10}, "cost"),
    ],
)
def test_says_what_is_wrong_with_the_answer(decision: str, more: dict[str, Any], field: str) -> None:
    one = SubmissionFactory.create(state=State.UNKNOWN)
    with pytest.raises(Invalid) as raised:
        say(one, decision, **more)
    assert raised.value.field == field
    one.refresh_from_db()
    assert (one.state, one.resolution) == (State.UNKNOWN, "")


def test_takes_no_job_of_another_attempt() -> None:
    one = SubmissionFactory.create(state=State.UNKNOWN)
    SubmissionFactory.create(account=one.account, provider_job_id="4711")
    with pytest.raises(Invalid) as raised:
        say(one, "billed", job_id="4711")
    assert raised.value.field == "job_id"
    assert not Event.objects.filter(kind="resolved").exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("round_", range(5))
def test_takes_one_word_of_several_people(round_: int) -> None:
    wallet = WalletFactory.create()
    one = SubmissionFactory.create(state=State.UNKNOWN, generation__user=wallet.user, generation__price=10)
    credits.hold([Movement(wallet.user_id, one.generation_id, 10)], actor="test")
    answers = [Answer(Resolution(word), NOTE) for word in ("billed", "not_billed", "resubmit") * 2]

    found = together([lambda answer=answer: resolve(one.pk, answer, actor="user:1") for answer in answers])  # type: ignore[misc]

    assert sum(not isinstance(result, Exception) for result in found) == 1
    assert all(isinstance(result, Conflict) for result in found if isinstance(result, Exception))
    assert Event.objects.filter(kind="resolved").count() == 1
    wallet.refresh_from_db()
    assert wallet.available + wallet.held == 100
    assert [finding for finding in audit.run() if finding.id in {"I2", "I5", "I6", "I12"}] == []
