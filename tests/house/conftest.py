"""One house for all of its tests: starting a dozen processes costs seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django.fixtures import Settings
from pytest_django.plugin import DjangoDbBlocker

from tests.house.world import House


@pytest.fixture(scope="session")
def running_house(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker) -> Iterator[House]:
    """The house, started and kept running."""
    house = House(tmp_path_factory.mktemp("house"))
    try:
        with django_db_blocker.unblock():
            house.start()
        yield house
    finally:
        house.stop()


@pytest.fixture
def house(running_house: House, django_db_blocker: DjangoDbBlocker, settings: Settings) -> Iterator[House]:
    """The house as if it were new; the test's own queries go to its database, and its files are the house's."""
    place = {"OPTIONS": {"location": str(running_house.media)}}
    settings.STORAGES = {**settings.STORAGES, "default": {**settings.STORAGES["default"], **place}}
    with django_db_blocker.unblock(), running_house.entered():
        running_house.clean()
        yield running_house
