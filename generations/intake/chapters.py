"""Chapters: who may do what in them, and what their owners change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from uuid import UUID

from django.contrib.auth.models import User
from django.db import connection, transaction

from generations.intake.errors import Forbidden, Invalid, NotFound
from generations.models import Chapter, ChapterMember


class Access(IntEnum):
    """How much somebody may do in a chapter; each includes those before it."""

    VIEW = 1
    """See the scenes and their pictures."""
    GENERATE = 2
    """Write scenes, make pictures and choose them."""
    OWN = 3
    """Rename it, share it, delete it, and take anybody's picture out of it."""


@dataclass(frozen=True, slots=True)
class Change:
    """What shall be different in a chapter; None: it stays as it is. ``members``: username to access, all of them."""

    title: str | None = None
    members: Mapping[str, str] | None = None


def access_of(user_id: int, chapter: Chapter) -> Access | None:
    """What this user may do in a chapter that was read ``with_access_of`` him; None: it is not there for him."""
    if chapter.owner_id == user_id:
        return Access.OWN
    given: str | None = chapter.given  # type: ignore[attr-defined]
    return None if given is None else Access.GENERATE if given == ChapterMember.Access.GENERATE else Access.VIEW


def enter(user_id: int, chapter_id: UUID, needs: Access = Access.VIEW) -> Chapter:
    """The chapter, for somebody who may do so much in it. One query.

    Raises:
        NotFound: it is not there, or he has no access to it.
        Forbidden: he may see it, and not do this.
    """
    chapter = Chapter.objects.with_access_of(user_id).select_related("owner").filter(pk=chapter_id).first()
    access = None if chapter is None else access_of(user_id, chapter)
    if chapter is None or access is None:
        raise NotFound("not_found", "There is no such chapter, or it is not shared with you.")
    if access < needs:
        raise Forbidden(
            "chapter_access",
            "Only the chapter's owner may do this."
            if needs is Access.OWN
            else "You may see this chapter, and not generate in it. Ask its owner.",
        )
    return chapter


def create(owner_id: int, title: str, members: Mapping[str, str]) -> Chapter:
    """A new chapter, shared with ``members`` (username to access).

    Raises:
        Invalid: ``unknown_user``: somebody named is not there, or the owner himself.
    """
    chapter = Chapter(owner_id=owner_id, title=title)
    users = _users(owner_id, members)
    with transaction.atomic():
        chapter.save(force_insert=True)
        _share(chapter, users, members)
    chapter.refresh_from_db()
    return chapter


def change(user_id: int, chapter_id: UUID, wanted: Change) -> Chapter:
    """Rename it, or share it with others than before. What those have made in it who are left out stays in it.

    Raises:
        NotFound, Forbidden: as ``enter``; only its owner may.
        Invalid: as ``create``.
    """
    chapter = enter(user_id, chapter_id, Access.OWN)
    users = _users(chapter.owner_id, wanted.members or {})
    with transaction.atomic():
        _locked(chapter)
        if wanted.title is not None:
            chapter.title = wanted.title
            chapter.save(update_fields=["title"])
        if wanted.members is not None:
            chapter.members.exclude(user__in=users.values()).delete()
            _share(chapter, users, wanted.members)
    return chapter


def delete(user_id: int, chapter_id: UUID) -> None:
    """Delete a chapter with its scenes. Their takes, live ones too, go on as Generations of whoever asked for them,
    and the pictures stay his.

    Raises:
        NotFound, Forbidden: as ``enter``; only its owner may.
    """
    remove(enter(user_id, chapter_id, Access.OWN))


def remove(chapter: Chapter) -> None:
    """As ``delete``, for operators, who need no access."""
    with transaction.atomic():
        # Before its scenes: whoever asks for a picture locks them in this order too.
        _locked(chapter).delete()


def still_there(chapter: Chapter) -> None:
    """Inside a transaction: it stays there until the end.

    Raises:
        NotFound: it was deleted meanwhile.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM generations_chapter WHERE id = %s FOR KEY SHARE", [chapter.pk])
        if cursor.fetchone() is None:
            raise _gone()


def _locked(chapter: Chapter) -> Chapter:
    """Nobody else changes it, or adds a scene to it, until the end of the transaction."""
    row = Chapter.objects.select_for_update().filter(pk=chapter.pk).first()
    if row is None:
        raise _gone()
    return row


def _gone() -> NotFound:
    return NotFound("not_found", "There is no such chapter any more.")


def _users(owner_id: int, members: Mapping[str, str]) -> dict[str, int]:
    """The ids of the members, by username."""
    if not members:
        return {}
    rows = User.objects.filter(username__in=members, is_active=True).exclude(pk=owner_id)
    found: dict[str, int] = dict(rows.values_list("username", "pk"))
    if unknown := sorted(set(members) - set(found)):
        named = ", ".join(repr(name) for name in unknown[:5])
        raise Invalid("unknown_user", f"There is nobody else called {named} to share it with.", field="members")
    return found


def _share(chapter: Chapter, users: Mapping[str, int], members: Mapping[str, str]) -> None:
    ChapterMember.objects.bulk_create(
        [ChapterMember(chapter=chapter, user_id=users[name], access=access) for name, access in members.items()],
        update_conflicts=True,
        unique_fields=["chapter", "user"],
        update_fields=["access"],
    )
