"""Providers: what can be asked for, and how it stands."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from generations.api import catalogue, docs
from generations.api.answers import ProviderList
from generations.api.views.base import ApiView, answer, caller


class ProviderListView(ApiView):
    """The catalogue."""

    @docs.list_providers
    def get(self, given: Request) -> Response:
        """All providers with the JSON Schemas of their operations, health and capacity. Three queries."""
        return answer(ProviderList.of(results=catalogue.providers(caller(given).pk)))
