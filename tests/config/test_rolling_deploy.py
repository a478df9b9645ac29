"""A rolling deploy: the database is ahead of processes that still run the version before, and they go on."""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

pytestmark = pytest.mark.django_db

RELEASED = {"accounts": "0001_initial", "generations": "0002_terminal_is_terminal"}
"""The newest migrations of the version that was released last; raise them with each release."""


def columns(table: str) -> dict[str, bool]:
    """The columns that a table has: may it be left out (nullable, or with a default of the database's own)?"""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT column_name, is_nullable = 'YES' OR column_default IS NOT NULL OR is_identity = 'YES'"
            "  FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = %s",
            [table],
        )
        return dict(cursor.fetchall())


def released_tables() -> dict[str, set[str]]:
    """The tables and columns that the released version reads and writes."""
    state = MigrationExecutor(connection).loader.project_state(list(RELEASED.items()))
    models = [model for model in state.apps.get_models() if model._meta.app_label in RELEASED]
    return {
        model._meta.db_table: {str(field.column) for field in model._meta.local_concrete_fields} for model in models
    }


def test_keeps_every_table_and_column_that_the_version_before_uses() -> None:
    missing = {table: names - set(columns(table)) for table, names in released_tables().items()}
    assert [(table, names) for table, names in missing.items() if names] == []


def test_lets_the_version_before_write_rows_without_the_columns_that_it_does_not_know() -> None:
    """Such a column is nullable or has a ``db_default``: Django's own ``default`` is known to the new version alone."""
    needed = [
        f"{table}.{name}"
        for table, names in released_tables().items()
        for name, may_be_left_out in columns(table).items()
        if name not in names and not may_be_left_out
    ]
    assert needed == []
