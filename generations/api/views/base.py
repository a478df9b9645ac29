"""What all views of the API share."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from django.contrib.auth.models import User
from django.http import HttpRequest
from rest_framework.permissions import SAFE_METHODS, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from generations.api import query
from generations.reports.answers import Answer


class ApiView(APIView):
    """A view whose query parameters are known by name: one that is not is refused."""

    query_names: ClassVar[frozenset[str]] = frozenset()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """After authentication and throttling, before the handler."""
        super().initial(request, *args, **kwargs)
        names = self.query_names if request.method in {"GET", "HEAD"} else frozenset[str]()
        query.check_names(request.GET, names)


class MayOperate(IsAuthenticated):
    """Members of staff who have the permission that the view needs; for all others it is 403."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Looking needs ``view.may_look``, doing ``view.may_do``."""
        if not super().has_permission(request, view):
            return False
        needed = view.may_look if request.method in SAFE_METHODS else view.may_do
        return bool(request.user.is_staff and request.user.has_perm(needed))


class OperatorView(ApiView):
    """A view for the people who operate Darkroom: it shows what belongs to all users."""

    permission_classes = (MayOperate,)
    may_look: ClassVar[str]
    """The Django permission that reading needs, for example ``generations.view_submission``."""
    may_do: ClassVar[str]
    """The one that changing something needs."""


def plain(request: Request) -> HttpRequest:
    """Django's own request, whose body nobody has parsed."""
    http: HttpRequest = request._request  # noqa: SLF001  REST framework has no public name for it
    return http


def here(request: Request) -> str:
    """The address by which the caller reached us: ``https://studio.example.org``."""
    http = plain(request)
    return f"{http.scheme}://{http.get_host()}"


def caller(request: Request) -> User:
    """The authenticated user (every view that calls this requires one)."""
    return cast("User", request.user)


def actor(request: Request) -> str:
    """The caller as the timeline names him."""
    return f"user:{request.user.pk}"


def answer(body: Answer, status: int = 200, **headers: str) -> Response:
    """``body`` as a response; ``headers`` with _ for -."""
    return Response(body, status=status, headers={name.replace("_", "-"): text for name, text in headers.items()})
