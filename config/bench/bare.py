"""The peer of P1: what a plain DRF view costs that checks a database token, validates, and inserts one row.

A WSGI application of its own, without middleware. The row's table exists only while a bench runs.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

import django
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import models  # noqa: E402
from django.urls import path  # noqa: E402
from knox.auth import TokenAuthentication  # noqa: E402
from rest_framework import permissions, serializers  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402


class BareRow(models.Model):
    """One row per request."""

    user_id = models.IntegerField()
    kind = models.CharField(max_length=40)
    body = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[models.Manager[BareRow]]

    class Meta:
        app_label = "config"
        managed = False
        db_table = "bench_bare"


class BareSerializer(serializers.Serializer[Any]):
    """As little as a request for a picture needs."""

    provider_id = serializers.CharField(max_length=40)
    operation_type = serializers.CharField(max_length=40)
    params = serializers.JSONField()


class BareView(APIView):
    """POST, validate, insert, commit."""

    authentication_classes = (TokenAuthentication,)
    permission_classes = (permissions.IsAuthenticated,)

    def post(self, request: Request) -> Response:
        """Insert one row."""
        serializer = BareSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        data = serializer.validated_data
        row = BareRow.objects.create(user_id=request.user.pk, kind=data["operation_type"], body=data["params"])
        return Response({"id": row.pk}, status=202)


urlpatterns = [path("bare", BareView.as_view())]


def application_without_middleware() -> Any:
    """The WSGI application: only this module's URLs, no middleware at all."""
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []
    return get_wsgi_application()
