"""Unknown outcomes: what waits for a person, and what the person says."""

from __future__ import annotations

from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from generations.api import body, docs, query, requests
from generations.api.answers import ResolvedAnswer, UnknownOutcomeAnswer, UnknownOutcomePage
from generations.api.requests import ResolveRequest
from generations.api.views.base import OperatorView, actor, answer, plain
from generations.intake.resolve import resolve
from generations.models import UnknownOutcome
from generations.reports.unknowns import described


class UnknownOutcomeListView(OperatorView):
    """The inbox."""

    may_look, may_do = "generations.view_submission", "generations.change_submission"
    query_names = query.PAGING

    @docs.list_unknown_outcomes
    def get(self, given: Request) -> Response:
        """A page of all users' attempts that a person may say something about, newest first."""
        rows = UnknownOutcome.objects.select_related("account", "generation", "generation__user")
        found, links = query.page(plain(given), rows, scope="unknown outcomes")
        results = [UnknownOutcomeAnswer.of(**row.as_dict()) for row in described(found)]
        return answer(UnknownOutcomePage.of(results=results, **links))


class ResolveView(OperatorView):
    """Settle one."""

    may_look, may_do = "generations.view_submission", "generations.change_submission"

    @docs.resolve_unknown_outcome
    def post(self, given: Request, submission_id: UUID) -> Response:
        """200 with what came of it."""
        wanted = requests.read(ResolveRequest, body.json_object(plain(given)))
        done = resolve(submission_id, wanted.to_intake(), actor=actor(given))
        return answer(
            ResolvedAnswer.of(
                id=done.submission.pk,
                state=done.submission.state,
                resolution=done.submission.resolution,
                generation=done.generation.pk,
                status=done.generation.status,
            )
        )
