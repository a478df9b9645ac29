"""The promises hold while every kind of worker runs twice, over the same rows, and people cancel."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from django.db import connection

from generations.execution import collect, dispatch, poll, recover
from generations.intake.cancel import cancel
from generations.intake.errors import Conflict
from generations.lifecycle import LIVE, Status
from generations.models import Generation, Submission
from generations.reports import audit
from providers.sandbox.state import key_label
from tests.factories import UserFactory, WalletFactory
from tests.generations.execution.studio import PURSE, Studio
from tests.together import together

pytestmark = pytest.mark.django_db(transaction=True)

FAULTS = ("", "", "", "500_before*1", "job_failed*1", "poll_500_once", "expired_url_once", "accept_then_drop")
SECONDS = 40


def test_ends_everything_within_the_slots_and_settles_each_once(studio: Studio, limits: Callable[..., None]) -> None:
    limits(
        image_poll_interval=0.05, video_poll_interval=0.05, backoff_base=0.05, backoff_cap=0.2,
        image_cancel_grace=0.2, max_poll_interval=0.2, image_deadline=2, submission_limit=3, last_look_interval=0.1,
        reconcile_after=0.1,
    )  # fmt: skip
    accounts = [studio.account(limit=3), studio.account(limit=2)]
    other = UserFactory.create()
    WalletFactory.create(user=other, available=PURSE)
    rows = [studio.ask(FAULTS[i % len(FAULTS)], user=other if i % 3 == 0 else None) for i in range(24)]
    end = time.monotonic() + SECONDS

    def until_all_have_ended(work: Callable[[], object]) -> Callable[[], int]:
        def run() -> int:
            rounds = 0
            while time.monotonic() < end and Generation.objects.filter(status__in=LIVE).exists():
                work()
                rounds += 1
                time.sleep(0.02)
            return rounds

        return run

    def people() -> int:
        cancelled = 0
        for row in rows[::5]:
            time.sleep(0.05)
            try:
                cancel(row.pk, actor="user:1")
                cancelled += 1
            except Conflict:
                pass
        return cancelled

    workers = [lambda: dispatch.dispatch("modelslab"), poll.poll, collect.collect, recover.tick]
    found = together([*(until_all_have_ended(work) for work in workers * 2), people])
    assert [one for one in found if isinstance(one, Exception)] == []

    assert not Generation.objects.filter(status__in=LIVE).exists()
    assert Generation.objects.filter(status=Status.COMPLETED).count() >= 10
    while Submission.objects.open().exists() and time.monotonic() < end:  # those that were abandoned
        poll.poll()
        collect.collect()
        recover.tick()
    assert not Submission.objects.open().exists()
    keys = studio.sandbox.summary()["keys"]
    for account in accounts:
        assert keys[key_label("modelslab", account.credentials["api_key"])]["most_in_flight"] <= account.limit
    submits = [one for row in rows for one in studio.submits(row)]
    assert len(submits) == len(set(submits))
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(sum(held), 0) FROM accounts_wallet")
        assert cursor.fetchone()[0] == 0
    assert audit.run() == []
