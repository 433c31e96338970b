"""The daemon's threads: each goes on after whatever one round of its work raises.

Decided here, once: an error of a round is logged with its trace, and after a pause the
next round begins; only a broken invariant ends a thread, and only one without which
nothing works. Who is dead, and whose rounds all fail, is told to whoever asks; ends no
daemon and restarts nothing.

The list is written at start and by whoever adds or removes a node, under a lock; read
by the API and by the daemon's main thread.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from dorabatch import log
from dorabatch.errors import InvariantError

_PAUSE_SECONDS = 1.0
_PAUSE_SECONDS_MAX = 5.0
_FAILED_MIN = 3
"""So many failed rounds in a row are no accident any more."""


def outlived(
    what: str, deed: Callable[[], object], *, is_vital: bool = False, **fields: object
) -> Exception | None:
    """Do it; an error is logged with its trace, and returned.

    Where the deed is vital, InvariantError is raised all the same.
    """
    try:
        deed()
    except Exception as error:
        if is_vital and isinstance(error, InvariantError):
            raise
        log.failure(what, error, **fields)
        return error
    return None


class RoundRecord:
    """How many rounds of a thread in a row have failed, and the last one's error.

    Written by that thread, read by whoever asks after its health.
    """

    def __init__(self) -> None:
        self._failed = 0
        self._error = ""

    def count(self, error: Exception | None) -> None:
        """One more round, and what it raised."""
        if error is not None:
            self._error = _words(error)
        self._failed = 0 if error is None else self._failed + 1

    def problem(self) -> str:
        """A sentence where one round after the other fails; else empty."""
        failed = self._failed
        if failed < _FAILED_MIN:
            return ""
        return f"its last {failed} rounds failed: {self._error}"


def keep_on(
    name: str,
    one_round: Callable[[], object],
    stopping: threading.Event,
    record: RoundRecord,
    *,
    is_vital: bool = False,
) -> None:
    """Do one round after the other until told to stop; pause after one that fails."""
    pause = _PAUSE_SECONDS
    while not stopping.is_set():
        error = outlived("round-failed", one_round, is_vital=is_vital, thread=name)
        record.count(error)
        if error is None:
            pause = _PAUSE_SECONDS
            continue
        stopping.wait(pause)
        pause = min(2 * pause, _PAUSE_SECONDS_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watched:
    """A thread, what tells it to end, how it goes; whether nothing works without it."""

    thread: threading.Thread
    stopping: threading.Event
    record: RoundRecord
    is_vital: bool

    def has_ended(self) -> bool:
        """It was started and is over."""
        return self.thread.ident is not None and not self.thread.is_alive()

    def is_dead(self) -> bool:
        """It has ended, and nobody had told it to."""
        return self.has_ended() and not self.stopping.is_set()


class WatchedThreads:
    """All threads of one daemon."""

    def __init__(self) -> None:
        self._watched: tuple[_Watched, ...] = ()
        self._lock = threading.Lock()

    def start(
        self,
        name: str,
        one_round: Callable[[], object],
        stopping: threading.Event,
        *,
        is_vital: bool = False,
    ) -> threading.Thread:
        """Begin to do rounds until told to stop; the thread that does them."""
        thread = threading.Thread(
            target=keep_on,
            args=(name, one_round, stopping, record := RoundRecord()),
            kwargs={"is_vital": is_vital},
            name=name,
            daemon=True,
        )
        self.watch(thread, stopping, record, is_vital=is_vital)
        thread.start()
        return thread

    def watch(
        self,
        thread: threading.Thread,
        stopping: threading.Event,
        record: RoundRecord | None = None,
        *,
        is_vital: bool = False,
    ) -> None:
        """Watch a thread; without a record it does its work in a way of its own."""
        new = _Watched(
            thread=thread,
            stopping=stopping,
            record=record or RoundRecord(),
            is_vital=is_vital,
        )
        with self._lock:
            kept = [one for one in self._watched if not _is_past(one)]
            self._watched = (*kept, new)

    def dead(self) -> tuple[str, ...]:
        """The names of those that have ended though nobody had told them to."""
        return tuple(one.thread.name for one in self._watched if one.is_dead())

    def failing(self) -> dict[str, str]:
        """Those whose rounds all fail, by name, each with what is wrong."""
        found = {
            one.thread.name: one.record.problem()
            for one in self._watched
            if not one.stopping.is_set()
        }
        return {name: problem for name, problem in found.items() if problem}

    def dead_vital(self) -> tuple[str, ...]:
        """Those of the dead without which nothing works."""
        return tuple(
            one.thread.name for one in self._watched if one.is_vital and one.is_dead()
        )


def _is_past(one: _Watched) -> bool:
    """A removed node's thread need not be watched, begun or not."""
    return one.stopping.is_set() and not one.thread.is_alive()


def _words(error: Exception) -> str:
    """The error for everybody; the database's text may tell of what others do."""
    name = type(error).__name__
    if isinstance(error, SQLAlchemyError):
        return f"{name}; the daemon's log says why"
    return f"{name}: {error}" if str(error) else name
