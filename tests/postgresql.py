"""A PostgreSQL server of the tests' own: a new cluster, one Unix socket, no network.

Runs as an unprivileged user; never touches the machine's own server or its data.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg

_USERS = ("postgres", "nobody")
_MISSING = (
    "PostgreSQL's server binaries are missing (looked in /usr/lib/postgresql/*/bin and "
    "on PATH); install the package postgresql, or run ./test, which does"
)


class PostgresqlMissing(RuntimeError):
    """The server's binaries are not installed."""


class PostgresqlServer:
    """Started by the constructor, ended and removed by stop()."""

    def __init__(self) -> None:
        self._binaries = _find_binaries()
        self._user = _server_user()
        self._folder = Path(tempfile.mkdtemp(prefix="dora-pg-"))
        self._databases = 0
        if self._user is not None:
            shutil.chown(self._folder, user=self._user)
        data = self._folder / "data"
        self._run("initdb", "-D", data, "-U", "dora", "-A", "trust", "--no-sync")
        options = f"-c listen_addresses='' -c fsync=off -k {self._folder}"
        self._run(
            *("pg_ctl", "-D", data, "-o", options, "-w"),
            *("-l", self._folder / "server.log", "start"),
        )

    def make_database(self) -> str:
        """A new empty database; its name."""
        self._databases += 1
        name = f"test_{self._databases}"
        self._tell(f"CREATE DATABASE {name}")
        return name

    def drop_database(self, name: str) -> None:
        """Remove it, whoever is still connected."""
        self._tell(f"DROP DATABASE {name} WITH (FORCE)")

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://dora@/{database}?host={self._folder}"

    def stop(self) -> None:
        """End the server and remove its files."""
        try:
            self._run("pg_ctl", "-D", self._folder / "data", "-m", "immediate", "stop")
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _tell(self, statement: str) -> None:
        target = f"host={self._folder} user=dora dbname=postgres"
        with psycopg.connect(target, autocommit=True) as connection:
            connection.execute(statement)

    def _run(self, program: str, *words: str | Path) -> None:
        done = subprocess.run(
            [self._binaries / program, *words],
            user=self._user,
            group=None if self._user is None else pwd.getpwnam(self._user).pw_gid,
            extra_groups=None if self._user is None else [],
            cwd=self._folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stderr.decode().strip()}")


def _find_binaries() -> Path:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    folders += sorted(Path("/usr").glob("pgsql-*/bin"), reverse=True)
    on_path = shutil.which("initdb")
    if on_path:
        folders.append(Path(on_path).parent)
    for folder in folders:
        if (folder / "initdb").exists():
            return folder
    raise PostgresqlMissing(_MISSING)


def _server_user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in _USERS if name in known)
