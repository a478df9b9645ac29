"""The peer of P5: one Celery message per generation, three small transactions each, connections kept."""

from __future__ import annotations

from django.db import connection, transaction

from config.celery import app

STEPS = ("dispatched", "submitted", "completed")


@app.task(name="bench.three_transactions", queue="bench")
def three_transactions(*, row_id: int) -> None:
    """Claim, record, finish: three commits on one row."""
    for step in STEPS:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT id FROM bench_row WHERE id = %s FOR UPDATE", [row_id])
            cursor.execute("UPDATE bench_row SET status = %s, changed_at = now() WHERE id = %s", [step, row_id])


CREATE = """
CREATE TABLE bench_row (id bigserial PRIMARY KEY, status text NOT NULL DEFAULT 'pending', changed_at timestamptz);
CREATE TABLE bench_bare (
    id bigserial PRIMARY KEY, user_id integer NOT NULL, kind varchar(40) NOT NULL, body jsonb NOT NULL,
    created_at timestamptz NOT NULL
);
"""
