"""What several tests of the API say."""

from __future__ import annotations

from typing import Any, Protocol

GENERATIONS = "/api/v1/generations"


class Reply(Protocol):
    """What a test client gives back."""

    status_code: int
    headers: Any

    def json(self) -> Any: ...


def assert_problem(reply: Reply, status: int, code: str) -> dict[str, Any]:
    """It is a problem document with this status and code; gives it."""
    told: dict[str, Any] = reply.json()
    assert (reply.status_code, told.get("code")) == (status, code), told
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert told["status"] == status
    assert told["type"] == f"urn:darkroom:problem:{code}"
    assert told["title"]
    assert told["detail"]
    assert told["request_id"] == reply.headers["X-Request-ID"]
    return told
