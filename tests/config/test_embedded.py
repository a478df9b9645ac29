"""The embedded servers."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.embedded.home import ROOT, Home, HomeError
from config.embedded.ports import free_port, taken
from config.embedded.postgres import Postgres, PostgresError
from config.embedded.program import wait_until
from config.embedded.servers import Servers


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that names no servers."""
    monkeypatch.setenv("DATABASE_URL", "")
    monkeypatch.setenv("REDIS_URL", "")


@pytest.fixture
def servers(tmp_path: Path, bare: None) -> Iterator[Servers]:
    """Both servers on a folder of the test's own, which outlives a stop."""
    servers = Servers(tmp_path)
    yield servers
    servers.stop()


def connect() -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


def test_keeps_every_row_after_both_servers_are_killed(servers: Servers) -> None:
    servers.start()
    with connect() as connection:
        connection.execute("CREATE TABLE kept (number int)")
        connection.execute("INSERT INTO kept VALUES (1), (2)")
    for _, _, process in servers.running:
        process.send_signal(signal.SIGKILL)
        process.wait()
    servers.stop()
    servers.start()
    with connect() as connection:
        assert connection.execute("SELECT sum(number) FROM kept").fetchone() == (3,)


def test_starts_although_its_old_process_id_belongs_to_somebody_else(servers: Servers, tmp_path: Path) -> None:
    servers.start()
    (_, _, process) = servers.running[0]
    process.send_signal(signal.SIGKILL)
    process.wait()
    pid_file = tmp_path / "postgres" / "postmaster.pid"
    _, rest = pid_file.read_text().split("\n", 1)
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        servers.stop()
        pid_file.write_text(f"{bystander.pid}\n{rest}")
        servers.start()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_lets_nobody_in_without_the_password(servers: Servers) -> None:
    servers.start()
    port = servers.running[1][0].port
    with redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
    url = os.environ["DATABASE_URL"]
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(url.replace(url.split(":")[2].split("@")[0], "wrong"))


def test_keeps_its_passwords_to_itself(servers: Servers, tmp_path: Path) -> None:
    servers.start()
    for name in ("postgres.password", "valkey/password", "valkey/valkey.conf"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    for _, _, process in servers.running:
        line = Path(f"/proc/{process.pid}/cmdline").read_text()
        assert not any(secret in line for secret in ((tmp_path / "postgres.password").read_text(), "requirepass"))


def test_starts_only_what_is_not_given(tmp_path: Path, bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://somewhere/else")
    servers = Servers(tmp_path, throwaway=True)
    servers.start()
    try:
        assert [server.name for server, _, _ in servers.running] == ["valkey"]
        assert os.environ["DATABASE_URL"] == "postgres://somewhere/else"
    finally:
        servers.stop()
    assert not tmp_path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_runs_as_nobody_where_root_may_not_make_namespaces(
    tmp_path: Path, bare: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDDED_PG_AS", "nobody")
    servers = Servers(tmp_path, throwaway=True)
    servers.start()
    try:
        server, _, process = servers.running[0]
        assert isinstance(server, Postgres)
        assert isinstance(server.identity, tuple)
        assert Path(f"/proc/{process.pid}").stat().st_uid == server.identity[0]
        with connect() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        base = server.base
    finally:
        servers.stop()
    assert not base.exists()


def test_says_what_is_wrong_with_programs_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDDED_PG_BIN", str(tmp_path))
    with pytest.raises(PostgresError, match="no program `postgres`"):
        _ = Postgres(tmp_path).bin


def test_refuses_data_of_another_postgresql(tmp_path: Path) -> None:
    server = Postgres(tmp_path)
    server.data.mkdir()
    (server.data / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(PostgresError, match=r"made by PostgreSQL 9\.6"):
        server.prepare()


def test_is_gone_when_its_starter_is_killed(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from config.embedded.servers import Servers\n"
        "servers = Servers(Path(sys.argv[1])); servers.start()\n"
        "print(*[process.pid for _, _, process in servers.running], flush=True); signal.pause()"
    )
    environment = {**os.environ, "DATABASE_URL": "", "REDIS_URL": ""}
    starter = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )
    assert starter.stdout is not None
    pids = [int(pid) for pid in starter.stdout.readline().split()]
    assert len(pids) == 2
    starter.kill()
    starter.wait()
    starter.stdout.close()
    assert wait_until(lambda: not any(_runs(pid) for pid in pids), 10)


def _runs(pid: int) -> bool:
    """Whether it is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_refuses_a_second_user_of_the_data_and_names_the_first(tmp_path: Path) -> None:
    first = Home(tmp_path)
    first.acquire("up")
    try:
        with pytest.raises(HomeError, match=rf"`up` is already running .*process {os.getpid()}"):
            Home(tmp_path).acquire("up", wait=30)
    finally:
        first.release()
    second = Home(tmp_path)
    second.acquire("migrate", wait=0)
    second.release()


def test_tells_others_what_runs_only_while_it_runs(tmp_path: Path) -> None:
    home, other = Home(tmp_path), Home(tmp_path)
    assert other.running() is None
    home.acquire("up")
    home.publish({"url": "here"})
    assert (other.running() or {})["url"] == "here"
    assert stat.S_IMODE((tmp_path / "run.json").stat().st_mode) == 0o600
    home.release()
    assert other.running() is None


def test_makes_secrets_once_and_keeps_them(tmp_path: Path) -> None:
    first = Home(tmp_path).secrets()
    assert len(first["SECRET_KEY"]) >= 50
    assert first["SECRET_KEY"] != first["CREDENTIAL_KEYS"]
    assert Home(tmp_path).secrets() == first


def test_takes_another_port_when_the_old_one_is_gone() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        assert taken("127.0.0.1", port)
        assert free_port(preferred=port) != port
    assert free_port(preferred=port) == port
