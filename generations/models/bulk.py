"""One UPDATE for many rows with different values, that tells which rows it touched."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import connection, models


def update_rows(
    model: type[models.Model],
    rows: Mapping[UUID, Mapping[str, Any]],
    *,
    guard: str,
    params: Mapping[str, Any] | None = None,
    also: str = "",
    returning: Sequence[str] = (),
) -> dict[UUID, tuple[Any, ...]]:
    """Update the rows of ``model`` with these ids where ``guard`` holds, in one statement.

    Args:
        rows: the new values by id; each has the same fields (attribute names, for example ``user_id``).
        guard: SQL over the table's columns as ``t`` and the given values as ``v``; with ``params`` as named parameters.
        also: further SQL assignments that are the same for all rows (for example ``ended_at = now()``).
        returning: columns to give back.

    Returns:
        The ids that were touched, with the ``returning`` columns. Who is missing lost the race.
    """
    if not rows:
        return {}
    names = list(next(iter(rows.values())))
    fields = [model._meta.get_field(name) for name in names]
    values: dict[str, Any] = {"ids": list(rows)}
    arrays, columns = ["%(ids)s::uuid[]"], ["id"]
    for field, name in zip(fields, names, strict=True):
        assert isinstance(field, models.Field)
        column = [row[name] for row in rows.values()]
        if isinstance(field, models.JSONField):
            column = [None if value is None else _json(value) for value in column]
        else:
            column = [storable(value) for value in column]
        values[f"column_{name}"] = column
        arrays.append(f"%(column_{name})s::{_array_type(field)}")
        columns.append(str(field.column))
    assignments = [f"{column} = v.{column}" for column in columns[1:]] + ([also] if also else [])
    wanted = ", ".join(["t.id", *(f"t.{column}" for column in returning)])
    # Names come from the models, values are parameters.
    sql = (
        f"UPDATE {model._meta.db_table} AS t SET {', '.join(assignments)} "  # noqa: S608
        f"FROM unnest({', '.join(arrays)}) AS v({', '.join(columns)}) "
        f"WHERE t.id = v.id AND {guard} RETURNING {wanted}"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, {**values, **(params or {})})
        return {row[0]: row[1:] for row in cursor.fetchall()}


def storable(value: Any) -> Any:
    """``value`` as PostgreSQL takes it: a provider may say NUL or half a surrogate pair, which are no text."""
    if isinstance(value, str):
        return value.replace("\x00", "").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    return value


def _json(value: Any) -> str:
    text = json.dumps(value)
    # Only escapes can be wrong in it, and they are rare.
    return json.dumps(storable(value)) if "\\u0000" in text or "\\ud" in text else text


def _array_type(field: models.Field[Any, Any]) -> str:
    """The PostgreSQL array type of a field's values."""
    kind = str(field.rel_db_type(connection) if field.is_relation else field.db_type(connection))
    return f"{kind}[]"
