"""How the tests speak to the sandbox: by plain HTTP, in the providers' own words."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import requests

from providers.sandbox.client import SandboxControl

T = TypeVar("T")
PIXVERSE_TEXT = {"model": "v5", "duration": 5, "quality": "360p", "aspect_ratio": "16:9"}


class Speaker:
    """One caller with one key at both providers."""

    def __init__(self, base_url: str, key: str = "sandbox-tests") -> None:
        self.base_url = base_url
        self.key = key
        self.control = SandboxControl(base_url)
        self.session = requests.Session()
        self.session.trust_env = False

    def close(self) -> None:
        self.session.close()
        self.control.close()

    # -- Pixverse

    def headers(self, **extra: str) -> dict[str, str]:
        return {"API-KEY": self.key, "Ai-trace-id": str(uuid.uuid4()), "X-Request-Id": str(uuid.uuid4()), **extra}

    def pixverse(self, path: str, body: Any = None, **headers: str) -> requests.Response:
        url = f"{self.base_url}/pixverse/openapi/v2{path}"
        if body is None:
            return self.session.get(url, headers=self.headers(**headers), timeout=20)
        return self.session.post(url, json=body, headers=self.headers(**headers), timeout=20)

    def text_video(self, prompt: str, **extra: Any) -> requests.Response:
        return self.pixverse("/video/text/generate", {"prompt": prompt, **PIXVERSE_TEXT, **extra})

    def upload(self, data: bytes, name: str = "image.png") -> int:
        url = f"{self.base_url}/pixverse/openapi/v2/image/upload"
        reply = self.session.post(url, files={"image": (name, data)}, headers=self.headers(), timeout=20).json()
        assert reply["ErrCode"] == 0, reply
        upload_id: int = reply["Resp"]["img_id"]
        return upload_id

    def video_result(self, video_id: int) -> dict[str, Any]:
        """The result, once it is no longer running."""
        return until(lambda: self.pixverse(f"/video/result/{video_id}").json()["Resp"], lambda r: r["status"] != 5)

    # -- ModelsLab

    def modelslab(self, path: str, body: dict[str, Any], **headers: str) -> requests.Response:
        url = path if path.startswith("http") else f"{self.base_url}/modelslab/api{path}"
        return self.session.post(url, json={"key": self.key, **body}, headers=headers, timeout=20)

    def picture(self, prompt: str, **extra: Any) -> requests.Response:
        return self.modelslab("/v6/images/text2img", {"model_id": "flux", "prompt": prompt, **extra})

    def fetched(self, reply: dict[str, Any]) -> dict[str, Any]:
        """The end of what a submit began."""
        if reply["status"] != "processing":
            return reply
        return until(
            lambda: self.modelslab(reply["fetch_result"], {}).json(), lambda answer: answer["status"] != "processing"
        )

    def get(self, url: str) -> requests.Response:
        return self.session.get(url, timeout=20)


def until(look: Callable[[], T], good: Callable[[T], bool], seconds: float = 20.0) -> T:
    """What ``look`` sees as soon as it is ``good``."""
    end = time.monotonic() + seconds
    while True:
        seen = look()
        if good(seen):
            return seen
        assert time.monotonic() < end, f"not within {seconds} s; last seen: {seen}"
        time.sleep(0.02)
