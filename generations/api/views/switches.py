"""Switches: what is stopped, and the hand that stops it or lets it go on."""

from __future__ import annotations

from django.http import Http404
from rest_framework.request import Request
from rest_framework.response import Response

from generations.api import body, docs, query, requests
from generations.api.answers import SwitchAnswer, SwitchChangeAnswer, SwitchChangePage, SwitchList
from generations.api.requests import SwitchRequest
from generations.api.views.base import OperatorView, actor, answer, plain
from generations.intake.switches import turn_off, turn_on
from generations.models import SwitchChange
from generations.reports.switches import everyone, history, told, who


class SwitchListView(OperatorView):
    """All of them."""

    may_look, may_do = "generations.view_switch", "generations.change_switch"

    @docs.list_switches
    def get(self, given: Request) -> Response:
        """Every switch that there is, on or off."""
        return answer(SwitchList.of(results=[SwitchAnswer.of(**one.as_dict()) for one in everyone()]))


class SwitchView(OperatorView):
    """One of them."""

    may_look, may_do = "generations.view_switch", "generations.change_switch"

    @docs.turn_switch
    def put(self, given: Request, key: str) -> Response:
        """Turn it; turning it where it stands already changes nothing."""
        if all(one.key != key for one in everyone()):
            raise Http404
        wanted = requests.read(SwitchRequest, body.json_object(plain(given)))
        turn = turn_on if wanted.on else turn_off
        turn(key, reason=wanted.reason, actor=actor(given))
        one = next((one for one in everyone() if one.key == key), told(None, key))
        return answer(SwitchAnswer.of(**one.as_dict()))


class SwitchChangeListView(OperatorView):
    """Their history."""

    may_look, may_do = "generations.view_switchchange", "generations.change_switch"
    query_names = query.PAGING

    @docs.list_switch_changes
    def get(self, given: Request) -> Response:
        """A page of every turn that was made, newest first."""
        rows, links = query.page(plain(given), history(), scope="switch changes")
        return answer(SwitchChangePage.of(results=[_change(row) for row in rows], **links))


def _change(row: SwitchChange) -> SwitchChangeAnswer:
    return SwitchChangeAnswer.of(
        id=row.pk,
        key=row.key,
        title=told(None, row.key).title,
        on=row.turned_on,
        reason=row.reason,
        actor=row.actor,
        who=who(row),
        at=row.at,
    )
