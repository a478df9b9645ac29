"""Races about batches, on real connections: whoever comes first, there is one outcome, and the money is right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User

from accounts.models import Wallet
from generations.execution import batches, settle
from generations.execution.settle import Ending
from generations.intake import batch_changes
from generations.intake.batch_plan import BatchRequest
from generations.intake.batches import AcceptedBatch
from generations.intake.batches import accept as accept_batch
from generations.intake.errors import Conflict
from generations.intake.idempotency import Idempotency
from generations.intake.request import Accepted, Request, prepare
from generations.intake.retry import retry
from generations.intake.scene_batches import generate_missing
from generations.intake.scenes import Wanted
from generations.intake.store import store
from generations.lifecycle import Status
from generations.models import Batch, BatchItem, Generation
from tests.factories import ChapterFactory, PriceFactory, SceneFactory, UserFactory, WalletFactory
from tests.proof.desk import Audit, clear_tables
from tests.together import Racers

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = 15
SPREAD = 0.004
PURSE, PRICE = 100, 10
TEXT = {"prompt": "a lake"}

Race = Callable[[Sequence[Callable[[], Any]]], list[Any]]
Rounds = Callable[[], Iterator[tuple[Race, User]]]


@pytest.fixture
def rounds(audit: Audit) -> Iterator[Rounds]:
    """The rounds of a test: what runs a race, and a new user with a purse. After each, the audit must find nothing."""
    with Racers(5) as racers:

        def each() -> Iterator[tuple[Race, User]]:
            for seed in range(ROUNDS):
                clear_tables()
                PriceFactory.create(credits=PRICE)
                yield (
                    partial(racers.race, spread=SPREAD, seed=seed),
                    WalletFactory.create(user=UserFactory.create(), available=PURSE).user,
                )
                audit.check()

        yield each


def ask(user: User, *, variations: int = 3, key: str = "", context: Any = None) -> Callable[[], Any]:
    """Somebody asks for a batch."""
    wanted = BatchRequest(Batch.Mode.TEXT, "modelslab", "text_to_image", TEXT, variations=variations, context=context)
    idempotency = Idempotency(key, "same") if key else None
    return partial(accept_batch, user.pk, wanted, idempotency=idempotency, actor="test")


def batch_of(user: User, **more: Any) -> Batch:
    answer: AcceptedBatch = ask(user, **more)()
    return answer.batch


def fail(rows: Iterable[Generation]) -> None:
    settle.end([Ending(row.pk, Status.FAILED, "provider_failed") for row in rows], actor="test")


def purse(user: User) -> tuple[int, int]:
    wallet = Wallet.objects.get(user=user)
    return wallet.available, wallet.held


def test_makes_one_batch_of_one_key(rounds: Rounds) -> None:
    for race, user in rounds():
        answers = race([ask(user, key="k")] * 4)

        assert len({answer.batch.pk for answer in answers}) == 1
        assert sum(not answer.replayed for answer in answers) == 1
        assert Generation.objects.count() == 3
        assert purse(user) == (PURSE - 3 * PRICE, 3 * PRICE)


def test_makes_each_item_once_for_batches_of_the_same_items(rounds: Rounds) -> None:
    for race, user in rounds():
        race([ask(user)] * 3)

        assert (Batch.objects.count(), Generation.objects.count()) == (3, 3)
        assert BatchItem.objects.filter(reused=False).count() == 3
        assert purse(user) == (PURSE - 3 * PRICE, 3 * PRICE)


def test_keeps_what_somebody_asks_for_while_its_batch_is_cancelled(rounds: Rounds) -> None:
    """Whoever is told that a Generation answers him keeps it, or has had a new one made."""
    for race, user in rounds():
        first = batch_of(user, variations=2)
        cancelled, other = race([partial(batch_changes.cancel, first.pk, actor="test"), ask(user, variations=2)])

        assert cancelled is None
        items = BatchItem.objects.filter(batch=other.batch).select_related("generation")
        assert [item.generation.status for item in items] == [Status.PENDING] * 2
        assert purse(user) == (PURSE - 2 * PRICE, 2 * PRICE)


def test_keeps_what_is_asked_for_by_itself_while_its_batch_is_cancelled(rounds: Rounds) -> None:
    for race, user in rounds():
        first = batch_of(user, variations=1)
        row = Generation.objects.get()
        Generation.objects.update(fingerprint="one", active_fingerprint="one")
        alone = partial(_ask_for, user, row)

        _, answer = race([partial(batch_changes.cancel, first.pk, actor="test"), alone])

        answer.generation.refresh_from_db()
        assert answer.generation.status == Status.PENDING
        assert answer.generation.standalone


def test_retries_what_failed_once_however_often_that_is_pressed(rounds: Rounds) -> None:
    for race, user in rounds():
        batch = batch_of(user)
        fail(Generation.objects.all()[:2])

        press = partial(_refused, partial(batch_changes.retry_failed, batch.pk, actor="test"))
        answers = race([press] * 3)

        assert [answer for answer in answers if answer != "nothing_failed"] == [2]
        assert Generation.objects.count() == 5
        assert purse(user) == (PURSE - 3 * PRICE, 3 * PRICE)


def test_makes_an_item_anew_once_in_whichever_way_that_is_asked(rounds: Rounds) -> None:
    for race, user in rounds():
        batch = batch_of(user, variations=2)
        row = BatchItem.objects.get(variation_key="text-v0").generation
        fail([row])

        again = partial(batch_changes.regenerate, batch.pk, "text-v0", actor="test")
        whole = partial(batch_changes.retry_failed, batch.pk, actor="test")
        race([again, whole, again, partial(retry, row.pk, actor="test")])

        assert Generation.objects.count() == 3
        assert purse(user) == (PURSE - 2 * PRICE, 2 * PRICE)


def test_leaves_nothing_of_a_batch_that_is_cancelled_while_it_is_retried(rounds: Rounds) -> None:
    for race, user in rounds():
        batch = batch_of(user)
        failed = BatchItem.objects.get(variation_key="text-v0").generation
        fail([failed])
        again = partial(batch_changes.regenerate, batch.pk, "text-v0", actor="test")

        race([partial(batch_changes.cancel, batch.pk, actor="test"), again])

        assert not Generation.objects.live().exists()
        assert purse(user) == (PURSE, 0)


def test_asks_for_what_a_chapter_lacks_once_for_one_key(rounds: Rounds) -> None:
    for race, user in rounds():
        scene = SceneFactory.create(chapter=ChapterFactory.create(owner=user), description="a lake")
        key = Idempotency("k", "same")
        press = partial(generate_missing, user.pk, scene.chapter_id, Wanted(), idempotency=key, actor="test")

        answers = race([press] * 3)

        assert len({answer.batch.pk for answer in answers}) == 1
        assert sum(not answer.replayed for answer in answers) == 1
        assert purse(user) == (PURSE - PRICE, PRICE)


def test_closes_no_batch_that_is_opened_again(rounds: Rounds) -> None:
    for race, user in rounds():
        batch = batch_of(user, variations=1)
        row = Generation.objects.get()
        fail([row])

        race([batches.close_finished, partial(retry, row.pk, actor="test"), batches.close_finished])

        batch.refresh_from_db()
        assert batch.closed_at is None
        assert BatchItem.objects.get().generation.status == Status.PENDING


def test_lets_everything_go_on_or_keeps_it_when_it_is_paused_and_resumed(rounds: Rounds) -> None:
    for race, user in rounds():
        batch = batch_of(user)

        race([partial(batch_changes.pause, batch.pk), partial(batch_changes.resume, batch.pk, actor="test")])
        batches.keep_waiting()

        batch.refresh_from_db()
        kept = [row.not_before == row.queue_until for row in Generation.objects.all()]
        assert kept == [batch.paused_at is not None] * 3


def _ask_for(user: User, row: Generation) -> Accepted:
    """A single request that is the same as ``row``'s."""
    prepared = prepare(user.pk, Request(row.provider_id, row.operation_type, row.raw_params))
    prepared.generation.fingerprint = "one"
    return store(prepared, "completed", actor="test")


def _refused(call: Callable[[], Any]) -> Any:
    """How many were retried, or why none was."""
    try:
        return call().retried
    except Conflict as refused:
        return refused.code
