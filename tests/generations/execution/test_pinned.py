"""Who asked for one account waits for that one only: fairly, hiding nobody and hidden by nobody."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User

from accounts.models import Account
from generations.execution.claim import claim
from generations.models import AccountExclusion, Generation
from tests.factories import AccountFactory, GenerationFactory, UserFactory

pytestmark = pytest.mark.django_db


def waiting(user: User, count: int, account: Account | None = None, **fields: Any) -> list[Generation]:
    return [GenerationFactory.create(user=user, account=account, **fields) for _ in range(count)]


def take(at_most: int = 64) -> list[UUID]:
    return [submission.generation_id for submission in claim("pixverse", uuid4(), at_most)]


def test_shares_an_account_that_many_asked_for_between_the_users() -> None:
    account = AccountFactory.create(limit=2)
    many, one = UserFactory.create(), UserFactory.create()
    waiting(many, 30, account)
    [late] = waiting(one, 1, account)
    assert late.pk in take()


def test_takes_the_higher_priority_of_those_pinned_to_one_account() -> None:
    account = AccountFactory.create(limit=1)
    user = UserFactory.create()
    waiting(user, 3, account)
    [urgent] = waiting(user, 1, account, priority=9)
    assert take() == [urgent.pk]


def test_is_not_hidden_by_those_of_a_user_whom_the_account_no_longer_serves() -> None:
    owner, before = UserFactory.create(), UserFactory.create()
    account = AccountFactory.create(limit=1, owner=owner)
    waiting(before, 5, account, priority=9)
    [mine] = waiting(owner, 1, account)
    assert take() == [mine.pk]


def test_is_not_hidden_by_those_that_the_account_has_refused() -> None:
    account = AccountFactory.create(limit=1)
    user = UserFactory.create()
    for refused in waiting(user, 3, account, priority=9):
        AccountExclusion.objects.create(generation=refused, account=account, code="provider_auth")
    [mine] = waiting(user, 1, account)
    assert take() == [mine.pk]


def test_fills_what_is_left_after_the_shared_slots_are_given_away() -> None:
    """More users than shared slots, and an account of somebody's own: one claim gives them all."""
    AccountFactory.create(limit=1)
    owner = UserFactory.create()
    own = AccountFactory.create(limit=1, owner=owner)
    for _ in range(3):
        waiting(UserFactory.create(), 1, priority=9)
    [mine] = waiting(owner, 1, priority=0)
    taken = take()
    assert len(taken) == 2
    assert mine.pk in taken
    assert own.submissions.get().generation_id == mine.pk


def test_never_takes_more_than_it_may_over_several_looks() -> None:
    AccountFactory.create(limit=2)
    owner = UserFactory.create()
    AccountFactory.create(limit=5, owner=owner)
    for _ in range(4):
        waiting(UserFactory.create(), 1, priority=9)
    waiting(owner, 5)
    assert len(take(3)) == 3
