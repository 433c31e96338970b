"""A database and a disk in trouble: full, or locked by somebody else.

SQLite itself refuses, as it does on a full disk: its file may not grow any more.
"""

import errno
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError

from dorabatch.daemon.state.log_files import LogFiles
from dorabatch.errors import DaemonUnavailable, LeaseLost

_PAGES_MAX = (1 << 32) - 2


class Trouble:
    """What is wrong with the disk of a daemon's state now."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._locking: sqlite3.Connection | None = None
        self.is_full = False
        self.is_excused = False

    def watch(self, engine: Engine) -> None:
        """Let a new daemon's transactions feel it."""
        event.listen(engine, "begin", self._begin, insert=True)

    def fill(self) -> None:
        """The disk is full."""
        self.is_full = self.is_excused = True

    def lock(self) -> None:
        """Somebody else holds the database's lock, and keeps it."""
        self.is_excused = True
        if self._locking is None:
            self._locking = sqlite3.connect(self._file, isolation_level=None)
            self._locking.execute("BEGIN IMMEDIATE")

    def heal(self) -> None:
        """There is room again, and nobody holds the lock."""
        self.is_full = False
        if self._locking is not None:
            self._locking.close()
            self._locking = None

    def begin_step(self) -> None:
        """From here on only what is wrong now excuses an error."""
        self.is_excused = self.is_full or self._locking is not None

    def excuses(self, error: BaseException | None) -> bool:
        """Whether an error comes of this trouble, or of being overtaken."""
        if not self.is_excused:
            return False
        is_disk = isinstance(error, OSError) and error.errno == errno.ENOSPC
        refusals = OperationalError, LeaseLost, DaemonUnavailable
        return is_disk or isinstance(error, refusals)

    def _begin(self, connection: Connection) -> None:
        # 1 is less than there is: SQLite makes it the present size.
        pages = 1 if self.is_full else _PAGES_MAX
        cursor: Any = connection.connection.cursor()
        cursor.execute(f"PRAGMA max_page_count={pages}")
        # Nobody else is there to wait for.
        cursor.execute("PRAGMA busy_timeout=0")
        cursor.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsOnFullDisk(LogFiles):
    """Kept logs that cannot be written while the disk is full."""

    trouble: Trouble = field()

    def path(self, workload_id: int, replica: int, attempt: int) -> Path:
        """Where the log goes; as the disk answers when it is full."""
        if self.trouble.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return LogFiles.path(self, workload_id, replica, attempt)
