"""A multipart/form-data body that is read from storage while it is sent.

requests builds such a body in memory, twice over; an input video may be hundreds of megabytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from uuid import uuid4

from providers.base import InputFile

_BLOCK = 64 * 1024


class Multipart:
    """The body for ``form`` fields and ``files`` (part name -> input).

    Iterating opens the files and gives the bytes, anew each time; ``len()`` is the exact number
    of bytes; ``content_type`` goes into the header. Raises OSError while iterating when a file
    is shorter than its stated size.
    """

    def __init__(self, form: Mapping[str, str], files: Mapping[str, InputFile]) -> None:
        boundary = uuid4().hex
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._parts: list[bytes | InputFile] = []
        for name, value in form.items():
            self._parts.append(
                f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n{value}\r\n'.encode()
            )
        for name, file in files.items():
            head = (
                f"--{boundary}\r\n"
                f'Content-Disposition: form-data; name="{_quoted(name)}"; filename="{_quoted(file.name)}"\r\n'
                f"Content-Type: {_quoted(file.mime_type)}\r\n\r\n"
            )
            self._parts += [head.encode(), file, b"\r\n"]
        self._parts.append(f"--{boundary}--\r\n".encode())

    def __len__(self) -> int:
        return sum(part.size if isinstance(part, InputFile) else len(part) for part in self._parts)

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            if isinstance(part, InputFile):
                yield from _blocks(part)
            else:
                yield part


def _blocks(file: InputFile) -> Iterator[bytes]:
    left = file.size
    with file.open() as stream:
        while left > 0:
            block = stream.read(min(_BLOCK, left))
            if not block:
                raise OSError("a stored input is shorter than it was when it was accepted")
            left -= len(block)
            yield block


def _quoted(text: str) -> str:
    """Text that cannot end its header early; a file name without its folders."""
    last = re.split(r"[\\/]", text)[-1] if "." in text else text
    return re.sub(r'[\x00-\x1f\x7f"]', "_", last) or "file"
