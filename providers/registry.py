"""All providers. A new one is one line here (and its adapter, and its sandbox if it has one)."""

from __future__ import annotations

from providers.base import Provider
from providers.modelslab import ModelsLab
from providers.pixverse import Pixverse

_PROVIDERS: tuple[Provider, ...] = (
    Pixverse(),
    ModelsLab(),
)
_BY_SLUG = {provider.slug: provider for provider in _PROVIDERS}


class UnknownProvider(KeyError):
    """There is no provider with this slug."""

    def __init__(self, slug: str) -> None:
        super().__init__(slug)
        self.slug = slug

    def __str__(self) -> str:
        return f"There is no provider {self.slug!r}. Known: {', '.join(_BY_SLUG)}."


def get(slug: str) -> Provider:
    """The provider with this slug. Raises UnknownProvider."""
    try:
        return _BY_SLUG[slug]
    except KeyError:
        pass
    raise UnknownProvider(slug)


def all() -> tuple[Provider, ...]:  # noqa: A001 - read as registry.all()
    """Every provider, in the order in which they are shown."""
    return _PROVIDERS
