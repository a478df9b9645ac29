"""Run ffmpeg on a file that nobody vouches for: bounded in time, output and what it may open."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg

from generations.media.info import UnusableMedia

_WALL_SECONDS = 60.0
_CPU_SECONDS = 20
_MAX_STDOUT = 64 * 1024 * 1024
_KEPT_STDERR = 64 * 1024


_BROKEN = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGXCPU})
"""What ends a program for what it reads: it would be so each time. (Whoever kills it, says nothing of the file.)"""


class ToolFailed(Exception):
    """ffmpeg could not be run, or did not come to an end in time: try again later."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What ffmpeg gave: its exit code, all it wrote, and the beginning and end of what it said."""

    returncode: int
    stdout: bytes
    stderr: str


def run(
    path: Path,
    demuxer: str,
    *arguments: str,
    max_pixels: int,
    wall_seconds: float = _WALL_SECONDS,
    cpu_seconds: int = _CPU_SECONDS,
) -> Finished:
    """Read ``path`` as what ``demuxer`` reads, and nothing else, and do what ``arguments`` say.

    The demuxer is forced and files are the only protocol, so that no playlist is followed to
    other files or hosts (QuickTime's references to other files are off in ffmpeg itself).

    Raises:
        ToolFailed: it could not be started, was killed, or took too long or wrote too much.
        UnusableMedia: it crashed over the file, or used more than its time of CPU.
        OSError: the file cannot be read.
    """
    with path.open("rb"):
        pass  # a missing file is our fault, not the file's
    try:
        executable = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise ToolFailed(f"ffmpeg was not found: {error}") from error
    command = [
        executable,
        *("-hide_banner", "-nostdin", "-nostats", "-loglevel", "info"),
        *("-timelimit", str(cpu_seconds), "-filter_threads", "1", "-threads", "1"),
        *("-max_pixels", str(max_pixels), "-protocol_whitelist", "file"),
        *("-f", demuxer, "-i", f"file:{path.resolve()}"),
        *arguments,
    ]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={}
        )
    except OSError as error:
        raise ToolFailed(f"ffmpeg could not be started: {error}") from error
    with process:
        try:
            stdout, stderr = _read(process, time.monotonic() + wall_seconds)
            returncode = process.wait(timeout=wall_seconds)
        except subprocess.TimeoutExpired as error:
            raise ToolFailed("ffmpeg did not come to its end in time.") from error
        finally:
            process.kill()  # nothing to do where it has ended
    if -returncode in _BROKEN:
        raise UnusableMedia("It breaks or exhausts the decoder that reads it.")
    if returncode < 0:
        raise ToolFailed(f"ffmpeg was ended by signal {-returncode}.")
    return Finished(returncode, stdout, stderr)


def _read(process: subprocess.Popen[bytes], ends_at: float) -> tuple[bytes, str]:
    """Read both outputs until they are closed, keeping all of the first, the two ends of the second."""
    out, err = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        for stream, buffer in ((process.stdout, out), (process.stderr, err)):
            if stream is not None:
                selector.register(stream.fileno(), selectors.EVENT_READ, buffer)
        while selector.get_map():
            left = ends_at - time.monotonic()
            if left <= 0:
                raise ToolFailed("ffmpeg did not come to its end in time.")
            for key, _ in selector.select(left):
                chunk = os.read(key.fd, 64 * 1024)
                if not chunk:
                    selector.unregister(key.fd)
                key.data.extend(chunk)
                if len(out) > _MAX_STDOUT:
                    raise ToolFailed("ffmpeg wrote more than it should.")
                if len(err) > 2 * _KEPT_STDERR:
                    del err[_KEPT_STDERR:-_KEPT_STDERR]
    return bytes(out), err.decode("utf-8", "replace")
