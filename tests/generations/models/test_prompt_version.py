"""A version of a prompt: it"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from generations.models import PromptVersion
from tests.factories import PromptFactory, PromptVersionFactory, UserFactory

pytestmark = pytest.mark.django_db
CHANGES: dict[str, Callable[[], Any]] = {
    "text": lambda: "another",
    "text_sha256": lambda: "0" * 64,
    "number": lambda: 7,
    "prompt": PromptFactory.create,
}


@pytest.mark.parametrize("field", CHANGES)
def test_never_changes_whatever_code_asks_for_it(field: str) -> None:
    version = PromptVersionFactory.create()

    with pytest.raises(IntegrityError, match="never changed"), transaction.atomic():
        PromptVersion.objects.filter(pk=version.pk).update(**{field: CHANGES[field]()})

    kept = PromptVersion.objects.get()
    assert (kept.text, kept.number, kept.prompt) == (version.text, 1, version.prompt)


def test_may_be_written_again_as_it_is() -> None:
    PromptVersionFactory.create().save()


def test_leaves_its_family_free_to_be_renamed_and_given_away() -> None:
    version = PromptVersionFactory.create()
    version.prompt.name, version.prompt.user = "another", UserFactory.create()

    version.prompt.save()
