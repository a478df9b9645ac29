"""Given servers are used with care: a database of the drill's own, and only an empty Redis."""

from __future__ import annotations

import os

import psycopg
import pytest
import redis

from config.drill.forms import Kind
from config.drill.house import House, Layout
from config.drill.servers import GivenPostgres, GivenValkey, ServerError
from config.drill.strikes import not_possible

SPACE = 14


def databases() -> set[str]:
    """The names of those on the tests' server."""
    url = os.environ["DATABASE_URL"].replace("postgres://", "postgresql://", 1)
    with psycopg.connect(url) as connection:
        return {row[0] for row in connection.execute("SELECT datname FROM pg_database").fetchall()}


def redis_url() -> str:
    """A number of the tests' Valkey that nothing else uses."""
    return f"{os.environ['REDIS_URL'].rpartition('/')[0]}/{SPACE}"


def test_makes_a_database_of_its_own_and_drops_it_whoever_is_connected() -> None:
    before = databases()
    given = GivenPostgres(os.environ["DATABASE_URL"])
    assert given.ready()
    assert given.program() is None
    given.finish()
    [ours] = databases() - before
    assert ours.startswith("darkroom_drill_")
    with psycopg.connect(given.url.replace("postgres://", "postgresql://", 1)) as connection:
        assert connection.info.dbname == ours
        given.discard()
    assert databases() == before


def test_drops_nothing_that_it_has_not_made() -> None:
    before = databases()
    GivenPostgres(os.environ["DATABASE_URL"]).discard()
    assert databases() == before


def test_says_what_to_do_where_no_database_can_be_made() -> None:
    given = GivenPostgres("postgres://nobody:wrong@127.0.0.1:9/nothing")
    assert not given.ready()
    with pytest.raises(ServerError, match="may create databases"):
        given.finish()


def test_takes_only_an_empty_redis_and_leaves_it_empty() -> None:
    given = GivenValkey(redis_url())
    with redis.Redis.from_url(redis_url()) as client:
        client.flushdb()
        client.set("somebody's", "1")
        with pytest.raises(ServerError, match="1 keys"):
            given.finish()
        given.discard()
        assert client.dbsize() == 1
        client.flushdb()
        assert given.ready()
        given.finish()
        client.set("ours", "1")
        given.discard()
        assert client.dbsize() == 0


def test_spares_given_servers_and_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    given = House(
        tmp_path_factory.mktemp("given"),
        Layout(),
        postgres=GivenPostgres(os.environ["DATABASE_URL"]),
        valkey=GivenValkey(redis_url()),
    )
    own = House(tmp_path_factory.mktemp("own"), Layout())
    try:
        assert set(not_possible(given)) == {Kind.DATABASE_RESTARTED, Kind.BROKER_KILLED}
        assert not_possible(own) == {}
    finally:
        given.stop()
        own.stop()
