"""Callbacks of providers: never believed, only a reason to look now."""

from __future__ import annotations

import structlog
from django.db import DatabaseError, transaction
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt

from accounts.models import Account
from generations import wakeups
from generations.api.plain import problem
from generations.execution import recover
from generations.lifecycle import State
from generations.models import Event, Submission
from providers import registry
from providers.base import CallbackResult, Provider
from providers.errors import Unsupported

LARGEST = 256 * 1024

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
        attempt = Submission.objects.filter(callback_token=token, account__provider_id=provider_id).first()
        account = None if attempt else Account.objects.filter(callback_token=token, provider_id=provider_id).first()
        if attempt is None and account is None:
            return _unknown(request)
        told = _read(request, provider)
        if told is None:
            return problem(request, 400, "malformed_body", f"This is no callback of {provider.title}'s.")
        if attempt is not None:
            _heard_of_attempt(attempt, told)
        elif account is not None:
            _heard_of_account(account, told)
    except registry.UnknownProvider:
        return _unknown(request)
    except DatabaseError as error:
        log.warning("callback_not_taken", provider=provider_id, error=type(error).__name__)
        return problem(request, 503, "database_unavailable", "Try again.", Retry_After="5")
    return HttpResponse("ok", content_type="text/plain")


def _read(request: HttpRequest, provider: Provider) -> CallbackResult | None:
    """What the body says, or None when it is no callback of this provider's."""
    try:
        body = request.read(LARGEST + 1)
        if len(body) > LARGEST:
            return None
        told = provider.parse_callback({name.lower(): text for name, text in request.headers.items()}, body)
    except (ValueError, RecursionError, Unsupported, UnreadablePostError):
        return None
    return told if 0 < len(told.job_id) <= 255 and told.job_id.isprintable() else None


def _heard_of_attempt(attempt: Submission, told: CallbackResult) -> None:
    """The token is this attempt's: while its outcome is unknown, the job id is news."""
    if attempt.state == State.UNKNOWN and recover.heard_of(attempt.pk, told.job_id):
        _note(attempt, told)
    elif attempt.provider_job_id == told.job_id:
        _look_now(attempt, told)


def _heard_of_account(account: Account, told: CallbackResult) -> None:
    """The token is the account's: the job id says which attempt is meant."""
    attempt = Submission.objects.filter(account=account, provider_job_id=told.job_id).first()
    if attempt is not None:
        _look_now(attempt, told)


def _look_now(attempt: Submission, told: CallbackResult) -> None:
    with transaction.atomic():
        waiting = Submission.objects.filter(pk=attempt.pk, state=State.ACCEPTED, next_poll_at__gt=Now())
        if waiting.update(next_poll_at=Now()):
            _note(attempt, told)


def _note(attempt: Submission, told: CallbackResult) -> None:
    Event.objects.create(
        generation_id=attempt.generation_id,
        attempt=attempt.number,
        kind=Event.Kind.CALLBACK,
        actor="provider",
        data={"job_id": told.job_id, "status": told.raw_status[:120]},
    )
    transaction.on_commit(wakeups.wake_poll)


def _unknown(request: HttpRequest) -> HttpResponse:
    return problem(request, 404, "not_found", "There is nothing at this address.")
