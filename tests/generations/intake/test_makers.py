"""The parent of what is made from a result: it"""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from generations.intake import batches
from generations.intake.batch_plan import BatchRequest, Wanted
from generations.intake.inputs import InputRef, ResolvedInput
from generations.intake.makers import makers, parent_of
from generations.models import Asset, Batch, Generation
from tests.factories import AssetFactory, ExportFactory, LibraryItemFactory, completed_generation
from tests.generations.intake.conftest import Ask

pytestmark = pytest.mark.django_db


def result_of(made: Generation) -> Asset:
    return made.submissions.get().assets.get()


def export_of(made: Generation) -> Asset:
    exported = AssetFactory.create(role="export", user=made.user, submission=None)
    ExportFactory.create(
        asset=result_of(made), result=exported, state="done", next_try_at=None, ended_at=timezone.now()
    )
    return exported


def test_is_the_one_whose_result_or_export_comes_first(
    user: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    first, second = completed_generation(user=user), completed_generation(user=user)
    upload = AssetFactory.create(role="input", user=user)
    inputs = [ResolvedInput("image", asset) for asset in (upload, export_of(second), result_of(first))]

    with django_assert_num_queries(2):
        made_by = makers(user.pk, inputs)

    assert set(made_by.values()) == {first.pk, second.pk}
    assert parent_of(inputs, made_by) == second.pk
    assert parent_of(inputs[::-1], made_by) == first.pk
    with django_assert_num_queries(0):
        assert makers(user.pk, inputs[:1]) == {}


def test_is_never_somebody_elses(user: User) -> None:
    theirs = completed_generation()
    inputs = [ResolvedInput("image", asset) for asset in (result_of(theirs), export_of(theirs))]

    assert makers(user.pk, inputs) == {}


def test_makes_no_other_request_of_it(ask: Ask, user: User) -> None:
    made = completed_generation(user=user)
    other = completed_generation(user=user)
    inputs = (InputRef("image", result_of(made).pk),)
    first = ask(operation_type="image_to_image", inputs=inputs)

    again = ask(operation_type="image_to_image", inputs=inputs, parent_id=other.pk)

    assert (first.generation.parent, again.generation) == (made, first.generation)


def test_is_found_for_the_items_of_a_batch_too(user: User) -> None:
    made = completed_generation(user=user)
    plain = LibraryItemFactory.create(owner=user, picture=AssetFactory.create(role="input", user=user))
    posed = LibraryItemFactory.create(owner=user, picture=result_of(made))
    wanted = BatchRequest(
        mode=Batch.Mode.GALLERY,
        provider_id="modelslab",
        operation_type="image_to_image",
        params={"prompt": "a dancer"},
        items=(Wanted(plain.pk, 1), Wanted(posed.pk, 2)),
    )

    batch = batches.accept(user.pk, wanted, actor=f"user:{user.pk}").batch

    assert [item.generation.parent for item in batch.items.order_by("position")] == [None, made, made]
