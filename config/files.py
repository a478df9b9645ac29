"""Where results and inputs are stored, from two settings: a folder, or a bucket of an object store."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

OPTIONS = {"endpoint": "endpoint_url", "region": "region_name", "addressing": "addressing_style"}
"""The options of a storage URL, and what django-storages calls them."""


def where_files_are(url: str, folder: str) -> dict[str, Any]:
    """The entry for Django's STORAGES: the ``folder``, unless there is a storage URL.

    ``s3://bucket/prefix?endpoint=http://minio:9000&region=eu-central-1&addressing=path``; of it only the bucket is
    needed. Who we are there is said by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or by the machine's own role, or in
    the URL: ``s3://key:secret@bucket``.

    Raises:
        ImproperlyConfigured: the URL is none, or the libraries for it are not installed.
    """
    if not url:
        return {"BACKEND": "generations.storage.DurableFileSystemStorage", "OPTIONS": {"location": folder}}
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.hostname or parts.fragment:
        raise ImproperlyConfigured("STORAGE_URL must be such as s3://bucket?endpoint=https://s3.example.org.")
    if find_spec("storages") is None or find_spec("boto3") is None:
        raise ImproperlyConfigured(
            "STORAGE_URL needs libraries that are not installed. Install the extra s3 into the environment that runs "
            "Darkroom: pip install 'django-storages[s3]' (docs/operations.md says how)."
        )
    options: dict[str, Any] = {"bucket_name": parts.netloc.rpartition("@")[2]}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in OPTIONS or not value:
            raise ImproperlyConfigured(f"STORAGE_URL has no option {name!r}; it has {', '.join(OPTIONS)}.")
        options[OPTIONS[name]] = value
    if options.get("addressing_style", "auto") not in {"auto", "path", "virtual"}:
        raise ImproperlyConfigured("STORAGE_URL's addressing is path, virtual or auto.")
    if prefix := parts.path.strip("/"):
        options["location"] = prefix
    if parts.username and parts.password:
        options["access_key"], options["secret_key"] = unquote(parts.username), unquote(parts.password)
    return {"BACKEND": "generations.storage.objects.ObjectStorage", "OPTIONS": options}
