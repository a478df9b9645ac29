"""Settings, in a process of their own for each environment."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import files
from config.embedded.home import ROOT
from config.files import where_files_are

GOOD = {
    "DARKROOM_PRODUCTION": "1",
    "SECRET_KEY": "k" * 50,
    "CREDENTIAL_KEYS": "c" * 50,
    "DATABASE_URL": "postgres://somewhere/else",
    "REDIS_URL": "redis://somewhere/0",
}


def load(**changes: str | None) -> subprocess.CompletedProcess[str]:
    """What becomes of ``import config.settings`` in an environment of GOOD with changes (None: unset)."""
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    environment |= {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    command = [sys.executable, "-c", "import config.settings"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_starts_in_production_with_secrets_of_its_own() -> None:
    outcome = load()
    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"SECRET_KEY": None}, "SECRET_KEY"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY"),
        ({"CREDENTIAL_KEYS": None}, "CREDENTIAL_KEYS"),
        ({"DEBUG": "1"}, "DEBUG"),
    ],
)
def test_refuses_production_with(changes: dict[str, str | None], word: str) -> None:
    outcome = load(**changes)
    assert outcome.returncode != 0
    assert "ImproperlyConfigured" in outcome.stderr
    assert word in outcome.stderr.splitlines()[-1]


def test_stores_files_in_a_folder_unless_it_is_told_of_an_object_store() -> None:
    assert where_files_are("", "media")["OPTIONS"] == {"location": "media"}
    url = "s3://key:s%2Fcret@bucket/some/where?endpoint=http://minio:9000&region=eu-central-1&addressing=path"
    assert where_files_are(url, "media") == {
        "BACKEND": "generations.storage.objects.ObjectStorage",
        "OPTIONS": {
            "bucket_name": "bucket",
            "endpoint_url": "http://minio:9000",
            "region_name": "eu-central-1",
            "addressing_style": "path",
            "location": "some/where",
            "access_key": "key",
            "secret_key": "s/cret",
        },
    }
    assert where_files_are("s3://bucket", "media")["OPTIONS"] == {"bucket_name": "bucket"}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://bucket", "such as s3://bucket"),
        ("s3://", "such as s3://bucket"),
        ("s3://bucket?endpont=http://x", "no option 'endpont'"),
        ("s3://bucket?addressing=sideways", "addressing"),
    ],
)
def test_refuses_a_storage_url_that_is_none(url: str, words: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=words):
        where_files_are(url, "media")


def test_says_what_to_install_for_an_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "find_spec", lambda _: None)
    with pytest.raises(ImproperlyConfigured, match=r"django-storages\[s3\]"):
        where_files_are("s3://bucket", "media")
