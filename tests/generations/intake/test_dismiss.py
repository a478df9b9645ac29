"""A person says that nothing is to be done about a dead letter."""

from __future__ import annotations

from functools import partial

import pytest

from generations.intake.dismiss import LONGEST_REASON, dismiss, dismiss_one, restore, restore_one
from generations.intake.errors import Conflict, Invalid
from generations.intake.retry import retry
from generations.lifecycle import Status
from generations.models import DeadLetter, Event, Generation
from generations.reports.sentences import event_text
from tests.factories import GenerationFactory
from tests.together import together

pytestmark = pytest.mark.django_db


def failed() -> Generation:
    return GenerationFactory.create(status=Status.FAILED)


def test_keeps_who_said_so_and_why() -> None:
    letter, other = failed(), failed()

    assert dismiss([letter.pk], reason="  the client has cancelled  ", actor="admin:1") == 1

    assert list(DeadLetter.objects.all()) == [other]
    told = letter.events.get(kind="dismissed")
    assert (told.actor, told.data) == ("admin:1", {"message": "the client has cancelled"})
    assert event_text(told) == "It was dismissed: nothing is to be done about it (the client has cancelled)."


def test_is_taken_back() -> None:
    letter = failed()
    dismiss([letter.pk], reason="r", actor="admin:1")

    assert restore([letter.pk], actor="admin:2") == 1

    assert list(DeadLetter.objects.all()) == [letter]
    assert list(letter.events.order_by("id").values_list("kind", "actor")) == [
        ("dismissed", "admin:1"),
        ("restored", "admin:2"),
    ]


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.FAILED}))
def test_is_for_what_failed(status: Status) -> None:
    generation = GenerationFactory.create(status=status)

    assert dismiss([generation.pk], reason="r", actor="a") == 0
    with pytest.raises(Conflict) as refused:
        dismiss_one(generation, reason="r", actor="a")

    assert refused.value.code == "not_dead"
    assert not Event.objects.exists()


def test_happens_once() -> None:
    letter = failed()
    dismiss_one(letter, reason="first", actor="a")

    with pytest.raises(Conflict):
        dismiss_one(letter, reason="second", actor="b")
    restore_one(letter, actor="a")
    with pytest.raises(Conflict) as refused:
        restore_one(letter, actor="b")

    assert refused.value.code == "not_dismissed"
    assert letter.events.count() == 2


@pytest.mark.parametrize("reason", ["", "   ", "x" * (LONGEST_REASON + 1)])
def test_wants_a_reason(reason: str) -> None:
    letter = failed()

    with pytest.raises(Invalid) as refused:
        dismiss([letter.pk], reason=reason, actor="a")

    assert refused.value.field == "reason"
    assert list(DeadLetter.objects.all()) == [letter]


def test_does_not_keep_anybody_from_retrying_it() -> None:
    letter = failed()
    Generation.objects.filter(pk=letter.pk).update(raw_params={"prompt": "x"}, params={"prompt": "x"})
    dismiss([letter.pk], reason="r", actor="a")

    assert retry(letter.pk, actor="b").generation.retry_of_id == letter.pk


@pytest.mark.usefixtures("transactional_db")
def test_is_noted_once_when_two_do_it() -> None:
    rows = [failed() for _ in range(5)]
    ids = [row.pk for row in rows]

    numbers = together(
        [partial(dismiss, ids, reason="a", actor="a"), partial(dismiss, ids[::-1], reason="b", actor="b")]
    )

    assert sorted(map(int, numbers)) == [0, 5]  # type: ignore[arg-type]
    assert Event.objects.filter(kind="dismissed").count() == 5
