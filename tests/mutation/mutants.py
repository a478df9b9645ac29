"""The planted bugs: each breaks one promise on purpose, and the tests that must notice it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """In ``path``, ``old`` (which stands there exactly once) becomes ``new``."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug. At least one of ``tests`` (pytest's node ids) must fail with it; all of them pass without."""

    name: str
    breaks: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    schema: bool = False
    """It changes a migration: the test database is made anew."""


EXECUTION = "generations/execution"
TESTS = "tests/generations"


def _mutant(name: str, breaks: str, path: str, old: str, new: str, *tests: str, schema: bool = False) -> Mutant:
    return Mutant(name, breaks, (Edit(path, old, new),), tests, schema)


MUTANTS: tuple[Mutant, ...] = (
    _mutant(
        "drop the fence",
        "a worker that lost its lease writes all the same (I14)",
        f"{EXECUTION}/recording.py",
        'FENCE = "t.state = ANY(%(states)s) AND t.token = %(token)s AND t.lease_until > now()"',
        'FENCE = "t.state = ANY(%(states)s)"',
        f"{TESTS}/execution/test_recording.py::test_touches_nothing_of_another_owner",
    ),
    _mutant(
        "drop the slot's index",
        "two attempts share a slot (I4)",
        "generations/migrations/0001_initial.py",
        "fields=('account', 'slot'), name='submission_slot'",
        "fields=('id', 'slot'), name='submission_slot'",
        f"{TESTS}/models/test_constraints.py",
        schema=True,
    ),
    _mutant(
        "release after the transaction",
        "a crash between the two leaves credits held for ever (I6)",
        f"{EXECUTION}/settle.py",
        "    credits.release(released, actor=actor)\n",
        "    from django.db import transaction\n\n"
        "    transaction.on_commit(lambda: credits.release(released, actor=actor))\n",
        f"{TESTS}/execution/test_settle.py::test_settles_as_it_ends",
    ),
    _mutant(
        "send again from sending",
        "a call that may have arrived is made twice (I1, I2)",
        f"{EXECUTION}/recover.py",
        "            state=State.UNKNOWN,\n            token=uuid.uuid4(),",
        "            state=State.RESERVED,\n            token=uuid.uuid4(),",
        f"{TESTS}/execution/test_recover.py::test_makes_unknown_what_a_dead_worker_was_sending",
    ),
    _mutant(
        "hint before the commit",
        "a worker looks for what is not there yet",
        "generations/intake/store.py",
        "        transaction.on_commit(partial(wakeups.wake_dispatch, provider_id))",
        "        wakeups.wake_dispatch(provider_id)",
        f"{TESTS}/intake/test_request.py::test_hints_only_at_what_is_committed",
    ),
    _mutant(
        "count a wait as an attempt",
        "a busy provider uses up a request's attempts",
        f"{EXECUTION}/failures.py",
        "    if number - waits >= limits().max_submissions:",
        "    if number >= limits().max_submissions:",
        f"{TESTS}/execution/test_dispatch.py::test_counts_no_wait_among_the_attempts",
    ),
    _mutant(
        "skip the last look",
        "our own outage fails what finished meanwhile",
        f"{EXECUTION}/poll.py",
        "    return isinstance(outcome, PollResult) or submission.last_looks + 1 >= limits().last_looks",
        "    return True",
        f"{TESTS}/execution/test_poll.py::test_tries_a_last_look_that_gets_no_answer_three_times",
    ),
    _mutant(
        "a refused login ends the attempt at a poll",
        "one bad login fails live work",
        f"{EXECUTION}/poll.py",
        "    if submission.limit_at is not None and now >= submission.limit_at and _has_looked(submission, outcome):",
        "    if isinstance(outcome, AuthFailed):\n"
        "        return _failed(submission, outcome, JobFailed(), None, at_risk=False)\n"
        "    if submission.limit_at is not None and now >= submission.limit_at and _has_looked(submission, outcome):",
        f"{TESTS}/execution/test_poll.py::test_fails_no_job_when_the_account_is_refused",
    ),
    _mutant(
        "free the slot at a cancel",
        "the provider is sent more at once than the account's limit (I4)",
        f"{EXECUTION}/expiry.py",
        "        abandoned_at=Now()\n",
        "        abandoned_at=Now(), state=State.CANCELLED, ended_at=Now()\n",
        f"{TESTS}/execution/test_expiry.py",
        f"{TESTS}/execution/test_recover.py",
    ),
    _mutant(
        "keep the token when the owner is given up",
        "the slow worker still believes that it is the owner (I14)",
        f"{EXECUTION}/recover.py",
        "            state=State.UNKNOWN,\n            token=uuid.uuid4(),\n",
        "            state=State.UNKNOWN,\n",
        f"{TESTS}/execution/test_recover.py::test_makes_unknown_what_a_dead_worker_was_sending",
    ),
    _mutant(
        "keep the token of what was never sent",
        "the slow worker still believes that it is the owner (I14)",
        f"{EXECUTION}/failures.py",
        "lease_until = NULL, token = gen_random_uuid()",
        "lease_until = NULL",
        f"{TESTS}/execution/test_recover.py::test_queues_again_what_was_reserved_and_never_sent",
    ),
    _mutant(
        "keep the token of what is fetched again later",
        "a collector that has given a result back writes about it once more (I14)",
        f"{EXECUTION}/collect.py",
        'also="token = gen_random_uuid(), unwritten_claims = 0",',
        'also="unwritten_claims = 0",',
        f"{TESTS}/execution/test_collect.py::test_writes_nothing_about_what_it_has_given_back",
    ),
    _mutant(
        "collect without the lease",
        "a collector writes although its lease is over (I14)",
        f"{EXECUTION}/collect.py",
        "t.state = 'collecting' AND t.token = %(token)s AND t.lease_until > now()",
        "t.state = 'collecting' AND t.token = %(token)s",
        f"{TESTS}/execution/test_collect.py::test_writes_nothing_when_its_lease_is_over",
    ),
    Mutant(
        "give a sender up before its lease is over",
        "what is being sent at this moment is called unknown",
        (
            Edit(
                f"{EXECUTION}/recover.py",
                "pk__in=[row.pk for row in rows], state=State.SENDING, lease_until__lte=Now()",
                "pk__in=[row.pk for row in rows], state=State.SENDING",
            ),
            Edit(
                f"{EXECUTION}/recover.py",
                "_attempts(Q(state=State.SENDING, lease_until__lte=Now()), move)",
                "_attempts(Q(state=State.SENDING), move)",
            ),
        ),
        (f"{TESTS}/execution/test_recover.py::test_leaves_alone_whose_lease_still_runs",),
    ),
    _mutant(
        "write what a list says without the fence",
        "a slow reader's old list counts as a look (I14)",
        f"{EXECUTION}/reconcile.py",
        "pk__in=ids, state=State.UNKNOWN, poll_token=token)",
        "pk__in=ids, state=State.UNKNOWN)",
        f"{TESTS}/execution/test_reconcile.py::TestPixverse::test_writes_nothing_once_somebody_else_looks",
    ),
    _mutant(
        "give up at the limit what nobody has looked for",
        "our own outage fails what the provider has made",
        f"{EXECUTION}/recover.py",
        "    return _attempts(unknown.looked_for() & Q(limit_at__lte=Now()), move)",
        "    return _attempts(Q(state=State.UNKNOWN, limit_at__lte=Now()), move)",
        f"{TESTS}/execution/test_unknown.py::test_looks_for_it_before_time_ends_it",
    ),
    _mutant(
        "end at the deadline what nobody has looked for",
        "our own outage fails what the provider has made",
        f"{EXECUTION}/recover.py",
        "    return _attempts(unknown.looked_for() & past, move)",
        "    return _attempts(Q(state=State.UNKNOWN) & past, move)",
        f"{TESTS}/execution/test_unknown.py::test_looks_for_it_before_time_ends_it",
    ),
    _mutant(
        "ask again before anybody has looked",
        "what the provider has made already is made twice",
        f"{EXECUTION}/recover.py",
        "        unknown.looked_for(),\n        abandoned_at=None,",
        "        state=State.UNKNOWN,\n        abandoned_at=None,",
        f"{TESTS}/execution/test_unknown.py::test_looks_for_it_before_time_ends_it",
    ),
    Mutant(
        "reuse across users",
        "another user's result answers a request (I3)",
        (
            Edit(
                "generations/intake/store.py",
                "filter(user_id=generations[0].user_id, active_fingerprint__in=prints)",
                "filter(active_fingerprint__in=prints)",
            ),
            Edit(
                "generations/migrations/0001_initial.py",
                "fields=('user', 'active_fingerprint')",
                "fields=('active_fingerprint',)",
            ),
        ),
        (f"{TESTS}/intake/test_request.py",),
        schema=True,
    ),
    _mutant(
        "give the claim up while it may be billed",
        "the same request is paid for twice (promise 2)",
        f"{EXECUTION}/settle.py",
        "s.state = ANY(%(billable)s))",
        "s.state = ANY(%(billable)s) AND s.state = 'nothing')",
        f"{TESTS}/execution/test_settle.py::test_keeps_the_claim_while_an_attempt_may_be_billed",
    ),
    _mutant(
        "complete with a late result",
        "what was released is captured all the same (I6)",
        f"{EXECUTION}/collect.py",
        "if touched[submission.pk][0] is None]",
        "]",
        f"{TESTS}/execution/test_collect.py::test_completes_nothing_by_an_attempt_that_was_given_up_for_another",
    ),
    _mutant(
        "take whichever job fits",
        "an attempt gets another one's result (I9)",
        f"{EXECUTION}/reconcile.py",
        "        if attempt in waiting and len(found) == 1 and claimed_by[found[0].job_id] == 1",
        "        if attempt in waiting and found",
        f"{TESTS}/execution/test_reconcile.py::test_takes_only_what_is_certain",
    ),
    _mutant(
        "forget what a callback told too early",
        "a job that is known is given up as unknown",
        f"{EXECUTION}/unknown.py",
        '        if rows.filter(state=State.SENDING, told_job_id="").update(told_job_id=job_id):',
        '        if rows.filter(state=State.SENDING, told_job_id="").exists():',
        f"{TESTS}/execution/test_unknown.py",
    ),
    _mutant(
        "take a signed callback again and again",
        "a replayed callback is believed",
        "generations/api/hooks.py",
        "    return created\n",
        "    return True\n",
        f"{TESTS}/api/test_hooks.py",
    ),
    _mutant(
        "ask again and again",
        "resubmit_once is for ever",
        f"{EXECUTION}/recover.py",
        "        generation__resubmits=0,\n",
        "",
        f"{TESTS}/execution/test_unknown.py::test_asks_only_once_more",
    ),
    _mutant(
        "count a user's caps without his lock",
        "many requests at once pass a cap",
        "generations/intake/caps.py",
        "UserCap.objects.select_for_update().filter(pk=user_id)",
        "UserCap.objects.filter(pk=user_id)",
        f"{TESTS}/intake/test_caps.py",
    ),
    _mutant(
        "two claims decide about one user",
        "a user has more in flight than his cap",
        f"{EXECUTION}/caps.py",
        "pg_try_advisory_xact_lock(hashtext('darkroom.in_flight'), user_id)",
        "TRUE",
        f"{TESTS}/execution/test_caps.py",
    ),
    _mutant(
        "forget the day's cap",
        "an account is sent more a day than its cap",
        f"{EXECUTION}/claim.py",
        "free = free_slots(account.limit, held, left)",
        "free = free_slots(account.limit, held)",
        f"{TESTS}/execution/test_caps.py",
    ),
    _mutant(
        "book a repeated call again",
        "credits are granted twice for one invoice",
        "accounts/credits.py",
        "before = wallet.entries.filter(key=key).first()",
        "before = None",
        "tests/accounts/test_credits.py",
    ),
    _mutant(
        "give back more than it has cost",
        "a refund makes credits out of nothing (I6)",
        "generations/intake/ledger.py",
        "    if not 1 <= amount <= spent:",
        "    if amount < 1:",
        f"{TESTS}/intake/test_ledger.py",
    ),
    _mutant(
        "call a balance final too early",
        "a drift is told that is none, or none that is one",
        f"{EXECUTION}/balances.py",
        "    if costs.under_way:\n        return False\n",
        "",
        f"{TESTS}/execution/test_balances.py",
    ),
    _mutant(
        "a new webhook id for every try",
        "a receiver cannot tell that it was told before",
        f"{EXECUTION}/deliver.py",
        "signed(str(one.delivery.pk), body,",
        "signed(str(uuid.uuid4()), body,",
        f"{TESTS}/execution/test_deliver.py::test_sends_the_same_id_and_event_time_on_every_try_and_makes_the_rest_anew",
        f"{TESTS}/execution/test_deliver.py::test_sends_the_same_id_again_after_a_crash_between_call_and_record",
    ),
    _mutant(
        "make deliveries after the commit",
        "a crash between the two leaves an end that nobody is told (I12)",
        f"{EXECUTION}/announce.py",
        "    insert(deliveries)\n",
        "    transaction.on_commit(lambda: insert(deliveries))\n",
        f"{TESTS}/execution/test_announce.py",
    ),
    _mutant(
        "record a webhook without the fence",
        "a slow deliverer overwrites what its successor found out",
        f"{EXECUTION}/deliver.py",
        "t.state = 'pending' AND t.token = %(token)s AND t.lease_until IS NOT NULL",
        "t.state = 'pending'",
        f"{TESTS}/execution/test_deliver.py::test_records_nothing_once_somebody_else_owns_it",
    ),
    _mutant(
        "take a redirect for success",
        "a webhook counts as received that was not",
        f"{EXECUTION}/webhook_call.py",
        "    if 200 <= status < 300:",
        "    if 200 <= status < 400:",
        f"{TESTS}/execution/test_deliver.py::test_tries_again_after_anything_else_and_follows_nothing",
    ),
    _mutant(
        "attach a webhook_url without the lock",
        "whoever asks at the moment of its end is told nothing (I12)",
        "generations/intake/webhooks.py",
        "        locked = settle.lock([generation.pk]).get(generation.pk)\n",
        "        locked = Generation.objects.filter(pk=generation.pk).first()\n",
        f"{TESTS}/intake/test_webhooks.py::test_tells_whoever_asks_while_it_ends_exactly_once",
    ),
    _mutant(
        "claim what is paused",
        "work is sent although a person has stopped it",
        f"{EXECUTION}/claim.py",
        "        if pauses.of_provider(provider_id):\n            return []\n",
        "",
        f"{TESTS}/execution/test_claim.py::test_takes_nothing_of_what_is_paused_until_that_is_lifted",
    ),
    _mutant(
        "pause without the claims' lock",
        "drain calls a deploy safe while a claim that has not seen the pause is under way",
        "generations/intake/switches.py",
        "            claim.lock(provider_id)\n",
        "            pass\n",
        f"{TESTS}/execution/test_claim.py::test_lets_no_claim_be_under_way_that_has_not_seen_a_pause",
    ),
    _mutant(
        "accept while intake is stopped",
        "work comes in although a person has stopped it",
        "generations/intake/store.py",
        "            if stopped:\n                answers |= _only_answered",
        "            if stopped is False:\n                answers |= _only_answered",
        f"{TESTS}/intake/test_switches.py::TestIntakeStopped::test_accepts_nothing_and_changes_nothing",
    ),
    _mutant(
        "try again what somebody wants cancelled",
        "a cancelled generation is made all the same",
        f"{EXECUTION}/failures.py",
        "    if generation.cancel_requested_at is not None:\n        return Ending(generation.pk, Status.CANCELLED",
        "    if False:\n        return Ending(generation.pk, Status.CANCELLED",
        f"{TESTS}/execution/test_cancel_matrix.py::test_asks_for_nothing_more_when_there_is_no_result",
    ),
    _mutant(
        "cancel a batch's shared ones too",
        "what somebody else asked for is cancelled over his head",
        f"{EXECUTION}/batches.py",
        "filter(~Exists(others), standalone=False, pk__in=mine)",
        "filter(pk__in=mine)",
        f"{TESTS}/api/test_batches.py::TestCancel::test_keeps_what_somebody_else_wants",
    ),
    _mutant(
        "leave the variation out of the fingerprint",
        "all variations of a text are one picture",
        "generations/fingerprint.py",
        '{} if variation is None else {"variation": variation}',
        "{}",
        f"{TESTS}/api/test_batches.py::TestText::test_is_accepted_as_one_generation_for_each_variation",
    ),
    _mutant(
        "leave a retried batch closed",
        "a batch counts as over while something of it is made (I11)",
        "generations/intake/batch_items.py",
        "update(closed_at=None)",
        "exists()",
        f"{TESTS}/api/test_batches.py::TestStatus::test_follows_a_retry_of_a_single_generation",
    ),
    _mutant(
        "let an end change",
        "terminal is not terminal (I14)",
        "generations/migrations/0002_terminal_is_terminal.py",
        "    WHEN (OLD.state IN ('succeeded', 'failed', 'cancelled') AND",
        "    WHEN (OLD.state IN ('succeeded') AND",
        f"{TESTS}/models/test_constraints.py",
        schema=True,
    ),
)
