"""Servers that were given to the drill: a database of its own on one, an empty database number of the other.

They have the face of the embedded ones, without a program to run: what is not ours is not killed.
"""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis
from psycopg import sql

from config.embedded.program import Program


class ServerError(Exception):
    """A given server cannot be used; the message says why and what to do."""


class GivenPostgres:
    """A database ``darkroom_drill_...`` on a PostgreSQL that runs: made by ``finish``, dropped by ``discard``."""

    name = "postgres"

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._database = f"darkroom_drill_{secrets.token_hex(4)}"
        self._made = False

    @property
    def url(self) -> str:
        """The drill's own database."""
        parts = urlsplit(self._server_url)
        return urlunsplit((parts.scheme, parts.netloc, f"/{self._database}", parts.query, ""))

    def program(self) -> Program | None:
        """Not ours to run."""
        return None

    def ready(self) -> bool:
        """Whether it takes connections."""
        try:
            with psycopg.connect(_libpq(self._server_url), connect_timeout=3):
                return True
        except psycopg.OperationalError:
            return False

    def finish(self) -> None:
        """Make the database. Raises ServerError."""
        self._run(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self._database)))
        self._made = True

    def discard(self) -> None:
        """Drop the database, whoever is still connected."""
        if self._made:
            self._run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(self._database)))

    def _run(self, statement: sql.Composed) -> None:
        try:
            with psycopg.connect(_libpq(self._server_url), autocommit=True, connect_timeout=3) as connection:
                connection.execute(statement)
        except psycopg.Error as error:
            raise ServerError(
                f"The drill could not make (or drop) its database {self._database} on the given PostgreSQL: {error}. "
                "Give an address whose user may create databases, or none: then the drill starts a server of its own."
            ) from error


class GivenValkey:
    """An empty database number of a Redis or Valkey that runs; emptied again by ``discard``."""

    name = "valkey"

    def __init__(self, url: str) -> None:
        self.url = url
        self._used = False

    def program(self) -> Program | None:
        """Not ours to run."""
        return None

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1, socket_connect_timeout=1) as client:
                return bool(client.ping())
        except (redis.RedisError, OSError):
            return False

    def finish(self) -> None:
        """See that nothing is lost by us. Raises ServerError when there is anything."""
        with redis.Redis.from_url(self.url) as client:
            count = client.dbsize()
        if count:
            raise ServerError(
                f"The given Redis database has {count} keys, and the drill empties it again and again. Give one with "
                "a free number at the end of its address, such as redis://127.0.0.1:6379/9."
            )
        self._used = True

    def discard(self) -> None:
        """Leave nothing."""
        if self._used:
            with redis.Redis.from_url(self.url) as client:
                client.flushdb()


def _libpq(url: str) -> str:
    return url.replace("postgres://", "postgresql://", 1)
