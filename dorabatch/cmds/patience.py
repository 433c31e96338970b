"""Wait for a daemon that went away, up to a limit, saying so once.

Decides how long and how often; what to do again is the caller's. Sends nothing itself.
"""

import os
import threading
from collections.abc import Callable
from typing import TypeVar

from dorabatch.clock import Clock, SystemClock
from dorabatch.cmds.client import DaemonAway
from dorabatch.cmds.terminal import note
from dorabatch.errors import DaemonUnavailable, UserError

SUBMIT_SECONDS_MAX = 30.0
FOLLOW_SECONDS_MAX = 600.0
PAUSE_SECONDS_FIRST = 0.1
PAUSE_SECONDS_MAX = 5.0
VARIABLE = "DORABATCH_PATIENCE_SECONDS"

_T = TypeVar("_T")


class Patience:
    """How much longer to wait for the daemon to come back."""

    def __init__(
        self, command: str, seconds_max: float, clock: Clock | None = None
    ) -> None:
        self._command = command
        self._seconds_max = _from_environment(seconds_max)
        self._clock = clock or SystemClock()
        self._never = threading.Event()
        self._since: float | None = None
        self._pause = PAUSE_SECONDS_FIRST
        self._said = False

    def lost(self, error: DaemonAway, *, then: str) -> None:
        """Pause before the next try; raise the error when patience is at its end."""
        now = self._clock.monotonic()
        if self._since is None:
            self._since = now
        if now - self._since >= self._seconds_max:
            raise error
        if not self._said:
            why = "dorad is busy" if error.is_busy else "dorad does not answer"
            note(
                self._command,
                f"{why}, trying again for {self._seconds_max:g} s; Ctrl-C to give up"
                f" ({then})",
            )
            self._said = True
        self._clock.wait(self._never, self._pause)
        self._pause = min(self._pause * 2, PAUSE_SECONDS_MAX)

    def found(self) -> None:
        """The daemon is there: start afresh with the next loss."""
        self._since = None
        self._said = False
        self._pause = PAUSE_SECONDS_FIRST


def send_again(
    command: str,
    request: Callable[[], _T],
    error: DaemonAway,
    *,
    what: str,
    look: str,
    is_keyed: bool = True,
) -> _T:
    """Repeat a request after its first loss, which its key makes safe.

    Without a key only what was never sent is repeated. Raises DaemonUnavailable at the
    end of patience; then, and after Ctrl-C, it is said whether `what` may have been
    taken, which the command `look` shows.
    """
    patience = Patience(command, SUBMIT_SECONDS_MAX)
    may_be_taken = False
    while True:
        may_be_taken = may_be_taken or error.is_sent
        standing = (
            f"it is not known whether {what} was taken: see {look} before you give it"
            " again"
            if may_be_taken
            else f"{what} was not taken"
        )
        try:
            if may_be_taken and not is_keyed:
                raise error
            patience.lost(error, then="nothing is taken twice")
            return request()
        except DaemonAway as again:
            if again is error:
                raise DaemonUnavailable(f"{error.message}; {standing}") from error
            error = again
        except KeyboardInterrupt:
            note(command, standing)
            raise


def pause(seconds: float) -> None:
    """Do nothing for a while; Ctrl-C ends it."""
    SystemClock().wait(threading.Event(), seconds)


def _from_environment(default: float) -> float:
    text = os.environ.get(VARIABLE, "")
    if not text:
        return default
    try:
        return float(text)
    except ValueError as error:
        raise UserError(
            f"{VARIABLE} is '{text}'; give a number of seconds, such as 30"
        ) from error
