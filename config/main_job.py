"""The main job as a program outside sees it: ask over REST, wait, fetch the result, check its bytes."""

from __future__ import annotations

import hashlib
import mimetypes
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests

ENDED = frozenset({"completed", "failed", "cancelled"})
FIRST_WORKS: tuple[dict[str, Any], ...] = (
    {
        "operation_type": "text_to_image",
        "provider_id": "modelslab",
        "params": {"prompt": "a lighthouse in a storm, oil on canvas"},
        "reuse": "none",
    },
    {
        "operation_type": "text_to_video",
        "provider_id": "pixverse",
        "params": {"prompt": "test video", "quality": "720p"},
        "reuse": "none",
    },
)


class JobError(Exception):
    """The instance did not do its part; the message says what it answered and what to do."""


@dataclass
class Work:
    """One Generation that we asked for, as the API last showed it."""

    id: str
    operation_type: str
    provider_id: str
    status: str = "pending"
    progress: float | None = None
    reason: str = ""
    outputs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.status in ENDED

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        told = {"id": self.id, "status": self.status, "operation_type": self.operation_type}
        return {**told, "provider_id": self.provider_id, "outputs": self.outputs}


class Client:
    """The REST API of one instance."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy has no business between us and our own instance
        self._session.headers["Authorization"] = f"Bearer {token}"

    def ask(self, body: dict[str, Any]) -> Work:
        """Request one Generation. Raises JobError when it is not accepted."""
        reply = self._send("POST", "/api/v1/generations", json=body)
        if reply.status_code not in (200, 202):
            raise JobError(f"The request was refused with {reply.status_code}: {reply.text[:500]}")
        return Work(str(reply.json()["id"]), body["operation_type"], body["provider_id"])

    def look(self, work: Work) -> None:
        """Bring one Work up to date. Raises JobError when the instance does not tell."""
        reply = self._send("GET", f"/api/v1/generations/{work.id}")
        if reply.status_code != 200:
            raise JobError(f"Generation {work.id} cannot be read: {reply.status_code} {reply.text[:500]}")
        told = reply.json()
        work.status, work.progress = told["status"], told.get("progress")
        work.reason = told.get("error_message") or told.get("error_code") or told.get("wait_reason") or ""
        work.outputs = told.get("outputs") or []

    def keep(self, work: Work, folder: Path) -> None:
        """Fetch the outputs into ``folder`` and check each against what the API says about it.

        Adds ``path`` to each output. Raises JobError when bytes are missing or differ.
        """
        if not work.outputs:
            raise JobError(f"Generation {work.id} is completed, but names no output.")
        folder.mkdir(parents=True, exist_ok=True)
        kept = []
        for index, output in enumerate(work.outputs):
            url = urljoin(self.url + "/", output["url"])
            reply = self._send("GET", url)
            if reply.status_code != 200:
                raise JobError(f"The result {url} answers {reply.status_code} instead of the file.")
            if hashlib.sha256(reply.content).hexdigest() != output["sha256"] or len(reply.content) != output["bytes"]:
                raise JobError(f"The result {url} is not the file that the API describes: its sha-256 or size differ.")
            ending = mimetypes.guess_extension(output["mime_type"]) or ""
            path = folder / f"{work.id}-{index}{ending}"
            path.write_bytes(reply.content)
            told = {name: output[name] for name in ("mime_type", "bytes", "sha256")}
            kept.append({"url": url, "path": str(path), **told})
        work.outputs = kept

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        url = urljoin(self.url + "/", path)
        try:
            return self._session.request(method, url, timeout=30, **options)
        except requests.RequestException as error:
            raise JobError(
                f"{url} cannot be reached: {error}. Is the instance running? Start one with: python3 manage.py up"
            ) from error


def do_main_job(
    client: Client,
    folder: Path,
    show: Callable[[Sequence[Work], float], None],
    seconds: float = 180,
    stopped: Callable[[], bool] = lambda: False,
) -> list[Work]:
    """Ask for one picture and one video, wait until both have ended, and keep the results in ``folder``.

    ``show`` is called with the works and the seconds gone by, several times a second. Raises JobError when one
    did not complete, or not within ``seconds``, or its bytes are wrong.
    """
    started = time.monotonic()
    works = [client.ask(body) for body in FIRST_WORKS]
    looked = 0.0
    while not all(work.ended for work in works):
        gone = time.monotonic() - started
        if stopped():
            raise JobError("Stopped before the first results were there.")
        if gone > seconds:
            waiting = ", ".join(f"{work.id} is {work.status} {work.reason}".strip() for work in works if not work.ended)
            raise JobError(
                f"Not completed within {seconds:.0f} s: {waiting}. `python3 manage.py doctor` checks the processes, "
                "`python3 manage.py explain <id>` tells what one waits for."
            )
        if gone - looked >= 0.3:
            looked = gone
            for work in works:
                if not work.ended:
                    client.look(work)
        show(works, gone)
        time.sleep(0.1)
    for work in works:
        if work.status == "completed":
            client.keep(work, folder)
    show(works, time.monotonic() - started)
    broken = [work for work in works if work.status != "completed"]
    if broken:
        told = "; ".join(f"{work.operation_type} {work.id}: {work.status}, {work.reason}" for work in broken)
        raise JobError(f"Not everything completed: {told}. `python3 manage.py explain <id>` tells the whole story.")
    return works
