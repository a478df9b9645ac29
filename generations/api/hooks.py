"""Callbacks of providers: verified where they are signed, and never more than a reason to look now."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import cast

import structlog
from django.db import transaction
from django.db.models import Value
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt

from accounts.encryption import UndecryptableCredentials
from accounts.models import Account
from generations import wakeups
from generations.api.plain import problem
from generations.execution import unknown
from generations.lifecycle import State
from generations.models import CallbackNonce, Event, Submission
from generations.models.away import AWAY
from generations.models.bulk import storable
from generations.models.clock import database_now
from providers import registry
from providers.base import CallbackResult, Provider
from providers.errors import Unsupported

TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
LARGEST = 256 * 1024
NONCE_KEPT = timedelta(minutes=15)
"""Longer than a signed callback is believed, to either side of its timestamp."""

log = structlog.get_logger(__name__)


@csrf_exempt
def hook(request: HttpRequest, provider_id: str, token: str) -> HttpResponse:
    """``POST /hooks/{provider_id}/{token}``: the token is an attempt's or an account's own and cannot be guessed.

    Answers exactly ``ok``, as Pixverse wants it and the others do not mind, whether or not anything came of it.
    """
    if request.method != "POST":
        return problem(request, 405, "method_not_allowed", "Callbacks are POSTed.", Allow="POST")
    try:
        provider = registry.get(provider_id)
        if not TOKEN.fullmatch(token):
            return _unknown(request)
        attempts = Submission.objects.select_related("account")
        attempt = attempts.filter(callback_token=token, account__provider_id=provider_id).first()
        account = None if attempt else Account.objects.filter(callback_token=token, provider_id=provider_id).first()
        if attempt is None and account is None:
            return _unknown(request)
        body = _body(request)
        told = _read(request, provider, body)
        if told is None:
            return problem(request, 400, "malformed_body", f"This is no callback of {provider.title}'s.")
        owner = attempt.account if attempt else cast("Account", account)
        nonce = _nonce(request, provider, owner, body)
        with transaction.atomic():
            if nonce is None or _is_new(owner, nonce):
                if attempt is not None:
                    _heard_of_attempt(attempt, told)
                else:
                    _heard_of_account(owner, told)
    except registry.UnknownProvider:
        return _unknown(request)
    except _NotGenuine as error:
        log.warning("callback_refused", provider=provider_id, reason=str(error))
        return problem(request, 401, "bad_signature", "The callback is not signed with this account's secret.")
    except AWAY as error:
        log.warning("callback_not_taken", provider=provider_id, error=type(error).__name__)
        return problem(request, 503, "database_unavailable", "Try again.", Retry_After="5")
    return HttpResponse("ok", content_type="text/plain")


def _body(request: HttpRequest) -> bytes:
    """The body, cut off just above what is read of it; empty when it breaks off."""
    try:
        return request.read(LARGEST + 1)
    except UnreadablePostError:
        return b""


def _read(request: HttpRequest, provider: Provider, body: bytes) -> CallbackResult | None:
    """What the body says, or None when it is no callback of this provider's."""
    if len(body) > LARGEST:
        return None
    try:
        told = provider.parse_callback(_headers(request), body)
    except (ValueError, RecursionError, Unsupported):
        return None
    return told if 0 < len(told.job_id) <= 255 and told.job_id.isprintable() else None


def _headers(request: HttpRequest) -> dict[str, str]:
    return {name.lower(): text for name, text in request.headers.items()}


class _NotGenuine(Exception):
    """A callback that is not signed as it should be."""


def _nonce(request: HttpRequest, provider: Provider, account: Account, body: bytes) -> str | None:
    """The nonce of a callback that is signed with the account's secret; None where nothing can be verified.

    Without a secret (or a protocol that signs) the unguessable token is all there is, and what is told is only a
    reason to look.

    Raises:
        _NotGenuine: it is not signed as it should be.
    """
    try:
        if not provider.signs_callbacks or not (secret := account.webhook_secret):
            return None
        return provider.verify_callback(
            _headers(request), body, secret=secret, form=account.callback_form, now=database_now().timestamp()
        )
    except (ValueError, UndecryptableCredentials) as error:
        raise _NotGenuine(str(error)) from error


def _is_new(account: Account, nonce: str) -> bool:
    """Whether this signed callback comes for the first time."""
    _, created = CallbackNonce.objects.get_or_create(
        account=account, nonce=nonce, defaults={"expires_at": Now() + Value(NONCE_KEPT)}
    )
    return created


def _heard_of_attempt(attempt: Submission, told: CallbackResult) -> None:
    """The token is this attempt's: until its outcome is known, the job id is news."""
    if told.reference and told.reference != str(attempt.pk):
        log.warning("callback_of_another", submission=str(attempt.pk))
    elif attempt.provider_job_id == told.job_id:
        _look_now(attempt, told)
    elif unknown.heard_of(attempt, told.job_id):
        _note(attempt, told)


def _heard_of_account(account: Account, told: CallbackResult) -> None:
    """The token is the account's: the job id says which attempt is meant."""
    attempt = Submission.objects.filter(account=account, provider_job_id=told.job_id).first()
    if attempt is not None:
        _look_now(attempt, told)
    # A job that nobody has: perhaps that of an attempt whose outcome is unknown. The provider's list will tell.
    elif Submission.objects.filter(account=account, state=State.UNKNOWN).update(next_poll_at=Now()):
        transaction.on_commit(wakeups.wake_reconcile)


def _look_now(attempt: Submission, told: CallbackResult) -> None:
    waiting = Submission.objects.filter(pk=attempt.pk, state=State.ACCEPTED, next_poll_at__gt=Now())
    if waiting.update(next_poll_at=Now()):
        _note(attempt, told)


def _note(attempt: Submission, told: CallbackResult) -> None:
    Event.objects.create(
        generation_id=attempt.generation_id,
        attempt=attempt.number,
        kind=Event.Kind.CALLBACK,
        actor="provider",
        data={"job_id": told.job_id, "status": storable(told.raw_status[:120])},
    )
    transaction.on_commit(wakeups.wake_poll)


def _unknown(request: HttpRequest) -> HttpResponse:
    return problem(request, 404, "not_found", "There is nothing at this address.")
