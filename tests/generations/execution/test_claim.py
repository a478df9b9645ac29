"""The claim gives free slots to whoever is due, fairly, and to nobody twice."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone

from accounts.models import Account
from generations.execution import claim as claiming
from generations.execution.claim import claim, extend_leases, mature
from generations.intake.switches import turn_off, turn_on
from generations.lifecycle import State, Status
from generations.models import AccountExclusion, Generation, Submission
from tests.factories import AccountFactory, GenerationFactory, SubmissionFactory, UserCapFactory, UserFactory
from tests.generations.execution.studio import at_once
from tests.together import until_somebody_waits

db = pytest.mark.django_db
together = pytest.mark.django_db(transaction=True)
PAST, FUTURE = timezone.now() - timedelta(hours=2), timezone.now() + timedelta(hours=2)


def waiting(user: User, count: int = 1, **fields: Any) -> list[Generation]:
    """Due ones, in order."""
    return [GenerationFactory.create(user=user, **fields) for _ in range(count)]


def take(at_most: int = 64) -> list[UUID]:
    """Claim; which Generations got a slot."""
    return [submission.generation_id for submission in claim("pixverse", uuid4(), at_most)]


def ids(*generations: Generation) -> set[UUID]:
    return {generation.pk for generation in generations}


@db
def test_reserves_the_lowest_free_slots_for_a_lease() -> None:
    account = AccountFactory.create(limit=3)
    SubmissionFactory.create(account=account, slot=2)
    waiting(UserFactory.create(), 5)
    token = uuid4()
    taken = claim("pixverse", token, 64)
    assert sorted(submission.slot for submission in taken) == [1, 3]
    row = Submission.objects.get(pk=taken[0].pk)
    assert (row.state, row.token, row.limit_seen, row.number) == (State.RESERVED, token, 3, 1)
    assert row.lease_until is not None
    assert row.lease_until > timezone.now() + timedelta(seconds=30)
    assert row.process != ""
    assert Generation.objects.filter(status=Status.PROCESSING, started_at__isnull=False).count() == 3


@db
def test_lets_one_not_wait_behind_two_hundred_of_another() -> None:
    AccountFactory.create(limit=2)
    many = waiting(UserFactory.create(), 200)
    [one] = waiting(UserFactory.create())
    assert set(take()) == ids(many[0], one)


@db
def test_serves_whoever_has_the_fewest_in_flight_first() -> None:
    account = AccountFactory.create(limit=4)
    busy, idle = UserFactory.create(), UserFactory.create()
    for _ in range(3):
        SubmissionFactory.create(
            account=account, generation=GenerationFactory.create(user=busy, status=Status.PROCESSING)
        )
    waiting(busy, 3)
    [one] = waiting(idle)
    assert take() == [one.pk]


@db
def test_takes_a_higher_priority_first_whoever_asks() -> None:
    AccountFactory.create(limit=3)
    user = UserFactory.create()
    low, _, high = [waiting(user, 1, priority=priority)[0] for priority in (1, 0, 9)]
    [others] = waiting(UserFactory.create(), 1, priority=5)
    assert set(take()) == ids(high, others, low)


@db
def test_takes_the_oldest_of_one_user_first() -> None:
    AccountFactory.create(limit=2)
    made = waiting(UserFactory.create(), 4)
    assert set(take()) == ids(*made[:2])


@db
def test_is_not_hidden_by_what_cannot_run_now() -> None:
    account = AccountFactory.create(limit=1)
    cooling = AccountFactory.create(limit=9, cooldown_until=FUTURE)
    user = UserFactory.create()
    waiting(user, 3, not_before=FUTURE, priority=9)
    waiting(user, 3, account=cooling, priority=9)
    for excluded in waiting(user, 3, priority=9):
        AccountExclusion.objects.create(generation=excluded, account=account, code="provider_auth")
    [one] = waiting(user, 1, priority=0)
    assert take() == [one.pk]


@db
def test_is_not_hidden_by_other_users_who_cannot_be_served_now() -> None:
    """As many users as there are slots wait for an account that is cooling down; one more could start."""
    account = AccountFactory.create(limit=1)
    AccountFactory.create(limit=9, cooldown_until=FUTURE)
    for _ in range(3):
        [excluded] = waiting(UserFactory.create(), 1, priority=9)
        AccountExclusion.objects.create(generation=excluded, account=account, code="provider_auth")
    [one] = waiting(UserFactory.create(), 1, priority=0)
    assert take() == [one.pk]


@db
def test_gives_the_account_that_is_asked_for() -> None:
    shared, asked_for = AccountFactory.create(priority=9), AccountFactory.create()
    user = UserFactory.create()
    [pinned] = waiting(user, 1, account=asked_for)
    [free] = waiting(user)
    taken = {one.generation_id: one.account_id for one in claim("pixverse", uuid4(), 64)}
    assert taken == {pinned.pk: asked_for.pk, free.pk: shared.pk}


@db
def test_keeps_an_owned_account_for_its_owner_who_prefers_it() -> None:
    owner, other = UserFactory.create(), UserFactory.create()
    AccountFactory.create(limit=1, owner=owner)
    shared = AccountFactory.create(limit=1, priority=9)
    [mine], theirs = waiting(owner), waiting(other, 2)
    taken = {one.generation_id: one.account_id for one in claim("pixverse", uuid4(), 64)}
    assert taken.keys() == ids(mine, theirs[0])
    assert taken[theirs[0].pk] == shared.pk


@db
def test_takes_nothing_from_what_is_in_flight_when_the_limit_is_lowered() -> None:
    account = AccountFactory.create(limit=4)
    user = UserFactory.create()
    for _ in range(3):
        SubmissionFactory.create(account=account)
    Account.objects.filter(pk=account.pk).update(limit=2)
    waiting(user, 3)
    assert take() == []
    assert account.submissions.holding_slot().count() == 3
    Submission.objects.filter(slot__in=[1, 2]).update(state=State.FAILED, ended_at=PAST)
    assert len(take()) == 1, "one is still held on slot 3"


@db
@pytest.mark.parametrize(
    "unusable",
    [
        {"enabled": False},
        {"cooldown_until": FUTURE},
        {"out_of_rotation_at": PAST},
        {"exhausted_at": PAST, "probe_at": FUTURE},
        {"balance": 1, "balance_floor": 2},
        {"provider_id": "modelslab"},
    ],
    ids=str,
)
def test_gives_an_account_that_is_not_usable_nothing(unusable: dict[str, Any]) -> None:
    AccountFactory.create(**unusable)
    waiting(UserFactory.create())
    assert take() == []


@db
def test_probes_an_exhausted_account_with_one() -> None:
    account = AccountFactory.create(limit=5, exhausted_at=PAST, probe_at=PAST)
    waiting(UserFactory.create(), 5)
    assert len(take()) == 1
    assert take() == [], "the probe is still out"
    assert account.submissions.get().slot == 1


@db
def test_claims_no_more_than_it_is_asked_to() -> None:
    AccountFactory.create(limit=50)
    waiting(UserFactory.create(), 20)
    assert len(take(7)) == 7


@db
def test_numbers_the_attempts_of_one_generation() -> None:
    account = AccountFactory.create()
    [one] = waiting(UserFactory.create())
    SubmissionFactory.create(account=account, generation=one, state=State.FAILED)
    [taken] = claim("pixverse", uuid4(), 5)
    assert taken.number == 2


@db
def test_makes_due_what_has_come() -> None:
    AccountFactory.create()
    user = UserFactory.create()
    come, *_ = waiting(user, 1, not_before=PAST) + waiting(user, 1, not_before=FUTURE)
    assert mature() == 1
    assert mature("pixverse") == 0
    assert take() == [come.pk]


@db
def test_renews_only_leases_that_still_run() -> None:
    token = uuid4()
    running, over = (SubmissionFactory.create(state=State.RESERVED, token=token) for _ in range(2))
    Submission.objects.filter(pk=over.pk).update(lease_until=PAST)
    Submission.objects.filter(pk=running.pk).update(lease_until=timezone.now() + timedelta(seconds=5))
    extend_leases([running, over], token)
    running.refresh_from_db()
    over.refresh_from_db()
    assert running.lease_until is not None
    assert running.lease_until > timezone.now() + timedelta(seconds=30)
    assert over.lease_until == PAST


# --- at once --------------------------------------------------------------------------------------


def pause(key: str) -> None:
    assert turn_on(key, reason="the provider asked for it", actor="admin:1")


@db
@pytest.mark.parametrize("key", ["dispatch", "dispatch:provider:pixverse", "dispatch:operation:text_to_video"])
def test_takes_nothing_of_what_is_paused_until_that_is_lifted(key: str) -> None:
    account = AccountFactory.create()
    user = UserFactory.create()
    both = ids(*waiting(user), *waiting(user, account=account))
    pause(key)
    assert take() == []
    assert Generation.objects.filter(status=Status.PENDING, started_at=None, not_sent=0).count() == 2
    turn_off(key, reason="it is well again", actor="admin:1")
    assert set(take()) == both


@db
@pytest.mark.parametrize("key", ["intake", "dispatch:provider:modelslab", "dispatch:operation:fusion"])
def test_takes_what_another_switch_is_about(key: str) -> None:
    AccountFactory.create()
    [one] = waiting(UserFactory.create())
    pause(key)
    assert take() == [one.pk]


@db
@pytest.mark.parametrize("pinned", [False, True])
def test_is_not_hidden_by_what_is_paused(pinned: bool) -> None:
    """Older, of higher priority, more than there are slots, of the same user and of others."""
    account = AccountFactory.create(limit=2)
    fields = {"account": account} if pinned else {}
    user = UserFactory.create()
    for owner in (user, UserFactory.create(), UserFactory.create()):
        waiting(owner, 3, operation_type="fusion", priority=9, **fields)
    two = waiting(user, 2, priority=0, **fields)
    pause("dispatch:operation:fusion")
    assert set(take()) == ids(*two)


@db
def test_serves_users_fairly_over_all_their_operations() -> None:
    AccountFactory.create(limit=4)
    many, one = UserFactory.create(), UserFactory.create()
    kinds = ("fusion", "image_to_video", "video_extend")
    mine = [generation for kind in kinds for generation in waiting(many, 2, operation_type=kind)]
    [single] = waiting(one)
    assert set(take()) == ids(*mine[:3], single)


@together
def test_lets_no_claim_be_under_way_that_has_not_seen_a_pause() -> None:
    """A claim that began before is waited for; one that begins after takes nothing."""
    AccountFactory.create(limit=1)
    [one, _] = waiting(UserFactory.create(), 2)
    order: list[str] = []

    def slow_claim() -> list[UUID]:
        with transaction.atomic():
            claiming.lock("pixverse")
            locked.set()
            until_somebody_waits()
            taken = take()
            order.append("claimed")
        return taken

    def pause_meanwhile() -> list[UUID]:
        locked.wait(10)
        pause("dispatch")
        order.append("paused")
        return take()

    locked = threading.Event()
    results = at_once(slow_claim, pause_meanwhile)
    assert sorted(results, key=len) == [[], [one.pk]]
    assert order[-1] == "paused"


@together
def test_passes_over_one_that_somebody_has_locked() -> None:
    AccountFactory.create(limit=1)
    first, second = waiting(UserFactory.create(), 2)
    with transaction.atomic():
        Generation.objects.select_for_update().get(pk=first.pk)
        [found] = at_once(take)
    assert found == [], "the one slot was meant for the locked one"
    assert take() == [first.pk]
    assert second.status == Status.PENDING


# --- the cost ---------------------------------------------------------------------------------------


def buffers(query: str, values: dict[str, Any]) -> int:
    """How many pages PostgreSQL looks at for a query, by its indexes also while there is little to read."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + query, values)
        plan = cursor.fetchone()[0][0]["Plan"]
        return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


@db
@pytest.mark.parametrize("capped", [False, True], ids=["uncapped", "capped"])
@pytest.mark.parametrize("query", [claiming.UNPINNED, claiming.PINNED], ids=["unpinned", "pinned"])
def test_costs_the_same_however_many_wait(query: str, capped: bool) -> None:
    account = AccountFactory.create(limit=10)
    users = [UserFactory.create() for _ in range(5)]
    if capped:
        for user in users:
            UserCapFactory.create(user=user, max_in_flight=3)
    pinned = account if query is claiming.PINNED else None
    values = {
        "provider": "pixverse",
        "accounts": [account.pk],
        "owners": [None],
        "size": 10,
        "paused": ["fusion"],
        "suspects": False,
        "suspect_after": 2,
        "passed": [],
    }

    def fill(count: int, operation_type: str = "text_to_video") -> None:
        Generation.objects.bulk_create(
            Generation(
                user=users[number % 5],
                provider_id="pixverse",
                operation_type=operation_type,
                params={"prompt": "p"},
                raw_params={"prompt": "p"},
                fingerprint="f" * 64,
                queue_until=FUTURE,
                account=pinned,
            )
            for number in range(count)
        )
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE generations_generation")

    fill(200)
    few = buffers(query, values)
    fill(2000)
    assert buffers(query, values) < few * 3
    fill(2000, "fusion")
    assert buffers(query, values) < few * 3
