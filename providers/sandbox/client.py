"""A client of the control endpoint, for tests and drills."""

from __future__ import annotations

from typing import Any

import requests

from providers.sandbox.state import key_label

__all__ = ["SandboxControl", "key_label"]


class SandboxControl:
    """``SandboxControl("http://127.0.0.1:PORT")``. Every method raises requests.HTTPError when refused."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False

    def close(self) -> None:
        """Close its connections."""
        self._session.close()

    def health(self) -> dict[str, Any]:
        """Whether it lives, with its settings."""
        return self._get("health")

    def summary(self) -> dict[str, Any]:
        """Counts, submits per request id, most in flight per key, faults fired."""
        return self._get("summary")

    def record(self, **filters: Any) -> list[dict[str, Any]]:
        """Calls, oldest first; filters: since (id), kind, key, provider, request_id, remote_id, limit."""
        calls: list[dict[str, Any]] = self._get("record", **filters)["calls"]
        return calls

    def works(self, **filters: Any) -> list[dict[str, Any]]:
        """Work accepted; filters: since (remote id), key, provider, request_id, remote_id, limit."""
        works: list[dict[str, Any]] = self._get("works", **filters)["works"]
        return works

    def firings(self) -> list[dict[str, Any]]:
        """Faults that struck, oldest first."""
        firings: list[dict[str, Any]] = self._get("firings")["firings"]
        return firings

    def callbacks(self) -> list[dict[str, Any]]:
        """Callbacks sent, oldest first."""
        callbacks: list[dict[str, Any]] = self._get("callbacks")["callbacks"]
        return callbacks

    def reset(self, *, keys: bool = False) -> None:
        """Forget the record; the settings of keys too if asked."""
        self._post("reset", {"keys": keys})

    def set_key(self, provider: str, key: str, **settings: Any) -> str:
        """Set limit, balance, enabled, callback_url, callback_secret, signature_form; returns the key's label."""
        label: str = self._post("keys", {"provider": provider, "key": key, **settings})["label"]
        return label

    def set_rates(self, rates: dict[str, float]) -> None:
        """Replace the fault rates."""
        self._post("rates", rates)

    def set_speed(self, speed: float, *, never_seconds: float | None = None) -> None:
        """Set how long work takes (1: a picture 1 s, a video 3 s)."""
        extra = {} if never_seconds is None else {"never_seconds": never_seconds}
        self._post("speed", {"speed": speed, **extra})

    def _get(self, name: str, **query: Any) -> dict[str, Any]:
        response = self._session.get(f"{self.base_url}/_sandbox/{name}", params=query, timeout=20)
        response.raise_for_status()
        data: dict[str, Any] = response.json()
        return data

    def _post(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        response = self._session.post(f"{self.base_url}/_sandbox/{name}", json=body, timeout=20)
        if response.status_code == 400:
            raise ValueError(response.json()["error"])
        response.raise_for_status()
        data: dict[str, Any] = response.json()
        return data
