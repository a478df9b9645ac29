"""Chapters for answers, in a number of queries that does not depend on how many they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

from django.db.models import Count

from generations.models import Chapter, ChapterMember, Scene
from generations.reports.scene_answers import ChapterAnswer, MemberAnswer


def chapters(rows: Sequence[Chapter], access: Mapping[UUID, str]) -> list[ChapterAnswer]:
    """The answers for chapters whose owners are loaded. Two queries. ``access``: what the reader may do in each."""
    ids = [row.pk for row in rows]
    members: dict[UUID, list[MemberAnswer]] = defaultdict(list)
    for member in ChapterMember.objects.filter(chapter__in=ids).select_related("user").order_by("user__username"):
        told = MemberAnswer.of(username=member.user.get_username(), access=member.access)
        members[member.chapter_id].append(told)
    counted = Scene.objects.filter(chapter__in=ids).order_by().values_list("chapter").annotate(many=Count("pk"))
    scenes = dict(counted)
    return [
        ChapterAnswer.of(
            id=row.pk,
            title=row.title,
            owner=row.owner.get_username(),
            access=access[row.pk],
            members=members[row.pk],
            scenes=scenes.get(row.pk, 0),
            created_at=row.created_at,
        )
        for row in rows
    ]
