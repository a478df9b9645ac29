"""Dead letters: grouped, one by one, replayed at a rate, dismissed."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from django.contrib.auth.models import User
from django.core.signing import BadSignature, Signer
from django.db.models import Count, QuerySet
from django.http import QueryDict
from rest_framework.request import Request
from rest_framework.response import Response

from generations.api import body, docs, query, requests
from generations.api.answers import (
    DeadLetterAnswer,
    DeadLetterGroup,
    DeadLetterGroups,
    DeadLetterPage,
    HourAnswer,
    MarkedAnswer,
    ReplayAnswer,
    ReplayPlan,
    ShareAnswer,
)
from generations.api.problems import Problem
from generations.api.requests import DismissRequest, LettersRequest, ReplayRequest, RestoreRequest
from generations.api.views.base import OperatorView, actor, answer, plain
from generations.intake.dismiss import dismiss, restore
from generations.intake.replay import Progress, plan, replay
from generations.models import Generation, Submission
from generations.models.clock import database_now
from generations.reports.deadletters import LONG_AGO, LONGEST, Filters, Group, dismissed, groups, letters

FILTERS = frozenset({"since", "until", "code", "provider_id", "account", "user"})
_CODE = re.compile(r"[a-z0-9_]{1,40}")
_signer = Signer(salt="darkroom.api.replay")


class LettersView(OperatorView):
    """Base of these views."""

    may_look, may_do = "generations.view_deadletter", "generations.change_generation"


class GroupListView(LettersView):
    """The groups."""

    query_names = FILTERS

    @docs.list_dead_letter_groups
    def get(self, given: Request) -> Response:
        """All of a time, in one query."""
        filters = _of_query(plain(given).GET)
        told = groups(filters)
        return answer(
            DeadLetterGroups.of(
                since=filters.since,
                until=filters.until,
                number=told.number,
                capped=told.capped,
                results=[_group(group) for group in told.groups],
            )
        )


class DeadLetterListView(LettersView):
    """One by one."""

    query_names = FILTERS | query.PAGING | {"dismissed"}

    @docs.list_dead_letters
    def get(self, given: Request) -> Response:
        """A page of them, newest first."""
        http = plain(given)
        filters = _of_query(http.GET)
        gone = query.choices(http.GET, "dismissed", ["true", "false"]) == ["true"]
        rows: QuerySet[Any] = dismissed(filters) if gone else letters(filters)
        found, links = query.page(http, rows.select_related("user"), scope=f"dead letters {gone}")
        return answer(DeadLetterPage.of(results=_letters(found), **links))


class ReplayView(LettersView):
    """Replay many."""

    @docs.replay_dead_letters
    def post(self, given: Request) -> Response:
        """200: what would be done. 202: what was done, and how to go on."""
        sent = body.json_object(plain(given))
        wanted = requests.read(ReplayRequest, sent)
        filters = _of_body(wanted)
        if wanted.dry_run:
            return answer(_plan(filters, wanted))
        same = body.sha256({name: value for name, value in sent.items() if name != "cursor"})
        progress = Progress(total=0)
        if wanted.cursor is not None:
            filters, progress = _go_on(wanted.cursor, same, filters)
        more = replay(filters, wanted.rate_per_minute, progress, actor=actor(given), insist=wanted.insist)
        cursor = {
            **asdict(progress),
            "same": same,
            "until": filters.until.isoformat(),
            "since": filters.since.isoformat(),
        }
        return answer(
            ReplayAnswer.of(
                dry_run=False,
                seen=progress.seen,
                replayed=progress.done,
                refused=progress.refused,
                why=progress.why,
                next_cursor=_signer.sign_object(cursor) if more else None,
            ),
            202,
        )


class DismissView(LettersView):
    """Nothing is to be done about them."""

    @docs.dismiss_dead_letters
    def post(self, given: Request) -> Response:
        """200 with how many it was done to."""
        wanted = requests.read(DismissRequest, body.json_object(plain(given)))
        return answer(MarkedAnswer(number=dismiss(set(wanted.ids), reason=wanted.reason, actor=actor(given))))


class RestoreView(LettersView):
    """Taken back."""

    @docs.restore_dead_letters
    def post(self, given: Request) -> Response:
        """200 with how many it was done to."""
        wanted = requests.read(RestoreRequest, body.json_object(plain(given)))
        return answer(MarkedAnswer(number=restore(set(wanted.ids), actor=actor(given))))


def _plan(filters: Filters, wanted: ReplayRequest) -> ReplayPlan:
    told = plan(filters, wanted.rate_per_minute, insist=wanted.insist)
    return ReplayPlan.of(
        dry_run=True,
        number=told.number,
        more=told.more,
        replayable=told.replayable,
        refused=told.refused,
        why=told.why,
        price=told.price,
        users=[
            ShareAnswer.of(
                user=share.username,
                number=share.number,
                price=share.price,
                available=share.available,
                short=share.short,
            )
            for share in told.users
        ],
        starts_at=told.starts_at,
        ends_at=told.ends_at,
        until=filters.until,
    )


def _go_on(cursor: str, same: str, filters: Filters) -> tuple[Filters, Progress]:
    """Where the call before stopped, with its times: what has failed since is left out."""
    try:
        kept = _signer.unsign_object(cursor)
    except (BadSignature, ValueError):
        kept = {}
    if kept.pop("same", None) != same:
        raise _invalid("cursor", "This cursor was not given out for this replay. Start again without one.")
    since, until = (datetime.fromisoformat(kept.pop(name)) for name in ("since", "until"))
    return replace(filters, since=since, until=until), Progress(**kept)


def _of_query(given: QueryDict) -> Filters:
    codes = tuple(code for text in given.getlist("code") for code in text.split(","))
    if not all(_CODE.fullmatch(code) for code in codes):
        raise _invalid("code", "It must be an error code, such as provider_failed.")
    return _filters(
        since=query.moment(given, "since"),
        until=query.moment(given, "until"),
        codes=codes,
        provider_id=query.slug(given, "provider_id") or "",
        account="none" if given.get("account") == "none" else query.identifier(given, "account"),
        username=given.get("user"),
    )


def _of_body(given: LettersRequest) -> Filters:
    return _filters(
        since=given.since,
        until=given.until,
        codes=tuple(given.codes),
        provider_id=given.provider_id or "",
        account=given.account,
        username=given.user,
        ids=tuple(given.ids),
    )


def _filters(
    *,
    since: datetime | None,
    until: datetime | None,
    codes: tuple[str, ...],
    provider_id: str,
    account: UUID | Literal["none"] | None,
    username: str | None,
    ids: tuple[UUID, ...] = (),
) -> Filters:
    now = database_now()
    until = min(until or now, now)
    since = since or (LONG_AGO if ids else until - timedelta(days=1))
    if until - since > LONGEST and not ids:
        raise _invalid("since", f"At most {LONGEST.days} days at once.")
    return Filters(
        since=since,
        until=until,
        codes=codes,
        provider_id=provider_id,
        account=account,
        user_id=None if username is None else _user(username),
        ids=ids,
    )


def _user(username: str) -> int:
    """A misspelt name would look as if nothing had failed."""
    user = User.objects.filter(username=username).first() if "\x00" not in username else None
    if user is None:
        raise _invalid("user", "There is no user of this name.")
    return user.pk


def _group(group: Group) -> DeadLetterGroup:
    hours = [HourAnswer.of(hour=hour, number=number) for hour, number in group.hours.items()]
    return DeadLetterGroup.of(**{**asdict(group), "account_label": group.account_label or None, "hours": hours})


def _letters(rows: list[Any]) -> list[DeadLetterAnswer]:
    """One query beside their own."""
    attempts = Submission.objects.filter(generation__in=[row.pk for row in rows]).order_by().values("generation")
    numbers: dict[UUID, int] = dict(attempts.annotate(number=Count("pk")).values_list("generation", "number"))
    return [_letter(row, numbers.get(row.pk, 0)) for row in rows]


def _letter(row: Generation, attempts: int) -> DeadLetterAnswer:
    return DeadLetterAnswer.of(
        id=row.pk,
        user=row.user.get_username(),
        provider_id=row.provider_id,
        operation_type=row.operation_type,
        params=row.params,
        code=row.error_code,
        message=row.error_message,
        account=row.last_account,  # type: ignore[attr-defined]  # annotated by the report
        attempts=attempts,
        price=row.price,
        retry_of=row.retry_of_id,
        created_at=row.created_at,
        failed_at=row.completed_at,
        dismissed_at=row.dismissed_at,
    )


def _invalid(field: str, message: str) -> Problem:
    return Problem(400, "invalid_parameter", message, errors=[{"field": field, "message": message}])
