"""Chapters with their scenes as pictures, and a scene with its takes side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.admin.base import DecoratedAdmin, HistoryAdmin, actor_of
from accounts.admin.words import NOTHING, ago, label
from generations.admin.history import picture_of, short
from generations.admin.rows import STATUS_TONES
from generations.intake import chapters, scenes
from generations.intake.errors import Refusal
from generations.lifecycle import Status
from generations.models import Asset, Chapter, ChapterMember, Generation, Scene
from generations.reports.pictures import first_results
from generations.reports.scenes import Looks, looks, takes
from generations.signing import content_url

if TYPE_CHECKING:
    from django.contrib.admin import TabularInline
else:
    from unfold.admin import TabularInline

SHOWN = 200
"""So many scenes are on a chapter's page, and so many takes on a scene's; the API has all of them."""


class MemberInline(TabularInline):  # type: ignore[type-arg]
    """Who has access beside the owner."""

    model = ChapterMember
    extra = 0
    autocomplete_fields = ("user",)
    verbose_name = "member"
    hide_title = True


@admin.register(Chapter)
class ChapterAdmin(DecoratedAdmin[Chapter]):
    """Editable: the title, and who has access."""

    list_display = ("picture", "title", "owner", "scenes", "members", "age")
    list_display_links = ("picture", "title")
    list_select_related = ("owner",)
    search_fields = ("title__icontains", "owner__username__istartswith")
    search_help_text = "Words of a title, or the beginning of the owner's name"
    ordering = ("-pk",)
    sortable_by = ()
    autocomplete_fields = ("owner",)
    inlines = (MemberInline,)
    change_form_outer_before_template = "admin/generations/chapter/panel.html"

    def get_readonly_fields(self, request: HttpRequest, obj: Chapter | None = None) -> tuple[str, ...]:
        """Whose it is stays."""
        return ("owner",) if obj else ()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The form below its scenes."""
        chapter = self.get_object(request, object_id)
        rows = list(Scene.objects.filter(chapter=chapter).order_by("number")[: SHOWN + 1]) if chapter else []
        told = looks(rows[:SHOWN])
        files = _files(told)
        panel = {"tiles": [_tile(one, files) for one in told], "more": len(rows) > SHOWN}
        return super().change_view(request, object_id, form_url, {**panel, **(extra_context or {})})

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, set[str], Any]:
        """Whoever may delete a chapter may delete its scenes with it, which have no page for that."""
        found, counts, _, protected = super().get_deleted_objects(objs, request)
        return found, counts, set(), protected

    def delete_model(self, request: HttpRequest, obj: Chapter) -> None:
        """Its takes go on as Generations of whoever asked for them."""
        chapters.remove(obj)

    def decorate(self, rows: list[Chapter]) -> None:
        """What the first scene of each shows, and how many scenes and members there are: a constant number of
        queries."""
        counted = (
            Chapter.objects.filter(pk__in=[row.pk for row in rows])
            .annotate(many_scenes=Count("scenes", distinct=True), many_members=Count("members", distinct=True))
            .values_list("pk", "many_scenes", "many_members")
        )
        counts = {pk: (many_scenes, many_members) for pk, many_scenes, many_members in counted}
        first = Scene.objects.filter(chapter__in=list(counts)).order_by("chapter", "number").distinct("chapter")
        told = {one.scene.chapter_id: one for one in looks(list(first))}
        files = _files(told.values())
        for row in rows:
            look = told.get(row.pk)
            row.counts = counts.get(row.pk, (0, 0))  # type: ignore[attr-defined]
            row.file = files.get(look.shown.pk) if look and look.shown else None  # type: ignore[attr-defined]

    @admin.display(description="")
    def picture(self, row: Chapter) -> SafeString:
        """What its first scene shows."""
        file: Asset | None = row.file  # type: ignore[attr-defined]
        return picture_of(file) if file else _blank("auto_stories")

    @admin.display(description="Scenes")
    def scenes(self, row: Chapter) -> str:
        """How many."""
        return f"{row.counts[0]:,}"  # type: ignore[attr-defined]

    @admin.display(description="Members")
    def members(self, row: Chapter) -> str:
        """How many, the owner not among them."""
        return f"{row.counts[1]:,}"  # type: ignore[attr-defined]

    @admin.display(description="Age")
    def age(self, row: Chapter) -> SafeString | str:
        """Since it was made."""
        return ago(row.created_at)


@admin.register(Scene)
class SceneAdmin(HistoryAdmin[Scene]):
    """Newest first, each with what it shows; on its page, one of its takes is chosen."""

    list_display = ("picture", "what", "current", "many", "age")
    list_display_links = ("picture", "what")
    list_select_related = ("chapter",)
    search_fields = ("chapter__title",)
    search_help_text = "Words of the chapter's title"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Scene], search_term: str
    ) -> tuple[QuerySet[Scene], bool]:
        """By the chapter's title; one scene for each row that is found."""
        return (queryset.filter(chapter__title__icontains=search_term) if search_term else queryset), False

    def decorate(self, rows: list[Scene]) -> None:
        """What each shows: a constant number of queries."""
        told = looks(rows)
        files = _files(told)
        for one in told:
            one.scene.look = one  # type: ignore[attr-defined]
            one.scene.file = files.get(one.shown.pk) if one.shown else None  # type: ignore[attr-defined]

    @admin.display(description="")
    def picture(self, row: Scene) -> SafeString:
        """The chosen take's, or the latest."""
        file: Asset | None = row.file  # type: ignore[attr-defined]
        return picture_of(file) if file else _blank("image")

    @admin.display(description="Scene")
    def what(self, row: Scene) -> SafeString:
        """Chapter, number and description."""
        return format_html(
            '<span class="dr-what"><strong>{}</strong><small>{} · scene {}</small></span>',
            row.description[:110] or "(no description)",
            row.chapter.title,
            row.number,
        )

    @admin.display(description="Latest take")
    def current(self, row: Scene) -> SafeString | str:
        """Where it stands."""
        take = _look(row).current
        return _status(take) if take else NOTHING

    @admin.display(description="Takes")
    def many(self, row: Scene) -> str:
        """How many."""
        return f"{_look(row).takes:,}"

    @admin.display(description="Age")
    def age(self, row: Scene) -> SafeString | str:
        """Since it was made."""
        return ago(row.created_at)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Its takes as pictures, latest first."""
        scene = self.visible(request, object_id)
        rows = list(takes().filter(scene=scene).order_by("-pk")[: SHOWN + 1])
        [look] = looks([scene])
        files = first_results(row.pk for row in rows)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Scene {scene.number}",
            "subtitle": scene.chapter.title,
            "is_fullwidth": "1",
            "scene": scene,
            "chapter_url": reverse("admin:generations_chapter_change", args=[scene.chapter_id]),
            "takes": [_take(row, files.get(row.pk), look) for row in rows[:SHOWN]],
            "more": len(rows) > SHOWN,
            "may_choose": request.user.has_perm("generations.change_scene"),
            "live": look.current is not None and look.current.is_live,
        }
        return TemplateResponse(request, "admin/generations/scene/detail.html", context)

    def get_urls(self) -> list[URLPattern]:
        """With the choice of a take."""
        own = path(
            "<uuid:object_id>/choose/", self.admin_site.admin_view(self.choose_view), name="generations_scene_choose"
        )
        return [own, *super().get_urls()]

    def choose_view(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        """POST: this take is shown from now on, or the latest again."""
        if not request.user.has_perm("generations.change_scene"):
            raise PermissionDenied
        scene = self.visible(request, str(object_id))
        back = reverse("admin:generations_scene_change", args=[scene.pk])
        take = self._take_of(scene, request.POST.get("take", ""))
        if take is not None:
            chosen = "latest" not in request.POST
            try:
                scenes.show(take.pk, chosen=chosen, actor=actor_of(request))
            except Refusal as refused:
                messages.error(request, refused.detail)
            else:
                messages.success(request, "It is shown." if chosen else "The latest take is shown.")
        return HttpResponseRedirect(back)

    def _take_of(self, scene: Scene, text: str) -> Generation | None:
        try:
            return scene.takes.filter(pk=UUID(text)).first()
        except ValueError:
            return None


@admin.register(ChapterMember)
class ChapterMemberAdmin(HistoryAdmin[ChapterMember]):
    """Who has access to which chapter; changed on the chapter's page."""

    list_display = ("user", "chapter", "access")
    list_select_related = ("user", "chapter")


def scene_link(scene: Scene) -> SafeString:
    """The way to a scene's page."""
    url = reverse("admin:generations_scene_change", args=[scene.pk])
    return format_html('<a class="dr-link" href="{}">{}, scene {}</a>', url, scene.chapter.title, scene.number)


def _files(told: Any) -> dict[UUID, Asset]:
    """The picture of what each shows. One query."""
    return first_results(one.shown.pk for one in told if one.shown is not None)


def _tile(one: Looks, files: dict[UUID, Asset]) -> dict[str, Any]:
    """What a chapter's grid shows of a scene: its picture, or where its latest take stands."""
    file = files.get(one.shown.pk) if one.shown else None
    return {
        "url": reverse("admin:generations_scene_change", args=[one.scene.pk]),
        "picture": picture_of(file, "dr-tile") if file else None,
        "status": _status(one.current) if one.current else None,
        "words": one.scene.description or "(no description)",
        "number": one.scene.number,
    }


def _take(row: Generation, file: Asset | None, look: Looks) -> dict[str, Any]:
    """What a take's figure shows."""
    assert row.scene is not None
    names = ("style", "aspect_ratio", "user_tier")
    return {
        "id": row.pk,
        "short": short(row.pk),
        "url": reverse("admin:generations_generation_change", args=[row.pk]),
        "picture": picture_of(file, "dr-tile") if file else None,
        "full": content_url(file) if file else "",
        "status": _status(row),
        "reason": row.error_message or row.error_code,
        "words": " · ".join(str(row.metadata[name]) for name in names if row.metadata.get(name)),
        "prompt": row.prompt,
        "user": row.user,
        "age": ago(row.created_at),
        "is_chosen": row.scene.chosen_id == row.pk,
        "is_shown": look.shown is not None and look.shown.pk == row.pk,
        "may_be_shown": file is not None,
    }


def _status(row: Generation) -> SafeString:
    return label(row.get_status_display(), STATUS_TONES[Status(row.status)])


def _blank(icon: str) -> SafeString:
    return format_html(
        '<span class="dr-thumb dr-plain"><span class="material-symbols-outlined" aria-hidden="true">{}</span></span>',
        icon,
    )


def _look(row: Scene) -> Looks:
    return cast("Looks", row.look)  # type: ignore[attr-defined]
