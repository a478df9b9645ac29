"""Where everything answers."""

from __future__ import annotations

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from generations.api.content import content
from generations.api.health import healthz, readyz
from generations.api.hooks import hook
from generations.api.metrics import metrics

urlpatterns: list[URLPattern | URLResolver] = [
    path("api/", include("generations.api.urls")),
    path("hooks/<slug:provider_id>/<str:token>", hook, name="hook"),
    path("content/<str:token>", content, name="content"),
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("metrics", metrics, name="metrics"),
    path("admin/", admin.site.urls),
    path("", include("generations.pages.urls")),
]

handler400 = "generations.api.plain.bad_request"
handler403 = "generations.api.plain.permission_denied"
handler404 = "generations.api.plain.not_found"
handler500 = "generations.api.plain.server_error"
