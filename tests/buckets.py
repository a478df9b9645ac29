"""A real S3 server on this machine: moto's, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import boto3
import requests

KEYS = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
_ADDRESS = re.compile(rb"Running on (http://[0-9.]+:\d+)")


@contextmanager
def object_store() -> Iterator[str]:
    """Its address."""
    command = [sys.executable, "-u", "-m", "moto.server", "--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    try:
        address = next(match[1].decode() for line in process.stdout if (match := _ADDRESS.search(line)))
        process.stdout.close()
        requests.get(f"{address}/moto-api/data.json", timeout=10).raise_for_status()
        yield address
    finally:
        process.terminate()
        process.wait(10)


def client_of(address: str) -> Any:
    """A client of the test's own."""
    return boto3.client("s3", endpoint_url=address, region_name="us-east-1", **KEYS)


def new_bucket(address: str) -> str:
    """The STORAGE_URL of a bucket that nobody else has, with a prefix."""
    name = f"bucket-{uuid4().hex[:12]}"
    client_of(address).create_bucket(Bucket=name)
    return f"s3://key:secret@{name}/darkroom?endpoint={address}&region=us-east-1&addressing=path"
