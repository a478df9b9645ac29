"""Prompts: found or made by their text, their versions, what these led to, and two of them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from generations.api import body, docs_prompts, query, requests
from generations.api.answers import GenerationPage
from generations.api.answers_prompts import (
    ComparedVersion,
    ComparisonAnswer,
    DiffPart,
    PromptAnswer,
    PromptPage,
    PromptVersionAnswer,
    PromptVersionPage,
)
from generations.api.problems import Problem
from generations.api.requests_prompts import PromptRequest
from generations.api.views.base import ApiView, answer, caller, here, plain
from generations.intake import prompts
from generations.models import Generation, Prompt, PromptVersion
from generations.reports import prompts as reports
from generations.reports import representation
from generations.reports.prompts import Counts
from generations.templating import variables

PATH = "/api/v1/prompts"
COMPARED = 6
"""So many results of each version stand beside the other's."""


class PromptListView(ApiView):
    """Find or make a version; list one's own prompts."""

    query_names = query.PAGING | {"name"}

    @docs_prompts.list_prompts
    def get(self, given: Request) -> Response:
        """A page of the caller's prompts, newest first."""
        http, user = plain(given), caller(given)
        rows: QuerySet[Prompt] = Prompt.objects.of_user(user.pk)
        if (name := query.text(http.GET, "name")) is not None:
            rows = rows.filter(name=name)
        found, links = query.page(http, rows, scope=f"prompts of {user.pk}")
        return answer(PromptPage.of(results=_prompts(found), **links))

    @docs_prompts.create_prompt
    def post(self, given: Request) -> Response:
        """201 with the version that was made, or 200 with the one that was there."""
        wanted = requests.read(PromptRequest, body.json_object(plain(given)))
        found = prompts.find_or_create(caller(given).pk, wanted.text, name=wanted.name)
        [told] = _versions([found.version])
        where = f"{here(given)}{PATH}/versions/{found.version.pk}"
        return answer(told, 201 if found.created else 200, Location=where)


class PromptView(ApiView):
    """One prompt."""

    @docs_prompts.get_prompt
    def get(self, given: Request, prompt_id: UUID) -> Response:
        """With its newest version."""
        [told] = _prompts([_own(given, prompt_id)])
        return answer(told)


class PromptVersionListView(ApiView):
    """A prompt's versions."""

    query_names = query.PAGING

    @docs_prompts.list_prompt_versions
    def get(self, given: Request, prompt_id: UUID) -> Response:
        """A page of them, newest first."""
        rows = PromptVersion.objects.filter(prompt=_own(given, prompt_id)).select_related("prompt")
        found, links = query.page(plain(given), rows, scope=f"versions of {prompt_id}")
        return answer(PromptVersionPage.of(results=_versions(found), **links))


class PromptVersionView(ApiView):
    """One version."""

    @docs_prompts.get_prompt_version
    def get(self, given: Request, version_id: UUID) -> Response:
        """With its counts."""
        [told] = _versions([_own_version(given, version_id)])
        return answer(told)


class PromptResultsView(ApiView):
    """What a version led to."""

    query_names = query.PAGING

    @docs_prompts.list_prompt_results
    def get(self, given: Request, version_id: UUID) -> Response:
        """A page of its Generations, newest first."""
        version, user = _own_version(given, version_id), caller(given)
        rows = Generation.objects.of_user(user.pk).filter(prompt_version=version)
        found, links = query.page(plain(given), rows, scope=f"generations of {version.pk}")
        return answer(GenerationPage.of(results=representation.page(here(given), found), **links))


class PromptCompareView(ApiView):
    """Two versions side by side."""

    query_names = frozenset({"a", "b"})

    @docs_prompts.compare_prompt_versions
    def get(self, given: Request) -> Response:
        """Both texts, what differs, and what they led to, in a fixed number of queries."""
        pair = [_named(given, plain(given), name) for name in ("a", "b")]
        results = {row.pk: reports.newest_results(row.pk, COMPARED) for row in pair}
        together = {row.pk: row for rows in results.values() for row in rows}
        told = {row.id: row for row in representation.page(here(given), list(together.values()))}
        counts = reports.of_versions([row.pk for row in pair])
        a, b = (
            ComparedVersion.of(**_version(row, counts[row.pk]), results=[told[result.pk] for result in results[row.pk]])
            for row in pair
        )
        parts = reports.word_diff(pair[0].text, pair[1].text)
        return answer(ComparisonAnswer.of(a=a, b=b, diff=[DiffPart.of(**asdict(part)) for part in parts]))


def _own(given: Request, prompt_id: UUID) -> Prompt:
    """The caller's prompt; somebody else's is as good as none."""
    return get_object_or_404(Prompt.objects.of_user(caller(given).pk), pk=prompt_id)


def _own_version(given: Request, version_id: UUID) -> PromptVersion:
    return get_object_or_404(
        PromptVersion.objects.filter(prompt__user=caller(given)).select_related("prompt"), pk=version_id
    )


def _named(given: Request, http: HttpRequest, name: str) -> PromptVersion:
    """The version that a query parameter names."""
    version_id = query.identifier(http.GET, name)
    if version_id is None:
        message = "Name two versions: a and b."
        raise Problem(400, "invalid_parameter", message, errors=[{"field": name, "message": message}])
    return _own_version(given, version_id)


def _prompts(rows: Sequence[Prompt]) -> list[PromptAnswer]:
    """Three queries for a page. A prompt is made with its first version, and its numbers have no gaps."""
    newest = reports.newest_versions([row.pk for row in rows])
    counts = reports.of_prompts([row.pk for row in rows])
    versions = {told.prompt: told for told in _versions(list(newest.values()))}
    return [
        PromptAnswer.of(
            id=row.pk,
            name=row.name,
            versions=newest[row.pk].number,
            newest=versions[row.pk],
            created_at=row.created_at,
            **_counts(counts[row.pk]),
        )
        for row in rows
    ]


def _versions(rows: Sequence[PromptVersion]) -> list[PromptVersionAnswer]:
    counts = reports.of_versions([row.pk for row in rows])
    return [PromptVersionAnswer.of(**_version(row, counts[row.pk])) for row in rows]


def _version(row: PromptVersion, counts: Counts) -> dict[str, Any]:
    return {
        "id": row.pk,
        "prompt": row.prompt_id,
        "name": row.prompt.name,
        "number": row.number,
        "text": row.text,
        "variables": variables(row.text),
        "created_at": row.created_at,
        **_counts(counts),
    }


def _counts(counts: Counts) -> dict[str, Any]:
    return {**asdict(counts), "success_rate": counts.success_rate}
