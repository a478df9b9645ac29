"""Dispatch: claim what is due, send it, record what came of it.

1. Claim (T2): ``reserved``, in one short transaction for many.
2. Prepare in threads: uploads of inputs, nothing billable.
3. Send (T3): the few that are about to leave become ``sending``, committed before a byte of the billable call leaves,
   so that a killed worker leaves a handful unknown and not a whole claim.
4. The billable calls run in threads, outside every transaction.
5. Record (T4) in small waves as replies arrive: job id, rejection with what follows, or ``unknown``; fenced by the
   token.

Generations whose dispatchers have died are sent first, each alone in its process (see ``poison``).
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

import structlog
import uuid_utils.compat as uuid
from django.db import connection, transaction

from accounts.encryption import UndecryptableCredentials
from generations import wakeups
from generations.conf import limits
from generations.execution import orders
from generations.execution.claim import claim, extend_leases, mature, suspects_wait
from generations.execution.recording import record
from generations.execution.waves import Wave
from generations.lifecycle import MAKES_IMAGE
from generations.models import Submission
from generations.models.away import AWAY
from providers import registry
from providers.base import SubmitResult
from providers.errors import AuthFailed, ProviderError, Unsupported
from providers.transport import Conversation

log = structlog.get_logger(__name__)

PREPARING_STEP = 0.1
RUN_SECONDS = 60
"""A run takes on nothing more after this, and the next one begins: with those that must be alone."""

# Generations before Submissions, as everywhere: a cancel of one of them holds its Generation.
LOCK = """
SELECT id FROM generations_generation WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE
"""
SEND = """
WITH sent AS (
    UPDATE generations_submission
       SET state = 'sending', sent_at = now(), lease_until = now() + %(lease)s * interval '1 second',
           limit_at = now() + %(limit)s * interval '1 second'
     WHERE id = ANY(%(ids)s) AND state = 'reserved' AND token = %(token)s AND lease_until > now()
 RETURNING id, generation_id
), deadlines AS (
    UPDATE generations_generation g
       SET deadline_at = now() + interval '1 second' *
           CASE WHEN g.operation_type = ANY(%(image_operations)s) THEN %(image)s ELSE %(video)s END
      FROM sent WHERE g.id = sent.generation_id AND g.status = 'processing'
)
SELECT id FROM sent
"""


@dataclass(slots=True)
class Attempt:
    """A claimed Submission on its way out."""

    submission: Submission
    conversation: Conversation[SubmitResult]


class Dispatcher:
    """One run: claims work of one provider until nothing that can start is left."""

    def __init__(self, provider_id: str) -> None:
        self.provider_id = provider_id
        self.token: UUID = uuid.uuid4()
        self.preparing: Wave[Attempt, None] = Wave()
        self.ready: deque[Attempt] = deque()
        self.sending: Wave[Attempt, SubmitResult] = Wave()
        self.claimed = 0

    def run(self) -> int:
        """Dispatch until nothing can start; gives how many were claimed.

        Whatever breaks off the run, what has left is waited for and written down before the error goes on.
        """
        try:
            self._work()
        except Exception as error:
            log.warning(
                "dispatch_broken_off", provider=self.provider_id, sending=len(self.sending), error=type(error).__name__
            )
            while self.sending:
                with suppress(*AWAY):  # the job ids are in the log, and recovery makes the rest unknown
                    self._record()
            raise
        return self.claimed

    def _work(self) -> None:
        mature(self.provider_id)
        while suspects_wait(self.provider_id) and self._take(1, suspects=True):
            self._finish()
        ends_at = time.monotonic() + RUN_SECONDS
        more = True
        while more or self.preparing or self.ready or self.sending:
            if time.monotonic() > ends_at:
                self._finish()
                wakeups.wake_dispatch(self.provider_id)
                return
            if more:
                more = self._claim()
            more = self._step() or more

    def _finish(self) -> None:
        """Send and write down what is in hand, and take on nothing."""
        while self.preparing or self.ready or self.sending:
            self._step()

    def _step(self) -> bool:
        """A little of everything but claims. True: it is worth looking for more work."""
        self._prepared()
        self._send()
        return self._record()

    def _free(self) -> int:
        return limits().connections - len(self.sending) - len(self.ready) - len(self.preparing)

    def _claim(self) -> bool:
        """Take what is due, as much as can be sent soon. True: there may be more."""
        room = self._free()
        if room <= 0:
            return True
        mature(self.provider_id)
        return self._take(min(room, limits().claim_size)) == room

    def _take(self, at_most: int, *, suspects: bool = False) -> int:
        """Claim up to so many and get them on their way. Gives how many there were."""
        submissions = claim(self.provider_id, self.token, at_most, suspects=suspects)
        self.claimed += len(submissions)
        inputs = orders.inputs_of(submissions)
        for submission in submissions:
            log.info(
                "generation_processing_started",
                generation=str(submission.generation_id),
                submission=str(submission.pk),
                account=str(submission.account_id),
            )
            try:
                attempt = Attempt(submission, orders.conversation(submission, inputs, submission.account.credentials))
                if inputs.get(submission.generation_id):
                    self.preparing.start(attempt, attempt.conversation.prepare)
                else:
                    attempt.conversation.prepare()
                    self.ready.append(attempt)
            except Exception as error:  # noqa: BLE001  one bad row must not stop the others
                record(self.token, [(submission, _own_fault(error), None)], sent=False)
        return len(submissions)

    def _prepared(self) -> None:
        """Uploads that are done join the ready ones; failed ones are recorded as not accepted."""
        idle = not self.ready and not self.sending
        failed = []
        for attempt, outcome in self.preparing.arrived(timeout=limits().lease / 3 if idle else 0):
            if isinstance(outcome, Exception):
                failed.append((attempt.submission, _own_fault(outcome), attempt.conversation))
            else:
                self.ready.append(attempt)
        record(self.token, failed, sent=False)
        if self.preparing:
            extend_leases([attempt.submission for attempt in self.preparing.items()], self.token)

    def _send(self) -> None:
        """The next few leave: as many as there are free connections."""
        leaving: list[Attempt] = []
        while self.ready and len(leaving) < limits().connections - len(self.sending):
            leaving.append(self.ready.popleft())
        if not leaving:
            return
        owned = send([attempt.submission for attempt in leaving], self.token)
        for attempt in leaving:
            if attempt.submission.pk in owned:
                log.info(
                    "provider:submit",
                    generation=str(attempt.submission.generation_id),
                    submission=str(attempt.submission.pk),
                    provider=self.provider_id,
                )
                self.sending.start(attempt, attempt.conversation.finish)

    def _record(self) -> bool:
        """Write down what has arrived. True: it is worth looking for more work."""
        # Uploads under way are looked after meanwhile.
        arrived = self.sending.arrived(timeout=PREPARING_STEP if self.preparing else limits().lease / 3)
        record(self.token, [(attempt.submission, outcome, attempt.conversation) for attempt, outcome in arrived])
        return bool(arrived) and len(self.sending) <= limits().connections // 2


def dispatch(provider_id: str) -> int:
    """Send everything of a provider that can start now. Gives how many Generations were claimed."""
    return Dispatcher(provider_id).run()


def send(submissions: list[Submission], token: UUID) -> set[UUID]:
    """T3: these are about to leave. Gives the ids that are still ours and now ``sending``; only they may leave."""
    provider = registry.get(submissions[0].account.provider_id)
    timeout = limits().blocking_submit_timeout if provider.blocking else limits().submit_timeout
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(LOCK, [[submission.generation_id for submission in submissions]])
        cursor.execute(
            SEND,
            {
                "ids": [submission.pk for submission in submissions],
                "token": token,
                "lease": timeout + limits().sending_grace,
                "limit": limits().submission_limit,
                "image": limits().image_deadline,
                "video": limits().video_deadline,
                "image_operations": [str(operation) for operation in MAKES_IMAGE],
            },
        )
        return {row[0] for row in cursor.fetchall()}


def _own_fault(error: Exception) -> ProviderError:
    """An error before anything was sent, in the vocabulary."""
    if isinstance(error, UndecryptableCredentials):
        return AuthFailed(str(error))
    if isinstance(error, ProviderError):
        return error
    log.error("order_failed", exc_info=error)
    return Unsupported(f"The request could not be prepared for the provider: {type(error).__name__}.")
