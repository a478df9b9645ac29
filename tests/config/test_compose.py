"""``docker-compose.yml`` and ``Dockerfile``: read, since there is no Docker engine here."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any

import pytest
import yaml

from config.celery import QUEUES
from config.embedded.home import ROOT

TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service.get("image") == "darkroom"]


def words(service: dict[str, Any]) -> list[str]:
    return " ".join(service.get("command", [])).split()


def test_has_a_service_for_everything_that_runs() -> None:
    workers = {f"worker-{queue}" for queue in QUEUES}
    assert {"postgres", "redis", "migrate", "web", "beat", "flower", "sandbox"} | workers == set(SERVICES)


@pytest.mark.parametrize("queue", QUEUES)
def test_gives_each_worker_its_queue_and_asks_that_worker_whether_it_lives(queue: str) -> None:
    service = SERVICES[f"worker-{queue}"]
    command = service["command"]
    assert command[command.index("-Q") + 1] == queue
    assert f"--destination {queue}@$$(hostname)" in service["healthcheck"]["test"][1]
    assert service["healthcheck"]["interval"]


@pytest.mark.parametrize("name", OURS)
def test_names_only_modules_and_commands_that_exist(name: str) -> None:
    command = words(SERVICES[name])
    for option in ("-A", "-m"):
        if option in command:
            assert find_spec(command[command.index(option) + 1]) is not None
    if "-S" in command:
        assert find_spec(command[command.index("-S") + 1].split(":")[0]) is not None
    if "manage.py" in command:
        assert (ROOT / "manage.py").exists()


def test_serves_the_application_that_exists() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "config.wsgi:application" in dockerfile
    assert find_spec("config.wsgi") is not None
    for source in re.findall(r"^COPY (?!--)(.+) \S+$", dockerfile, re.MULTILINE):
        for path in source.split():
            assert (ROOT / path).exists(), path
    assert "--require-hashes" in dockerfile
    assert re.search(r"^USER (?!root)", dockerfile, re.MULTILINE)


def test_has_no_default_for_any_secret() -> None:
    secrets = set(re.findall(r"\$\{(\w*(?:SECRET|KEY|PASSWORD)\w*)[^}]*\}", TEXT))
    assert secrets == {"SECRET_KEY", "CREDENTIAL_KEYS", "POSTGRES_PASSWORD", "REDIS_PASSWORD", "FLOWER_PASSWORD"}
    for name in secrets:
        assert not re.search(rf"\$\{{{name}(?!:\?)", TEXT), f"{name} can be left out"


def test_opens_ports_on_loopback_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_waits_for_servers_and_migrations() -> None:
    for name in OURS:
        if name in ("sandbox", "migrate"):
            continue
        needs = SERVICES[name]["depends_on"]
        assert needs["migrate"]["condition"] == "service_completed_successfully"
        assert needs["postgres"]["condition"] == needs["redis"]["condition"] == "service_healthy"
    assert "migrate" not in SERVICES["migrate"]["depends_on"]


def test_keeps_all_data_in_volumes() -> None:
    for name in ("postgres", "redis", *OURS):
        for volume in SERVICES[name]["volumes"]:
            assert volume.split(":")[0] in COMPOSE["volumes"]
    assert SERVICES["sandbox"]["profiles"] == ["sandbox"]
