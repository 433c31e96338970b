"""What the daemon keeps on disk is for its own account: specs hold people's secrets.

Says which modes the state directory, the logs and an embedded database should have,
and narrows what is wider; never widens anything, and never touches the socket.
"""

import os
import stat
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import make_url

from dorabatch import log
from dorabatch.config import Settings

OPEN_FOLDER = 0o755
_PRIVATE_FOLDER = 0o700
_PRIVATE_FILE = 0o600
_WAY_TO_SOCKET = 0o711
_UMASK = 0o077
_BESIDE_DATABASE = ("", "-wal", "-shm", "-journal")


class TooWide(NamedTuple):
    """A file or folder that others may read, and how it should be."""

    path: Path
    mode: int
    wanted: int

    @property
    def sentence(self) -> str:
        """What an admin reads."""
        return f"{self.path} has mode {self.mode:04o} (at most {self.wanted:04o})"


def keep_private() -> None:
    """From now on, what this process makes is for its own account."""
    os.umask(_UMASK)


def make_folder(folder: Path, mode: int) -> None:
    """Make a folder with this mode whatever the umask; those above it are open."""
    if folder.is_dir():
        return
    make_folder(folder.parent, OPEN_FOLDER)
    folder.mkdir(exist_ok=True)
    folder.chmod(mode)


def state_dir_mode(settings: Settings) -> int:
    """Closed; where the socket is inside, others must get through to it."""
    is_way = settings.socket.absolute().is_relative_to(settings.state_dir.absolute())
    return _WAY_TO_SOCKET if is_way else _PRIVATE_FOLDER


def too_wide(settings: Settings) -> list[TooWide]:
    """What others may get at, as far as it can be seen."""
    folder = settings.state_dir
    wanted = {folder: state_dir_mode(settings), folder / "logs": _PRIVATE_FOLDER}
    wanted[folder / "dorad.lock"] = _PRIVATE_FILE
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite" and url.database:
        for end in _BESIDE_DATABASE:
            wanted[Path(url.database + end)] = _PRIVATE_FILE
    found = []
    for path, most in wanted.items():
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue
        if mode & ~most:
            found.append(TooWide(path, mode, most))
    return found


def narrow(settings: Settings) -> None:
    """Take away from others what is too wide; each is a warning in the log."""
    for one in too_wide(settings):
        try:
            one.path.chmod(one.mode & one.wanted)
        except OSError as error:
            log.warning("still-readable", what=one.sentence, error=error.strerror)
            continue
        log.warning("was-readable", what=one.sentence)
