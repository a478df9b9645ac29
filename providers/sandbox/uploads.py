"""Files that callers hand in: checked, kept in the data folder under their digest."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import io
import os
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image

from providers.sandbox.state import Key, State
from providers.sandbox.web import Request

MAX_PICTURE = 20 * 1024 * 1024
MAX_SIDE = 10_000
FETCH_SECONDS = 5.0
FORMATS = {"JPEG": ("image/jpeg", "jpg"), "PNG": ("image/png", "png"), "WEBP": ("image/webp", "webp")}
MEDIA = {".mp4": "video/mp4", ".mov": "video/quicktime", ".webm": "video/webm",
         ".mp3": "audio/mpeg", ".wav": "audio/wav", ".m4a": "audio/mp4", ".aac": "audio/aac"}  # fmt: skip


class Unusable(ValueError):
    """An upload that a provider refuses; ``why``: missing, large, format, size, unreadable."""

    def __init__(self, why: str, message: str) -> None:
        super().__init__(message)
        self.why = why


@dataclass(frozen=True, slots=True)
class Upload:
    """A kept upload: its id, MIME type and public address."""

    id: int
    mime: str
    url: str


class Shelf:
    """The folder of uploads. ``own_media`` finds the file behind one of our own result addresses."""

    def __init__(self, state: State, folder: Path, own_media: Callable[[str], Path | None]) -> None:
        self._state = state
        self._folder = folder
        self._own_media = own_media
        folder.mkdir(parents=True, exist_ok=True)

    async def receive(self, provider: str, key: Key, request: Request, what: str) -> Upload:
        """Take a multipart (or form, or JSON) upload: a file ``image``/``file`` or an address to fetch."""
        parts = _parts(request)
        name = "image" if what == "image" else "file"
        if name in parts and parts[name][1]:
            filename, data = parts[name]
        elif f"{name}_url" in parts:
            url = parts[f"{name}_url"][1].decode("utf-8", "replace")
            filename, data = urlsplit(url).path, await self.fetch(url)
        else:
            raise Unusable("missing", f"Neither {name} nor {name}_url was given")
        if what == "image":
            return await self.keep_picture(provider, key, data, request.origin)
        suffix = Path(filename).suffix.lower()
        if suffix not in MEDIA:
            raise Unusable("format", f"Not one of {', '.join(MEDIA)}")
        return await self._keep(provider, key, data, MEDIA[suffix], suffix[1:], request.origin)

    async def keep_picture(self, provider: str, key: Key, data: bytes, origin: str) -> Upload:
        """Check and keep a picture. Raises Unusable."""
        if len(data) > MAX_PICTURE:
            raise Unusable("large", f"The image is larger than {MAX_PICTURE} bytes")
        try:
            with Image.open(io.BytesIO(data)) as picture:
                kind, size = picture.format or "", picture.size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise Unusable("unreadable", "The image cannot be read") from error
        if kind not in FORMATS:
            raise Unusable("format", "The image is no JPEG, PNG or WebP")
        if max(size) > MAX_SIDE:
            raise Unusable("size", f"A side of the image is longer than {MAX_SIDE} pixels")
        mime, suffix = FORMATS[kind]
        return await self._keep(provider, key, data, mime, suffix, origin)

    async def source(self, text: str, provider: str, key: Key, origin: str) -> str:
        """The kept file of an input given as an address, a ``data:`` URL or bare base64."""
        if text.startswith(("http://", "https://")):
            data = await self.fetch(text)
        else:
            data = from_base64(text)
        upload = await self.keep_picture(provider, key, data, origin)
        return str(self._state.uploads[upload.id]["file"])

    async def fetch(self, url: str) -> bytes:
        """The bytes behind an address; our own addresses are read from the disk. Raises Unusable."""
        own = self._own_media(urlsplit(url).path) or self.path(urlsplit(url).path)
        if own is not None:
            return own.read_bytes()
        return await asyncio.to_thread(_download, url)

    def path(self, url_path: str) -> Path | None:
        """The file behind ``/media/uploads/NAME``."""
        prefix, _, name = url_path.rpartition("/")
        if prefix != "/media/uploads" or name.startswith("."):
            return None
        path = self._folder / name
        return path if path.is_file() else None

    def ratio(self, file: str) -> str:
        """Width:height of a kept picture, limited to 1:3 and 3:1."""
        try:
            with Image.open(self._folder / file) as picture:
                width, height = picture.size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return "16:9"
        return f"{min(width, 3 * height)}:{min(height, 3 * width)}"

    async def _keep(self, provider: str, key: Key, data: bytes, mime: str, suffix: str, origin: str) -> Upload:
        name = f"{hashlib.sha256(data).hexdigest()[:32]}.{suffix}"
        path = self._folder / name
        if not path.exists():
            partial = path.with_suffix(f".{os.getpid()}.part")
            partial.write_bytes(data)
            partial.replace(path)
        upload_id = self._state.add_upload(provider, key, mime, name)
        return Upload(upload_id, mime, f"{origin}/media/uploads/{name}")


def from_base64(text: str) -> bytes:
    """The bytes of a ``data:`` URL or bare base64. Raises Unusable."""
    payload = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unusable("unreadable", "The base64 text cannot be read") from error


def _parts(request: Request) -> dict[str, tuple[str, bytes]]:
    """The fields of a form: name -> (file name, bytes)."""
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        raise Unusable("missing", "The body is not multipart/form-data")
    head = f"Content-Type: {kind}\r\n\r\n".encode("latin-1", "replace")
    message = BytesParser(policy=HTTP).parsebytes(head + request.body)
    result = {}
    for part in message.iter_parts() if message.is_multipart() else ():
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(payload, bytes):
            result[name] = (part.get_filename() or "", payload)
    return result


def _download(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=FETCH_SECONDS) as response:  # noqa: S310 - http(s) checked by callers
            data: bytes = response.read(MAX_PICTURE + 1)
    except (OSError, ValueError) as error:
        raise Unusable("unreadable", "Unable to fetch image from provided URL") from error
    return data
