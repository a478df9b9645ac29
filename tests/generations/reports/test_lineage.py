"""The family of a Generation: it"""

from __future__ import annotations

import pytest
from pytest_django import DjangoAssertNumQueries

from generations.lifecycle import Status
from generations.models import Generation
from generations.reports import lineage as module
from generations.reports.lineage import Lineage, lineage
from tests.factories import AssetFactory, GenerationFactory, UserFactory, completed_generation

pytestmark = pytest.mark.django_db


def told(family: Lineage) -> dict[object, tuple[int, object]]:
    """(depth, came from) of each, by id."""
    return {one.generation.pk: (one.depth, one.came_from) for one in family.relatives}


def test_is_alone_without_relatives() -> None:
    alone = GenerationFactory.create()
    GenerationFactory.create(user=alone.user)

    family = lineage(alone)

    assert told(family) == {alone.pk: (0, None)}
    assert not family.truncated


def test_goes_up_and_down_and_not_sideways(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    first = completed_generation()
    own = {"user": first.user}
    failed = GenerationFactory.create(status=Status.FAILED, parent=first, **own)
    again = GenerationFactory.create(status=Status.COMPLETED, parent=first, retry_of=failed, **own)
    child = GenerationFactory.create(parent=again, **own)
    GenerationFactory.create(parent=first, **own)  # a sibling

    with django_assert_num_queries(3):
        family = lineage(again)

    assert told(family) == {
        first.pk: (-2, None),
        failed.pk: (-1, first.pk),
        again.pk: (0, failed.pk),
        child.pk: (1, again.pk),
    }
    assert [one.generation.pk for one in family.relatives] == [first.pk, failed.pk, again.pk, child.pk]
    assert family.relatives[0].picture == first.submissions.get().assets.get()
    assert [one.picture for one in family.relatives[1:]] == [None] * 3
    assert len(told(lineage(first))) == 5


def test_shows_the_first_result() -> None:
    made = completed_generation()
    submission = made.submissions.get()
    AssetFactory.create(submission=submission, index=1)

    [one] = lineage(made).relatives

    assert one.picture == submission.assets.get(index=0)


def test_knows_only_its_users_own() -> None:
    stranger = GenerationFactory.create(user=UserFactory.create())
    own = GenerationFactory.create(parent=stranger)
    GenerationFactory.create(parent=own, user=stranger.user)

    assert told(lineage(own)) == {own.pk: (0, None)}


def test_ends_in_a_circle() -> None:
    first = GenerationFactory.create()
    second = GenerationFactory.create(user=first.user, parent=first)
    Generation.objects.filter(pk=first.pk).update(parent=second)

    assert set(told(lineage(first))) == {first.pk, second.pk}


def test_is_bounded_in_its_depth_and_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEEPEST", 2)
    monkeypatch.setattr(module, "LARGEST", 3)
    chain = [GenerationFactory.create()]
    own = {"user": chain[0].user}
    for _ in range(3):
        chain.append(GenerationFactory.create(parent=chain[-1], **own))

    family = lineage(chain[0])
    assert set(told(family)) == {row.pk for row in chain[:3]}
    assert family.truncated
    assert not lineage(chain[2]).relatives[-1].depth > 1

    many = GenerationFactory.create(**own)
    GenerationFactory.create_batch(5, parent=many, **own)
    family = lineage(many)
    assert (len(family.relatives), family.truncated) == (4, True)
