"""A caller's Idempotency-Key: bound to what answers it in the commit that makes the answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from generations.conf import limits
from generations.intake.errors import Conflict, KeyReused
from generations.models import Batch, Generation, IdempotencyKey
from generations.models.clock import database_now

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The caller's key and the sha-256 of the body that it stands for."""

    key: str
    body_sha256: str


class KeyTaken(Exception):
    """Somebody committed the same Idempotency-Key first; everything of ours is rolled back."""


def known(user_id: int, idempotency: Idempotency) -> IdempotencyKey | None:
    """The key's row, where it was used before.

    Raises:
        KeyReused: for another body.
    """
    row = (
        IdempotencyKey.objects.filter(user_id=user_id, key=idempotency.key, expires_at__gt=database_now())
        .select_related("generation", "batch")
        .first()
    )
    if row is not None and row.body_sha256 != idempotency.body_sha256:
        raise KeyReused
    return row


def seen(answer: T | None) -> T:
    """What somebody else has answered the caller's key with at this moment.

    Raises:
        Conflict: ``try_again``: that is not to be seen yet.
    """
    if answer is None:
        raise Conflict("try_again", "The same key is being used at this moment. Send it again.")
    return answer


def remember(
    idempotency: Idempotency, answer: Generation | Batch, *, reused: bool, now: datetime, user_id: int | None = None
) -> None:
    """Bind the key to the answer, or find that somebody did so meanwhile.

    ``user_id``: whose key it is, where the answer is somebody else's.

    Raises:
        KeyTaken: the caller's transaction must be rolled back.
    """
    user_id = user_id or answer.user_id
    same = IdempotencyKey.objects.filter(user_id=user_id, key=idempotency.key)
    same.filter(expires_at__lte=now).delete()
    generation, batch = (answer, None) if isinstance(answer, Generation) else (None, answer)
    IdempotencyKey.objects.bulk_create(
        [
            IdempotencyKey(
                user_id=user_id,
                key=idempotency.key,
                body_sha256=idempotency.body_sha256,
                generation=generation,
                batch=batch,
                reused=reused,
                expires_at=now + timedelta(hours=limits().idempotency_hours),
            )
        ],
        ignore_conflicts=True,
    )
    if not same.filter(generation=generation, batch=batch, body_sha256=idempotency.body_sha256).exists():
        raise KeyTaken
