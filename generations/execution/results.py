"""From the provider's links to files of our own: fetched, judged by their bytes, stored with a thumbnail.

Runs in threads: touches the network and the storage, never the database.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from generations import media, storage
from generations.conf import limits
from providers import fetch
from providers.base import Output
from providers.errors import AssetGone, AssetUnusable, ProviderError
from providers.transport import Endpoint

MOST_OUTPUTS = 16
FRESH_LINKS = 3

log = structlog.get_logger(__name__)


class StorageFailed(ProviderError):
    """Our storage did not take the result; the provider's part is done."""

    code = "storage_failed"


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """An output that is ours now; ``index`` is its place in the provider's list."""

    index: int
    key: str
    thumbnail_key: str
    sha256: str
    size: int
    info: media.MediaInfo


@dataclass(frozen=True, slots=True)
class Collected:
    """What could be stored, and the first reason why something could not."""

    stored: tuple[StoredOutput, ...]
    error: ProviderError | None


def collect_outputs(
    outputs: Sequence[Output], endpoint: Endpoint, fresh_links: Callable[[], Sequence[Output]]
) -> Collected:
    """Fetch and store all outputs of one Submission.

    A link that is gone is asked for anew (``fresh_links`` polls the provider), three times at most.
    """
    stored: list[StoredOutput] = []
    error: ProviderError | None = None
    links = list(outputs)[:MOST_OUTPUTS]
    for index in range(len(links)):
        for again in range(FRESH_LINKS + 1):
            try:
                stored.append(_collect(index, links[index], endpoint))
                break
            except AssetGone as gone:
                error = error or gone
                if again == FRESH_LINKS:
                    break
                try:
                    fresh = fresh_links()
                except ProviderError as unanswered:
                    log.info("fresh_link_not_had", code=unanswered.code)
                    break
                if len(fresh) != len(links) or fresh[index] == links[index]:
                    break
                links = list(fresh)
            except ProviderError as other:
                error = error or other
                break
    if len(stored) == len(links):
        error = None
    return Collected(tuple(stored), error)


def _collect(index: int, output: Output, endpoint: Endpoint) -> StoredOutput:
    """One output.

    Raises:
        ProviderError: AssetGone, AssetUnusable, StorageFailed, or what the fetcher raises when the network fails.
    """
    with tempfile.TemporaryDirectory(prefix="darkroom-") as folder:
        path = Path(folder) / "output"
        try:
            with path.open("wb") as file:
                fetched = fetch.download(
                    output.url,
                    file,
                    max_bytes=limits().max_output_bytes,
                    allowed_origin=_origin(endpoint) if endpoint.allow_private else None,
                    idle_timeout=limits().download_idle,
                    total_timeout=limits().download_timeout,
                )
            info = media.inspect(path)
            if info.kind != output.kind:
                raise AssetUnusable(f"The provider promised a {output.kind} and delivered a {info.kind}.")
            key = storage.keep(path, fetched.sha256, info.extension)
            return StoredOutput(index, key, keep_thumbnail(path, info), fetched.sha256, fetched.size, info)
        except media.UnusableMedia as error:
            raise AssetUnusable(str(error)) from error
        except (media.ToolFailed, OSError) as error:
            log.exception("storage_failed", error=type(error).__name__)
            why = getattr(error, "strerror", None) or type(error).__name__
            raise StorageFailed(f"The result could not be stored ({why}).") from error


def keep_thumbnail(path: Path, info: media.MediaInfo) -> str:
    """The key of its thumbnail; empty when none can be made, which never fails a Generation."""
    try:
        picture = media.thumbnail(path, info)
        return storage.keep_bytes(picture, hashlib.sha256(picture).hexdigest(), "webp")
    except (media.UnusableMedia, media.ToolFailed, OSError) as error:
        log.warning("thumbnail_failed", error=str(error))
        return ""


def _origin(endpoint: Endpoint) -> str:
    parts = urlsplit(endpoint.base_url)
    return f"{parts.scheme}://{parts.netloc}"
